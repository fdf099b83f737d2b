"""The event log: an interface of Kafka's shape, and the database behind it.

A log has topics, a topic has partitions, a partition keeps the order of its offsets. A consumer
with a group remembers in the log how far it has read; one without a group starts where it says.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Min, Q
from django.utils.module_loading import import_string

from jobs.wake import Wake
from outbox.models import ConsumerOffset, Event, EventQuerySet, LeaderLease


class UnpublishableEvent(ValueError):
    """The event itself is at fault; trying again changes nothing by itself."""


class LogUnavailable(Exception):
    """The log cannot be reached: no event is at fault, all of them wait and keep their places."""


class TopicUnavailable(Exception):
    """The log takes nothing for this topic now: its events wait, those of other topics go on."""


@dataclass(frozen=True, slots=True)
class Record:
    topic: str
    partition: int
    offset: int
    key: str
    event_id: UUID
    type: str
    position: int
    channels: list[str]
    value: dict[str, Any]
    """The CloudEvents envelope."""


class Consumer(ABC):
    """Reads the partitions of its topics in order; used by one thread."""

    @abstractmethod
    def poll(self, limit: int = 500, wait: float = 0) -> list[Record]:
        """The next records, at most `limit`; empty when none came within `wait` seconds."""

    @abstractmethod
    def commit(self, record: Record) -> None:
        """Remember that the group is done with everything up to `record` in its partition."""

    @abstractmethod
    def close(self) -> None: ...


class EventLog(ABC):
    transactional = False
    """Whether `publish` writes in the relay's own transaction, so that nothing can fall between."""

    def connect(self) -> None:  # noqa: B027
        """Called when a relay takes the lead: the first event should not wait for it."""

    def ping(self, timeout: float) -> None:  # noqa: B027
        """Raise `LogUnavailable` unless it answers within so many seconds; a table does."""

    @abstractmethod
    def publish(self, events: Sequence[Event]) -> dict[int, Exception]:
        """Append `events` in their order; what failed, by `Event.id`.

        With an event that failed also fails what follows it in its key: nothing overtakes it.
        Raises `LogUnavailable`; the same events then come again with the same positions.
        """

    @abstractmethod
    def consumer(
        self, topics: Iterable[str], *, group: str | None = None, after: int | None = None
    ) -> Consumer:
        """A consumer that goes on where `group` stopped, else after the position `after`.

        With neither it reads what is published from now on.
        """

    @abstractmethod
    def head(self) -> int:
        """The position of the last event published."""

    @abstractmethod
    def replay(self, topic: str, after: int, limit: int) -> list[Record] | None:
        """Up to `limit` records after a position; `None` when some of them are gone."""

    @abstractmethod
    def tail(self, topic: str, limit: int) -> tuple[list[Record], int]:
        """The last records, at most `limit`, and the position after which they are complete."""

    def check(self, event: Event) -> None:
        """Raise `UnpublishableEvent` for what this log can never take."""
        try:
            size = len(json.dumps(event.data))
        except (TypeError, ValueError) as error:
            raise UnpublishableEvent(f"the data is no JSON: {error}") from error
        if size > settings.EVENT_MAX_BYTES:
            raise UnpublishableEvent(
                f"the data has {size} bytes, more than EVENT_MAX_BYTES={settings.EVENT_MAX_BYTES}"
            )


def newer(records: Iterable[Record], than: int) -> list[Record]:
    """Each once: a log may bring a record again, even within a batch; its position says so."""
    fresh = []
    for record in records:
        if record.position > than:
            than = record.position
            fresh.append(record)
    return fresh


def record_of(event: Event) -> Record:
    assert event.position is not None
    return Record(
        topic=event.topic,
        partition=event.partition,
        offset=event.position,
        key=event.key,
        event_id=event.event_id,
        type=event.type,
        position=event.position,
        channels=event.channels,
        value=event.envelope(),
    )


class DatabaseLog(EventLog):
    """The outbox table is the log: a position is an offset."""

    transactional = True

    def publish(self, events: Sequence[Event]) -> dict[int, Exception]:
        return {}

    def consumer(
        self, topics: Iterable[str], *, group: str | None = None, after: int | None = None
    ) -> Consumer:
        return DatabaseConsumer(list(topics), group, self.head() if after is None else after)

    def recorded(self) -> EventQuerySet:
        """What readers may have seen: with it they replay what they missed."""
        return Event.objects.published()

    def kept(self, topic: str) -> EventQuerySet:
        return self.recorded().filter(topic=topic)

    def head(self) -> int:
        found = LeaderLease.objects.filter(name="relay").values_list("position", flat=True).first()
        return found or 0

    def replay(self, topic: str, after: int, limit: int) -> list[Record] | None:
        events = self.kept(topic).filter(position__gt=after)
        records = [record_of(event) for event in events.order_by("position")[:limit]]
        # Looked at after the read: what retention deletes from here on is in `records` already.
        oldest = self.recorded().aggregate(oldest=Min("position"))["oldest"]
        kept = after >= self.head() if oldest is None else oldest <= after + 1
        return records if kept else None

    def tail(self, topic: str, limit: int) -> tuple[list[Record], int]:
        head = self.head()
        events = self.kept(topic).filter(position__lte=head)
        records = [record_of(event) for event in events.order_by("-position")[:limit]][::-1]
        if len(records) == limit:
            return records, records[0].position - 1
        oldest = self.recorded().aggregate(oldest=Min("position"))["oldest"]
        return records, head if oldest is None else oldest - 1


class DatabaseConsumer(Consumer):
    def __init__(self, topics: list[str], group: str | None, after: int) -> None:
        self.group = group
        self.after = dict.fromkeys(topics, after) | self._committed(topics)
        self.wake: Wake | None = None

    def poll(self, limit: int = 500, wait: float = 0) -> list[Record]:
        if wait and self.wake is None:
            self.wake = Wake("log")  # before the look, so that nothing falls between
        records = self._next(limit)
        if not records and self.wake:
            self.wake.wait(wait)
            records = self._next(limit)
        return records

    def _next(self, limit: int) -> list[Record]:
        beyond = Q(pk__in=[])  # without a topic nothing
        for topic, position in self.after.items():
            beyond |= Q(topic=topic, position__gt=position)
        events = Event.objects.published().filter(beyond).order_by("position")[:limit]
        records = [record_of(event) for event in events]
        for record in records:
            self.after[record.topic] = record.offset
        return records

    def commit(self, record: Record) -> None:
        if self.group is None:
            return
        row, _ = ConsumerOffset.objects.get_or_create(
            group=self.group, topic=record.topic, partition=record.partition
        )
        # Never back: another consumer of the group may be further.
        ConsumerOffset.objects.filter(pk=row.pk, offset__lt=record.offset).update(
            offset=record.offset
        )

    def close(self) -> None:
        if self.wake:
            self.wake.close()

    def _committed(self, topics: list[str]) -> dict[str, int]:
        """By topic, the furthest offset: one consumer reads all partitions in commit order."""
        if self.group is None:
            return {}
        rows = ConsumerOffset.objects.filter(group=self.group, topic__in=topics)
        return dict.fromkeys(topics, 0) | {
            row.topic: row.offset for row in rows.order_by("topic", "offset")
        }


@cache
def get_log() -> EventLog:
    """The backend that `EVENT_LOG_BACKEND` names."""
    log: EventLog = import_string(settings.EVENT_LOG_BACKEND)()
    return log
