from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from broadcasts.models import Broadcast, Status
from broadcasts.services import send
from broadcasts.tasks import (
    process_expired_broadcasts,
    process_scheduled_broadcasts,
    seconds_until_next,
)
from jobs import clock
from jobs.clock import LONGEST_SLEEP
from outbox.models import Event
from tests.conftest import Spawn
from tests.factories import ActiveFactory, DraftFactory, UserFactory
from tests.live import database_of
from tests.processes import Environment
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db

GENEROUS = timedelta(seconds=30)  # a benchmark says how late it really is


def test_nothing_to_do_is_looked_for_again_soon() -> None:
    assert seconds_until_next(clock.now()) == LONGEST_SLEEP


def test_the_clock_sleeps_until_the_next_moment() -> None:
    UserFactory.create()
    now = timezone.now()
    send(DraftFactory.create(), now + timedelta(seconds=30))
    with time_machine.travel(now + timedelta(seconds=29), tick=False):
        assert seconds_until_next(clock.now()) == pytest.approx(1, abs=0.01)


def test_the_clock_does_not_sleep_when_a_moment_came_while_it_worked() -> None:
    UserFactory.create()
    looked_at = clock.now()
    moment = looked_at + timedelta(seconds=30)
    send(DraftFactory.create(), moment)
    with time_machine.travel(moment + timedelta(milliseconds=1), tick=False):
        assert seconds_until_next(looked_at) == 0


def test_the_clock_sleeps_until_the_next_expiry() -> None:
    UserFactory.create()
    now = timezone.now()
    ActiveFactory.create(expires_at=now + timedelta(seconds=30))
    with time_machine.travel(now + timedelta(seconds=29.5), tick=False):
        assert seconds_until_next(clock.now()) == pytest.approx(0.5, abs=0.01)


def test_a_broadcast_goes_out_at_its_moment_and_not_before() -> None:
    UserFactory.create()
    moment = timezone.now() + timedelta(minutes=5)
    broadcast = send(DraftFactory.create(), moment)
    with time_machine.travel(moment - timedelta(milliseconds=1), tick=False):
        assert process_scheduled_broadcasts() == 0
    with time_machine.travel(moment, tick=False):
        assert process_scheduled_broadcasts() == 1
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.activated_at) == (Status.ACTIVE, moment)


def test_a_broadcast_ends_at_its_expiry_and_not_before() -> None:
    UserFactory.create()
    end = timezone.now() + timedelta(minutes=5)
    broadcast = ActiveFactory.create(expires_at=end)
    with time_machine.travel(end - timedelta(milliseconds=1), tick=False):
        assert process_expired_broadcasts() == 0
    with time_machine.travel(end, tick=False):
        assert process_expired_broadcasts() == 1
    broadcast.refresh_from_db()
    assert broadcast.status == Status.EXPIRED


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_a_scheduled_broadcast_is_sent_and_ended_on_time(
    spawn: Spawn, live_database: Environment
) -> None:
    relay = spawn(["relay"], live_database)
    wait_until(lambda: "BROADCAST_CLOCK started" in relay.output())
    with database_of(live_database):
        UserFactory.create()
        moment = timezone.now() + timedelta(seconds=5)
        sent = send(DraftFactory.create(), moment)
        ended = ActiveFactory.create(expires_at=moment)
        wait_until(lambda: Broadcast.objects.filter(status=Status.EXPIRED))
        told = Event.objects.published().filter(type="broadcast.activated")
        event = wait_until(lambda: told.filter(data__broadcast_id=sent.pk).first())
        sent.refresh_from_db()
        ended.refresh_from_db()
    assert sent.activated_at
    assert ended.finished_at
    assert event
    assert event.published_at
    for name, late in {
        "activated": sent.activated_at - moment,
        "published": event.published_at - moment,
        "expired": ended.finished_at - moment,
    }.items():
        print(f"{name} {late.total_seconds() * 1000:.0f} ms late")
        assert timedelta() <= late < GENEROUS
