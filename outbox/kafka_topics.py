"""How Kafka is reached, and the topics in it."""

import logging
from collections.abc import Callable, Iterable
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


def create_topics(topics: Iterable[str]) -> list[str]:
    """Those that are missing, with their partitions and retention; the names of what was made.

    Raises `LogUnavailable`.
    """
    admin = AdminClient(configuration())
    try:
        known = admin.list_topics(timeout=TIMEOUT).topics
        wanted = [_new_topic(topic) for topic in topics if topic_name(topic) not in known]
        made = admin.create_topics(wanted, request_timeout=TIMEOUT) if wanted else {}
        return sorted(name for name, future in made.items() if _is_created(future))
    except KafkaException as error:
        raise LogUnavailable(str(error)) from error


def put_right(topics: Iterable[str]) -> list[str]:
    """Create what is missing, and set what differs in its configuration; what was done."""
    topics = sorted(topics)
    done = [f"{name}: created" for name in create_topics(topics)]
    admin = AdminClient(configuration())
    try:
        for name in map(topic_name, topics):
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
    except KafkaException as error:
        raise LogUnavailable(str(error)) from error
    return done


def check_topics(topics: Iterable[str]) -> list[str]:
    """What is wrong with the topics, each with what to do. Raises `LogUnavailable`."""
    admin = AdminClient(configuration())
    wrong = []
    try:
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
    except KafkaException as error:
        raise LogUnavailable(str(error)) from error
    return wrong


WANTED: dict[str, Callable[[], str]] = {
    "retention.ms": lambda: str(settings.EVENT_RETENTION_DAYS * 24 * 60 * 60 * 1_000),
    "max.message.bytes": lambda: str(most_bytes()),
}


def most_bytes() -> int:
    return settings.EVENT_MAX_BYTES + 100_000  # the envelope and its channels


def _differing(admin: AdminClient, name: str) -> dict[str, str]:
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    found = admin.describe_configs([resource], request_timeout=TIMEOUT)[resource].result()
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
