"""The relay: the only writer of positions, and the only publisher.

One leads by a lease with a fencing token; the token is checked by the very UPDATE that allocates
positions, so a leader that lost its lease while it slept cannot write. Crash between publish and
mark: the same events go out again with the same positions, and readers drop what they have.
"""

import logging
import os
import secrets
import traceback
from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import DateTimeField, ExpressionWrapper, F, Q, Value
from django.db.models.functions import Now
from django.utils import timezone

from jobs.wake import notify
from outbox.logs import EventLog, get_log
from outbox.models import DeadLetter, Event, RelayLease
from outbox.signals import event_parked

logger = logging.getLogger(__name__)

NAME = "relay"
STAND_BY = 1.0  # seconds between looks at a lease that somebody else holds
FALLBACK_POLL = 2.0  # seconds; a commit wakes the relay sooner


class Fenced(Exception):
    """Another relay has taken the lead."""


class Relay:
    def __init__(self, log: EventLog | None = None) -> None:
        self.log = log or get_log()
        self.holder = f"{settings.NODE_NAME}-{os.getpid()}-{secrets.token_hex(3)}"
        self.token = 0

    def step(self) -> float:
        """Publish what is there, if this relay leads; seconds until the next look."""
        if not self.lead():
            return STAND_BY
        try:
            while self.publish_batch() and self.lead():
                pass
        except Fenced:
            logger.warning("Relay %s lost the lead", self.holder)
            self.token = 0
            return STAND_BY
        return min(FALLBACK_POLL, settings.OUTBOX_LEASE_SECONDS / 3)

    def lead(self) -> bool:
        """Take, keep or fail to get the lease, by the clock of the database."""
        until = ExpressionWrapper(
            Now() + Value(timedelta(seconds=settings.OUTBOX_LEASE_SECONDS)),
            output_field=DateTimeField(),
        )
        lease = RelayLease.objects.filter(name=NAME)
        if self.token and lease.filter(token=self.token).update(until=until):
            return True
        RelayLease.objects.get_or_create(name=NAME)
        free = lease.filter(Q(until=None) | Q(until__lt=Now()))
        taken = free.update(holder=self.holder, since=Now(), until=until, token=F("token") + 1)
        if not taken:
            self.token = 0
            return False
        self.token = lease.filter(holder=self.holder).values_list("token", flat=True).get()
        logger.info("Relay %s leads with token %s", self.holder, self.token)
        self._publish_unmarked()
        return True

    def resign(self) -> None:
        """Let the next relay lead at once instead of after the lease has run out."""
        RelayLease.objects.filter(name=NAME, token=self.token).update(until=None, holder="")
        self.token = 0

    def publish_batch(self) -> int:
        """Publish one batch; how many events were handled. Raises `Fenced`."""
        if self.log.transactional:
            with transaction.atomic():
                batch = self._take()
                self._mark(batch, self.log.publish(batch))
        else:
            with transaction.atomic():
                batch = self._take()
            failures = self.log.publish(batch)
            with transaction.atomic():
                self._fence()
                self._mark(batch, failures)
        return len(batch)

    def _publish_unmarked(self) -> None:
        """What a relay that died had given a position but not marked as published."""
        rest = list(Event.objects.pending().filter(position__isnull=False).order_by("position"))
        if rest:
            failures = self.log.publish(rest)
            with transaction.atomic():
                self._fence()
                self._mark(rest, failures)

    def _take(self) -> list[Event]:
        """The next batch with its positions; what can never be published is parked."""
        self._fence()
        events = list(Event.objects.publishable(timezone.now())[: settings.OUTBOX_BATCH_SIZE])
        good: list[Event] = []
        for event in events:
            try:
                self.log.check(event)
            except Exception as error:  # poison must not stop the stream, whatever it raises
                _failed(event, error, attempts=settings.EVENT_MAX_ATTEMPTS)
            else:
                good.append(event)
        first = self._allocate(len(good))
        for position, event in enumerate(good, first):
            event.position = position
        Event.objects.bulk_update(good, ["position"], batch_size=200)
        return good

    def _fence(self) -> None:
        """Lock the lease row for this transaction, or raise: only the leader gets past."""
        self._allocate(0)

    def _allocate(self, count: int) -> int:
        lease = RelayLease.objects.filter(name=NAME, token=self.token)
        if not lease.update(position=F("position") + count):
            raise Fenced(self.holder)
        return lease.values_list("position", flat=True).get() - count + 1

    def _mark(self, events: Sequence[Event], failures: dict[int, Exception]) -> None:
        published = [event.pk for event in events if event.pk not in failures]
        if published:
            Event.objects.filter(pk__in=published).update(published_at=Now(), error="")
            notify("log")
        for event in events:
            if event.pk in failures:
                _failed(event, failures[event.pk], attempts=event.attempts + 1)


def _failed(event: Event, error: Exception, *, attempts: int) -> None:
    """Try again later, twice as late each time; park what has had all its attempts."""
    event.attempts = attempts
    event.error = str(error)
    event.position = None  # it takes a new one, else readers who are past this one would miss it
    if attempts < settings.EVENT_MAX_ATTEMPTS:
        event.next_attempt_at = timezone.now() + timedelta(seconds=2**attempts)
    else:
        _park(event, error)
    event.save(update_fields=["attempts", "error", "position", "next_attempt_at", "parked_at"])


def _park(event: Event, error: Exception) -> None:
    logger.error("Event %s parked after %s attempts: %s", event.event_id, event.attempts, error)
    event.parked_at = timezone.now()
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
    event_parked.send(Event, event=event)
