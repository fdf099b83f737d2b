import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from deliveries.models import Delivery, Endpoint, State, Status
from deliveries.services import retry
from tests.deliveries.conftest import NewEndpoint, Send, deliver
from tests.deliveries.receiver import Server, answer
from tests.factories import operator

pytestmark = pytest.mark.django_db

ENDPOINTS = "/api/admin/endpoints"
DELIVERIES = "/api/admin/deliveries"
RETRIES = "/api/admin/retries"
NEW = {"name": "Shop", "url": "https://example.org/hook", "patterns": ["broadcast.*"]}
PERMISSIONS = [
    *(f"deliveries.{verb}_endpoint" for verb in ("view", "add", "change", "delete")),
    "deliveries.view_delivery",
    "deliveries.change_delivery",
    "deliveries.view_retry",
]


@pytest.fixture
def boss(client: Client) -> User:
    user = operator(*PERMISSIONS)
    client.force_login(user)
    return user


@pytest.fixture
def endpoint(new_endpoint: NewEndpoint) -> Endpoint:
    return new_endpoint("/hook")


def post(client: Client, address: str, **data: Any) -> Any:
    return client.post(address, data, content_type="application/json")


def finish() -> None:
    Delivery.objects.update(
        status=Status.DEAD, next_attempt_at=None, completed_at=timezone.now(), attempts=3
    )


@pytest.mark.usefixtures("boss")
def test_an_endpoint_is_made_shown_changed_and_deleted(client: Client) -> None:
    made = post(client, ENDPOINTS, **NEW)
    assert made.status_code == 201, made.content
    url = f"{ENDPOINTS}/{made.json()['id']}"
    assert made.json()["secret"].startswith("whsec_")
    shown = client.get(url).json()
    assert "secret" not in shown
    assert (shown["state"], shown["circuit"], shown["success_rate"]) == ("ACTIVE", "closed", None)
    changed = client.patch(url, {"patterns": ["*"], "state": "DISABLED"}, "application/json")
    assert (changed.json()["patterns"], changed.json()["state"]) == (["*"], "ACTIVE")
    Endpoint.objects.update(failures=3)
    client.patch(url, {"rate": 5}, "application/json")
    assert Endpoint.objects.get().failures == 3
    client.patch(url, {"url": "https://example.org/new"}, "application/json")
    assert Endpoint.objects.get().failures == 0
    assert client.delete(url).status_code == 204
    assert client.get(url).status_code == 404
    assert LogEntry.objects.count() == 5


@pytest.mark.usefixtures("boss")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "http://127.0.0.2/"),
        ("url", "file:///etc/passwd"),
        ("patterns", []),
        ("patterns", ["No!"]),
        ("patterns", "broadcast.*"),
        ("rate", 0),
    ],
)
def test_what_is_wrong_is_named(client: Client, field: str, value: object) -> None:
    response = post(client, ENDPOINTS, **NEW | {field: value})
    assert response.status_code == 400
    assert field in str(response.json()["fields"])
    assert not Endpoint.objects.exists()


@pytest.mark.usefixtures("boss")
def test_verbs_of_an_endpoint(client: Client, endpoint: Endpoint) -> None:
    url = f"{ENDPOINTS}/{endpoint.pk}"
    assert post(client, f"{url}/pause").json()["state"] == "PAUSED"
    again = post(client, f"{url}/pause")
    assert (again.status_code, again.json()["code"]) == (409, "invalid_transition")
    assert post(client, f"{url}/enable").json()["state"] == "ACTIVE"
    assert post(client, f"{url}/disable").json()["state"] == "DISABLED"
    secret = post(client, f"{url}/rotate-secret").json()["secret"]
    endpoint.refresh_from_db()
    assert endpoint.secrets[0]["value"] == secret
    tested = post(client, f"{url}/test")
    assert (tested.status_code, tested.json()["type"]) == (202, "webhook.test")
    assert LogEntry.objects.count() == 5


@pytest.mark.usefixtures("boss")
def test_deliveries_are_filtered(client: Client, endpoint: Endpoint) -> None:
    first, second = deliver(2)
    Delivery.objects.filter(pk=first.pk).update(
        status=Status.SUCCESS, next_attempt_at=None, created_at=timezone.now() - timedelta(days=1)
    )

    def found(**query: Any) -> list[int]:
        response = client.get(DELIVERIES, query)
        assert response.status_code == 200, response.content
        return [row["id"] for row in response.json()["results"]]

    assert found() == [second.pk, first.pk]
    assert found(status="SUCCESS") == [first.pk]
    assert found(status=["SUCCESS", "PENDING"], ordering="id") == [first.pk, second.pk]
    assert found(since=(timezone.now() - timedelta(hours=1)).isoformat()) == [second.pk]
    assert found(event_id=str(first.event_id)) == [first.pk]
    assert found(endpoint=endpoint.pk + 1) == []
    assert found(kind="DISCORD") == []


@pytest.mark.usefixtures("boss")
def test_one_delivery_has_each_attempt(
    client: Client, endpoint: Endpoint, send: Send, server: Server
) -> None:
    server.behaviours["/hook"] = answer(500, "out of order")
    (delivery,) = deliver()
    send()
    shown = client.get(f"{DELIVERIES}/{delivery.pk}").json()
    (attempt,) = shown["each_attempt"]
    assert (attempt["status"], attempt["response_body"]) == (500, "out of order")
    assert shown["body"] == delivery.body


@pytest.mark.usefixtures("boss")
def test_one_is_retried_and_what_is_on_its_way_is_not(client: Client, endpoint: Endpoint) -> None:
    (delivery,) = deliver()
    url = f"{DELIVERIES}/{delivery.pk}/retry"
    assert post(client, url).status_code == 409
    finish()
    assert post(client, url).status_code == 202
    assert Delivery.objects.get().status == Status.RETRYING


@pytest.mark.usefixtures("boss")
def test_everything_to_an_endpoint_since_a_moment_is_retried(
    client: Client, endpoint: Endpoint, new_endpoint: NewEndpoint
) -> None:
    new_endpoint("/other")
    deliver(3)
    finish()
    old = endpoint.deliveries.earliest("pk")
    Delivery.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=1))
    since = (timezone.now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    response = post(client, f"{DELIVERIES}/retry?endpoint={endpoint.pk}&since={since}")
    made = response.json()
    assert (made["count"], made["waiting"], made["delivered"]) == (2, 2, 0)
    assert made["what"] == f"endpoint={endpoint.pk}, since={since}"
    assert client.get(f"{RETRIES}/{made['id']}").json() == made
    assert client.get(RETRIES).json()["results"] == [made]
    again = post(client, f"{DELIVERIES}/retry?endpoint={endpoint.pk}&since={since}").json()
    assert (again["id"], again["count"]) == (None, 0)
    assert endpoint.deliveries.filter(status=Status.RETRYING).count() == 2
    assert Delivery.objects.filter(status=Status.RETRYING).count() == 2


@pytest.mark.usefixtures("boss")
@pytest.mark.parametrize("url", [ENDPOINTS, DELIVERIES, RETRIES])
def test_a_list_costs_the_same_for_2_and_for_20(
    client: Client, new_endpoint: NewEndpoint, url: str
) -> None:
    counts = []
    for more in (2, 18):
        for number in range(more):
            new_endpoint(f"/{number}")
            retried = Delivery.objects.filter(pk=deliver()[0].pk)
            finish()
            retry(retried, "one", "operator")
        with CaptureQueriesContext(connection) as queries:
            client.get(url)
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_who_may_only_look_gets_no_address_and_steers_nothing(
    client: Client, endpoint: Endpoint
) -> None:
    client.force_login(operator("deliveries.view_endpoint", "deliveries.view_delivery"))
    url = f"{ENDPOINTS}/{endpoint.pk}"
    assert "url" not in client.get(url).json()
    assert "url" not in client.get(ENDPOINTS).json()["results"][0]
    for verb in ("pause", "enable", "disable", "rotate-secret", "test"):
        assert post(client, f"{url}/{verb}").status_code == 403
    for denied in (post(client, ENDPOINTS, **NEW), client.delete(url)):
        assert denied.status_code == 403
    (delivery,) = deliver()
    assert post(client, f"{DELIVERIES}/{delivery.pk}/retry").status_code == 403
    assert post(client, f"{DELIVERIES}/retry").status_code == 403
    assert client.get(RETRIES).status_code == 403
    assert "/hook" not in client.get(f"{DELIVERIES}/{delivery.pk}").content.decode()
    assert Endpoint.objects.get().state == State.ACTIVE


def test_nobody_else_gets_in(client: Client) -> None:
    for url in (
        ENDPOINTS,
        DELIVERIES,
        RETRIES,
        f"{DELIVERIES}/1",
        f"{ENDPOINTS}/{uuid.uuid4().int % 100}",
    ):
        assert client.get(url).status_code == 401
