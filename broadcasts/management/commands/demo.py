from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.module_loading import import_string

from broadcasts.demo import create, create_people


class Command(BaseCommand):
    help = "Demo people, products, broadcasts and domains; what is there stays. Only with DEBUG."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--users", type=int, default=0, help="So many more, password: demo")
        parser.add_argument("--subscriptions", type=int, default=20, help="For each of them")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError(
                "The demo's logins have known passwords, so they are made only with DEBUG=true."
            )
        created = [create(), *(import_string(path)() for path in settings.DEMOS)]
        self.stdout.write("Demo data created." if any(created) else "The demo data is there.")
        if options["users"]:
            made = create_people(options["users"], options["subscriptions"])
            self.stdout.write(f"{made:,} more users created.")
