import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from jobs import execution
from jobs.board import Row, distance, sparkline
from jobs.console import state_of
from jobs.models import Job, Run, RunStatus
from jobs.registry import periodic, periodic_jobs
from tests.factories import operator

pytestmark = pytest.mark.django_db

JOBS = "/admin/jobs/job/"
RUNS = "/admin/jobs/run/"
NAME = "SWEEP_FOR_TESTS"


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job each hour, alone on the page."""
    for name in list(periodic_jobs):
        monkeypatch.delitem(periodic_jobs, name)

    @periodic(NAME, every="1h", at_most="5m", backlog=lambda: 1234)
    def run() -> int:
        """Sweep what fell below the table."""
        return 7

    return Job.objects.create(name=NAME)


@pytest.fixture
def console(client: Client) -> Client:
    client.force_login(operator("jobs.view_job", "jobs.steer_job", "jobs.view_run"))
    return client


def ran(job: Job, ago: timedelta, status: str = RunStatus.SUCCEEDED, **fields: Any) -> Run:
    at = timezone.now() - ago
    ended = {"finished_at": at + timedelta(seconds=2)} if status != RunStatus.RUNNING else {}
    known = {"job": job, "slot": at, "status": status, "node": "n:1", "started_at": at} | ended
    return Run.objects.create(**known | fields)


def hold(job: Job, until: datetime) -> None:
    now = timezone.now()
    Job.objects.filter(pk=job.pk).update(holder="n:1", since=now, until=until, last_slot=now)


def page(client: Client) -> str:
    response = client.get(JOBS)
    assert response.status_code == 200
    return response.text


def test_a_job_says_what_it_does_when_and_what_waits(console: Client, sweep: Job) -> None:
    html = page(console)
    assert "Sweep what fell below the table." in html
    assert "every 1h" in html
    assert "1,234" in html
    assert "never" in html


def test_the_last_run_is_told_with_its_outcome(console: Client, sweep: Job) -> None:
    ran(sweep, timedelta(minutes=9), items=1)
    ran(sweep, timedelta(minutes=5), RunStatus.FAILED, error="OSError: no broom")
    html = page(console)
    assert "5 min ago" in html
    assert "Failed · 2.0 s" in html
    assert "OSError: no broom" in html
    assert "50 %" in html
    assert "1 in a row" in html
    assert "<polyline" in html


def running(job: Job) -> None:
    ran(job, timedelta(seconds=30), RunStatus.RUNNING)
    hold(job, timezone.now() + timedelta(minutes=5))


def died(job: Job) -> None:
    ran(job, timedelta(hours=9), RunStatus.RUNNING)
    hold(job, timezone.now() - timedelta(hours=8))
    Job.objects.update(last_slot=timezone.now() - timedelta(hours=9))


def failing(job: Job) -> None:
    ran(job, timedelta(minutes=1), RunStatus.FAILED)
    Job.objects.update(last_slot=timezone.now())


def paused(job: Job) -> None:
    execution.pause(job.name)


def overdue(job: Job) -> None:
    Job.objects.update(last_slot=timezone.now() - timedelta(hours=9))


@pytest.mark.parametrize(
    ("happens", "label"),
    [
        (running, "Running"),
        (died, "Overdue"),
        (failing, "Failing"),
        (paused, "Paused"),
        (overdue, "Overdue"),
        (lambda job: None, "Waiting"),
    ],
)
def test_the_state_is_labelled(
    console: Client, sweep: Job, happens: Callable[[Job], None], label: str
) -> None:
    happens(sweep)
    [row] = console.get(JOBS).context["board"].rows
    assert row.label == label


def test_a_run_under_way_says_how_far_it_has_come(console: Client, sweep: Job) -> None:
    running(sweep)
    Run.objects.update(items=15_000)
    assert "15,000 items" in page(console)


def test_a_run_that_is_asked_for_is_not_late(console: Client, sweep: Job) -> None:
    execution.run_now(NAME)
    [row] = console.get(JOBS).context["board"].rows
    assert re.fullmatch(r"asked for \d+ s ago", row.next_run)


def test_a_paused_job_that_failed_says_both(console: Client, sweep: Job) -> None:
    failing(sweep)
    paused(sweep)
    [row] = console.get(JOBS).context["board"].rows
    assert [row.label, *(text for text, _variant in row.also)] == ["Paused", "Failing"]


def test_the_page_refreshes_from_its_own_fragment(console: Client, sweep: Job) -> None:
    assert f'data-live="{JOBS}board/"' in page(console)
    fragment = console.get(f"{JOBS}board/").text
    assert f'data-part="{NAME}"' in fragment
    assert "<html" not in fragment
    assert "csrf" not in fragment  # it differs each time, and all would seem changed


def steer(client: Client, verb: str, name: str = NAME, **data: str) -> int:
    return client.post(f"{JOBS}{name}/{verb}/", data).status_code


def test_steering_is_done_and_noted(console: Client, sweep: Job) -> None:
    assert steer(console, "pause") == 302
    sweep.refresh_from_db()
    assert sweep.paused_at
    assert steer(console, "run_now") == 302
    sweep.refresh_from_db()
    assert sweep.requested_at
    assert steer(console, "resume") == 302
    sweep.refresh_from_db()
    assert not sweep.paused_at
    notes = LogEntry.objects.filter(object_id=NAME).order_by("id")
    assert [entry.change_message for entry in notes] == ["Paused", "Run now", "Resumed"]


def test_a_lease_is_released_after_a_question(console: Client, sweep: Job) -> None:
    running(sweep)
    assert steer(console, "release") == 200
    sweep.refresh_from_db()
    assert sweep.holder == "n:1"
    assert steer(console, "release", confirmed="yes") == 302
    sweep.refresh_from_db()
    assert (sweep.holder, sweep.token) == ("", 1)
    assert sweep.runs.get().status == RunStatus.LOST


@pytest.mark.parametrize("verb", ["run_now", "pause", "resume", "release"])
def test_steering_needs_post_a_known_job_and_the_permission(
    console: Client, sweep: Job, client: Client, verb: str
) -> None:
    assert console.get(f"{JOBS}{NAME}/{verb}/").status_code == 405
    assert steer(console, verb, "UNKNOWN") == 404
    client.force_login(operator("jobs.view_job"))
    assert f"/{verb}/" not in page(client)
    assert steer(client, verb) == 403
    assert not LogEntry.objects.exists()


def test_the_page_needs_a_permission(client: Client, sweep: Job) -> None:
    client.force_login(operator("jobs.view_run"))
    assert client.get(JOBS).status_code == 403
    assert client.get(f"{JOBS}board/").status_code == 403


def test_the_page_costs_the_same_with_2_runs_and_with_40(console: Client, sweep: Job) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            page(console)
        return len(queries)

    ran(sweep, timedelta(hours=90))
    ran(sweep, timedelta(hours=91))
    page(console)
    few = cost()
    for hours in range(38):
        ran(sweep, timedelta(hours=hours))
    assert cost() == few
    assert few < 20  # one for each backlog among them


def found(client: Client, query: str) -> list[Run]:
    response = client.get(f"{RUNS}?{query}")
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


def test_runs_are_filtered_and_searched(console: Client, sweep: Job) -> None:
    other = Job.objects.create(name="OTHER")
    good = ran(sweep, timedelta(minutes=1))
    bad = ran(sweep, timedelta(days=3), RunStatus.FAILED, error="no broom", node="m:2")
    elsewhere = ran(other, timedelta(minutes=2))
    day = timezone.localtime(bad.slot).date()
    assert found(console, "") == [good, elsewhere, bad]
    assert found(console, f"job__name__exact={NAME}") == [good, bad]
    assert found(console, "status__exact=FAILED") == [bad]
    assert found(console, "node=m:2") == [bad]
    assert found(console, "q=broom") == [bad]
    assert found(console, f"slot_from_0={day}&slot_to_0={day}") == [bad]
    exactly = f"{timezone.localtime(good.slot):%Y-%m-%d&slot_from_1=%H:%M:%S}"
    assert found(console, f"slot_from_0={exactly}") == [good]
    assert found(console, "slot_from_0=2026-99-99&slot_to_0=soon") == [good, elsewhere, bad]


def test_a_run_shows_its_traceback_and_cannot_be_changed(console: Client, sweep: Job) -> None:
    run = ran(sweep, timedelta(0), RunStatus.FAILED, traceback="Traceback: <here>")
    assert "Traceback: &lt;here&gt;" in console.get(f"{RUNS}{run.pk}/change/").text
    assert console.post(f"{RUNS}{run.pk}/change/", {"items": 9}).status_code == 403
    assert console.post(f"{RUNS}{run.pk}/delete/", {"post": "yes"}).status_code == 403
    assert console.get(f"{RUNS}add/").status_code == 403


def test_the_sidebar_leads_to_what_may_be_seen(client: Client, sweep: Job) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    html = page(client)
    assert all(f'href="{path}"' in html for path in (JOBS, RUNS, "/admin/operations/alert/"))
    client.force_login(operator("jobs.view_job"))
    assert f'href="{RUNS}"' not in page(client)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (119.9, "119 s"), (120, "2 min"), (7200, "2 h"), (2e5, "2 d")],
)
def test_a_distance_is_told_in_whole_units(seconds: float, text: str) -> None:
    assert distance(timedelta(seconds=seconds)) == text


def test_a_sparkline_needs_two_points() -> None:
    assert sparkline([1.0]) == ""
    assert 'points="2.0,22.0 94.0,2.0"' in sparkline([0.0, 3.0])


def test_a_job_that_waits_for_its_setting_names_it(settings: Settings) -> None:
    settings.DEBEZIUM_URL = ""
    Job.objects.get_or_create(name="DEBEZIUM_HEALTH_CHECK")
    state = state_of("DEBEZIUM_HEALTH_CHECK")
    assert state
    assert Row(state, timezone.now()).detail == "until DEBEZIUM_URL is set"
