from collections import Counter
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.models import OrmQ, Schedule

from jobs.management.commands.qcluster import careful_scheduler
from jobs.models import Job
from jobs.registry import periodic_jobs
from jobs.schedules import TICK, synchronise

# django-q2 closes the connection before it looks, which would end a test's transaction.
pytestmark = pytest.mark.django_db(transaction=True)


def slow_jobs() -> set[str]:
    return {name for name, job in periodic_jobs.items() if not job.is_fast}


def test_migrating_makes_a_row_and_one_schedule_for_each_job() -> None:
    Schedule.objects.all().delete()
    Job.objects.all().delete()
    call_command("migrate", verbosity=0)
    call_command("migrate", verbosity=0)
    assert set(Job.objects.values_list("name", flat=True)) == set(periodic_jobs)
    assert Counter(Schedule.objects.values_list("name", flat=True)) == Counter(slow_jobs())


def test_a_schedule_ticks_each_minute_and_names_its_job() -> None:
    synchronise()
    schedule = Schedule.objects.get(name="EVENT_RETENTION")
    assert (schedule.func, schedule.args, schedule.repeats) == (TICK, "('EVENT_RETENTION',)", -1)
    assert (schedule.schedule_type, schedule.minutes) == (Schedule.MINUTES, 1)


def test_what_an_operator_changed_stays() -> None:
    synchronise()
    later = timezone.now() + timedelta(days=1)
    Schedule.objects.filter(name="EVENT_RETENTION").update(minutes=7, next_run=later, repeats=0)
    synchronise()
    schedule = Schedule.objects.get(name="EVENT_RETENTION")
    assert (schedule.minutes, schedule.next_run, schedule.repeats) == (7, later, 0)


def test_a_schedule_of_an_older_version_is_put_right() -> None:
    synchronise()
    Schedule.objects.filter(name="EVENT_RETENTION").update(func="gone.away", args=None)
    synchronise()
    schedule = Schedule.objects.get(name="EVENT_RETENTION")
    assert (schedule.func, schedule.args) == (TICK, "('EVENT_RETENTION',)")


def test_a_schedule_that_is_there_twice_does_not_stop_a_migration() -> None:
    synchronise()
    Schedule.objects.create(name="EVENT_RETENTION", func=TICK)
    synchronise()
    assert Schedule.objects.filter(name="EVENT_RETENTION").count() == 2


@pytest.mark.parametrize(
    "damage",
    [
        {"args": "('half"},
        {"args": "__import__('os')"},
        {"schedule_type": "C", "cron": "99 * * * *"},
        {"kwargs": "[1]"},
        {"kwargs": "5"},
        {"kwargs": "{1: 2}"},
        {"kwargs": "{'q_options': 5}"},
        {"kwargs": "**{}"},
    ],
)
def test_a_broken_schedule_stops_no_other(damage: dict[str, str]) -> None:
    synchronise()
    broken = Schedule.objects.create(
        name="broken", func="math.sqrt", repeats=-1, next_run=timezone.now() - timedelta(days=1)
    )
    Schedule.objects.filter(pk=broken.pk).update(**damage)
    careful_scheduler(broker=ORM())
    assert OrmQ.objects.count() == len(slow_jobs())
    broken.refresh_from_db()
    assert broken.repeats == 0


def test_one_of_ours_that_was_broken_is_mended_at_once() -> None:
    synchronise()
    Schedule.objects.filter(name="EVENT_RETENTION").update(args="('half")
    careful_scheduler(broker=ORM())
    schedule = Schedule.objects.get(name="EVENT_RETENTION")
    assert (schedule.args, schedule.repeats) == ("('EVENT_RETENTION',)", -1)
    assert OrmQ.objects.count() == len(slow_jobs())
