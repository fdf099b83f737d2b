"""Periodic jobs as django-q2 schedules."""

from typing import Any

from django.utils import timezone
from django_q.models import Schedule

from jobs.durations import PATTERN, parse_duration
from jobs.registry import PeriodicJob, periodic_jobs


def synchronise(**_: Any) -> None:
    """Make a schedule for each job that has none; what operators changed stays."""
    for job in periodic_jobs.values():
        made = Schedule.objects.filter(name=job.name)  # django-q2 lets names be there twice
        if made.exists():
            made.exclude(func=job.path).update(func=job.path)
        else:
            timing = {"next_run": timezone.now(), "repeats": -1} | _timing(job)
            Schedule.objects.create(name=job.name, func=job.path, **timing)


def _timing(job: PeriodicJob) -> dict[str, Any]:
    if PATTERN.fullmatch(job.every):
        minutes = max(1, int(parse_duration(job.every).total_seconds() // 60))
        return {"schedule_type": Schedule.MINUTES, "minutes": minutes}
    return {"schedule_type": Schedule.CRON, "cron": job.every}
