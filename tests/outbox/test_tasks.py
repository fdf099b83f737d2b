from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from outbox import tasks
from outbox.models import Event
from outbox.tasks import delete_old_events

pytestmark = pytest.mark.django_db

OLD = timezone.now() - timedelta(days=8)


def events(count: int, first: int = 1, **fields: Any) -> None:
    Event.objects.bulk_create(
        Event(type="link.expired", topic="link", key="a", data={}, position=first + n, **fields)
        for n in range(count)
    )


def test_what_is_older_than_the_retention_goes() -> None:
    events(3, published_at=OLD)
    events(2, first=4, published_at=timezone.now() - timedelta(days=6))
    assert delete_old_events() == 3
    assert set(Event.objects.values_list("position", flat=True)) == {4, 5}


def test_positions_that_failures_left_empty_are_passed_over() -> None:
    events(2, published_at=OLD)
    events(1, first=7, published_at=OLD)
    events(1, first=20, published_at=timezone.now())
    assert delete_old_events() == 3
    assert [event.position for event in Event.objects.all()] == [20]


def test_what_was_never_published_stays_however_old() -> None:
    Event.objects.create(type="link.expired", topic="link", key="a", data={}, parked_at=OLD)
    Event.objects.create(type="link.expired", topic="link", key="b", data={})
    Event.objects.update(created_at=OLD)
    assert delete_old_events() == 0
    assert Event.objects.count() == 2


def test_it_deletes_in_batches_from_the_oldest(
    monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    monkeypatch.setattr(tasks, "BATCH", 2)
    events(5, published_at=OLD)
    # The ends; three looks for the last; three times, in a savepoint of this test, DELETE.
    with django_assert_max_num_queries(15):
        assert delete_old_events() == 5
