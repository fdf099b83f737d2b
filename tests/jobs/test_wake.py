import threading
import time

import psycopg
import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction

from jobs.wake import Wake, notify
from tests.racing import race
from tests.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)

LONG = float(PATIENCE)  # seconds that no test waits


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


def seconds_in(waiting: Wake) -> float:
    start = time.monotonic()
    waiting.wait(LONG)
    return time.monotonic() - start


def commit_soon() -> threading.Timer:
    def commit() -> None:
        with transaction.atomic():
            Group.objects.create(name="news")
            notify("outbox")
        connection.close()

    timer = threading.Timer(0.2, commit)
    timer.start()
    return timer


def test_a_commit_elsewhere_ends_the_wait(stopping: threading.Event) -> None:
    with Wake("outbox", stopping=stopping) as waiting:
        waiting.wait(0.05)
        timer = commit_soon()
        assert seconds_in(waiting) < LONG / 2
        timer.join()


def test_a_commit_between_two_waits_is_not_missed(stopping: threading.Event) -> None:
    with Wake("outbox", stopping=stopping) as waiting:
        waiting.wait(0.05)
        timer = commit_soon()
        timer.join()
        assert seconds_in(waiting) < LONG / 2


def test_a_stop_ends_the_wait(stopping: threading.Event) -> None:
    with Wake("outbox", stopping=stopping) as waiting:
        threading.Timer(0.1, stopping.set).start()
        assert seconds_in(waiting) < LONG / 2


def test_without_a_commit_it_waits_as_long_as_told(stopping: threading.Event) -> None:
    with Wake("outbox", stopping=stopping) as waiting:
        waiting.wait(0.05)
        start = time.monotonic()
        waiting.wait(0.3)
        assert time.monotonic() - start >= 0.29


def test_what_rolls_back_wakes_nobody(stopping: threading.Event) -> None:
    def roll_back() -> None:
        with transaction.atomic():
            Group.objects.create(name="never")
            notify("outbox")
            transaction.set_rollback(True)

    with Wake("outbox", stopping=stopping) as waiting:
        waiting.wait(0.05)
        race(roll_back)
        start = time.monotonic()
        waiting.wait(0.3)
        assert time.monotonic() - start >= 0.29


def test_a_listener_that_cannot_connect_polls(
    stopping: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL has a listener")

    def refuse(**_: object) -> None:
        raise psycopg.OperationalError("the server is away")

    with Wake("outbox", stopping=stopping) as waiting:
        assert waiting.listener
        waiting.listener.close()
        with monkeypatch.context() as patched:
            patched.setattr("jobs.wake.psycopg.connect", refuse)
            waiting.wait(0.1)
            waiting.wait(0.1)
        waiting.wait(0.1)
        timer = commit_soon()
        assert seconds_in(waiting) < LONG / 2
        timer.join()
