"""How Kafka is reached, and the topics in it."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
)
from django.conf import settings

from outbox.logs import LogUnavailable
from outbox.topics import partitions_of

logger = logging.getLogger(__name__)

TIMEOUT = 5.0  # seconds for a question to the cluster

TOPIC_FAULTS = {
    KafkaError.TOPIC_EXCEPTION,  # its name
    KafkaError.POLICY_VIOLATION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
}
"""What is wrong with one topic, and no matter of the others."""


def configuration() -> dict[str, Any]:
    """What every client needs to reach the cluster."""
    options = {
        "bootstrap.servers": settings.KAFKA_BOOTSTRAP_SERVERS,
        "security.protocol": settings.KAFKA_SECURITY_PROTOCOL,
        "sasl.mechanism": settings.KAFKA_SASL_MECHANISM,
        "sasl.username": settings.KAFKA_USERNAME,
        "sasl.password": settings.KAFKA_PASSWORD,
        "ssl.ca.location": settings.KAFKA_CA_LOCATION,
        "ssl.certificate.location": settings.KAFKA_CERTIFICATE_LOCATION,
        "ssl.key.location": settings.KAFKA_KEY_LOCATION,
        "client.id": settings.NODE_NAME,
    }
    return {name: value for name, value in options.items() if value} | {
        "logger": logger,
        "error_cb": lambda error: logger.warning("Kafka: %s", error),
    }


def topic_name(topic: str) -> str:
    return f"{settings.KAFKA_TOPIC_PREFIX}{topic}"


@contextmanager
def cluster() -> Iterator[AdminClient]:
    """What goes wrong within is `LogUnavailable`."""
    with reaching():
        yield AdminClient(configuration())


@contextmanager
def reaching() -> Iterator[None]:
    """What goes wrong within is `LogUnavailable`."""
    try:
        yield
    except (KafkaException, TimeoutError) as error:
        raise LogUnavailable(str(error) or "no answer in time") from error


def create_topics(
    topics: Iterable[str], timeout: float = TIMEOUT
) -> tuple[list[str], dict[str, KafkaException]]:
    """Those that are missing, with their partitions and retention.

    The names of what was made, and by topic what Kafka refuses. Raises `LogUnavailable`.
    """
    made: list[str] = []
    refused: dict[str, KafkaException] = {}
    with cluster() as admin:
        known = admin.list_topics(timeout=timeout).topics
        missing = [topic for topic in topics if topic_name(topic) not in known]
        wanted = [_new_topic(topic) for topic in missing]
        futures = admin.create_topics(wanted, request_timeout=timeout) if wanted else {}
        for topic in missing:
            try:
                if _is_created(futures[topic_name(topic)]):
                    made.append(topic_name(topic))
            except KafkaException as error:
                if error.args[0].code() not in TOPIC_FAULTS:
                    raise
                refused[topic] = error
    return sorted(made), refused


def put_right(topics: Iterable[str]) -> list[str]:
    """Create what is missing, and set what differs in its configuration; what was done."""
    made, refused = create_topics(topics)
    done = [f"{name}: created" for name in made]
    done += [f"{topic_name(topic)}: {error}" for topic, error in refused.items()]
    names = [topic_name(topic) for topic in sorted(set(topics) - refused.keys())]
    with cluster() as admin:
        for name in names:
            if differing := _differing(admin, name):
                entries = [
                    ConfigEntry(key, WANTED[key](), incremental_operation=AlterConfigOpType.SET)
                    for key in differing
                ]
                resource = ConfigResource(
                    ConfigResource.Type.TOPIC, name, incremental_configs=entries
                )
                admin.incremental_alter_configs([resource])[resource].result(TIMEOUT)
                done.append(f"{name}: {', '.join(differing)} set")
        if done:
            _wait_for_brokers(admin, names)
    return done


def _wait_for_brokers(admin: AdminClient, names: list[str]) -> None:
    """Until each of them says what is wanted: the others hear of a change after who took it."""
    until = monotonic() + TIMEOUT
    for broker in admin.list_topics(timeout=TIMEOUT).brokers:
        while not _is_right(admin, names, broker) and monotonic() < until:
            sleep(0.1)


def _is_right(admin: AdminClient, names: list[str], broker: int) -> bool:
    try:
        return not any(_differing(admin, name, broker=broker) for name in names)
    except KafkaException:  # it does not know the topic yet, or is away
        return False


def check_topics(topics: Iterable[str]) -> list[str]:
    """What is wrong with the topics, each with what to do. Raises `LogUnavailable`."""
    wrong = []
    with cluster() as admin:
        known = admin.list_topics(timeout=TIMEOUT).topics
        for topic in sorted(topics):
            name, partitions = topic_name(topic), partitions_of(topic)
            if name not in known:
                wrong.append(f"{name}: missing; run manage.py kafka_topics")
                continue
            if (found := len(known[name].partitions)) != partitions:
                wrong.append(f"{name}: {found} partitions, not {partitions}; make it anew")
            wrong += [
                f"{name}: {key} is {value}, not {WANTED[key]()}; run manage.py kafka_topics"
                for key, value in _differing(admin, name).items()
            ]
    return wrong


WANTED: dict[str, Callable[[], str]] = {
    "retention.ms": lambda: str(settings.EVENT_RETENTION_DAYS * 24 * 60 * 60 * 1_000),
    "max.message.bytes": lambda: str(most_bytes()),
}


def most_bytes() -> int:
    return settings.EVENT_MAX_BYTES + 100_000  # the envelope and its channels


def _differing(admin: AdminClient, name: str, **options: int) -> dict[str, str]:
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    asked = admin.describe_configs([resource], request_timeout=TIMEOUT, **options)
    found = asked[resource].result()
    return {key: found[key].value for key, value in WANTED.items() if found[key].value != value()}


def _new_topic(topic: str) -> NewTopic:
    return NewTopic(
        topic_name(topic),
        num_partitions=partitions_of(topic),
        replication_factor=settings.KAFKA_REPLICATION_FACTOR,
        config={key: value() for key, value in WANTED.items()},
    )


def _is_created(future: Any) -> bool:
    try:
        future.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:  # another process was faster
            return False
        raise
    return True
