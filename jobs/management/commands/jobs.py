from typing import Any

from django.core.management.base import BaseCommand

from jobs.console import overview


class Command(BaseCommand):
    help = "List the periodic jobs: their interval, last and next run, holder."

    def handle(self, **options: Any) -> None:
        row = "{:<26} {:<14} {:<10} {:<20} {:<20} {:>7}  {}"
        self.stdout.write(
            row.format("job", "every", "state", "last run", "next run", "items", "holder")
        )
        for state in overview():
            self.stdout.write(
                row.format(
                    state.name,
                    state.every,
                    state.state,
                    f"{state.last_run_at:%Y-%m-%d %H:%M:%S}" if state.last_run_at else "never",
                    f"{state.next_run_at:%Y-%m-%d %H:%M:%S}" if state.next_run_at else "-",
                    state.items if state.items is not None else "-",
                    state.holder or "-",
                )
            )
