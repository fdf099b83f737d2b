from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from broadcasts import proof
from broadcasts.models import Broadcast, Receipt
from outbox.models import Event
from tests.databases import prefer_indexes
from tests.factories import ActiveFactory, GroupFactory, UserFactory

pytestmark = pytest.mark.django_db

NOON = datetime.fromisoformat("2030-01-01T12:00:00+00:00")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def broadcast() -> Broadcast:
    broadcast = ActiveFactory.create()
    Broadcast.objects.filter(pk=broadcast.pk).update(activated_at=NOON)
    broadcast.refresh_from_db()
    return broadcast


def receipt(broadcast: Broadcast, after: timedelta | None, *roles: str, **stamps: Any) -> User:
    user = UserFactory.create()
    user.groups.add(*(GroupFactory.create(name=name) for name in roles))
    at = None if after is None else NOON + after
    Receipt.objects.create(broadcast=broadcast, user=user, delivered_at=at, **stamps)
    return user


def test_times_to_deliver_are_from_when_it_went_out(broadcast: Broadcast) -> None:
    for seconds in range(1, 101):
        receipt(broadcast, timedelta(seconds=seconds))
    receipt(broadcast, None)
    found = proof.deliveries(broadcast)
    assert (found.count, found.at_once) == (100, 60)
    assert (found.first, found.last) == (
        NOON + timedelta(seconds=1),
        NOON + timedelta(seconds=100),
    )
    waits = proof.waits(broadcast, found.count)
    assert waits == proof.Waits(timedelta(seconds=50), timedelta(seconds=95))


def test_one_delivery_is_median_and_percentile(broadcast: Broadcast) -> None:
    receipt(broadcast, timedelta(seconds=3))
    three = timedelta(seconds=3)
    assert proof.waits(broadcast, 1) == proof.Waits(three, three)


def test_a_node_whose_clock_is_behind_delivers_in_no_time(broadcast: Broadcast) -> None:
    receipt(broadcast, timedelta(seconds=-3))
    assert proof.waits(broadcast, 1).median == timedelta()


def test_of_nobody_there_is_nothing_to_tell(broadcast: Broadcast) -> None:
    assert proof.deliveries(broadcast) == proof.Deliveries(0, None, None, 0)
    assert proof.waits(broadcast, 0) == proof.Waits(None, None)
    assert proof.course(broadcast).bars == []
    assert proof.roles(broadcast) == []


def test_the_course_counts_each_stage_in_the_hour_of_its_own_stamp(broadcast: Broadcast) -> None:
    receipt(broadcast, timedelta(minutes=59), seen_at=NOON + HOUR, read_at=NOON + 3 * HOUR)
    receipt(broadcast, timedelta(minutes=1))
    course = proof.course(broadcast)
    assert course.days == 0
    assert [bar.start for bar in course.bars] == [NOON + n * HOUR for n in range(4)]
    counts = {stage: [bar.counts[stage] for bar in course.bars] for stage in proof.STAGES}
    assert counts == {
        "delivered": [2, 0, 0, 0],
        "seen": [0, 1, 0, 0],
        "read": [0, 0, 0, 1],
        "acknowledged": [0, 0, 0, 0],
    }


@pytest.mark.parametrize(
    ("span", "days", "bars"),
    [
        (71 * HOUR, 0, 72),
        (72 * HOUR, 1, 4),
        (71 * DAY, 1, 72),
        (72 * DAY, 7, 11),
        (900 * DAY, 28, 33),
    ],
)
def test_what_takes_long_is_shown_in_wider_bars(
    broadcast: Broadcast, span: timedelta, days: int, bars: int
) -> None:
    receipt(broadcast, timedelta())
    receipt(broadcast, span)
    course = proof.course(broadcast)
    assert (course.days, len(course.bars)) == (days, bars)
    assert sum(bar.counts["delivered"] for bar in course.bars) == 2
    assert course.bars[-1].counts["delivered"] == 1


def test_days_are_those_of_the_readers_calendar_across_a_change_of_the_clock(
    broadcast: Broadcast,
) -> None:
    midnights = [
        datetime.fromisoformat(f"2030-{day}T00:00:00{offset}")
        for day, offset in (("03-29", "+01:00"), ("03-31", "+01:00"), ("04-03", "+02:00"))
    ]
    with timezone.override("Europe/Berlin"):
        for midnight in midnights:
            receipt(broadcast, midnight - NOON)
            receipt(broadcast, midnight - NOON - HOUR)
        bars = proof.course(broadcast).bars
        days = {f"{bar.start:%m-%d %H:%M}": bar.counts["delivered"] for bar in bars}
    assert days == {
        "03-28 00:00": 1,
        "03-29 00:00": 1,
        "03-30 00:00": 1,
        "03-31 00:00": 1,
        "04-01 00:00": 0,
        "04-02 00:00": 1,
        "04-03 00:00": 1,
    }


def test_who_has_several_roles_counts_in_each_and_who_has_none_in_none(
    broadcast: Broadcast,
) -> None:
    receipt(broadcast, HOUR, "crew", "watch", seen_at=NOON + HOUR)
    receipt(broadcast, HOUR)
    roles = proof.roles(broadcast)
    assert roles
    counted = {role.name: (role.counts["delivered"], role.counts["seen"]) for role in roles}
    assert counted == {"": (1, 0), "crew": (1, 1), "watch": (1, 1)}


def test_the_publication_is_that_of_its_events(broadcast: Broadcast) -> None:
    found = proof.publication(broadcast)
    assert (found.events, found.published, found.first) == (1, 0, None)


def test_the_publication_is_found_by_an_index_of_its_own(broadcast: Broadcast) -> None:
    question = proof.publications(broadcast)
    prefer_indexes(Event)
    if connection.vendor == "postgresql":
        assert "outbox_event_publication" in question.explain()
    else:  # SQLite cannot know that a parameter meets the condition of a partial index
        assert "SEARCH" in question.explain()


def test_a_proof_costs_the_same_whatever_there_is_to_count(broadcast: Broadcast) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            found = proof.deliveries(broadcast)
            proof.waits(broadcast, found.count)
            proof.course(broadcast)
            proof.roles(broadcast)
            proof.publication(broadcast)
        return len(queries)

    receipt(broadcast, HOUR, "crew")
    few = cost()
    for n in range(20):
        receipt(broadcast, n * DAY, f"role {n}", seen_at=NOON + n * DAY)
    assert cost() == few == 9
