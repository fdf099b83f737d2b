from collections import Counter
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone
from django_q.models import Schedule

from jobs.registry import periodic_jobs
from jobs.schedules import synchronise

pytestmark = pytest.mark.django_db


def test_migrating_makes_one_schedule_for_each_job() -> None:
    Schedule.objects.all().delete()
    call_command("migrate", verbosity=0)
    assert set(Schedule.objects.values_list("name", flat=True)) == set(periodic_jobs)
    call_command("migrate", verbosity=0)
    names = Counter(Schedule.objects.values_list("name", flat=True))
    assert set(names.values()) == {1}


def test_the_jobs_of_this_project_are_scheduled() -> None:
    synchronise()
    made = {"BROADCAST_ACTIVATION", "BROADCAST_EXPIRATION", "EVENT_RETENTION"}
    assert made <= set(Schedule.objects.values_list("name", flat=True))


def test_a_duration_becomes_minutes() -> None:
    synchronise()
    schedule = Schedule.objects.get(name="EVENT_RETENTION")
    assert (schedule.schedule_type, schedule.minutes, schedule.repeats) == ("I", 1440, -1)


def test_a_cron_expression_stays_one() -> None:
    synchronise()
    schedule = Schedule.objects.get(name="CONNECTION_PURGE")
    assert (schedule.schedule_type, schedule.cron) == ("C", "0 2 * * *")


def test_what_an_operator_changed_stays() -> None:
    synchronise()
    later = timezone.now() + timedelta(days=1)
    Schedule.objects.filter(name="EVENT_RETENTION").update(minutes=7, next_run=later, repeats=0)
    synchronise()
    schedule = Schedule.objects.get(name="EVENT_RETENTION")
    assert (schedule.minutes, schedule.next_run, schedule.repeats) == (7, later, 0)


def test_a_function_that_moved_is_found_again() -> None:
    synchronise()
    Schedule.objects.filter(name="EVENT_RETENTION").update(func="gone.away")
    synchronise()
    assert Schedule.objects.get(name="EVENT_RETENTION").func == "outbox.tasks.delete_old_events"


def test_a_schedule_that_is_there_twice_does_not_stop_a_migration() -> None:
    synchronise()
    Schedule.objects.create(name="EVENT_RETENTION", func="outbox.tasks.delete_old_events")
    synchronise()
