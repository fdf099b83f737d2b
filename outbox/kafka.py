"""Apache Kafka as the event log.

The relay gives each event its position in the database before it publishes, and the table keeps the
events for replay; Kafka carries them to whoever reads. A record that comes again, because a relay
died between publish and mark, has the same position and the same id.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from confluent_kafka import (
    OFFSET_BEGINNING,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka import (
    Consumer as Client,
)
from django.conf import settings

from outbox.kafka_topics import TIMEOUT, configuration, create_topics, most_bytes, topic_name
from outbox.logs import Consumer, DatabaseLog, LogUnavailable, Record
from outbox.models import Event, EventQuerySet
from outbox.topics import partitions_of

logger = logging.getLogger(__name__)

REFUSALS = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD}
"""What is the fault of one message; anything else is the fault of none."""


class HeldBack(Exception):
    """An earlier event of its key failed."""


class KafkaLog(DatabaseLog):
    transactional = False

    def __init__(self) -> None:
        self.producer: Producer | None = None
        self.topics: set[str] = set()

    def recorded(self) -> EventQuerySet:
        """Also what is in Kafka but not yet marked: streams may have shown it already."""
        return Event.objects.filter(position__isnull=False)

    def publish(self, events: Sequence[Event]) -> dict[int, Exception]:
        self._ensure_topics({event.topic for event in events})
        producer = self.producer = self.producer or self._new_producer()
        errors: dict[int, KafkaError] = {}
        failures: dict[int, Exception] = {}
        held: set[tuple[str, str]] = set()
        for event in events:
            lane = (event.topic, event.key)
            try:
                if lane in held:
                    raise HeldBack("an earlier event of its key failed")
                self._produce(producer, event, errors)
            except LogUnavailable:
                self._give_up()
                raise
            except Exception as error:  # whatever it is, the event is at fault
                held.add(lane)
                failures[event.pk] = error
        # Shorter than the lease, so that a relay that waits for Kafka still leads afterwards.
        if producer.flush(settings.OUTBOX_LEASE_SECONDS / 2):
            self._give_up()
            raise LogUnavailable("Kafka did not acknowledge in time")
        for pk, reason in errors.items():
            if reason.code() not in REFUSALS:
                self._give_up()
                raise LogUnavailable(str(reason))
            failures[pk] = KafkaException(reason)
        return failures

    def consumer(
        self, topics: Iterable[str], *, group: str | None = None, after: int | None = None
    ) -> Consumer:
        topics = list(topics)
        self._ensure_topics(set(topics))
        return KafkaConsumer(topics, group, after)

    def _new_producer(self) -> Producer:
        return Producer(
            configuration()
            | {
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 2,
                "compression.type": "lz4",
                "message.max.bytes": most_bytes(),
                "queue.buffering.max.messages": max(100_000, 2 * settings.OUTBOX_BATCH_SIZE),
            }
        )

    def _produce(self, producer: Producer, event: Event, errors: dict[int, KafkaError]) -> None:
        def delivered(pk: int, error: KafkaError | None, _: Message) -> None:
            if error:
                errors[pk] = error

        try:
            producer.produce(
                topic_name(event.topic),
                json.dumps(event.envelope(), separators=(",", ":")),
                event.key,
                event.partition,
                on_delivery=partial(delivered, event.pk),
                headers={
                    "content-type": "application/cloudevents+json; charset=UTF-8",
                    "channels": json.dumps(event.channels),
                },
            )
        except BufferError as error:
            raise LogUnavailable("Kafka takes no more: its queue is full") from error
        except KafkaException as error:
            if error.args[0].code() in REFUSALS:
                raise
            raise LogUnavailable(str(error)) from error

    def _give_up(self) -> None:
        """What is still queued must not arrive after the same events have come again."""
        if self.producer:
            self.producer.purge()
            self.producer.flush(0)
            self.producer = None

    def _ensure_topics(self, topics: set[str]) -> None:
        if missing := topics - self.topics:
            create_topics(missing)
            self.topics |= missing


class KafkaConsumer(Consumer):
    """One of a group, with offsets in Kafka; or, without a group, a reader of everything."""

    def __init__(self, names: list[str], group: str | None, after: int | None) -> None:
        self.group = group
        self.after = after or 0
        self.topics = {topic_name(topic): topic for topic in names}
        self.done: dict[tuple[str, int], int] = {}
        self.client = Client(
            configuration()
            | {
                "group.id": group or f"reader-{uuid4()}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": "cooperative-sticky",
                "queued.max.messages.kbytes": 16_384,  # back-pressure: no more is fetched ahead
            }
        )
        try:
            if group:
                self.client.subscribe(
                    list(self.topics), on_revoke=self._revoked, on_lost=self._lost
                )
            else:
                self.client.assign(list(self._places(from_now=after is None)))
        except KafkaException as error:
            self.client.close()
            raise LogUnavailable(str(error)) from error

    def poll(self, limit: int = 500, wait: float = 0) -> list[Record]:
        self._commit()
        first = self.client.poll(wait)
        if first is None:
            return []
        messages = [first, *self.client.consume(limit - 1, 0)] if limit > 1 else [first]
        records = [record for message in messages if (record := self._record(message))]
        return [record for record in records if record.position > self.after]

    def commit(self, record: Record) -> None:
        """Sent to Kafka with the next poll, together with the others."""
        self.done[topic_name(record.topic), record.partition] = record.offset + 1

    def close(self) -> None:
        self._commit()
        self.client.close()

    def _commit(self) -> None:
        if self.group and self.done:
            places = [TopicPartition(*place, offset) for place, offset in self.done.items()]
            self.done = {}
            try:
                self.client.commit(offsets=places, asynchronous=False)
            except KafkaException as error:  # another has the partition now, and reads them again
                logger.warning("%s could not commit: %s", self.group, error)

    def _revoked(self, client: Client, places: list[TopicPartition]) -> None:
        self._commit()

    def _lost(self, client: Client, places: list[TopicPartition]) -> None:
        for place in places:
            self.done.pop((place.topic, place.partition), None)

    def _places(self, *, from_now: bool) -> Iterable[TopicPartition]:
        for name, topic in self.topics.items():
            for partition in range(partitions_of(topic)):
                place = TopicPartition(name, partition, OFFSET_BEGINNING)
                if from_now:
                    place.offset = self.client.get_watermark_offsets(place, TIMEOUT)[1]
                yield place

    def _record(self, message: Any) -> Record | None:
        if error := message.error():
            raise LogUnavailable(str(error))
        try:
            value = json.loads(message.value())
            headers = dict(message.headers() or [])
            return Record(
                topic=self.topics[message.topic()],
                partition=message.partition(),
                offset=message.offset(),
                key=value["subject"],
                event_id=UUID(value["id"]),
                type=value["type"],
                position=int(value["sequence"]),
                channels=json.loads(headers.get("channels", b"[]")),
                value=value,
            )
        except Exception:  # not of this system; it must not stop what follows
            where = f"{message.topic()}[{message.partition()}]@{message.offset()}"
            logger.exception("%s is no event and is passed over", where)
            return None
