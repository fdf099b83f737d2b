from http import HTTPStatus

import httpx
import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from operations.audit.models import AuditEntry
from operations.debezium import steering
from operations.debezium.models import Connector
from operations.debezium.tasks import check_connectors
from tests.factories import operator
from tests.operations.debezium.fakes import TRACE, WORKER, FakeConnect

pytestmark = pytest.mark.django_db

API = "/api/admin/connectors"
CONNECT = "/api/admin/connect"
VERBS = {"restart": "restarted", "pause": "paused"}
VIEW, STEER = "operations.view_connector", "operations.steer_connector"


@pytest.fixture
def boss(client: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(steering, "WATCHED", 0)
    client.force_login(operator(VIEW, STEER))
    return client


@pytest.fixture
def orders(fake: FakeConnect) -> FakeConnect:
    fake.has("orders", "RUNNING", "RUNNING", "FAILED")
    fake.has("stock")
    check_connectors()
    return fake


def test_the_list_has_connectors_with_their_tasks(boss: Client, orders: FakeConnect) -> None:
    first, second = boss.get(API).json()["results"]
    assert (first["name"], first["state"], first["worker_id"]) == ("orders", "RUNNING", WORKER)
    assert [task["state"] for task in first["tasks"]] == ["RUNNING", "FAILED"]
    assert "Task 1 failed" in first["problem"]
    assert second["problem"] == ""
    assert "trace" not in first


def test_the_list_is_filtered(boss: Client, orders: FakeConnect) -> None:
    def names(**query: str) -> list[str]:
        return [one["name"] for one in boss.get(API, query).json()["results"]]

    assert names(has_problem="true") == ["orders"]
    assert names(has_problem="false") == ["stock"]
    assert names(state="PAUSED") == []
    assert names(declared="false") == ["orders", "stock"]
    assert names(ordering="-name") == ["stock", "orders"]
    assert boss.get(API, {"state": "ASLEEP"}).status_code == HTTPStatus.BAD_REQUEST


def test_one_comes_with_traces_and_its_last_changes(boss: Client, orders: FakeConnect) -> None:
    body = boss.get(f"{API}/orders").json()
    assert body["tasks"][1]["trace"] == TRACE
    assert body["changes"][0]["what"] == "Restarted: 1 of 5"
    assert boss.get(f"{API}/nobody").status_code == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("verb", ["restart", "pause"])
def test_it_is_steered(boss: Client, orders: FakeConnect, verb: str) -> None:
    Connector.objects.update(restarted_at=None)
    response = boss.post(f"{API}/stock/{verb}")
    assert (response.status_code, response.json()["name"]) == (HTTPStatus.OK, "stock")
    assert orders.asked(f"/connectors/stock/{verb}")
    assert LogEntry.objects.count() == 1
    [entry] = AuditEntry.objects.all()
    assert (entry.action, entry.subject) == (f"connector.{VERBS[verb]}", "stock")
    assert (entry.person, entry.door) == (str(LogEntry.objects.get().user), "api")


@pytest.mark.parametrize("verb", ["restart", "pause"])
def test_what_connect_took_is_no_503_when_it_is_away_afterwards(
    boss: Client, orders: FakeConnect, verb: str
) -> None:
    Connector.objects.update(restarted_at=None)
    orders.leaves_after = f"/connectors/stock/{verb}"
    response = boss.post(f"{API}/stock/{verb}")
    assert (response.status_code, response.json()["state"]) == (HTTPStatus.OK, "RUNNING")
    assert orders.away


def test_what_its_state_does_not_allow_is_a_conflict(boss: Client, orders: FakeConnect) -> None:
    refused = boss.post(f"{API}/stock/resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_transition")
    boss.post(f"{API}/stock/restart")
    again = boss.post(f"{API}/stock/restart")
    assert (again.status_code, "just now" in again.json()["message"]) == (409, True)


def test_a_connect_that_settles_who_does_what_is_a_503(boss: Client, orders: FakeConnect) -> None:
    orders.answers["PUT"] = httpx.Response(HTTPStatus.CONFLICT)
    response = boss.post(f"{API}/stock/pause")
    assert (response.status_code, response.json()["code"]) == (503, "connect_unavailable")
    assert response["Retry-After"]


def test_one_that_left_connect_is_a_404(boss: Client, orders: FakeConnect) -> None:
    orders.answers["PUT"] = httpx.Response(HTTPStatus.NOT_FOUND, json={"message": "Unknown stock"})
    response = boss.post(f"{API}/stock/pause")
    assert (response.status_code, response.json()["message"]) == (404, "Unknown stock")


def test_an_unreachable_connect_is_a_503_and_told(boss: Client, orders: FakeConnect) -> None:
    assert boss.get(CONNECT).json()["reachable"] is True
    orders.away = True
    response = boss.post(f"{API}/stock/pause")
    assert (response.status_code, response.json()["code"]) == (503, "connect_unavailable")
    check_connectors()
    body = boss.get(CONNECT).json()
    assert (body["reachable"], "cannot be reached" in body["error"]) == (False, True)


def test_a_connect_that_was_never_asked_is_unknown(boss: Client, settings: Settings) -> None:
    settings.DEBEZIUM_URL = ""
    body = boss.get(CONNECT).json()
    assert (body["watched"], body["reachable"]) == (False, None)


def test_who_may_not_is_refused(client: Client, orders: FakeConnect) -> None:
    paths = [API, f"{API}/orders", CONNECT]
    for path in paths:
        assert client.get(path).status_code == HTTPStatus.UNAUTHORIZED
    client.force_login(operator())
    for path in paths:
        assert client.get(path).status_code == HTTPStatus.FORBIDDEN
    client.force_login(operator(VIEW))
    for verb in ("restart", "pause", "resume"):
        assert client.post(f"{API}/orders/{verb}").status_code == HTTPStatus.FORBIDDEN


def test_the_list_costs_the_same_for_2_connectors_and_for_20(
    boss: Client, orders: FakeConnect
) -> None:
    counts = []
    for number in (2, 20):
        for n in range(number):
            orders.has(f"orders-{n}", "RUNNING", "RUNNING", "FAILED")
        check_connectors()
        boss.get(API)
        with CaptureQueriesContext(connection) as queries:
            boss.get(API)
        counts.append(len(queries))
    assert counts[0] == counts[1]
