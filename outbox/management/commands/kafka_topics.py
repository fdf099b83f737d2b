from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from outbox.consumers import groups
from outbox.kafka_topics import check_topics, put_right
from outbox.logs import LogUnavailable
from outbox.models import Event
from outbox.topics import BROADCASTS


class Command(BaseCommand):
    help = "Create the topics in Kafka, with their partitions and retention."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--check", action="store_true", help="change nothing, say what is wrong"
        )

    def handle(self, *, check: bool, **options: Any) -> None:
        if not settings.KAFKA_BOOTSTRAP_SERVERS:
            raise CommandError("KAFKA_BOOTSTRAP_SERVERS is not set: the table is the log.")
        topics = known_topics()
        try:
            if not check:
                for line in put_right(topics):
                    self.stdout.write(line)
            wrong = check_topics(topics)
        except LogUnavailable as error:
            raise CommandError(f"Kafka cannot be reached: {error}") from error
        if wrong:
            raise CommandError("\n".join(wrong))
        self.stdout.write(f"{len(topics)} topics are as they should be.")


def known_topics() -> set[str]:
    """What this version and its outbox know; another topic is created by its first event."""
    written = Event.objects.order_by().values_list("topic", flat=True).distinct()
    return {BROADCASTS, *written, *(topic for group in groups.values() for topic in group.topics)}
