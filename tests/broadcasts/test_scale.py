"""What must not grow with the audience.

Bounds on time are only against hanging: the benchmarks measure. Numbers of statements and of rows
are exact.
"""

import json
import random
import signal
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import connection
from django.db.models import Count
from django.test.utils import CaptureQueriesContext

from broadcasts.advisories import entry
from broadcasts.demo import create_people
from broadcasts.importing import Import, Outcome
from broadcasts.models import Audience, Broadcast, Product, Receipt, ReceiptStatus, Status
from broadcasts.receipts import inbox_of, mark_read
from broadcasts.services import CHUNK, activate, cancel, compose, send
from outbox.models import Event
from tests.conftest import Spawn
from tests.live import database_of
from tests.processes import Environment
from tests.waiting import wait_until

REAL = settings.BASE_DIR.parent / "shared" / "data" / "advisories.jsonl"
ADVISORIES, PACKAGES = 2_658, 662
PEOPLE = 10_000
SELECTED = 100_000
EVERYBODY = 50_000
HANGS = 600  # seconds


@contextmanager
def timed(what: str, at_most: float = HANGS) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    print(f"{what}: {seconds:.3f} s")
    assert seconds < at_most, what


class Counted:
    """Statements, without keeping them."""

    def __init__(self) -> None:
        self.statements = 0

    def __call__(self, execute: Any, *arguments: Any) -> Any:
        self.statements += 1
        return execute(*arguments)


def advisories(directory: Path) -> Path:
    """The real file when it lies beside the checkout, else one of its size and shape."""
    if REAL.exists():
        return REAL
    chance = random.Random(1)
    packages = [f"package-{number}" for number in range(PACKAGES)]
    path = directory / "advisories.jsonl"
    with path.open("w") as file:
        for number in range(ADVISORIES):
            name = packages[number] if number < PACKAGES else chance.choice(packages)
            advisory = {
                "id": f"GEN-{number}",
                "package": [name],
                "withdrawn": None,
                "aliases": [f"CVE-0000-{number}"],
                "fixed_in": ["1.0"],
                "severity": [],
                "details": "A sentence of *usual* length about `something`. " * 12,
            }
            file.write(json.dumps(advisory) + "\n")
    return path


@pytest.mark.django_db
def test_the_inbox_among_all_advisories_costs_a_fixed_number_of_queries(tmp_path: Path) -> None:
    importer = Import(entry)
    with advisories(tmp_path).open("rb") as file, timed("import"):
        outcomes = {line.outcome for line in importer.run(file)}
    assert outcomes <= {Outcome.IMPORTED, Outcome.CANCELLED}
    assert Broadcast.objects.count() == ADVISORIES
    assert Product.objects.count() == PACKAGES
    with timed(f"{PEOPLE} people"):
        assert create_people(PEOPLE, subscriptions=20) == PEOPLE

    counts = set()
    for number in (11, 5_000, PEOPLE + 10):
        user = User.objects.get(username=f"user-{number:05}")
        mark_read(user, inbox_of(user).values_list("pk", flat=True)[:3])
        with CaptureQueriesContext(connection) as queries, timed("inbox", at_most=60):
            page = list(inbox_of(user).order_by("-activated_at", "-id")[:50])
        assert page
        counts.add(len(queries))
    assert counts == {4}  # roles, products, preferences, messages


def create_selected(count: int) -> list[str]:
    users = (User(username=f"selected-{number:06}") for number in range(count))
    User.objects.bulk_create(users, batch_size=CHUNK)
    found = User.objects.filter(username__startswith="selected-").order_by("pk")
    return [str(pk) for pk in found.values_list("pk", flat=True)]


@pytest.mark.django_db
def test_a_hundred_thousand_are_prepared_and_ended_in_bulk() -> None:
    people = create_selected(SELECTED)
    with timed("compose and send"):
        broadcast = send(compose(None, title="T", audience=Audience.SELECTED, targets=people))
    assert broadcast.status == Status.IN_PROGRESS
    assert not broadcast.receipts.exists()

    broadcast = Broadcast.objects.get(pk=broadcast.pk)
    count = Counted()
    with connection.execute_wrapper(count), timed("activation"):
        activate(broadcast)
    chunks = SELECTED // CHUNK
    assert count.statements < 8 * chunks + 20
    assert (broadcast.status, broadcast.targeted) == (Status.ACTIVE, SELECTED)
    assert broadcast.receipts.filter(status=ReceiptStatus.PENDING).count() == SELECTED
    assert_addressed("broadcast.activated", broadcast, people)

    count = Counted()
    with connection.execute_wrapper(count), timed("cancelling"):
        cancel(broadcast)
    assert count.statements < 3 * chunks + 20
    assert broadcast.receipts.filter(status=ReceiptStatus.SUPERSEDED).count() == SELECTED
    assert_addressed("broadcast.cancelled", broadcast, people)


@pytest.mark.django_db
def test_the_memory_of_a_preparation_is_flat() -> None:
    people = create_selected(SELECTED)
    broadcast = send(compose(None, title="T", audience=Audience.SELECTED, targets=people))
    tracemalloc.start()
    try:
        activate(Broadcast.objects.get(pk=broadcast.pk))
        peak = tracemalloc.get_traced_memory()[1] / 1_048_576
    finally:
        tracemalloc.stop()
    print(f"peak: {peak:.1f} MB")
    assert peak < 64
    assert Receipt.objects.count() == SELECTED


def assert_addressed(event: str, broadcast: Broadcast, people: list[str]) -> None:
    """In events of a chunk each, everybody once."""
    events = Event.objects.filter(type=event, key=f"broadcast-{broadcast.pk}")
    sizes = [len(event.channels) for event in events]
    assert sizes == [CHUNK] * (SELECTED // CHUNK)
    channels = {channel for event in events for channel in event.channels}
    assert channels == {f"user-{pk}" for pk in people}


ACTIVATE = """
from broadcasts.models import Broadcast
from broadcasts.services import activate
activate(Broadcast.objects.get())
"""


@pytest.mark.processes
@pytest.mark.django_db
def test_a_killed_preparation_is_finished_from_where_it_stood(
    spawn: Spawn, live_database: Environment
) -> None:
    activation = ["shell", "--verbosity=0", "-c", ACTIVATE]
    with database_of(live_database):
        people = create_selected(SELECTED)
        send(compose(None, title="T", audience=Audience.SELECTED, targets=people))
        killed = spawn(activation, live_database)
        wait_until(lambda: Broadcast.objects.get().progress)
        killed.send(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        # In one statement: PostgreSQL may be committing yet what was said with its last breath.
        seen = Broadcast.objects.values_list("status", "progress", Count("receipts"))
        status, progress, written = seen.get()
        assert status == Status.IN_PROGRESS
        assert 0 < written == progress < SELECTED

        both = [spawn(activation, live_database) for _ in range(2)]
        assert [one.wait(HANGS) for one in both] == [0, 0]
        broadcast = Broadcast.objects.get()
        assert (broadcast.status, broadcast.targeted) == (Status.ACTIVE, SELECTED)
        assert Receipt.objects.count() == SELECTED
        assert_addressed("broadcast.activated", broadcast, people)


@pytest.mark.django_db
@pytest.mark.parametrize("audience", [Audience.ALL, Audience.ROLE, Audience.PRODUCT])
def test_what_a_channel_addresses_is_one_event_and_no_receipt_however_many_they_are(
    audience: Audience,
) -> None:
    people = create_selected(EVERYBODY)
    role, product = Group.objects.create(name="Users"), Product.objects.create(slug="p", name="P")
    member, subscriber = User.groups.through, Product.subscribers.through
    member.objects.bulk_create(member(user_id=int(pk), group=role) for pk in people)
    subscriber.objects.bulk_create(subscriber(user_id=int(pk), product=product) for pk in people)
    targets = {Audience.ALL: [], Audience.ROLE: ["Users"], Audience.PRODUCT: ["p"]}[audience]

    count = Counted()
    with connection.execute_wrapper(count), timed(f"sending to {audience}"):
        broadcast = send(compose(None, title="T", audience=audience, targets=targets))
    assert (broadcast.status, broadcast.targeted) == (Status.ACTIVE, EVERYBODY)
    assert count.statements < 40
    assert Event.objects.filter(type="broadcast.activated").count() == 1
    assert not Receipt.objects.exists()
