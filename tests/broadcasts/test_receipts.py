from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from broadcasts.models import Broadcast, Receipt
from broadcasts.receipts import (
    NotInInbox,
    Statistics,
    dismiss,
    inbox_of,
    mark_all_read,
    mark_read,
    mark_seen,
    record_deliveries,
    statistics,
    statistics_of,
)
from broadcasts.services import cancel
from outbox.models import Event
from tests.factories import ActiveFactory, GroupFactory, UserFactory
from tests.racing import race

pytestmark = pytest.mark.django_db

NOON = datetime.fromisoformat("2030-01-01T12:00:00+00:00")
LATER = NOON + timedelta(minutes=5)


@pytest.fixture
def reader() -> User:
    return UserFactory.create()


@pytest.fixture
def broadcast(reader: User) -> Broadcast:
    return ActiveFactory.create()


def receipt_of(user: User) -> Receipt:
    return Receipt.objects.get(user=user)


def figures(broadcast: Broadcast) -> tuple[int, int, int, int]:
    counted = statistics(broadcast)
    return counted.delivered, counted.seen, counted.read, counted.dismissed


def test_what_is_delivered_twice_counts_once(broadcast: Broadcast, reader: User) -> None:
    for at in (NOON, LATER):
        record_deliveries(broadcast.pk, [reader.pk], at)
    receipt = receipt_of(reader)
    assert (receipt.status, receipt.delivered_at) == ("DELIVERED", NOON)
    assert figures(broadcast) == (1, 0, 0, 0)


def test_a_person_who_is_named_twice_in_a_batch_counts_once(
    broadcast: Broadcast, reader: User
) -> None:
    record_deliveries(broadcast.pk, [reader.pk, reader.pk], NOON)
    assert figures(broadcast) == (1, 0, 0, 0)


def test_no_stamp_ever_moves(broadcast: Broadcast, reader: User) -> None:
    verbs = (mark_seen, mark_read)
    for verb in verbs:
        verb(reader, [broadcast.pk])
    before = Receipt.objects.values("delivered_at", "seen_at", "read_at", "status").get()
    for verb in verbs:
        verb(reader, [broadcast.pk])
    record_deliveries(broadcast.pk, [reader.pk], LATER)
    assert Receipt.objects.values("delivered_at", "seen_at", "read_at", "status").get() == before


def test_who_read_it_has_seen_it_and_got_it(broadcast: Broadcast, reader: User) -> None:
    mark_read(reader, [broadcast.pk])
    record_deliveries(broadcast.pk, [reader.pk], LATER)
    receipt = receipt_of(reader)
    assert receipt.status == "READ"
    assert receipt.delivered_at == receipt.seen_at == receipt.read_at
    assert figures(broadcast) == (1, 1, 1, 0)


def test_seen_after_read_does_not_go_back(broadcast: Broadcast, reader: User) -> None:
    mark_read(reader, [broadcast.pk])
    mark_seen(reader, [broadcast.pk])
    assert receipt_of(reader).status == "READ"


def test_a_receipt_for_everyone_appears_when_something_happens(
    broadcast: Broadcast, reader: User
) -> None:
    assert not Receipt.objects.exists()
    mark_seen(reader, [broadcast.pk])
    assert receipt_of(reader).status == "SEEN"


def test_the_receipt_of_a_selected_person_is_the_one_that_was_there(reader: User) -> None:
    broadcast = ActiveFactory.create(audience="SELECTED", targets=[str(reader.pk)])
    pk = receipt_of(reader).pk
    record_deliveries(broadcast.pk, [reader.pk], NOON)
    assert (receipt_of(reader).pk, receipt_of(reader).status) == (pk, "DELIVERED")


def test_what_was_cancelled_keeps_what_happened(reader: User) -> None:
    other = UserFactory.create()
    broadcast = ActiveFactory.create(audience="SELECTED", targets=[str(reader.pk), str(other.pk)])
    mark_read(reader, [broadcast.pk])
    record_deliveries(broadcast.pk, [other.pk], NOON)
    cancel(broadcast)
    assert receipt_of(other).status == "SUPERSEDED"
    assert figures(broadcast) == (2, 1, 1, 0)
    assert statistics(broadcast).targeted == 2


def test_a_delivery_told_after_the_cancel_counts_but_waits_for_nobody(
    broadcast: Broadcast, reader: User
) -> None:
    cancel(broadcast)
    record_deliveries(broadcast.pk, [reader.pk], NOON)
    assert (receipt_of(reader).status, figures(broadcast)[0]) == ("SUPERSEDED", 1)


def test_people_and_broadcasts_that_are_gone_are_passed_over(
    broadcast: Broadcast, reader: User
) -> None:
    gone = UserFactory.create()
    ids = [gone.pk, reader.pk]
    gone.delete()
    record_deliveries(broadcast.pk, ids, NOON)
    record_deliveries(broadcast.pk + 1, [reader.pk], NOON)
    assert Receipt.objects.get().user == reader


def test_the_deletion_of_a_person_takes_their_receipt_not_the_target(
    broadcast: Broadcast, reader: User
) -> None:
    record_deliveries(broadcast.pk, [reader.pk], NOON)
    reader.delete()
    counted = statistics(broadcast)
    assert (counted.targeted, counted.delivered) == (1, 0)


@pytest.mark.parametrize("verb", [mark_seen, mark_read, dismiss])
def test_somebody_elses_message_is_not_in_the_inbox_and_nothing_is_written(
    verb: Any, broadcast: Broadcast, reader: User
) -> None:
    role = GroupFactory.create()
    role.user_set.add(UserFactory.create())
    theirs = ActiveFactory.create(audience="ROLE", targets=[role.name])
    events = Event.objects.count()
    with pytest.raises(NotInInbox, match=str(theirs.pk)):
        verb(reader, [broadcast.pk, theirs.pk])
    assert (Receipt.objects.count(), Event.objects.count()) == (0, events)


def test_who_is_not_addressed_has_it_in_no_inbox(reader: User) -> None:
    ActiveFactory.create(audience="SELECTED", targets=[str(UserFactory.create().pk)])
    assert not inbox_of(reader).exists()
    assert mark_all_read(reader) == 0


def test_a_receipt_does_not_address(reader: User) -> None:
    """Who once got something by a role, and has left it, has lost it."""
    role = GroupFactory.create()
    role.user_set.add(reader)
    broadcast = ActiveFactory.create(audience="ROLE", targets=[role.name])
    mark_read(reader, [broadcast.pk])
    role.user_set.remove(reader)
    assert not inbox_of(reader).exists()


def test_an_inbox_is_as_wide_as_the_channels_of_its_person(reader: User) -> None:
    role = GroupFactory.create()
    role.user_set.add(reader)
    made = [
        ActiveFactory.create(),
        ActiveFactory.create(audience="ROLE", targets=[role.name]),
        ActiveFactory.create(audience="SELECTED", targets=[str(reader.pk)]),
    ]
    assert set(inbox_of(reader)) == set(made)


def test_another_persons_receipt_shows_in_no_inbox(broadcast: Broadcast, reader: User) -> None:
    other = UserFactory.create()
    mark_read(other, [broadcast.pk])
    dismiss(other, [broadcast.pk])
    assert inbox_of(reader).get().read_at is None


def test_reading_tells_the_persons_other_screens_once(broadcast: Broadcast, reader: User) -> None:
    mark_read(reader, [broadcast.pk])
    mark_read(reader, [broadcast.pk])
    event = Event.objects.get(type="broadcast.read")
    assert event.channels == [f"user-{reader.pk}"]
    assert event.data == {"broadcast_id": broadcast.pk, "broadcast_ids": [broadcast.pk]}


def test_reading_all_marks_what_is_unread(broadcast: Broadcast, reader: User) -> None:
    ActiveFactory.create()
    mark_read(reader, [broadcast.pk])
    assert mark_all_read(reader) == 1
    assert mark_all_read(reader) == 0
    assert Receipt.objects.filter(status="READ").count() == 2


def test_what_is_dismissed_leaves_the_inbox_unread(broadcast: Broadcast, reader: User) -> None:
    dismiss(reader, [broadcast.pk])
    assert not inbox_of(reader).exists()
    assert figures(broadcast) == (0, 0, 0, 1)
    event = Event.objects.get(type="broadcast.dismissed")
    assert event.channels == [f"user-{reader.pk}"]


def test_rates_of_nobody_are_none_not_an_error() -> None:
    counted = Statistics(targeted=0, delivered=0, seen=0, read=0, dismissed=0)
    assert (counted.delivery_rate, counted.seen_rate, counted.read_rate) == (None, None, None)


def test_rates_are_parts_of_the_targeted() -> None:
    counted = Statistics(targeted=8, delivered=4, seen=2, read=1, dismissed=0)
    assert (counted.delivery_rate, counted.seen_rate, counted.read_rate) == (0.5, 0.25, 0.125)


def test_a_rate_is_never_above_one_when_people_join_later() -> None:
    assert Statistics(targeted=1, delivered=3, seen=0, read=0, dismissed=0).delivery_rate == 1.0


def test_statistics_of_many_are_one_query(reader: User, django_assert_num_queries: Any) -> None:
    made = [ActiveFactory.create() for _ in range(5)]
    mark_read(reader, [made[0].pk])
    with django_assert_num_queries(1):
        counted = statistics_of(made)
    assert [counted[b.pk].read for b in made] == [1, 0, 0, 0, 0]


def test_five_thousand_deliveries_are_a_statement_a_thousand(
    broadcast: Broadcast, django_assert_max_num_queries: Any
) -> None:
    users = User.objects.bulk_create(User(username=f"p-{n}") for n in range(5_000))
    ids = [user.pk for user in users]
    with django_assert_max_num_queries(5):
        record_deliveries(broadcast.pk, ids, NOON)
    with django_assert_max_num_queries(5):
        record_deliveries(broadcast.pk, ids, LATER)
    assert Receipt.objects.filter(delivered_at=NOON).count() == 5_000


def test_reading_much_costs_no_more_statements_than_reading_one(
    reader: User, django_assert_max_num_queries: Any
) -> None:
    made = [ActiveFactory.create().pk for _ in range(30)]
    with django_assert_max_num_queries(20):
        mark_read(reader, made)


@pytest.mark.django_db(transaction=True)
def test_nodes_that_tell_of_the_same_people_do_not_lock_each_other_out() -> None:
    users = User.objects.bulk_create(User(username=f"p-{n}") for n in range(500))
    ids = [user.pk for user in users]
    for _ in range(4):
        pk = ActiveFactory.create().pk
        told = [
            lambda pk=pk: record_deliveries(pk, ids, NOON),
            lambda pk=pk: record_deliveries(pk, ids[::-1], LATER),
            lambda pk=pk: record_deliveries(pk, ids[250:] + ids[:250], timezone.now()),
        ]
        assert race(*told) == [None, None, None]
        assert Receipt.objects.filter(broadcast_id=pk, status="DELIVERED").count() == 500
