"""Debezium's outbox event router, for real: what it makes of our table, and what it cannot."""

import json
import threading
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer
from django.conf import settings
from django.db import connection, transaction

from outbox.models import Event
from outbox.services import build_event, emit, emit_all
from tests.servers import CHECKOUT, Kafka, KafkaConnect
from tests.test_servers import ask
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="it reads PostgreSQL's log"),
]

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Message(NamedTuple):
    topic: str
    key: str
    value: dict[str, Any]
    headers: dict[str, bytes | None]


def connector(name: str) -> dict[str, str]:
    """The configuration that the repository keeps, for the database of this test."""
    database = connection.settings_dict
    values = {
        "NAME": name,
        "DATABASE_HOST": database["HOST"],
        "DATABASE_PORT": str(database["PORT"]),
        "DATABASE_USER": database["USER"],
        "DATABASE_PASSWORD": database["PASSWORD"],
        "DATABASE_NAME": database["NAME"],
        "EVENT_SOURCE": settings.EVENT_SOURCE,
    }
    text = (CHECKOUT / "fixtures" / "debezium-outbox.json").read_text()
    for variable, value in values.items():
        text = text.replace(f"${{{variable}}}", value)
    config: dict[str, str] = json.loads(text)
    return config


@pytest.fixture
def debezium(connect: KafkaConnect) -> Iterator[str]:
    """The name of a connector that runs; its slot would keep the database from being dropped."""
    name = f"debezium_{uuid.uuid4().hex[:8]}"
    url = f"{connect.url}/connectors/{name}"
    try:
        ask(f"{url}/config", connector(name), "PUT")
        wait_until(lambda: is_active(name), message="the connector reads")
        yield name
    finally:
        ask(url, method="DELETE")
        wait_until(lambda: not is_active(name), message="the connector has ended")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE slot_name = %s",
                [name],
            )
            cursor.execute(f'DROP PUBLICATION IF EXISTS "{name}"')


def is_active(slot: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT active FROM pg_replication_slots WHERE slot_name = %s", [slot])
        row = cursor.fetchone()
    return bool(row and row[0])


def read(kafka: Kafka, prefix: str, count: int) -> list[Message]:
    """The first messages of all topics of the connector, and whatever follows within seconds."""
    options = {
        "group.id": prefix,
        "auto.offset.reset": "earliest",
        "topic.metadata.refresh.interval.ms": 1_000,
    }
    consumer = Consumer(kafka.options() | options)
    consumer.subscribe([f"^{prefix}\\..*"])
    found: list[Message] = []

    def poll(seconds: float) -> bool:
        message = consumer.poll(seconds)
        if message is None or message.error():
            return False
        key, value = message.key(), message.value()
        assert key
        assert value
        headers: Any = dict(message.headers() or [])
        found.append(Message(str(message.topic()), key.decode(), json.loads(value), headers))
        return True

    try:
        wait_until(lambda: poll(1) and len(found) >= count, message="the messages have come")
        while poll(3):
            pass
        return found
    finally:
        consumer.close()


def in_another_transaction(key: str, n: int) -> None:
    def write() -> None:
        with transaction.atomic():
            emit("link.clicked", key, {"n": n})
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()


def test_what_was_committed_comes_in_commit_order(kafka: Kafka, debezium: str) -> None:
    with transaction.atomic():
        emit("link.clicked", "link-1", {"n": 1})
    with transaction.atomic():
        emit("link.clicked", "link-1", {"n": 2})
        in_another_transaction("link-1", 3)  # begins later, commits earlier
        emit("link.clicked", "link-2", {"n": 4})
        emit("link.clicked", "link-1", {"n": 5})
    with transaction.atomic():
        emit("link.clicked", "link-1", {"n": 6})
        transaction.set_rollback(True)
    with transaction.atomic():
        emit("broadcast.scheduled", "broadcast-1", {"n": 7})
    Event.objects.update(published_at=datetime(2030, 1, 1).astimezone())  # what the relay does
    messages = read(kafka, debezium, 6)
    seen = {
        key: list(dict.fromkeys(m.value["data"]["n"] for m in messages if m.key == key))
        for key in {message.key for message in messages}
    }
    assert seen == {"link-1": [1, 3, 2, 5], "link-2": [4], "broadcast-1": [7]}
    assert {message.topic for message in messages} == {f"{debezium}.link", f"{debezium}.broadcasts"}


def test_the_envelope_is_ours_except_for_what_only_the_relay_knows(
    kafka: Kafka, debezium: str
) -> None:
    data = {
        "text": 'Grüße\n"quoted" \\ 🚀',
        "none": None,
        "nested": {"list": [1, 2], "objects": [{"a": 1}, {"a": None}], "deep": {"flag": True}},
        "number": 1.5,
        "large": 2**53 + 1,
    }
    event = build_event("link.clicked", "link-1", data)
    event.traceparent = TRACEPARENT
    with transaction.atomic():
        emit_all([event])
    event.refresh_from_db()
    _, key, value, headers = read(kafka, debezium, 1)[0]
    ours = event.envelope()
    assert key == ours["subject"]
    assert ours.pop("sequence") == "None"  # it has no position
    assert datetime.fromisoformat(value.pop("time")) == datetime.fromisoformat(ours.pop("time"))
    assert value == ours
    assert headers["traceparent"] == TRACEPARENT.encode()


def test_what_is_not_known_is_an_empty_text(kafka: Kafka, debezium: str) -> None:
    with transaction.atomic():
        emit("link.clicked", "link-1", {})
    assert read(kafka, debezium, 1)[0].value["traceparent"] == ""


def test_data_that_the_router_changes(kafka: Kafka, debezium: str) -> None:
    """It gives each event a schema of its own, which has no empty lists and no mixed ones."""
    with transaction.atomic():
        emit("link.clicked", "link-1", {"empty": [], "rest": 1})
        emit("link.clicked", "link-1", {"mixed": [1, "two"]})
    empty, mixed = (message.value["data"] for message in read(kafka, debezium, 2)[:2])
    assert empty == {"rest": 1}
    assert mixed == '{"mixed": [1, "two"]}'
