from typing import Any

from django.core.management.base import BaseCommand

from jobs.runner import Runner


class Command(BaseCommand):
    help = "Publish the outbox, and do all work faster than a minute, until SIGTERM or Ctrl-C."

    def handle(self, **options: Any) -> None:
        Runner().run()
