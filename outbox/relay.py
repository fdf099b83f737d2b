"""The relay: the only writer of positions, and the only publisher.

One leads by a lease with a fencing token; the token is checked by the very UPDATE that allocates
positions, so a leader that lost its lease while it slept cannot write. Crash between publish and
mark: the same events go out again with the same positions, and readers drop what they have.
"""

import json
import logging
import time
import traceback
from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from jobs import clock, tracing
from jobs.correlation import correlated
from jobs.wake import notify
from outbox.leases import RELAY, STAND_BY, Fenced, Leader
from outbox.logs import EventLog, LogUnavailable, TopicUnavailable, get_log
from outbox.models import DeadLetter, Event
from outbox.signals import event_parked

logger = logging.getLogger(__name__)

FALLBACK_POLL = 2.0  # seconds; a commit wakes the relay sooner
TOPIC_ATTEMPTS = 5  # no more are counted, so that a topic is tried each half minute
BATCHES_A_STEP = 10  # then SIGTERM is looked for, however long the backlog

ALLOCATE = (
    "UPDATE outbox_leaderlease SET position = position + %s WHERE name = %s AND token = %s"
    " RETURNING position"
)
# The n-th id of a JSON list gets the first position + n.
NUMBER = {
    "postgresql": "UPDATE outbox_event SET position = %s + number - 1 "
    "FROM json_array_elements_text(%s::json) WITH ORDINALITY AS given (id, number) "
    "WHERE outbox_event.id = given.id::bigint",
    "sqlite": "UPDATE outbox_event SET position = %s + given.key "
    "FROM json_each(%s) AS given WHERE outbox_event.id = given.value",
}


class Relay(Leader):
    def __init__(self, log: EventLog | None = None) -> None:
        super().__init__(RELAY)
        self.log = log or get_log()
        self.settled = False  # whether all positions that were given are known to be published

    def step(self) -> float:
        """Publish what is there, if this relay leads; seconds until the next look."""
        try:
            if not self.leads():
                return STAND_BY
            for _ in range(BATCHES_A_STEP):
                if not (self.publish_batch() and self.leads()):
                    break
            else:
                return 0.0
        except Fenced:
            logger.warning("Relay %s lost the lead", self.holder)
            self.token = 0
            return STAND_BY
        except LogUnavailable as error:
            logger.warning("The event log cannot be reached; again in %s s: %s", STAND_BY, error)
            return STAND_BY
        return min(FALLBACK_POLL, settings.OUTBOX_LEASE_SECONDS / 3)

    def lead(self) -> bool:
        """Take, keep or fail to get the lease, by the clock of the database."""
        before = self.token
        leads = super().lead()
        if leads and self.token != before:
            self.settled = False
            self.log.connect()
        return leads

    def publish_batch(self) -> int:
        """Publish one batch; how many events were handled. Raises `Fenced`, `LogUnavailable`."""
        if self.log.transactional:
            with transaction.atomic():
                batch, handled = self._take()
                began = time.time_ns()
                failures = self.log.publish(batch)
                self._mark(batch, failures)
        else:
            try:
                with transaction.atomic():
                    batch, handled = self._take()
            finally:  # even when it failed: the commit may have come through, and its answer not
                self.settled = False
            began = time.time_ns()
            failures = self._deliver(batch)
            with transaction.atomic():
                self._fence()
                self._mark(batch, failures)
        self.settled = True
        _trace(batch, failures, began)
        return handled

    def _deliver(self, events: Sequence[Event]) -> dict[int, Exception]:
        """Publish together; one by one when the log chokes on the batch, to find the event."""
        try:
            return self.log.publish(events)
        except LogUnavailable:
            raise
        except Exception:  # whatever it is, one event must not stop the others
            logger.exception("A batch of %s could not be published; one by one", len(events))
        failures: dict[int, Exception] = {}
        held: dict[tuple[str, str], Exception] = {}
        for event in events:
            if event.lane not in held:
                failures |= self._deliver_one(event)
            else:
                failures[event.pk] = held[event.lane]
            if event.pk in failures:
                held[event.lane] = failures[event.pk]
        return failures

    def _deliver_one(self, event: Event) -> dict[int, Exception]:
        try:
            return self.log.publish([event])
        except LogUnavailable:
            raise
        except Exception as error:
            return {event.pk: error}

    def _take(self) -> tuple[list[Event], int]:
        """The next batch with its positions, and how many were looked at.

        What can never be published is parked, and holds back what follows in its key.
        """
        if not self.settled:
            self._fence()
            if rest := self._unmarked():
                return rest, len(rest)
        events = list(Event.objects.publishable(clock.now())[: settings.OUTBOX_BATCH_SIZE])
        good: list[Event] = []
        held: set[tuple[str, str]] = set()
        for event in events:
            if event.lane in held:
                continue
            try:
                self.log.check(event)
            except Exception as error:  # poison must not stop the stream, whatever it raises
                held.add(event.lane)
                _failed(event, error, final=True)
            else:
                good.append(event)
        first = self._allocate(len(good))
        for position, event in enumerate(good, first):
            event.position = position
        _write_positions(good, first)
        return good, len(events)

    def _unmarked(self) -> list[Event]:
        """What was given a position but not marked as published: by a relay that died, perhaps."""
        return list(Event.objects.unmarked().order_by("position"))

    def _fence(self) -> None:
        """Lock the lease row for this transaction, or raise: only the leader gets past."""
        self._allocate(0)

    def _allocate(self, count: int) -> int:
        """The first of so many positions; what this transaction has read and written is fenced."""
        with connection.cursor() as cursor:
            cursor.execute(ALLOCATE, [count, self.name, self.token])
            row = cursor.fetchone()
        if row is None:
            raise Fenced(self.holder)
        return int(row[0]) - count + 1

    def _mark(self, events: Sequence[Event], failures: dict[int, Exception]) -> None:
        published = [event for event in events if event.pk not in failures]
        if published:
            # What has a position between these is in the batch: no need to name each.
            span = (published[0].position, published[-1].position)
            marked = Event.objects.filter(position__range=span)
            if failures:
                marked = marked.exclude(pk__in=failures)
            marked.update(published_at=Now(), error="")
            notify("log")
        held: set[tuple[str, str]] = set()
        for event in events:
            if event.pk in failures and event.lane in held:
                _give_back(event)
            elif event.pk in failures:
                held.add(event.lane)
                _failed(event, failures[event.pk])


def _trace(events: Sequence[Event], failures: dict[int, Exception], began: int) -> None:
    if settings.TRACING:
        for event in events:
            tracing.record(
                f"publish {event.type}",
                "producer",
                event.traceparent,
                began,
                messaging__destination__name=event.topic,
                messaging__message__id=str(event.event_id),
                correlation_id=event.correlation_id,
                position=event.position,
                error=str(failures.get(event.pk, "")),
            )


def _write_positions(events: Sequence[Event], first: int) -> None:
    """One statement; `bulk_update` builds a CASE of as many branches, at ten times the cost."""
    with connection.cursor() as cursor:
        cursor.execute(NUMBER[connection.vendor], [first, json.dumps([e.pk for e in events])])


def _give_back(event: Event) -> None:
    """It failed only because it follows one that did."""
    event.position = None
    event.save(update_fields=["position"])


def _failed(event: Event, error: Exception, *, final: bool = False) -> None:
    """Try again later, twice as late each time; park what has had all its attempts."""
    with correlated(event.correlation_id, event.event_id):
        _put_off(event, error, final=final)


def _put_off(event: Event, error: Exception, *, final: bool) -> None:
    waits = isinstance(error, TopicUnavailable)  # no attempts end it: no event is at fault
    event.attempts = min(event.attempts + 1, TOPIC_ATTEMPTS) if waits else event.attempts + 1
    event.error = str(error)
    event.position = None  # it takes a new one, else readers who are past this one would miss it
    if final or (event.attempts >= settings.EVENT_MAX_ATTEMPTS and not waits):
        _park(event, error)
    else:
        event.next_attempt_at = clock.now() + timedelta(seconds=2**event.attempts)
    event.save(update_fields=["attempts", "error", "position", "next_attempt_at", "parked_at"])


def _park(event: Event, error: Exception) -> None:
    logger.error("Event %s parked after attempt %s: %s", event.event_id, event.attempts, error)
    event.parked_at = clock.now()
    DeadLetter.objects.create(
        source=DeadLetter.RELAY,
        event_id=event.event_id,
        type=event.type,
        topic=event.topic,
        partition=event.partition,
        key=event.key,
        payload=event.envelope(),
        error=str(error),
        traceback="".join(traceback.format_exception(error)),
        attempts=event.attempts,
    )
    try:
        with transaction.atomic():
            event_parked.send(Event, event=event)
    except Exception:  # whoever answers to it must not stop the stream either
        logger.exception("The parking of event %s could not be answered", event.event_id)
