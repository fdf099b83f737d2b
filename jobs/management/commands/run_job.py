from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from jobs.execution import request_run, run_due
from jobs.models import Job, RunStatus
from jobs.registry import periodic_jobs
from jobs.schedules import synchronise


class Command(BaseCommand):
    help = "Run one job now, in the foreground, under its lease."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="as `manage.py jobs` lists it")

    def handle(self, *, name: str, **options: Any) -> None:
        if name not in periodic_jobs:
            known = ", ".join(sorted(periodic_jobs))
            raise CommandError(f"There is no job {name}. There are: {known}.")
        synchronise()
        request_run(name)
        run = run_due(periodic_jobs[name])
        if run is None:
            holder = Job.objects.get(name=name).holder or "another node, a moment ago"
            raise CommandError(f"{name} is held by {holder}: it runs there, or try again later.")
        if run.status != RunStatus.SUCCEEDED:
            status = run.get_status_display().lower()
            raise CommandError(f"{name} {status}: {run.error}\n{run.traceback}")
        self.stdout.write(f"{name}: {run.items} items in {run.duration}")
