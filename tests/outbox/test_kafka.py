"""`KafkaLog` on a real broker."""

import json
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import override_settings

from outbox.consumers import Group, consume
from outbox.kafka import KafkaLog
from outbox.kafka_topics import configuration, topic_name
from outbox.logs import Consumer, LogUnavailable, Record
from outbox.models import DeadLetter, Event
from outbox.relay import Relay
from outbox.services import emit

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]


@pytest.fixture
def log(kafka_url: str) -> Iterator[KafkaLog]:
    """Topics of its own for each test, in the one cluster."""
    prefix = f"{uuid4().hex[:8]}-"
    with override_settings(KAFKA_BOOTSTRAP_SERVERS=kafka_url, KAFKA_TOPIC_PREFIX=prefix):
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
    for _ in range(40):
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
    for _ in range(40):
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
        for _ in range(40):
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
    assert producer.flush(10) == 0
    publish(log, "b")
    with closing(log.consumer(["link"], after=0)) as consumer:
        assert sorted(keys_of(read(consumer, 2))) == ["a", "b"]


def test_an_event_that_kafka_refuses_is_parked_and_the_others_flow(log: KafkaLog) -> None:
    """Its key waits behind it, and a redrive delivers both."""
    publish(log, "good")
    with override_settings(EVENT_MAX_BYTES=5_000_000, EVENT_MAX_ATTEMPTS=1):
        publish(log, "bad", text="x" * 2_000_000)
        publish(log, "bad", "good")
    parked = DeadLetter.objects.get()
    assert parked.key == "bad"
    assert "size" in parked.error.lower()
    assert keys_of(log.replay("link", 0, 10) or []) == ["good", "good"]
    assert Event.objects.pending().count() == 1


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
    known = AdminClient(configuration()).list_topics(timeout=10).topics
    assert len(known[topic_name("broadcasts")].partitions) == 1
    with override_settings(EVENT_RETENTION_DAYS=1):
        with pytest.raises(CommandError, match=r"retention\.ms is 604800000, not 86400000"):
            kafka_topics("--check")
        assert "retention.ms set" in kafka_topics()
        assert "as they should be" in kafka_topics("--check")


def test_without_kafka_the_command_says_so() -> None:
    with pytest.raises(CommandError, match="KAFKA_BOOTSTRAP_SERVERS is not set"):
        kafka_topics()


def test_the_value_is_a_cloudevent(log: KafkaLog) -> None:
    publish(log, "a")
    with closing(log.consumer(["link"], after=0)) as consumer:
        (record,) = read(consumer, 1)
    assert record.value == json.loads(json.dumps(Event.objects.get().envelope()))
