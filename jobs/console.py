"""Every job at a glance: what the admin, the API, the command and the alerts show alike."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models.functions import Now

from jobs.models import Job, Run, RunStatus
from jobs.registry import PeriodicJob, Standing, first_line, periodic_jobs, standings, workers

logger = logging.getLogger(__name__)

HISTORY = 20  # runs that rates and sparklines are made of


@dataclass(frozen=True)
class JobState:
    name: str
    description: str
    every: str
    enabled: bool
    paused_at: datetime | None
    holder: str
    """Also of a lease that ran out, until another node takes it."""
    running_since: datetime | None
    token: int
    last_run_at: datetime | None
    last_status: str
    last_error: str
    next_run_at: datetime | None
    overdue: timedelta | None
    """How late the next run is; None when it is not late by twice its interval."""
    items: int | None
    durations: list[float]
    """Seconds, oldest first; at most HISTORY."""
    error_rate: float | None
    failures_in_a_row: int
    backlog: int | None
    requested_at: datetime | None
    """Asked for by an operator, and taken by no node yet."""
    items_so_far: int | None
    """Of the run that is under way."""

    @property
    def state(self) -> str:
        if self.running_since:
            return "running"
        if not self.enabled:
            return "disabled"
        if self.paused_at:
            return "paused"
        if self.overdue:
            return "overdue"
        ended_badly = self.last_status in (RunStatus.FAILED, RunStatus.LOST)
        return "failing" if ended_badly else "waiting"


def overview() -> list[JobState]:
    """All declared jobs in their order; one query for all, one a job and one a backlog."""
    rows = {row.name: row for row in Job.objects.annotate(now=Now())}
    return [_state(job, rows[name]) for name, job in sorted(periodic_jobs.items()) if name in rows]


def overdue_jobs() -> list[str]:
    """The names of those that are late by more than twice their interval; one query."""
    rows = Job.objects.filter(name__in=periodic_jobs).annotate(now=Now())
    return sorted(row.name for row in rows if overdue_by(periodic_jobs[row.name], row, row.now))


def state_of(name: str) -> JobState | None:
    """One declared job; None when no code declares it."""
    row = Job.objects.annotate(now=Now()).filter(name=name).first()
    return _state(periodic_jobs[name], row) if row and name in periodic_jobs else None


@dataclass(frozen=True)
class WorkerState:
    name: str
    description: str
    standing: Standing | None
    """None of one that says nothing."""


def all_workers() -> list[WorkerState]:
    """What `manage.py relay` repeats, in the order of names."""
    return [
        WorkerState(name, first_line(cls), _standing(name)) for name, cls in sorted(workers.items())
    ]


def _standing(name: str) -> Standing | None:
    try:
        return standings[name]() if name in standings else None
    except Exception:  # one worker's must not take all others off the page
        logger.exception("How %s stands cannot be told", name)
        return None


def _state(job: PeriodicJob, row: Job) -> JobState:
    now: datetime = row.now  # type: ignore[attr-defined]
    ran = row.runs.exclude(status=RunStatus.MISSED).defer("traceback")
    runs = ran.order_by("-slot")[: HISTORY + 1]
    running = next((run for run in runs if run.status == RunStatus.RUNNING), None)
    running = running if _is_held(row, now) else None
    ended = [run for run in runs if run.status != RunStatus.RUNNING]
    failed = [run for run in ended if run.status != RunStatus.SUCCEEDED]
    last = ended[0] if ended else None
    return JobState(
        name=job.name,
        description=job.description,
        every=job.every,
        enabled=job.enabled,
        paused_at=row.paused_at,
        holder=row.holder,
        running_since=running.started_at if running else None,
        token=row.token,
        last_run_at=last.started_at if last else None,
        last_status=last.status if last else "",
        last_error=last.error or last.reason if last else "",
        next_run_at=_next_run(job, row, now),
        overdue=overdue_by(job, row, now),
        items=last.items if last else None,
        durations=[run.duration.total_seconds() for run in reversed(ended) if run.duration],
        error_rate=len(failed) / len(ended) if ended else None,
        failures_in_a_row=_failures_in_a_row(ended),
        backlog=_backlog(job),
        requested_at=row.requested_at,
        items_so_far=running.items if running else None,
    )


def _is_held(row: Job, now: datetime) -> bool:
    return bool(row.holder and row.until and row.until > now)


def _backlog(job: PeriodicJob) -> int | None:
    try:
        return job.backlog() if job.backlog else None
    except Exception:  # one job's count must not take all others off the page
        logger.exception("The backlog of %s cannot be counted", job.name)
        return None


def _next_run(job: PeriodicJob, row: Job, now: datetime) -> datetime | None:
    if row.requested_at:
        return row.requested_at
    if row.paused_at or not job.enabled:
        return None
    return job.interval.after(row.last_slot or row.created_at)


def overdue_by(job: PeriodicJob, row: Job, now: datetime) -> timedelta | None:
    due = _next_run(job, row, now)
    if due is None or _is_held(row, now):
        return None
    limit = 2 * (job.interval.after(due) - due)
    return now - due if now - due > limit else None


def _failures_in_a_row(runs: list[Run]) -> int:
    count = 0
    for run in runs:
        if run.status == RunStatus.SUCCEEDED:
            break
        count += 1
    return count
