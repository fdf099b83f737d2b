import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from pytest_django.fixtures import Settings

from broadcast_project.acting import Acting, actor_of
from jobs.acting import (
    JOB,
    Actor,
    acted,
    acting,
    acting_as,
    address_behind,
    at_the_terminal,
    did,
    differences,
    short,
)
from jobs.execution import run_due
from jobs.models import Job, Run
from jobs.registry import periodic, periodic_jobs

EVE = Actor("page", 7, "eve", address="192.0.2.1")


@pytest.fixture
def told() -> Iterator[list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []

    def receive(**facts: Any) -> None:
        found.append(facts)

    acted.connect(receive)
    yield found
    acted.disconnect(receive)


def test_nobody_did_what_a_process_does_by_itself(told: list[dict[str, Any]]) -> None:
    did("group.made", Group(pk=1, name="readers"))
    assert acting() is None
    assert not told


@pytest.mark.django_db
def test_what_a_person_did_is_told_with_the_person(told: list[dict[str, Any]]) -> None:
    group = Group(pk=1, name="readers")
    with acting_as(EVE):
        did("group.made", group, why="because")
    assert acting() is None
    [facts] = told
    assert (facts["sender"], facts["actor"], facts["action"]) == (Group, EVE, "group.made")
    assert (facts["subject"], facts["detail"]) == (group, {"why": "because"})


def test_who_runs_a_command_is_the_person_at_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "root")
    assert at_the_terminal("demo") == Actor("command", name="root", via="demo")


def test_a_person_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", unknown)
    assert at_the_terminal("demo").name.startswith("uid ")


@pytest.mark.django_db(transaction=True)
def test_a_job_acts_under_its_name_and_run() -> None:
    found = []

    def run() -> int:
        """A job of a test."""
        found.append(acting())
        return 0

    periodic("TEST", every="1h")(run)
    Job.objects.get_or_create(name="TEST")
    run_due(periodic_jobs["TEST"])
    assert found == [Actor(JOB, name="TEST", via=f"run {Run.objects.get(job='TEST').pk}")]
    assert acting() is None


@pytest.mark.parametrize(
    ("path", "door"),
    [
        ("/admin/jobs/job/", "admin"),
        ("/api/admin/jobs", "api"),
        ("/api/user/sse/disconnect", "stream"),
        ("/login", "page"),
        ("/administrators", "page"),
    ],
)
def test_each_door_has_its_name(path: str, door: str) -> None:
    assert actor_of(RequestFactory().get(path)) == Actor(door, address="127.0.0.1")


@pytest.mark.parametrize("is_async", [False, True])
def test_who_asks_acts_while_it_is_answered(is_async: bool) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str(acting()))

    async def asynchronous(request: HttpRequest) -> HttpResponse:
        return await sync_to_async(view)(request)

    request = RequestFactory().get("/login")
    answered: Any = Acting(asynchronous if is_async else view)(request)
    response = asyncio.run(answered) if is_async else answered
    assert response.content.decode() == str(Actor("page", address="127.0.0.1"))
    assert acting() is None


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "198.51.100.7", "192.0.2.1"),
        (1, "", "192.0.2.1"),
        (1, "1.2.3.4, 198.51.100.7", "198.51.100.7"),
        (2, "1.2.3.4, 198.51.100.7, 10.0.0.1", "198.51.100.7"),
        (2, "198.51.100.7", "192.0.2.1"),
    ],
)
def test_the_address_is_what_trusted_proxies_saw(
    settings: Settings, proxies: int, forwarded: str, address: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    assert address_behind("192.0.2.1", forwarded) == address


@pytest.mark.django_db
def test_a_session_acts_as_its_person(client: Client, django_user_model: Any) -> None:
    user = django_user_model.objects.create_user("eve")
    client.force_login(user)
    response = client.get("/preferences", headers={"X-Forwarded-For": "198.51.100.7"})
    assert actor_of(response.wsgi_request) == Actor("page", user.pk, "eve", "", "127.0.0.1")


def test_differences_are_told_short() -> None:
    before = {"title": "Old", "content": "a" * 500, "targets": ["a"], "same": 1}
    after = {"title": "New", "content": "b", "targets": ["a", "b"], "same": 1}
    assert differences(before, after) == {
        "title": ["Old", "New"],
        "content": ["a" * 199 + "…", "b"],
        "targets": ["a", "a, b"],
    }
    assert short(None) is None
