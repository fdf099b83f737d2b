"""`KafkaLog` on a real broker."""

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from io import StringIO
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
)
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import override_settings

from outbox.consumers import Group, consume
from outbox.deadletters import redrive_all
from outbox.kafka import KafkaConsumer, KafkaLog
from outbox.kafka_topics import configuration, topic_name
from outbox.logs import Consumer, LogUnavailable, Record
from outbox.models import DeadLetter, Event
from outbox.relay import Relay
from outbox.services import build_event, emit
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]


@pytest.fixture
def log(kafka_url: str) -> Iterator[KafkaLog]:
    """Topics of its own for each test, in the one cluster."""
    prefix = f"{uuid4().hex[:8]}-"
    with override_settings(
        KAFKA_BOOTSTRAP_SERVERS=kafka_url,
        KAFKA_TOPIC_PREFIX=prefix,
        OUTBOX_LEASE_SECONDS=20,  # half of it is what a broker has to take a batch
    ):
        yield KafkaLog()


def publish(log: KafkaLog, *keys: str, type_: str = "link.expired", **data: Any) -> None:
    with transaction.atomic():
        for key in keys:
            emit(type_, key, data, channels=["all"] if type_.startswith("broadcast") else [])
    relay = Relay(log)
    relay.step()
    relay.resign()


def read(consumer: Consumer, count: int) -> list[Record]:
    """At least `count` records, and what else comes with them."""
    records: list[Record] = []
    for _ in range(2 * PATIENCE):
        records += consumer.poll(wait=0.5)
        if len(records) >= count:
            return records
    raise AssertionError(f"{len(records)} records came, not {count}")


def keys_of(records: list[Record]) -> list[str]:
    return [record.key for record in records]


def test_what_the_relay_publishes_is_read_in_its_order(log: KafkaLog) -> None:
    keys = [f"broadcast-{n}" for n in range(700)]
    with closing(log.consumer(["broadcasts"])) as consumer:
        publish(log, *keys, type_="broadcast.activated")
        records = read(consumer, 700)
    assert keys_of(records) == keys
    assert [record.position for record in records] == list(range(1, 701))
    assert not Event.objects.pending().exists()


def test_a_record_is_the_same_as_from_the_table(log: KafkaLog) -> None:
    with closing(log.consumer(["broadcasts"])) as consumer:
        publish(log, "broadcast-1", type_="broadcast.activated", text="Grüße, 世界")
        (found,) = read(consumer, 1)
    (stored,) = log.replay("broadcasts", 0, 10) or []
    assert found == Record(**{n: getattr(stored, n) for n in Record.__slots__} | {"offset": 0})
    assert found.channels == ["all"]


def test_a_reader_begins_now_or_at_the_beginning(log: KafkaLog) -> None:
    publish(log, "before")
    with closing(log.consumer(["link"])) as now, closing(log.consumer(["link"], after=0)) as start:
        publish(log, "after")
        assert keys_of(read(now, 1)) == ["after"]
        assert sorted(keys_of(read(start, 2))) == ["after", "before"]
    with closing(log.consumer(["link"], after=1)) as later:
        assert keys_of(read(later, 1)) == ["after"]


def test_a_group_goes_on_behind_what_it_committed(log: KafkaLog) -> None:
    group = f"group-{uuid4()}"
    publish(log, "a", "a", "a")
    with closing(log.consumer(["link"], group=group)) as consumer:
        records = read(consumer, 3)
        consumer.commit(records[1])
    with closing(log.consumer(["link"], group=group)) as consumer:
        assert [record.position for record in read(consumer, 1)] == [3]


def test_the_partitions_of_a_group_are_shared_and_handed_over(log: KafkaLog) -> None:
    """Each record goes to one of them; what one had not committed comes to the other."""
    group = f"group-{uuid4()}"
    keys = [f"link-{n}" for n in range(60)]
    first, second = (log.consumer(["link"], group=group) for _ in range(2))
    while (shares := [len(c.client.assignment()) for c in (first, second)]) != [3, 3]:  # type: ignore[attr-defined]
        assert sum(shares) <= 6
        assert first.poll(wait=0.2) == second.poll(wait=0.2) == []
    publish(log, *keys)
    taken: list[Record] = []
    for _ in range(2 * PATIENCE):
        for consumer in (first, second):
            for record in consumer.poll(wait=0.2):
                taken.append(record)
                consumer.commit(record)
        if len(taken) >= 60:
            break
    assert sorted(keys_of(taken)) == sorted(keys)
    publish(log, *keys)
    unfinished = read(second, 1)
    second.close()
    records = read(first, 60)
    first.close()
    assert set(keys_of(unfinished)) <= set(keys_of(records))
    assert sorted(keys_of(records)) == sorted(keys)


def test_what_a_consumer_cannot_handle_is_a_dead_letter(log: KafkaLog) -> None:
    handled = []

    def handle(envelope: dict[str, Any]) -> None:
        if envelope["subject"] == "poison":
            raise ValueError("no")
        handled.append(envelope["subject"])

    group = Group(f"group-{uuid4()}", ["link"], handle)
    publish(log, "a", "poison", "b")
    with closing(log.consumer(["link"], group=group.name)) as consumer:
        for _ in range(2 * PATIENCE):
            consume(group, consumer, wait=0.5)
            if len(handled) == 2:
                break
    letter = DeadLetter.objects.get()
    assert (sorted(handled), letter.key, letter.error) == (["a", "b"], "poison", "no")
    assert letter.source == group.name


def test_what_is_no_event_is_passed_over(log: KafkaLog) -> None:
    publish(log, "a")
    producer = Producer(configuration())
    for value in (b"\xff", b"{}", b"[]"):
        producer.produce(topic_name("link"), value)
    assert producer.flush(PATIENCE) == 0
    publish(log, "b")
    with closing(log.consumer(["link"], after=0)) as consumer:
        assert sorted(keys_of(read(consumer, 2))) == ["a", "b"]


def noise(size: int) -> str:
    """What cannot be compressed by much."""
    return os.urandom(size // 2).hex()


def set_most_bytes(topic: str, most: int) -> None:
    entry = ConfigEntry("max.message.bytes", str(most), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(
        ConfigResource.Type.TOPIC, topic_name(topic), incremental_configs=[entry]
    )
    admin = AdminClient(configuration())
    admin.incremental_alter_configs([resource])[resource].result(PATIENCE)


def delete(topic: str) -> None:
    admin, name = AdminClient(configuration()), topic_name(topic)
    admin.delete_topics([name])[name].result(PATIENCE)
    while name in admin.list_topics(timeout=PATIENCE).topics:
        time.sleep(0.1)


def test_what_the_broker_refuses_is_parked_and_not_overtaken_in_its_key(log: KafkaLog) -> None:
    """The others flow, and a redrive delivers what was held back."""
    publish(log, "good")
    with override_settings(EVENT_MAX_BYTES=5_000_000, EVENT_MAX_ATTEMPTS=1):
        log = KafkaLog()  # takes now what the topic does not
        with transaction.atomic():
            emit("link.expired", "bad", {"text": noise(3_000_000)})
        publish(log, "bad", "good", "bad")
        parked = DeadLetter.objects.get()
        assert (parked.key, "Broker: Message size too large" in parked.error) == ("bad", True)
        assert Event.objects.pending().count() == 2
        with closing(log.consumer(["link"], after=0)) as consumer:
            assert keys_of(read(consumer, 2)) == ["good", "good"]
            assert consumer.poll(wait=1) == []
            kafka_topics()

            def is_delivered() -> bool:
                """At once, or when the topic's log knows of the limit that the broker says."""
                redrive_all(DeadLetter.objects.all())
                publish(log)
                return not (DeadLetter.objects.exists() or Event.objects.pending().exists())

            wait_until(is_delivered)
            records = read(consumer, 3)
    assert keys_of(records) == ["bad"] * 3
    assert [bool(record.value["data"]) for record in records] == [True, False, False]


def test_what_is_refused_with_another_is_not_at_fault(log: KafkaLog) -> None:
    """A topic that takes less than a request carries: the one too large is found."""
    publish(log, "good", type_="broadcast.activated")
    set_most_bytes("broadcasts", 20_000)
    with override_settings(EVENT_MAX_ATTEMPTS=1):
        with transaction.atomic():
            emit("broadcast.activated", "first", {})
            emit("broadcast.activated", "bad", {"text": noise(60_000)})
        publish(log, "last", type_="broadcast.activated")
    assert DeadLetter.objects.get().key == "bad"
    assert not Event.objects.pending().exists()
    with closing(log.consumer(["broadcasts"], after=0)) as consumer:
        assert keys_of(read(consumer, 3)) == ["good", "first", "last"]


def test_a_batch_that_takes_too_long_gets_through_in_several_attempts(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Producer):
        """It takes three and loses the others, as far as one waits for it."""

        taken = 0

        def produce(self, *args: Any, **kwargs: Any) -> None:
            self.taken += 1
            if self.taken <= 3:
                super().produce(*args, **kwargs)

        def flush(self, timeout: float = -1) -> int:
            return super().flush(timeout) + max(0, self.taken - 3)

    monkeypatch.setattr("outbox.kafka.Producer", Slow)
    keys = [f"link-{n}" for n in range(8)]
    for attempt in range(3):
        assert Event.objects.pending().count() == (8 if attempt else 0)
        publish(log, *([] if attempt else keys))
    assert not Event.objects.pending().exists()
    with closing(log.consumer(["link"], after=0)) as consumer:
        assert sorted(keys_of(read(consumer, 8))) == keys
        assert consumer.poll(wait=1) == []


Result = TypeVar("Result")


def insisting(action: Callable[[], Result]) -> Result:
    """Again and again, as the relay and the hub do."""
    for _ in range(2 * PATIENCE):
        try:
            return action()
        except (LogUnavailable, AssertionError):
            time.sleep(0.5)
    return action()


def test_a_topic_that_was_deleted_is_made_again(log: KafkaLog) -> None:
    def all_are_published() -> None:
        publish(log)
        assert not Event.objects.pending().exists()

    publish(log, "before")
    delete("link")
    publish(log, "after")
    insisting(all_are_published)
    with closing(log.consumer(["link"], after=0)) as consumer:
        assert keys_of(read(consumer, 1)) == ["after"]


def test_a_reader_makes_a_topic_that_was_deleted_again(log: KafkaLog) -> None:
    insisting(lambda: log.consumer(["link"])).close()
    delete("link")
    with closing(insisting(lambda: log.consumer(["link"]))) as consumer:
        publish(log, "after")
        assert keys_of(read(consumer, 1)) == ["after"]


@pytest.mark.parametrize("type_", ["my app.x", ".x", f"{'x' * 101}.x", "größe.x", "link\n.x"])
def test_a_type_that_names_no_topic_is_refused(type_: str) -> None:
    with pytest.raises(ValueError, match="is no topic"):
        build_event(type_, "a", {})


def test_what_cannot_have_a_topic_is_parked_at_once(log: KafkaLog) -> None:
    with transaction.atomic():
        emit("link.expired", "bad", {})
        Event.objects.update(type="my app.x", topic="my app")
    publish(log, "good")
    assert DeadLetter.objects.get().key == "bad"
    assert "no topic" in DeadLetter.objects.get().error
    assert keys_of(log.replay("link", 0, 10) or []) == ["good"]


def test_a_topic_that_kafka_refuses_stops_no_other(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when this user may not create it."""
    monkeypatch.setattr(KafkaLog, "check", lambda self, event: None)
    with override_settings(EVENT_MAX_ATTEMPTS=1):
        with transaction.atomic():
            for _ in range(2):
                emit("link.expired", "bad", {})
            Event.objects.update(topic="my app")
        publish(log, "good")
    first, second = Event.objects.pending().order_by("id")
    assert "Topic name is invalid" in first.error
    assert (first.attempts, second.attempts) == (1, 0)
    with closing(log.consumer(["link"], after=0)) as consumer:
        assert keys_of(read(consumer, 1)) == ["good"]
    with pytest.raises(LogUnavailable, match="Topic name is invalid"):
        log.consumer(["my app"])


def test_a_partition_that_is_not_there_stops_no_other(log: KafkaLog) -> None:
    topic = NewTopic(topic_name("link"), num_partitions=1)
    admin = AdminClient(configuration())
    admin.create_topics([topic])[topic_name("link")].result(PATIENCE)
    keys = [f"link-{n}" for n in range(20)]
    with override_settings(EVENT_MAX_ATTEMPTS=1):
        publish(log, *keys)
        publish(log, "good", type_="broadcast.activated")
    there = Event.objects.published().filter(topic="link")
    assert {event.partition for event in there} == {0}
    assert Event.objects.pending().count() == 20 - there.count()
    assert Event.objects.published().filter(key="good").exists()


def test_what_a_topic_did_not_take_is_published_when_it_does(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its rights are put right: nothing was parked, and the order is kept."""
    refused = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    with monkeypatch.context() as patch, override_settings(EVENT_MAX_ATTEMPTS=1):
        patch.setattr("outbox.kafka.create_topics", lambda *_: ([], {"link": refused}))
        for _ in range(2):
            publish(log, "a", "b", "a")
            Event.objects.update(next_attempt_at=None)
    assert not DeadLetter.objects.exists()
    publish(log)
    in_order = Event.objects.published().order_by("position")
    assert list(in_order.values_list("key", flat=True)) == ["a", "b", "a", "a", "b", "a"]


class Troubled(Client):
    """What comes next has an error in its midst, and a commit fails."""

    trouble = True
    commits = 1

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        messages = super().consume(num_messages, timeout or 2)
        if self.trouble and len(messages) > 1:
            self.trouble = False
            messages.insert(1, Message(error=KafkaError(KafkaError._TRANSPORT)))
        return messages

    def commit(self, *args: Any, **kwargs: Any) -> Any:
        if self.commits:
            self.commits -= 1
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return super().commit(*args, **kwargs)


@pytest.fixture
def troubled(log: KafkaLog, monkeypatch: pytest.MonkeyPatch) -> Iterator[Consumer]:
    publish(log, *"abcde", type_="broadcast.activated")
    monkeypatch.setattr("outbox.kafka.Client", Troubled)
    with closing(log.consumer(["broadcasts"], group=f"group-{uuid4()}")) as consumer:
        yield consumer


def test_an_error_loses_no_record(troubled: Consumer) -> None:
    before = read(troubled, 1)
    with pytest.raises(LogUnavailable):
        troubled.poll()
    assert 1 < len(before) < 5
    assert keys_of(before + troubled.poll()) == list("abcde")


def test_a_commit_that_failed_comes_with_the_next_poll(log: KafkaLog, troubled: Consumer) -> None:
    assert isinstance(troubled, KafkaConsumer)
    troubled.commit(read(troubled, 1)[0])
    with pytest.raises(LogUnavailable):
        troubled.poll()
    troubled.poll()
    places = [TopicPartition(topic_name("broadcasts"), 0)]
    assert troubled.client.committed(places, PATIENCE)[0].offset == 1
    assert troubled.done == {}


def test_a_partition_that_went_to_another_is_not_committed(troubled: Consumer) -> None:
    assert isinstance(troubled, KafkaConsumer)
    troubled.commit(read(troubled, 1)[0])
    troubled._revoked(troubled.client, [TopicPartition(topic_name("broadcasts"), 0)])
    assert troubled.done == {}
    with pytest.raises(LogUnavailable):
        troubled.poll()
    assert troubled.poll() == []


def test_no_answer_in_time_is_said_to_be(log: KafkaLog, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dumb(Client):
        def get_watermark_offsets(self, *args: Any, **kwargs: Any) -> Any:
            return None

    kafka_topics()
    monkeypatch.setattr("outbox.kafka.Client", Dumb)
    with pytest.raises(LogUnavailable, match="did not say"):
        log.consumer(["broadcasts"])
    too_late: Future[None] = Future()
    too_late.set_exception(TimeoutError())
    monkeypatch.setattr(
        AdminClient, "incremental_alter_configs", lambda self, asked: {asked[0]: too_late}
    )
    # What is wanted changes, not what Kafka has: its brokers do not all know that at once.
    with (
        override_settings(EVENT_RETENTION_DAYS=1),
        pytest.raises(CommandError, match="cannot be reached: no answer in time"),
    ):
        kafka_topics()


def test_events_wait_with_their_positions_while_kafka_is_away(
    log: KafkaLog, free_port: int
) -> None:
    publish(log, "a")
    nobody = f"127.0.0.1:{free_port}"
    with override_settings(KAFKA_BOOTSTRAP_SERVERS=nobody, OUTBOX_LEASE_SECONDS=2):
        unreachable = KafkaLog()
        unreachable.topics = {"link"}
        publish(unreachable, "b", "c")
    assert Event.objects.pending().count() == 2
    assert not DeadLetter.objects.exists()
    publish(log, "d")
    with closing(log.consumer(["link"], after=0)) as consumer:
        records = read(consumer, 4)
    assert sorted((r.position, r.key) for r in records) == list(enumerate("abcd", 1))


def test_a_cluster_that_is_away_is_said_to_be(log: KafkaLog, free_port: int) -> None:
    with override_settings(KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port}"):
        with pytest.raises(LogUnavailable):
            KafkaLog().consumer(["link"])
        with pytest.raises(CommandError, match="cannot be reached"):
            call_command("kafka_topics", "--check")


def kafka_topics(*options: str) -> str:
    out = StringIO()
    call_command("kafka_topics", *options, stdout=out)
    return out.getvalue()


def test_topics_are_made_checked_and_put_right(log: KafkaLog) -> None:
    with pytest.raises(CommandError, match=r"broadcasts: missing; run manage\.py kafka_topics"):
        kafka_topics("--check")
    assert "broadcasts: created" in kafka_topics()
    assert "as they should be" in kafka_topics("--check")
    known = AdminClient(configuration()).list_topics(timeout=PATIENCE).topics
    assert len(known[topic_name("broadcasts")].partitions) == 1
    with override_settings(EVENT_RETENTION_DAYS=1):
        with pytest.raises(CommandError, match=r"retention\.ms is 604800000, not 86400000"):
            kafka_topics("--check")
        assert "retention.ms set" in kafka_topics()
        assert "as they should be" in kafka_topics("--check")
        assert said_by_brokers("broadcasts", "retention.ms") == {"86400000"}


def said_by_brokers(topic: str, key: str) -> set[str]:
    admin, name = AdminClient(configuration()), topic_name(topic)
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    brokers = admin.list_topics(timeout=PATIENCE).brokers
    asked = [admin.describe_configs([resource], broker=broker)[resource] for broker in brokers]
    return {answer.result(PATIENCE)[key].value for answer in asked}


def test_without_kafka_the_command_says_so() -> None:
    with pytest.raises(CommandError, match="KAFKA_BOOTSTRAP_SERVERS is not set"):
        kafka_topics()


def test_the_value_is_a_cloudevent(log: KafkaLog) -> None:
    publish(log, "a")
    with closing(log.consumer(["link"], after=0)) as consumer:
        (record,) = read(consumer, 1)
    assert record.value == json.loads(json.dumps(Event.objects.get().envelope()))
