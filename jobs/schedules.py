"""Periodic jobs as django-q2 schedules: its clock ticks, our claim decides."""

import ast
import logging
from typing import Any

from django.db.models import Q
from django.utils import timezone
from django_q.models import Schedule

from jobs.acting import acting_as
from jobs.models import Job
from jobs.registry import periodic_jobs

logger = logging.getLogger(__name__)

TICK = "jobs.execution.tick"


@acting_as(None)  # whoever runs a command or migrates
def synchronise(**_: Any) -> None:
    """A row and, for what is not too fast for it, a schedule for each job.

    What operators changed stays; what is broken in one of ours is put right.
    """
    for job in periodic_jobs.values():
        Job.objects.get_or_create(name=job.name)
        ours = Schedule.objects.filter(name=job.name)
        if job.is_fast:
            ours.filter(func=TICK).delete()
        elif ours.exists():
            ours.update(func=TICK, args=repr((job.name,)), kwargs=None, hook=None)
        else:
            Schedule.objects.create(
                name=job.name,
                func=TICK,
                args=repr((job.name,)),
                schedule_type=Schedule.MINUTES,
                minutes=1,
                repeats=-1,
                next_run=timezone.now(),
            )


def set_aside_broken() -> int:
    """Take what django-q2 could not read out of its way: one such row would stop all schedules.

    Its scheduler reads every due row in one transaction and gives up at the first that raises.
    """
    due = Schedule.objects.exclude(repeats=0).filter(next_run__lt=timezone.now())
    broken = [schedule for schedule in due if not _readable(schedule)]
    for schedule in broken:
        logger.error("Schedule %s cannot be read; set its repeats again when mended", schedule)
    Schedule.objects.filter(pk__in=[schedule.pk for schedule in broken]).update(repeats=0)
    ours = Q(func=TICK, name__in=list(periodic_jobs))
    if Schedule.objects.filter(ours, pk__in=[schedule.pk for schedule in broken]).exists():
        Schedule.objects.filter(ours, repeats=0).update(repeats=-1)
        synchronise()
    return len(broken)


def _readable(schedule: Schedule) -> bool:
    try:
        if schedule.args:
            ast.literal_eval(schedule.args)
        if not _callable_with(_kwargs(schedule.kwargs)):
            return False
        if schedule.schedule_type != Schedule.ONCE:
            schedule.calculate_next_run(schedule.next_run)
    except Exception:  # whatever it is, it would be raised in the scheduler as well
        return False
    return True


def _kwargs(text: str | None) -> Any:
    """As the scheduler reads them: a dict, or what stands between the brackets of a call."""
    try:
        return ast.literal_eval(text) if text else {}
    except (SyntaxError, ValueError):
        pass
    try:
        keywords = ast.parse(f"f({text})").body[0].value.keywords  # type: ignore[attr-defined]
        return {keyword.arg: ast.literal_eval(keyword.value) for keyword in keywords}
    except (SyntaxError, ValueError):
        return {}


def _callable_with(kwargs: Any) -> bool:
    return (
        isinstance(kwargs, dict)
        and all(isinstance(name, str) for name in kwargs)
        and isinstance(kwargs.get("q_options", {}), dict)
    )
