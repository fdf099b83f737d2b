from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings

from outbox.deadletters import NotRedrivable, purge, purge_all, redrive, redrive_all
from outbox.logs import DatabaseLog
from outbox.models import DeadLetter, Event
from outbox.relay import Relay
from outbox.services import emit
from outbox.signals import event_redriven

pytestmark = pytest.mark.django_db


@contextmanager
def tight() -> Iterator[None]:
    """A log that takes hardly anything."""
    with override_settings(EVENT_MAX_BYTES=20):
        yield


def park(*keys: str) -> list[DeadLetter]:
    with tight():
        emit_and_relay(*keys, data={"text": "x" * 50})
    return list(DeadLetter.objects.filter(key__in=keys).order_by("pk"))


def emit_and_relay(*keys: str, data: dict[str, Any] | None = None) -> None:
    with transaction.atomic():
        for key in keys:
            emit("link.expired", key, data or {})
    relay()


def relay() -> None:
    relay = Relay(DatabaseLog())
    relay.step()
    relay.resign()


def published() -> list[str]:
    events = Event.objects.published().order_by("position")
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    return [event.key for event in events]


def test_a_redriven_event_is_published_and_then_what_waited() -> None:
    (letter,) = park("a")
    emit_and_relay("a", "b")
    assert published() == ["b"]
    redrive(letter)
    relay()
    assert published() == ["b", "a", "a"]
    assert Event.objects.get(position=2).event_id == letter.event_id
    assert not DeadLetter.objects.exists()


def test_a_redriven_event_that_is_still_poison_is_parked_again() -> None:
    (letter,) = park("a")
    redrive(letter)
    with tight():
        relay()
    assert DeadLetter.objects.count() == 1
    assert published() == []


def test_a_redrive_starts_with_all_attempts() -> None:
    (letter,) = park("a")
    redrive(letter)
    event = Event.objects.get()
    assert (event.attempts, event.parked_at, event.error) == (0, None, "")


def test_a_redrive_whose_answer_fails_changes_nothing() -> None:
    def fail(**_: Any) -> None:
        raise ValueError("not now")

    (letter,) = park("a")
    event_redriven.connect(fail)
    try:
        result = redrive_all([letter])
    finally:
        event_redriven.disconnect(fail)
    assert result.failures == [(letter.pk, "not now")]
    assert Event.objects.parked().count() == DeadLetter.objects.count() == 1


def test_a_letter_whose_event_is_gone_says_what_to_do() -> None:
    (letter,) = park("a")
    Event.objects.all().delete()
    with pytest.raises(NotRedrivable, match="purge"):
        redrive(letter)


def test_a_letter_is_redriven_once() -> None:
    (letter,) = park("a")
    redrive(DeadLetter.objects.get())
    with pytest.raises(NotRedrivable):
        redrive(letter)


def test_all_are_redriven_the_oldest_first() -> None:
    letters = park("a", "b", "c")
    result = redrive_all(reversed(letters))
    relay()
    assert (result.total, result.succeeded, result.failures) == (3, 3, [])
    assert published() == ["a", "b", "c"]


def test_redriving_all_goes_on_behind_a_failure() -> None:
    letters = park("a", "b", "c")
    Event.objects.filter(key="b").delete()
    result = redrive_all(letters)
    assert (result.total, result.succeeded) == (3, 2)
    assert [pk for pk, _ in result.failures] == [letters[1].pk]
    assert DeadLetter.objects.get().key == "b"


def test_a_purge_forgets_the_event_and_frees_what_waited() -> None:
    (letter,) = park("a")
    emit_and_relay("a")
    assert published() == []
    purge(letter)
    relay()
    assert published() == ["a"]
    assert Event.objects.count() == 1
    assert not DeadLetter.objects.exists()


def test_all_are_purged_and_counted() -> None:
    park("a", "b")
    assert purge_all(DeadLetter.objects.all()) == 2
    assert not Event.objects.exists()
