from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.models import Job, Run, RunStatus
from jobs.registry import periodic, periodic_jobs
from outbox.relay import Relay
from outbox.services import emit
from tests.factories import operator

pytestmark = pytest.mark.django_db

API = "/api/admin/jobs"
WORKERS = "/api/admin/workers"
NAME = "SWEEP_FOR_TESTS"


@pytest.fixture(autouse=True)
def sweep(monkeypatch: pytest.MonkeyPatch) -> Job:
    for name in list(periodic_jobs):
        monkeypatch.delitem(periodic_jobs, name)

    @periodic(NAME, every="1h", backlog=lambda: 5)
    def run() -> int:
        """Sweep."""
        return 7

    return Job.objects.create(name=NAME)


@pytest.fixture
def boss(client: Client) -> User:
    user = operator("jobs.view_job", "jobs.steer_job")
    client.force_login(user)
    return user


def run_of(job: Job, hours: float = 0, status: str = RunStatus.SUCCEEDED) -> Run:
    at = timezone.now() - timedelta(hours=hours)
    end = at + timedelta(seconds=2)
    return Run.objects.create(
        job=job, slot=at, started_at=at, finished_at=end, status=status, items=7
    )


def test_the_list_says_what_the_console_shows(client: Client, boss: User, sweep: Job) -> None:
    run_of(sweep, 9)
    Job.objects.update(last_slot=timezone.now() - timedelta(hours=9))
    [job] = client.get(API).json()["results"]
    assert (job["name"], job["description"], job["every"]) == (NAME, "Sweep.", "1h")
    assert (job["state"], job["items"], job["backlog"]) == ("overdue", 7, 5)
    assert job["overdue_seconds"] > 7 * 3600
    assert (job["durations"], job["error_rate"], job["last_status"]) == ([2.0], 0.0, "SUCCEEDED")


def test_the_list_is_filtered_by_state(client: Client, boss: User) -> None:
    assert client.get(API, {"state": "waiting"}).json()["count"] == 1
    assert client.get(API, {"state": "running"}).json()["count"] == 0
    refused = client.get(API, {"state": "asleep"})
    assert (refused.status_code, list(refused.json()["fields"])) == (400, ["state"])


def test_one_job_comes_with_its_last_runs(client: Client, boss: User, sweep: Job) -> None:
    runs = [run_of(sweep, hours) for hours in range(22)]
    body = client.get(f"{API}/{NAME}").json()
    assert [run["id"] for run in body["runs"]] == [run.pk for run in runs[:20]]
    assert body["runs"][0]["duration_seconds"] == 2.0
    assert "traceback" not in body["runs"][0]


def test_the_list_costs_the_same_for_2_runs_and_for_20(
    client: Client, boss: User, sweep: Job
) -> None:
    counts = []
    for first in (0, 2):
        for hours in range(first, first + 18 if first else 2):
            run_of(sweep, hours)
        with CaptureQueriesContext(connection) as queries:
            client.get(API)
        counts.append(len(queries))
    assert counts == [6, 6]  # session, user, two for permissions, jobs, runs


def test_a_job_is_steered(client: Client, boss: User, sweep: Job) -> None:
    asked = client.post(f"{API}/{NAME}/run")
    assert (asked.status_code, asked.json()["name"]) == (202, NAME)
    sweep.refresh_from_db()
    assert sweep.requested_at
    assert client.post(f"{API}/{NAME}/pause").json()["state"] == "paused"
    assert client.post(f"{API}/{NAME}/resume").json()["state"] == "waiting"
    notes = LogEntry.objects.filter(user=boss, object_id=NAME).order_by("id")
    assert [entry.change_message for entry in notes] == ["Run now", "Paused", "Resumed"]


def test_a_lease_is_released(client: Client, boss: User, sweep: Job) -> None:
    now = timezone.now()
    Job.objects.update(holder="n:1", since=now, until=now + timedelta(minutes=5))
    run_of(sweep, status=RunStatus.RUNNING)
    assert client.get(f"{API}/{NAME}").json()["state"] == "running"
    assert client.post(f"{API}/{NAME}/release").json()["holder"] == ""
    assert Run.objects.get().status == RunStatus.LOST


def test_a_run_that_is_asked_for_and_one_under_way_say_so(
    client: Client, boss: User, sweep: Job
) -> None:
    assert client.post(f"{API}/{NAME}/run").json()["requested_at"]
    now = timezone.now()
    Job.objects.update(holder="n:1", since=now, until=now + timedelta(minutes=5))
    run_of(sweep, status=RunStatus.RUNNING)
    assert client.get(f"{API}/{NAME}").json()["items_so_far"] == 7


def test_the_workers_say_who_leads_and_what_waits(client: Client, boss: User) -> None:
    def relay() -> dict[str, Any]:
        named = {worker["name"]: worker for worker in client.get(WORKERS).json()}
        assert named["OUTBOX_RELAY"]["description"] == "Publish the outbox to the event log."
        found: dict[str, Any] = named["OUTBOX_RELAY"]["standing"]
        return found

    emit("link.expired", key="link-1", data={})
    assert relay() == {"pending": 1, "leader": "", "since": None}
    leader = Relay()
    assert leader.lead()
    assert relay()["leader"] == leader.holder


REQUESTS = [
    ("jobs.view_job", "get", API),
    ("jobs.view_job", "get", WORKERS),
    ("jobs.view_job", "get", f"{API}/{NAME}"),
    *[
        ("jobs.steer_job", "post", f"{API}/{NAME}/{v}")
        for v in ("run", "pause", "resume", "release")
    ],
]


@pytest.mark.parametrize(("needed", "method", "path"), REQUESTS)
def test_each_request_needs_its_own_permission(
    client: Client, needed: str, method: str, path: str
) -> None:
    assert getattr(client, method)(path).status_code == 401
    [other] = {"jobs.view_job", "jobs.steer_job"} - {needed}
    client.force_login(operator(other))
    assert getattr(client, method)(path).status_code == 403
    client.force_login(operator(needed))
    assert getattr(client, method)(path).status_code in {200, 202}


@pytest.mark.parametrize(("method", "path"), [(m, path) for _, m, path in REQUESTS if NAME in path])
def test_an_unknown_job_is_not_found(client: Client, boss: User, method: str, path: str) -> None:
    Job.objects.create(name="NO_LONGER_IN_THE_CODE")
    for name in ("NOBODY", "NO_LONGER_IN_THE_CODE"):
        response = getattr(client, method)(path.replace(NAME, name))
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
