"""Consumer groups: a handler an app registers, at least once for every event of its topics."""

import logging
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from outbox.logs import Consumer, Record
from outbox.models import DeadLetter

logger = logging.getLogger(__name__)

Envelope = dict[str, Any]
Handler = Callable[[Envelope], None]
ATTEMPTS = 3


@dataclass(frozen=True)
class Group:
    name: str
    topics: list[str]
    handle: Handler


groups: dict[str, Group] = {}


def consumer_group(name: str, topics: Iterable[str]) -> Callable[[Handler], Handler]:
    """Declare a handler of CloudEvents envelopes; it must be idempotent by their `id`."""

    def register(handle: Handler) -> Handler:
        groups[name] = Group(name, list(topics), handle)
        return handle

    return register


def handler_of(group: str) -> Handler:
    return groups[group].handle


def consume(group: Group, consumer: Consumer, wait: float = 0) -> int:
    """Handle and commit what there is now; how many. What cannot be handled is a dead letter.

    The consumer is kept from call to call, and closed at the end: one of Kafka is given its
    partitions by its first polls, and commits with the next one.
    """
    records = consumer.poll(wait=wait)
    for record in records:
        _handle(group, record)
        consumer.commit(record)
    return len(records)


def _handle(group: Group, record: Record) -> None:
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
