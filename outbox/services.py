"""The only door by which an event leaves: `emit`."""

import zlib
from collections.abc import Iterable
from typing import Any

from django.db import transaction

from jobs.wake import notify
from outbox.models import Event, Priority
from outbox.topics import check_topic, partitions_of, topic_of


def emit(
    type: str,  # noqa: A002 (CloudEvents names it so)
    key: str,
    data: dict[str, Any],
    channels: Iterable[str] = (),
    priority: int = Priority.NORMAL,
) -> Event:
    """Write an event in the caller's transaction; the relay publishes it after the commit.

    `type` is dotted (`broadcast.activated`); `key` is the entity whose events keep their order;
    `channels` are the SSE channels that it addresses. Raises `TransactionManagementError` outside
    a transaction, and `ValueError` for a type whose domain cannot name a topic.
    """
    event = build_event(type, key, data, channels, priority)
    emit_all([event])
    return event


def build_event(
    type: str,  # noqa: A002
    key: str,
    data: dict[str, Any],
    channels: Iterable[str] = (),
    priority: int = Priority.NORMAL,
    part: int = 0,
) -> Event:
    """`part` above 0: it says again, to other channels, what an event before it said."""
    channels = list(channels)
    topic = topic_of(type, addressed=bool(channels))
    check_topic(topic)
    return Event(
        type=type,
        topic=topic,
        partition=zlib.crc32(str(key).encode()) % partitions_of(topic),
        key=str(key),
        data=data,
        channels=channels,
        priority=priority,
        part=part,
    )


def emit_all(events: list[Event]) -> None:
    """`emit` for many events of one transaction: one statement a hundred, one wake-up."""
    _refuse_outside_transaction()
    Event.objects.bulk_create(events, batch_size=100)
    notify("outbox")


def _refuse_outside_transaction() -> None:
    """Raise when an event would be written outside the transaction of the fact that it tells."""
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError(
            "emit() writes in the caller's transaction: call it inside transaction.atomic()"
        )
