"""Consumer groups: a handler an app registers, at least once for every event of its topics."""

import logging
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from jobs import tracing
from jobs.correlation import correlated, well_formed
from outbox.leases import STAND_BY, Leader
from outbox.logs import Consumer, Record, get_log
from outbox.models import DeadLetter

logger = logging.getLogger(__name__)

Envelope = dict[str, Any]
Handler = Callable[[Envelope], None]
BatchHandler = Callable[[list[Envelope]], None]
ATTEMPTS = 3
READ_WAIT = 1.0  # seconds; what is published wakes the reader sooner


@dataclass(frozen=True)
class Group:
    name: str
    topics: list[str]
    handle: Handler
    handle_all: BatchHandler | None = None
    """The same for many at once, all or none of them."""


groups: dict[str, Group] = {}


def consumer_group(
    name: str, topics: Iterable[str], batch: BatchHandler | None = None
) -> Callable[[Handler], Handler]:
    """Declare a handler of CloudEvents envelopes; it must be idempotent by their `id`.

    `batch` handles many at once; where it raises they are handled one by one.
    """

    def register(handle: Handler) -> Handler:
        groups[name] = Group(name, list(topics), handle, batch)
        return handle

    return register


ABOUT = ("type", "id", "correlationid", "traceparent")


@contextmanager
def handling(envelope: Envelope, group: str) -> Iterator[None]:
    """What is logged and emitted meanwhile belongs to what set off this event.

    Others publish to the log, too: what an envelope lacks, or is no id, does not hurt.
    """
    given = {name: str(envelope.get(name) or "") for name in ABOUT}
    with (
        correlated(well_formed(given["correlationid"]), given["id"]),
        tracing.span(f"{group} {given['type']}", "consumer", given["traceparent"]),
    ):
        yield


def handler_of(group: str) -> Handler:
    return groups[group].handle


def consume(group: Group, consumer: Consumer, wait: float = 0) -> int:
    """Handle and commit what there is now; how many. What cannot be handled is a dead letter.

    The consumer is kept from call to call, and closed at the end: one of Kafka is given its
    partitions by its first polls, and commits with the next one.
    """
    records = consumer.poll(wait=wait)
    if _handled_together(group, records):
        last = {(record.topic, record.partition): record for record in records}
        for record in last.values():
            consumer.commit(record)
        return len(records)
    for record in records:
        _handle(group, record)
        consumer.commit(record)
    return len(records)


def _handled_together(group: Group, records: list[Record]) -> bool:
    if not group.handle_all or not records:
        return False
    try:
        group.handle_all([record.value for record in records])
    except Exception:  # one of them may be poison: alone, it becomes a dead letter
        logger.exception("%s failed on %s events together", group.name, len(records))
        return False
    return True


def _handle(group: Group, record: Record) -> None:
    with handling(record.value, group.name):
        _attempt(group, record)


def _attempt(group: Group, record: Record) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return group.handle(record.value)
        except Exception as error:  # a handler's failure must not stop its partition
            logger.exception("%s failed on %s, attempt %s", group.name, record.event_id, attempt)
            last = error
    DeadLetter.objects.get_or_create(
        source=group.name,
        event_id=record.event_id,
        defaults={
            "type": record.type,
            "topic": record.topic,
            "partition": record.partition,
            "position": record.position,
            "key": record.key,
            "payload": record.value,
            "error": str(last),
            "traceback": "".join(traceback.format_exception(last)),
            "attempts": ATTEMPTS,
        },
    )
    return None


class GroupReader:
    """The worker of a group. One process leads; the others stand by."""

    wakes_on = "log"
    group: str

    def __init__(self) -> None:
        self.leader = Leader(self.group)
        self.consumer: Consumer | None = None

    def step(self) -> float:
        led = self.leader.token
        if not self.leader.leads():
            self._close()
            return STAND_BY
        if self.leader.token != led:  # somebody else may have read on meanwhile
            self._close()
        group = groups[self.group]
        self.consumer = self.consumer or get_log().consumer(group.topics, group=group.name)
        try:
            consume(group, self.consumer, wait=min(READ_WAIT, settings.OUTBOX_LEASE_SECONDS / 3))
        except Exception:
            self._close()
            raise
        return 0.0

    def stop(self) -> None:
        self._close()
        self.leader.resign()

    def _close(self) -> None:
        if self.consumer:
            self.consumer.close()
        self.consumer = None
