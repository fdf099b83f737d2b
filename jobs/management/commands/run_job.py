import signal
from argparse import ArgumentParser
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from jobs.execution import claim, execute, request_run, withdraw_request
from jobs.leases import Lease
from jobs.models import Job, Run, RunStatus
from jobs.registry import PeriodicJob, periodic_jobs
from jobs.schedules import synchronise

INTERRUPTED = 128 + signal.SIGINT  # as shells have it


class Command(BaseCommand):
    help = (
        "Run one job now, in the foreground, under its lease; a terminal shows a bar. Ctrl-C gives"
        " the lease back, and the run is recorded as interrupted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="as `manage.py jobs` lists it")

    def handle(self, *, name: str, **options: Any) -> None:
        if name not in periodic_jobs:
            known = ", ".join(sorted(periodic_jobs))
            raise CommandError(f"There is no job {name}. There are: {known}.")
        synchronise()
        for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT may be ignored by who started it
            signal.signal(number, signal.default_int_handler)
        request_run(name)
        lease = claim(periodic_jobs[name])
        if lease is None:
            withdraw_request(name)
            holder = Job.objects.get(name=name).holder or "another node, a moment ago"
            raise CommandError(f"{name} is held by {holder}: it runs there, or try again later.")
        self._tell(name, self._run(periodic_jobs[name], lease))

    def _run(self, job: PeriodicJob, lease: Lease) -> Run:
        with tqdm(desc=job.name, unit=" items", disable=None) as bar:  # None: only on a terminal
            lease.watch = partial(show, bar)
            try:
                run = execute(job, lease)
            except KeyboardInterrupt as interrupt:
                done = f"{lease.done} items were done"
                raise CommandError(
                    f"{job.name} was interrupted: {done}, and its lease is free.",
                    returncode=INTERRUPTED,
                ) from interrupt
            show(bar, run.items, lease.expected)
        return run

    def _tell(self, name: str, run: Run) -> None:
        if run.status != RunStatus.SUCCEEDED:
            status = run.get_status_display().lower()
            raise CommandError(f"{name} {status}: {run.error or run.reason}\n{run.traceback}")
        failed = f", {run.failed_items} failed" if run.failed_items else ""
        self.stdout.write(f"{name}: {run.items} items{failed} in {run.duration}")
        if run.reason:  # why nothing was done, or what went wrong with some
            self.stdout.write(run.reason)


def show(bar: "tqdm[Any]", done: int, expected: int) -> None:
    bar.total = max(expected, done) if expected else None
    bar.update(done - bar.n)
