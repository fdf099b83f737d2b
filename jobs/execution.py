"""From a slot to a run: claim it, run it, record it."""

import logging
import os
import random
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from math import inf
from typing import Any

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils.translation import gettext as _
from django_q.tasks import async_task
from psycopg.errors import LockNotAvailable

from jobs import tracing
from jobs.acting import JOB, Actor, acting_as, did
from jobs.correlation import correlated, correlation_id, inherited_id
from jobs.leases import Lease, held
from jobs.models import Job, Run, RunStatus
from jobs.registry import Misfire, Outcome, PeriodicJob, periodic_jobs
from jobs.schedules import TICK
from jobs.wake import notify

logger = logging.getLogger(__name__)

RETENTION_BATCH = 5_000


def node() -> str:
    return f"{settings.NODE_NAME}:{os.getpid()}"


def tick(name: str, asked_by: str = "") -> str:
    """What django-q2 calls: run the job if a slot of it is due. Says what became of it.

    `asked_by` is the correlation id of who queued it.
    """
    if name not in periodic_jobs:
        return f"{name} is no job of this version"
    with correlated(asked_by):
        run = run_due(periodic_jobs[name])
    return f"{run.status}, {run.items} items" if run else "nothing due"


def run_due(job: PeriodicJob) -> Run | None:
    """Claim the slot that is due, and run it. None when there is none, or another node has it."""
    lease = claim(job)
    return execute(job, lease) if lease else None


def claim(job: PeriodicJob) -> Lease | None:
    """Take the lease and the slot, in one transaction by the database's clock."""
    with transaction.atomic():
        found = _unlocked(job.name)
        if found is None:  # its holder is writing, or froze while it did
            return None
        row, now = found
        # `at_least` keeps the next slot away, not what an operator asks for.
        if row.until and row.until > now and (row.holder or not row.requested_at):
            return None
        slot = _due_slot(job, row, now)
        if slot is None:
            return None
        if row.runs.filter(slot=slot).exists():  # the row was set back, or a clock was
            row.save(update_fields=["last_slot"])
            return None
        _give_up_on(row, now)
        row.token += 1
        row.holder, row.since, row.until = node(), now, now + job.at_most
        row.save(update_fields=["token", "holder", "since", "until", "last_slot", "requested_at"])
        run = Run.objects.create(
            job=row,
            slot=slot,
            status=RunStatus.RUNNING,
            node=row.holder,
            token=row.token,
            started_at=now,
        )
    return Lease(job.name, row.token, slot, job.at_most, run.pk)


def execute(job: PeriodicJob, lease: Lease) -> Run:
    """Run the function under its lease; whatever it raises is recorded.

    Ctrl-C and the time limit of qcluster give the lease back, are recorded too, and go on to
    whoever called. It has a correlation id of its own, unless somebody asked for it.
    """
    with correlated(inherited_id()), tracing.span(f"job {job.name}"):
        return _execute(job, lease)


def _execute(job: PeriodicJob, lease: Lease) -> Run:
    try:
        with held(lease), acting_as(Actor(JOB, name=job.name, via=f"run {lease.run}")):
            lease.lost.wait(random.uniform(0, job.jitter.total_seconds()))  # noqa: S311 (no secret)
            done = job.run()
    except (KeyboardInterrupt, SystemExit) as ended:
        note = str(ended) or "interrupted"
        _finish(job, lease, Outcome(items=lease.done, note=note), ended)
        raise
    except Exception as error:  # a failing job must not stop others
        logger.exception("Job %s failed", job.name)
        return _finish(job, lease, Outcome(items=lease.done), error)
    return _finish(job, lease, done if isinstance(done, Outcome) else Outcome(items=done), None)


def seconds_until_due(job: PeriodicJob) -> float:
    """How long until the next slot, by the database's clock."""
    row = Job.objects.annotate(now=Now()).get(name=job.name)
    if row.requested_at:
        free = row.until if row.holder and row.until else row.now
    elif row.paused_at or not job.enabled:
        return inf
    else:
        next_slot = job.interval.after(row.last_slot or row.now)
        free = max(next_slot, row.until or next_slot)
    return max(0.0, (free - row.now).total_seconds())


# Steering


class JobBusy(Exception):
    """The job's row is locked: its holder writes under its lease, or froze while it did."""

    def __init__(self, name: str) -> None:
        super().__init__(_("%s is being written by its holder: try again in a minute.") % name)


@contextmanager
def _steering(name: str) -> Iterator[None]:
    """A transaction that does not wait long for the row; raises `JobBusy`."""
    try:
        with transaction.atomic():
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL lock_timeout = '3s'")
            yield
    except OperationalError as error:
        locked = connection.vendor == "sqlite" or isinstance(error.__cause__, LockNotAvailable)
        if not locked:  # the database is away
            raise
        raise JobBusy(name) from error


def request_run(name: str) -> None:
    """Make a slot due, also of a paused job, for whoever looks first. Raises `JobBusy`."""
    with _steering(name):
        if Job.objects.filter(name=name).update(requested_at=Now()):
            did("job.run", Job(name=name))


def withdraw_request(name: str) -> None:
    """Nobody shall run it any more because it was asked for. Raises `JobBusy`."""
    with _steering(name):
        Job.objects.filter(name=name).update(requested_at=None)


@transaction.atomic
def run_now(name: str) -> None:
    """Ask for a run at once, also of a paused job; whichever node is first does it.

    Raises `JobBusy`, as what follows does.
    """
    request_run(name)
    notify("jobs")
    if not periodic_jobs[name].is_fast:
        # After the commit, for a queue outside of the database; should that fail, the next tick,
        # at most a minute away, does it.
        transaction.on_commit(
            partial(async_task, TICK, name, correlation_id(), q_options={"group": name}),
            robust=True,
        )


def pause(name: str) -> None:
    """No new runs until `resume`; a run that is under way ends."""
    with _steering(name):
        if Job.objects.filter(name=name, paused_at=None).update(paused_at=Now()):
            did("job.paused", Job(name=name))


def resume(name: str) -> None:
    with _steering(name):
        if Job.objects.filter(name=name, paused_at__isnull=False).update(paused_at=None):
            did("job.resumed", Job(name=name))


def release(name: str) -> None:
    """Take the lease from its holder: what it still writes is refused."""
    with _steering(name):
        row = Job.objects.select_for_update().annotate(now=Now()).get(name=name)
        _give_up_on(row, row.now, "its lease was released by an operator")
        did("job.released", row, holder=row.holder)
        row.token += 1
        row.holder, row.since, row.until = "", None, None
        row.save(update_fields=["token", "holder", "since", "until"])


# The row


def _unlocked(name: str) -> tuple[Job, datetime] | None:
    """The job's row, locked for this transaction, and the database's time; None when it is locked.

    Who waited would be a worker less for all other jobs. SQLite has one lock for all, and no rows.
    """
    skip = connection.features.has_select_for_update_skip_locked
    rows = Job.objects.select_for_update(skip_locked=skip).annotate(now=Now())
    row = rows.filter(name=name).first()
    return (row, row.now) if row else None


def _due_slot(job: PeriodicJob, row: Job, now: datetime) -> datetime | None:
    """The slot to run now; sets `row.last_slot`, and records those that were missed."""
    if row.requested_at:
        row.requested_at = None
        return now
    if row.paused_at or not job.enabled:
        return None
    current = job.interval.slot(now)
    if row.last_slot is None:
        first = job.interval.runs_at_start or current >= row.created_at
        row.last_slot = current
        if not first:
            row.save(update_fields=["last_slot"])
        return current if first else None
    if current <= row.last_slot:
        return None
    waiting = list(job.interval.between(row.last_slot, now))
    if job.misfire is Misfire.RUN_EACH:
        row.last_slot = waiting[0]
        return waiting[0]
    row.last_slot = current
    late = now - current > max(job.at_least, timedelta(minutes=1))
    if job.misfire is Misfire.SKIP and late:
        _record_missed(row, [*waiting[:-1], current], "it was late, and the policy is to skip")
        row.save(update_fields=["last_slot"])
        return None
    _record_missed(row, waiting[:-1], "nobody ran it in time; the next run covers it")
    return current


def _record_missed(row: Job, slots: list[datetime], reason: str) -> None:
    if not slots:
        return
    recorded = row.runs.filter(slot__range=(slots[0], slots[-1]))
    known = set(recorded.values_list("slot", flat=True))
    runs = [
        Run(job=row, slot=slot, status=RunStatus.MISSED, reason=reason)
        for slot in slots
        if slot not in known
    ]
    Run.objects.bulk_create(runs, ignore_conflicts=True)
    Job.objects.filter(pk=row.pk).update(runs_missed=F("runs_missed") + len(runs))


def _give_up_on(
    row: Job, now: datetime, reason: str = "its holder did not renew the lease"
) -> None:
    """A run whose holder lost the lease is over, whether it knows or not."""
    lost = row.runs.filter(status=RunStatus.RUNNING).update(
        status=RunStatus.LOST, finished_at=now, reason=reason
    )
    if lost:
        Job.objects.filter(pk=row.pk).update(runs_lost=F("runs_lost") + lost)


def _finish(job: PeriodicJob, lease: Lease, outcome: Outcome, error: BaseException | None) -> Run:
    run = Run.objects.filter(job=job.name, slot=lease.slot)
    with transaction.atomic():
        row = Job.objects.select_for_update().annotate(now=Now()).get(name=job.name)
        if row.token == lease.token:
            run.update(
                status=RunStatus.FAILED if error else RunStatus.SUCCEEDED,
                finished_at=Now(),
                items=outcome.items,
                failed_items=outcome.failed,
                skipped_items=outcome.skipped,
                reason=outcome.note[:300],
                error=_one_line(error)[:500],
                traceback="".join(traceback.format_exception(error)) if error else "",
            )
            assert row.since
            regular = job.interval.slot(lease.slot) == lease.slot  # else it was asked for
            free = max(row.now, row.since + job.at_least) if regular else row.now
            lease.row.update(
                holder="", until=free, **_counted(outcome, error, row.now, row.now - row.since)
            )
        else:
            logger.warning("%s finished after it was taken over: not recorded", job.name)
    return run.get()


def _counted(
    outcome: Outcome, error: BaseException | None, now: datetime, length: timedelta
) -> dict[str, Any]:
    """What a run that ended adds to the counters of its job."""
    success = {"runs_succeeded": F("runs_succeeded") + 1, "last_success_at": now}
    return {
        "items_done": F("items_done") + outcome.items,
        "items_failed": F("items_failed") + outcome.failed,
        "items_skipped": F("items_skipped") + outcome.skipped,
        "seconds_run": F("seconds_run") + length.total_seconds(),
        "seconds_of_last_run": length.total_seconds(),
        **({"runs_failed": F("runs_failed") + 1} if error else success),
    }


def _one_line(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}" if isinstance(error, Exception) else ""
