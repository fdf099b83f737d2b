"""What a run says of its progress while it runs, and what `run_job` makes of it."""

import os
import pty
import re
import select
import signal
import termios
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from jobs import leases
from jobs.execution import release, run_due
from jobs.models import Job, Run, RunStatus
from jobs.progress import advance, expect, track
from jobs.registry import Outcome, PeriodicJob, periodic, periodic_jobs
from tests.conftest import Spawn
from tests.live import database_of
from tests.processes import Environment
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "TEST_PROGRESS"


@pytest.fixture(autouse=True)
def handler_of_sigterm() -> Any:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def declare(run: Callable[[], int | Outcome]) -> PeriodicJob:
    run.__doc__ = "A job of a test."
    periodic(NAME, every="1h")(run)
    Job.objects.create(name=NAME)
    return periodic_jobs[NAME]


def run_job() -> str:
    out = StringIO()
    call_command("run_job", NAME, stdout=out)
    return out.getvalue()


def test_outside_of_a_run_nobody_listens() -> None:
    expect(2)
    advance()
    assert list(track("ab")) == ["a", "b"]


def test_a_run_shows_how_far_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "WRITTEN_EVERY", 0.01)
    shown = [0]

    def more() -> int:
        items = Run.objects.get().items
        return items if items > shown[-1] else 0

    def work() -> int:
        for count in (30, 40):
            advance(count)
            shown.append(wait_until(more))
        return 70

    run = run_due(declare(work))
    assert run
    assert shown == [0, 30, 70]
    assert run.items == 70


def test_a_run_that_was_taken_over_shows_no_more_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "WRITTEN_EVERY", 0.01)

    def work() -> int:
        lease = leases.current_lease()
        assert lease
        release(NAME)
        advance(5)
        wait_until(lambda: lease.written == 5)
        return 5

    run = run_due(declare(work))
    assert run
    assert (run.status, run.items) == (RunStatus.LOST, 0)


def test_what_was_done_before_a_failure_is_counted() -> None:
    def fails() -> int:
        advance(3)
        raise ValueError("a bug")

    run = run_due(declare(fails))
    assert run
    assert (run.status, run.items) == (RunStatus.FAILED, 3)


def test_the_command_says_what_was_done_and_draws_no_bar_into_a_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    declare(lambda: sum(track([1, 2])))
    assert re.match(rf"{NAME}: 3 items in \d:\d\d:\d\d", run_job())
    assert capsys.readouterr().err == ""


def test_the_command_says_what_a_run_said_of_itself() -> None:
    declare(lambda: Outcome(items=2, failed=1, note="No credentials: set them."))
    said = run_job()
    assert said.startswith(f"{NAME}: 2 items, 1 failed in ")
    assert said.endswith("\nNo credentials: set them.\n")


def all_of(terminal: int) -> str:
    """What is there; it comes in pieces."""
    shown = b""
    while select.select([terminal], [], [], 0.5)[0]:
        shown += os.read(terminal, 10_000)
    return shown.decode()


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    declare(lambda: len(list(track(range(7)))))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        run_job()
        shown = all_of(ours)
    os.close(ours)
    assert f"{NAME}: 100%" in shown
    assert "7/7" in shown
    assert "items/s" in shown


def test_the_command_says_why_a_run_failed() -> None:
    def fails() -> int:
        raise ValueError("a bug")

    declare(fails)
    with pytest.raises(CommandError, match="failed: ValueError: a bug"):
        run_job()


def test_a_job_that_is_held_is_left_to_its_holder() -> None:
    def again() -> int:
        with pytest.raises(CommandError, match="is held by"):
            run_job()
        return 1

    assert run_due(declare(again))


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_gives_its_lease_back_and_is_recorded(
    spawn: Spawn, live_database: Environment, number: signal.Signals
) -> None:
    env = live_database | {"DJANGO_SETTINGS_MODULE": "tests.cluster.settings"}
    command = spawn(["run_job", "TEST_FREEZE"], env)
    begun = Path(env["VAR_DIR"]) / "begun"
    wait_until(lambda: begun.exists() and begun.read_text(), message="the run has begun")
    command.send(number)
    assert command.wait() == 130
    assert "TEST_FREEZE was interrupted" in command.output()
    assert "Traceback" not in command.output()
    with database_of(env):
        run, job = Run.objects.get(job="TEST_FREEZE"), Job.objects.get(name="TEST_FREEZE")
    assert (run.status, run.reason) == (RunStatus.FAILED, "interrupted")
    assert "freeze" in run.traceback
    assert job.holder == ""
