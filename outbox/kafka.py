"""Apache Kafka as the event log.

The relay gives each event its position in the database before it publishes, and the table keeps the
events for replay; Kafka carries them to whoever reads. A record that comes again, because a relay
died between publish and mark, has the same position and the same id.
"""

import json
import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import takewhile
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
from confluent_kafka.admin import AdminClient
from django.conf import settings

from outbox.kafka_topics import (
    TIMEOUT,
    TOPIC_FAULTS,
    configuration,
    create_topics,
    most_bytes,
    reaching,
    topic_name,
)
from outbox.logs import (
    Consumer,
    DatabaseLog,
    LogUnavailable,
    Record,
    TopicUnavailable,
    UnpublishableEvent,
)
from outbox.models import Event, EventQuerySet
from outbox.topics import check_topic, partitions_of

logger = logging.getLogger(__name__)

REFUSALS = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_RECORD,
    KafkaError._INVALID_DIFFERENT_RECORD,
}
"""What is the fault of one message; but all that came in one request with it are refused."""

BATCH_BYTES = 100_000
"""Of one request. What is larger travels alone, so that no other is refused with it."""

encode = json.JSONEncoder(separators=(",", ":")).encode  # made once: `dumps` makes one a call
Name = tuple[UUID, int | None]


class HeldBack(Exception):
    """An earlier event of its key failed."""


class KafkaLog(DatabaseLog):
    transactional = False

    def __init__(self) -> None:
        self.producer: Producer | None = None
        self.admin: AdminClient | None = None
        self.topics: set[str] = set()
        self.answers: dict[Name, Exception | None] = {}
        """What became of the events of a batch that is not through: their fault, or nothing."""

    def connect(self) -> None:
        """Also learns which topics there are, which the first event of each would have to ask."""
        self.producer = self.producer or self._new_producer()
        with suppress(KafkaException):  # it is away: the first event will say so
            known = self.producer.list_topics(timeout=min(TIMEOUT, lease_part())).topics
            prefix = settings.KAFKA_TOPIC_PREFIX
            self.topics |= {name.removeprefix(prefix) for name in known if name.startswith(prefix)}

    def ping(self, timeout: float) -> None:
        """By a client of its own, kept open: whoever publishes may be waiting."""
        with reaching():
            self.admin = self.admin or AdminClient(configuration())
            self.admin.list_topics(timeout=timeout)

    def recorded(self) -> EventQuerySet:
        """Also what is in Kafka but not yet marked: streams may have shown it already."""
        return Event.objects.filter(position__isnull=False)

    def check(self, event: Event) -> None:
        super().check(event)
        try:
            check_topic(event.topic)
        except ValueError as error:
            raise UnpublishableEvent(str(error)) from error

    def publish(self, events: Sequence[Event]) -> dict[int, Exception]:
        """As `EventLog` says; only what is smaller than `BATCH_BYTES` is sent without waiting.

        Should a broker refuse such a one, because its topic takes less than that or for a reason
        of its own, then it fails alone, but what follows it in its key may be in Kafka already.
        """
        names = [_name(event) for event in events]
        # What was acknowledged before Kafka was given up is not sent again: a batch that is too
        # large for the time there is gets through in several attempts.
        self.answers = {name: self.answers[name] for name in names if name in self.answers}
        try:
            self._ensure_topics(events)
            until = time.monotonic() + lease_part()
            alone = False
            while left := self._unanswered(events):
                alone |= self._send(left[:1] if alone else left, until)
        except LogUnavailable:
            self._give_up()
            raise
        held = HeldBack("an earlier event of its key failed")
        answers = [(event, self.answers.get(_name(event), held)) for event in events]
        self.answers = {}
        self.topics -= {event.topic for event, error in answers if error}  # looked at again
        waits = {e.topic: error for e, error in answers if isinstance(error, TopicUnavailable)}
        for topic, error in waits.items():
            logger.warning("%s takes nothing, its events wait: %s", topic_name(topic), error)
        return {event.pk: error for event, error in answers if error}

    def consumer(
        self, topics: Iterable[str], *, group: str | None = None, after: int | None = None
    ) -> Consumer:
        topics = list(topics)
        _, refused = create_topics(topics)
        if refused:
            raise LogUnavailable("; ".join(map(str, refused.values())))
        return KafkaConsumer(topics, group, after)

    def _new_producer(self) -> Producer:
        options = {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 2,
            "compression.type": "lz4",
            "message.max.bytes": most_bytes(),
            "batch.size": BATCH_BYTES,
            "allow.auto.create.topics": False,  # a broker would not know their partitions
            "queue.buffering.max.messages": max(100_000, 2 * settings.OUTBOX_BATCH_SIZE),
        }
        try:
            return Producer(configuration() | options)
        except KafkaException as error:
            raise LogUnavailable(str(error)) from error

    def _unanswered(self, events: Sequence[Event]) -> list[Event]:
        """What is neither acknowledged nor at fault, nor follows in its key what is at fault."""
        failed = {event.lane for event in events if self.answers.get(_name(event))}
        return [
            event
            for event in events
            if _name(event) not in self.answers and event.lane not in failed
        ]

    def _send(self, events: Sequence[Event], until: float) -> bool:
        """Send what may go now, and wait; whether some were refused that have to go one by one."""
        producer = self.producer = self.producer or self._new_producer()
        sent: list[Event] = []
        errors: dict[Name, KafkaError] = {}
        waiting: set[tuple[str, str]] = set()
        for event in events:
            if event.lane in waiting:
                continue
            try:
                size = self._produce(producer, event, errors)
            except BufferError:  # the rest comes when these are through
                break
            except LogUnavailable:
                raise
            except Exception as error:  # whatever it is, it is of the event or of its topic
                self.answers[_name(event)] = error
                waiting.add(event.lane)
            else:
                sent.append(event)
                if size > BATCH_BYTES:  # the broker may refuse it
                    waiting.add(event.lane)
        self._flush(producer, until)
        return self._judge(sent, errors)

    def _judge(self, sent: list[Event], errors: dict[Name, KafkaError]) -> bool:
        for event in sent:
            if error := errors.get(_name(event)):
                if error.code() not in REFUSALS | TOPIC_FAULTS:
                    raise LogUnavailable(str(error))
                if error.code() in TOPIC_FAULTS:
                    self.answers[_name(event)] = TopicUnavailable(str(error))
                elif len(sent) == 1:
                    self.answers[_name(event)] = KafkaException(error)
        return any(_name(event) not in self.answers for event in sent)

    def _produce(self, producer: Producer, event: Event, errors: dict[Name, KafkaError]) -> int:
        """Its size."""

        def delivered(name: Name, error: KafkaError | None, _: Message) -> None:
            if error:
                errors[name] = error
            else:
                self.answers[name] = None

        value = encode(event.envelope())
        trace = {"traceparent": event.traceparent} if event.traceparent else {}
        channels = encode(event.channels)
        try:
            producer.produce(
                topic_name(event.topic),
                value,
                event.key,
                event.partition,
                on_delivery=partial(delivered, _name(event)),
                headers={
                    "content-type": "application/cloudevents+json; charset=UTF-8",
                    "channels": channels,
                    **trace,
                },
            )
        except KafkaException as error:
            if error.args[0].code() in TOPIC_FAULTS:
                raise TopicUnavailable(str(error)) from error
            if error.args[0].code() in REFUSALS:
                raise
            raise LogUnavailable(str(error)) from error
        return len(value) + len(channels)

    def _flush(self, producer: Producer, until: float) -> None:
        left = until - time.monotonic()
        try:
            if left <= 0 or producer.flush(left):
                raise LogUnavailable("Kafka did not acknowledge in time")
        except KafkaException as error:  # this producer is at its end
            raise LogUnavailable(str(error)) from error

    def _give_up(self) -> None:
        """What is still queued must not arrive after the same events have come again."""
        self.topics = set()  # one of them may be gone
        if self.producer:
            with suppress(KafkaException):
                self.producer.purge()
                self.producer.flush(0)
            self.producer = None

    def _ensure_topics(self, events: Sequence[Event]) -> None:
        if missing := {event.topic for event in events} - self.topics:
            _, refused = create_topics(missing, min(TIMEOUT, lease_part()))
            self.topics |= missing - refused.keys()
            for event in events:
                if event.topic in refused:
                    self.answers[_name(event)] = TopicUnavailable(str(refused[event.topic]))


def lease_part() -> float:
    """Seconds to wait for Kafka: a relay that waited still leads afterwards."""
    return float(settings.OUTBOX_LEASE_SECONDS / 2)


def _name(event: Event) -> Name:
    return event.event_id, event.position


class KafkaConsumer(Consumer):
    """One of a group, with offsets in Kafka; or, without a group, a reader of everything."""

    def __init__(self, names: list[str], group: str | None, after: int | None) -> None:
        self.group = group
        self.after = after or 0
        self.topics = {topic_name(topic): topic for topic in names}
        self.done: dict[tuple[str, int], int] = {}
        self.taken: list[Any] = []  # messages that wait for the next poll
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
        except (KafkaException, TimeoutError) as error:
            self.client.close()
            raise LogUnavailable(str(error)) from error

    def poll(self, limit: int = 500, wait: float = 0) -> list[Record]:
        self._commit()
        if not self.taken:
            self._take(limit, wait)
        good = list(takewhile(lambda message: not message.error(), self.taken[:limit]))
        self.taken = self.taken[len(good) :]
        if self.taken and not good:
            raise LogUnavailable(str(self.taken.pop(0).error()))
        records = [record for message in good if (record := self._record(message))]
        return [record for record in records if record.position > self.after]

    def commit(self, record: Record) -> None:
        """Sent to Kafka with the next poll, together with the others."""
        self.done[topic_name(record.topic), record.partition] = record.offset + 1

    def close(self) -> None:
        self._commit()
        self.client.close()

    def _take(self, limit: int, wait: float) -> None:
        if (first := self.client.poll(wait)) is None:
            return
        self.taken = [first]
        more = self.client.consume(limit - 1, 0) if limit > 1 else []
        self.taken += more  # to what is left of `taken`: a partition may have gone meanwhile

    def _commit(self) -> None:
        if not (self.group and self.done):
            return
        places = [TopicPartition(*place, offset) for place, offset in self.done.items()]
        try:
            answers = self.client.commit(offsets=places, asynchronous=False)
        except KafkaException as error:
            logger.warning("%s could not commit: %s", self.group, error)
            return  # with what is done meanwhile, at the next poll
        for place in answers:
            if place.error:
                logger.warning("%s could not commit: %s", self.group, place)
            else:
                del self.done[place.topic, place.partition]

    def _revoked(self, client: Client, places: list[TopicPartition]) -> None:
        self._commit()
        self._lost(client, places)

    def _lost(self, client: Client, places: list[TopicPartition]) -> None:
        """Another reads them from now on: what was not committed is read again, by that one."""
        gone = {(place.topic, place.partition) for place in places}
        self.done = {place: offset for place, offset in self.done.items() if place not in gone}
        self.taken = [m for m in self.taken if m.error() or (m.topic(), m.partition()) not in gone]

    def _places(self, *, from_now: bool) -> Iterable[TopicPartition]:
        for name, topic in self.topics.items():
            for partition in range(partitions_of(topic)):
                place = TopicPartition(name, partition, OFFSET_BEGINNING)
                if from_now:
                    marks = self.client.get_watermark_offsets(place, TIMEOUT)
                    if marks is None:
                        raise TimeoutError(f"{name}[{partition}] did not say where it ends")
                    place.offset = marks[1]
                yield place

    def _record(self, message: Any) -> Record | None:
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
