"""Verbs on dead letters: redrive and purge, one or all."""

import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db import transaction
from django.db.models import F

from jobs.acting import acting_as, did
from jobs.wake import notify
from outbox.consumers import groups, handler_of, handling
from outbox.models import DeadLetter, Event
from outbox.signals import event_redriven


@dataclass
class RedriveResult:
    total: int = 0
    succeeded: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    """Dead letter id and reason."""


class NotRedrivable(Exception):
    """The reason says what to do."""


def redrive(letter: DeadLetter) -> None:
    """Give the event back to where it failed; raises `NotRedrivable` or what the consumer raises.

    A relay's event returns to the outbox with its attempts at zero; a consumer's is handled now.
    Both put right what the failure marked, by the signal `event_redriven`.
    """
    if letter.source == DeadLetter.RELAY:
        _requeue(letter)
    else:
        if letter.source not in groups:
            raise NotRedrivable(f"no consumer group {letter.source!r} is registered here; purge it")
        _handle_again(letter)


def redrive_all(letters: Iterable[DeadLetter]) -> RedriveResult:
    """Redrive each by itself, the oldest first: one failure does not stop the others."""
    result = RedriveResult()
    for letter in sorted(letters, key=lambda letter: letter.pk):
        result.total += 1
        try:
            redrive(letter)
        except Exception as error:  # the operator gets the reason, whatever it is
            result.failures.append((letter.pk, str(error) or type(error).__name__))
        else:
            result.succeeded += 1
    return result


@transaction.atomic
def purge(letter: DeadLetter) -> bool:
    """Forget the event for good; what waited behind it in its key flows again.

    False when somebody else was first.
    """
    whole = DeadLetter.objects.filter(pk=letter.pk).first()  # a list has none of what is heavy
    if not (whole and _is_taken(whole)):
        return False
    if whole.source == DeadLetter.RELAY:
        Event.objects.parked().filter(event_id=whole.event_id).delete()
    did("deadletter.purged", whole, type=whole.payload.get("type"), event=whole.event_id)
    notify("outbox")
    return True


def purge_all(letters: Iterable[DeadLetter]) -> int:
    return sum(purge(letter) for letter in list(letters))


def _is_taken(letter: DeadLetter) -> bool:
    """Deleted by this transaction, and by no other."""
    deleted, _rows = DeadLetter.objects.filter(pk=letter.pk).delete()
    return bool(deleted)


def _handle_again(letter: DeadLetter) -> None:
    try:
        with handling(letter.payload, letter.source), acting_as(None):  # no person's doing
            handler_of(letter.source)(letter.payload)
    except Exception as error:
        DeadLetter.objects.filter(pk=letter.pk).update(
            attempts=F("attempts") + 1,
            error=str(error),
            traceback="".join(traceback.format_exception(error)),
        )
        raise
    with transaction.atomic():
        if _is_taken(letter):
            what = letter.payload.get("type")
            did("deadletter.redriven", letter, type=what, event=letter.event_id)


@transaction.atomic
def _requeue(letter: DeadLetter) -> None:
    events = Event.objects.parked().filter(event_id=letter.event_id)
    event = events.first()
    if not event or not events.update(parked_at=None, attempts=0, next_attempt_at=None, error=""):
        raise NotRedrivable("the event is no longer in the outbox; purge this dead letter")
    did("deadletter.redriven", letter, type=event.type, event=letter.event_id)
    letter.delete()
    event_redriven.send(Event, event=event)
    notify("outbox")
