"""The proof of 100,000 receipts. Bounds on time are only against hanging; statements are exact."""

import tracemalloc
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.http import HttpRequest
from django.test.utils import CaptureQueriesContext

from broadcasts import proof
from broadcasts.exports import BATCH, export
from broadcasts.models import Broadcast, Receipt
from broadcasts.reminders import STRETCH, count_unseen, remind, resume_reminders, unseen
from outbox.models import Event
from tests.broadcasts.test_scale import create_selected, timed
from tests.factories import ActiveFactory

pytestmark = pytest.mark.django_db

MANY = 100_000
SEEN = MANY // 2


@pytest.fixture
def broadcast() -> Broadcast:
    """To everyone: all have got it within 28 hours, half of them have seen it."""
    people = [int(pk) for pk in create_selected(MANY)]
    group, member = Group.objects.create(name="Users"), User.groups.through
    member.objects.bulk_create(member(user_id=pk, group=group) for pk in people)
    broadcast = ActiveFactory.create(title="To many")
    went_out = broadcast.activated_at
    assert went_out
    Receipt.objects.bulk_create(
        Receipt(
            broadcast=broadcast,
            user_id=pk,
            delivered_at=went_out + timedelta(seconds=n),
            seen_at=went_out + timedelta(seconds=n) if n < SEEN else None,
        )
        for n, pk in enumerate(people)
    )
    return broadcast


def test_of_a_hundred_thousand_all_is_told_in_a_few_statements(broadcast: Broadcast) -> None:
    with CaptureQueriesContext(connection) as queries, timed("proof", at_most=30):
        found = proof.deliveries(broadcast)
        waits = proof.waits(broadcast, found.count)
        course = proof.course(broadcast)
        roles = proof.roles(broadcast)
        missing = count_unseen(broadcast)
        page = unseen(broadcast)
    assert len(queries) == 11
    assert waits == proof.Waits(timedelta(seconds=MANY // 2 - 1), timedelta(seconds=94_999))
    assert sum(bar.counts["delivered"] for bar in course.bars) == MANY
    assert roles
    assert roles[0].counts["seen"] == SEEN
    assert missing == MANY - SEEN
    assert page.people[0].username == f"selected-{SEEN:06}"


def test_half_of_them_are_reminded_in_stretches(broadcast: Broadcast) -> None:
    with timed("remind", at_most=60):
        assert remind(broadcast, None).people == STRETCH
        while resume_reminders():
            pass
    reminder = broadcast.reminders.get()
    assert (reminder.people, bool(reminder.finished_at)) == (MANY - SEEN, True)
    events = Event.objects.filter(type="broadcast.reminded")
    channels = [channel for event in events for channel in event.channels]
    assert len(channels) == len(set(channels)) == MANY - SEEN


def test_an_export_is_as_small_in_memory_as_its_batch(broadcast: Broadcast) -> None:
    tracemalloc.start()
    try:
        with timed("export", at_most=120):
            response = export(HttpRequest(), broadcast, mark=False)
            lines = sum(chunk.count(b"\r\n") for chunk in response)
        peak = tracemalloc.get_traced_memory()[1] / 1_048_576
    finally:
        tracemalloc.stop()
    print(f"peak: {peak:.1f} MB, batches of {BATCH}")
    assert lines == MANY + 1
    assert peak < 32
