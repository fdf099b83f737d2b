import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import inf
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from jobs import registry
from jobs.execution import (
    JobBusy,
    claim,
    pause,
    release,
    resume,
    run_due,
    run_now,
    seconds_until_due,
    tick,
)
from jobs.leases import Fenced, fenced, held
from jobs.models import Job, Run, RunStatus
from jobs.registry import Misfire, Outcome, PeriodicJob, periodic, periodic_jobs
from tests.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)

Declare = Callable[..., PeriodicJob]

# This moment lies in the middle of a slot, of some twenty days: none begins while a test runs.
SLOT = timedelta(seconds=int(time.time() / 1_000.5))
EVERY = f"{SLOT.total_seconds():.0f}s"
NOT_SOON = "0 0 29 2 *"


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Declare]:
    """A job of this test alone."""
    monkeypatch.setattr(registry, "periodic_jobs", periodic_jobs)

    def job(run: Callable[[], Any] = lambda: 1, **options: Any) -> PeriodicJob:
        run.__doc__ = "A job of a test."
        periodic("TEST", **{"every": EVERY} | options)(run)
        Job.objects.get_or_create(name="TEST")
        return periodic_jobs["TEST"]

    yield job
    periodic_jobs.pop("TEST", None)


def move_last_slot(slots: int) -> None:
    Job.objects.filter(name="TEST").update(last_slot=F("last_slot") - slots * SLOT)


def free() -> None:
    Job.objects.filter(name="TEST").update(until=None)


def statuses() -> list[str]:
    return list(Run.objects.filter(job="TEST").order_by("slot").values_list("status", flat=True))


def test_a_job_runs_once_at_start_and_not_again_in_its_slot(declare: Declare) -> None:
    job = declare()
    first = run_due(job)
    assert first
    assert (first.status, first.items) == (RunStatus.SUCCEEDED, 1)
    assert run_due(job) is None


def test_a_cron_job_waits_for_its_first_moment(declare: Declare) -> None:
    assert run_due(declare(every=NOT_SOON)) is None


def test_at_least_keeps_a_second_run_away(declare: Declare) -> None:
    job = declare(every="1s", at_least="1h")
    run_due(job)
    Run.objects.all().delete()
    move_last_slot(1)
    assert run_due(job) is None
    free()
    assert run_due(job)


def test_slots_that_nobody_ran_are_recorded_and_covered_by_one_run(declare: Declare) -> None:
    job = declare()
    run_due(job)
    Run.objects.all().delete()
    move_last_slot(3)
    run_due(job)
    assert statuses() == ["MISSED", "MISSED", "SUCCEEDED"]
    assert all(run.reason for run in Run.objects.filter(status=RunStatus.MISSED))


def test_a_job_may_run_each_slot_that_was_missed(declare: Declare) -> None:
    job = declare(misfire=Misfire.RUN_EACH)
    run_due(job)
    Run.objects.all().delete()
    move_last_slot(3)
    assert [bool(run_due(job)) for _ in range(4)] == [True, True, True, False]
    assert statuses() == ["SUCCEEDED"] * 3


def test_what_a_job_raises_is_recorded_with_its_traceback(declare: Declare) -> None:
    def fails() -> int:
        raise ValueError("a bug")

    run = run_due(declare(fails))
    assert run
    assert (run.status, run.error) == (RunStatus.FAILED, "ValueError: a bug")
    assert "in fails" in run.traceback


def test_an_outcome_tells_of_items_that_failed(declare: Declare) -> None:
    run = run_due(declare(lambda: Outcome(items=5, failed=2, skipped=1, note="two were gone")))
    assert run
    assert (run.items, run.failed_items, run.skipped_items) == (5, 2, 1)
    assert run.reason == "two were gone"


def test_a_paused_job_runs_only_when_asked(declare: Declare) -> None:
    job = declare()
    pause("TEST")
    assert run_due(job) is None
    run_now("TEST")
    assert run_due(job)
    assert run_due(job) is None
    resume("TEST")
    free()
    assert run_due(job)


def test_what_is_asked_for_does_not_wait_for_at_least(declare: Declare) -> None:
    job = declare(every="60s", at_least="55s")
    assert run_due(job)
    assert run_due(job) is None
    run_now("TEST")
    assert run_due(job)
    until = Job.objects.get(name="TEST").until
    assert until
    assert until <= timezone.now()  # nor does it keep the next slot away


def test_a_job_that_may_not_run_is_not_waited_for(declare: Declare) -> None:
    job = declare(every="1s")
    assert claim(job)
    run_now("TEST")
    assert seconds_until_due(job) > 0  # somebody else has it
    Job.objects.filter(name="TEST").update(requested_at=None, until=None, holder="")
    pause("TEST")
    assert seconds_until_due(job) == inf


@contextmanager
def locked() -> Iterator[None]:
    """The job's row, by a transaction elsewhere."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            list(Job.objects.select_for_update().filter(name="TEST"))
            held.set()
            done.wait(PATIENCE)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(PATIENCE)
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_holder_that_froze_while_it_wrote_keeps_nobody_waiting(declare: Declare) -> None:
    """Neither workers nor operators."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one lock for all, and no rows to pass over")
    job = declare()
    with locked():
        assert run_due(job) is None
        for steer in (pause, run_now, release):
            with pytest.raises(JobBusy, match="try again in a minute"):
                steer("TEST")
        resume("TEST")  # it is not paused: there is nothing to wait for
    assert run_due(job)
    pause("TEST")
    with locked(), pytest.raises(JobBusy, match="try again in a minute"):
        resume("TEST")


def test_a_job_switched_off_by_the_environment_does_not_run(declare: Declare) -> None:
    declare()
    registry.override("TEST", enabled=False)
    assert run_due(periodic_jobs["TEST"]) is None


def test_a_lease_that_is_held_refuses_others(declare: Declare) -> None:
    job = declare()
    assert claim(job)
    run_now("TEST")
    assert claim(job) is None


def test_a_holder_that_died_is_followed_when_its_lease_is_over(declare: Declare) -> None:
    job = declare()
    dead = claim(job)
    assert dead
    Job.objects.filter(name="TEST").update(until=timezone.now() - timedelta(seconds=1))
    run_now("TEST")
    alive = claim(job)
    assert alive
    assert alive.token == dead.token + 1
    assert statuses() == ["LOST", "RUNNING"]


def test_what_a_holder_writes_after_it_was_taken_over_is_refused(declare: Declare) -> None:
    job = declare()
    lease = claim(job)
    assert lease
    with held(lease):
        with fenced():
            pass
        release("TEST")
        with pytest.raises(Fenced), fenced():
            pytest.fail("it must not come to this")


def test_a_run_that_was_taken_over_records_nothing(declare: Declare) -> None:
    def is_released() -> int:
        release("TEST")
        return 99

    run = run_due(declare(is_released))
    assert run
    assert (run.status, run.items) == (RunStatus.LOST, 0)
    assert "operator" in run.reason


def test_a_living_holder_renews_its_lease(
    declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    untils: list[Any] = []

    def looks_twice() -> int:
        untils.append(Job.objects.get(name="TEST").until)
        while (until := Job.objects.get(name="TEST").until) == untils[0]:
            pass
        untils.append(until)
        return 1

    run_due(declare(looks_twice, at_most="300ms"))
    assert untils[1] > untils[0]


def test_a_slot_cannot_be_claimed_twice_even_when_the_row_is_set_back(declare: Declare) -> None:
    job = declare()
    run_due(job)
    Job.objects.filter(name="TEST").update(last_slot=None, until=None)
    assert run_due(job) is None
    assert statuses() == ["SUCCEEDED"]


def test_the_next_slot_is_awaited(declare: Declare) -> None:
    job = declare()
    run_due(job)
    assert 0 < seconds_until_due(job) <= SLOT.total_seconds()
    run_now("TEST")
    assert seconds_until_due(job) == 0


def test_django_q2_ticks_by_name_and_an_old_name_harms_nobody(declare: Declare) -> None:
    declare()
    assert tick("TEST") == "SUCCEEDED, 1 items"
    assert tick("TEST") == "nothing due"
    assert "no job" in tick("GONE")
