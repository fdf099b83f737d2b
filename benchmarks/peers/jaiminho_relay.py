"""django-jaiminho: fills its outbox (`fill COUNT TOPIC`), then its own command relays it."""

import os
import sys
from functools import cache

import django
from confluent_kafka import Producer

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.peers.jaiminho_settings"


@cache
def producer() -> Producer:
    options = {"acks": "all", "enable.idempotence": True, "linger.ms": 0}
    return Producer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"]} | options)


def publish(payload: dict[str, str]) -> None:
    """It must know that the event has arrived when it returns: else jaiminho would lose it."""
    producer().produce(payload["topic"], b"{}", payload["key"])
    if producer().flush(10):
        raise TimeoutError("Kafka did not acknowledge in time")


def main(action: str, *arguments: str) -> None:
    django.setup()
    from django.core.management import call_command

    if action == "fill":
        fill(int(arguments[0]), arguments[1])
    else:
        call_command("events_relay")


def fill(count: int, topic: str) -> None:
    from django.core.management import call_command
    from django.db import transaction
    from jaiminho.models import Event
    from jaiminho.send import save_to_outbox

    from benchmarks.peers.jaiminho_relay import publish

    call_command("migrate", "jaiminho", verbosity=0)
    Event.objects.all().delete()
    with transaction.atomic():
        saved = save_to_outbox(publish)
        for n in range(count):
            saved({"topic": topic, "key": f"key-{n}"})
        transaction.get_connection().run_on_commit.clear()  # what commits at once is not relayed


if __name__ == "__main__":
    main(*sys.argv[1:])
