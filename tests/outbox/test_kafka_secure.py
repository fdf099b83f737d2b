"""`KafkaLog` on a cluster that wants TLS and a login."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.db import transaction
from django.test import override_settings

from outbox.kafka import KafkaLog
from outbox.logs import LogUnavailable
from outbox.models import DeadLetter, Event
from outbox.relay import Relay
from outbox.services import emit
from tests import servers
from tests.conftest import needed
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]


@pytest.fixture(scope="module")
def secure() -> Iterator[servers.Kafka]:
    def make(directory: Path) -> servers.Kafka:
        return servers.Kafka(directory, secure=True)

    with needed(servers.running(make)) as kafka:
        yield kafka


def settings_of(kafka: servers.Kafka, mechanism: str, password: str) -> override_settings:
    return override_settings(
        KAFKA_BOOTSTRAP_SERVERS=kafka.url,
        KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        KAFKA_SASL_MECHANISM=mechanism,
        KAFKA_USERNAME=kafka.username,
        KAFKA_PASSWORD=password,
        KAFKA_CA_LOCATION=str(kafka.ca),
        KAFKA_TOPIC_PREFIX=f"{mechanism.lower()}-",
    )


def publish(log: KafkaLog, key: str) -> None:
    with transaction.atomic():
        emit("link.expired", key, {})
    relay = Relay(log)
    relay.step()
    relay.resign()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_who_logs_in_publishes_and_reads(secure: servers.Kafka, mechanism: str) -> None:
    with settings_of(secure, mechanism, secure.password):
        log = KafkaLog()
        publish(log, "a")
        with closing(log.consumer(["link"], after=0)) as consumer:
            keys: list[str] = []
            for _ in range(2 * PATIENCE):
                keys += [record.key for record in consumer.poll(wait=0.5)]
                if keys:
                    break
    assert keys == ["a"]
    assert not Event.objects.pending().exists()


def test_a_wrong_password_loses_nothing(secure: servers.Kafka) -> None:
    """No event is at fault: all of them wait."""
    with settings_of(secure, "PLAIN", "wrong"):
        publish(KafkaLog(), "a")
        with pytest.raises(LogUnavailable):
            KafkaLog().consumer(["link"])
    assert Event.objects.pending().count() == 1
    assert not DeadLetter.objects.exists()
