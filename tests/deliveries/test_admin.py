import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from deliveries.models import Attempt, Delivery, Endpoint, Kind, Retry, State, Status
from deliveries.services import delete_endpoint, give_up, retry
from operations.models import Alert
from tests.deliveries.conftest import NewEndpoint, Send, deliver
from tests.deliveries.receiver import Server, answer
from tests.factories import operator

pytestmark = pytest.mark.django_db

ENDPOINTS = "/admin/deliveries/endpoint/"
DELIVERIES = "/admin/deliveries/delivery/"
RETRIES = "/admin/deliveries/retry/"
YES = {"confirmed": "yes"}
OWN = {"change", "delete", "history"}  # of Django's admin


@pytest.fixture
def console(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator", password="x"))
    return client


@pytest.fixture
def endpoint(new_endpoint: NewEndpoint) -> Endpoint:
    return new_endpoint("/hook")


def finish(status: Status = Status.DEAD) -> None:
    Delivery.objects.update(
        status=status, next_attempt_at=None, completed_at=timezone.now(), attempts=3
    )


def page(client: Client, url: str, **query: Any) -> str:
    response = client.get(url, query)
    assert response.status_code == 200
    return response.content.decode()


def steer(client: Client, endpoint: Endpoint, verb: str, **data: str) -> str:
    url = f"{ENDPOINTS}{endpoint.pk}/{verb}/"
    assert client.get(url).status_code == 200, "it asks first"
    response = client.post(url, YES | data, follow=True)
    assert response.status_code == 200
    endpoint.refresh_from_db()
    return response.content.decode()


def test_an_endpoint_is_made_with_patterns_in_one_line(console: Client) -> None:
    form = {"name": "Shop", "kind": "WEBHOOK", "url": "https://example.org/hook", "rate": ""}
    response = console.post(f"{ENDPOINTS}add/", form | {"patterns": "broadcast.*, link.expired"})
    assert response.status_code == 302, response.content.decode()
    endpoint = Endpoint.objects.get()
    assert endpoint.patterns == ["broadcast.*", "link.expired"]
    assert endpoint.secrets[0]["value"].startswith("whsec_")
    assert "broadcast.*, link.expired" in page(console, f"{ENDPOINTS}{endpoint.pk}/change/")


def test_who_edits_overwrites_nothing_that_a_sender_found_meanwhile(
    console: Client, endpoint: Endpoint
) -> None:
    form = {"name": "Renamed", "kind": "WEBHOOK", "url": endpoint.url, "patterns": "*"}
    url = f"{ENDPOINTS}{endpoint.pk}/change/"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deliveries.admin.EndpointAdmin.log_change", lambda *_: None)
        patch.setattr("deliveries.admin.EndpointForm.clean", lambda form: trip(endpoint))
        assert console.post(url, form).status_code == 302
    endpoint.refresh_from_db()
    assert (endpoint.name, endpoint.failures, endpoint.state) == ("Renamed", 7, State.DISABLED)
    console.post(url, form | {"url": "https://example.org/new"})
    endpoint.refresh_from_db()
    assert (endpoint.failures, endpoint.not_before) == (0, None), "another address, another chance"


def trip(endpoint: Endpoint) -> None:
    Endpoint.objects.filter(pk=endpoint.pk).update(failures=7, state=State.DISABLED)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("url", "http://169.254.169.254/latest", "not a public address"),
        ("url", "https://user:password@example.org", "Leave the name and password out"),
        ("patterns", "", "at least one event type"),
        ("patterns", "Link!", "Link!"),
    ],
)
def test_what_is_wrong_is_said(console: Client, field: str, value: str, says: str) -> None:
    form = {"name": "a", "kind": "WEBHOOK", "url": "https://example.org", "patterns": "*"}
    response = console.post(f"{ENDPOINTS}add/", form | {field: value})
    assert says in response.content.decode()
    assert not Endpoint.objects.exists()


def test_the_list_shows_rate_circuit_and_what_waits(console: Client, endpoint: Endpoint) -> None:
    deliver(4)
    first, second, *_ = Delivery.objects.all()
    for delivery, status in ((first, Status.SUCCESS), (second, Status.DEAD)):
        Delivery.objects.filter(pk=delivery.pk).update(
            status=status, next_attempt_at=None, completed_at=timezone.now()
        )
    Endpoint.objects.update(failures=5)
    shown = page(console, ENDPOINTS)
    assert "50.0% (1/2)" in shown
    assert "Half-open" in shown
    query = f"endpoint__id__exact={endpoint.pk}&amp;next_attempt_at__isnull=False"
    assert query in shown
    assert "2 results" in page(console, f"{DELIVERIES}?{query.replace('&amp;', '&')}")


@pytest.mark.parametrize("url", [ENDPOINTS, DELIVERIES, RETRIES])
def test_a_list_costs_the_same_for_2_and_for_20(
    console: Client, new_endpoint: NewEndpoint, url: str
) -> None:
    counts = []
    for more in (2, 18):
        for number in range(more):
            new_endpoint(f"/{number}")
            retried = Delivery.objects.filter(pk=deliver()[0].pk)
            finish()
            retry(retried, "one", "operator")
        with CaptureQueriesContext(connection) as queries:
            page(console, url)
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_pause_enable_and_disable(console: Client, endpoint: Endpoint) -> None:
    steer(console, endpoint, "pause")
    assert endpoint.state == State.PAUSED
    assert "Paused already" in steer(console, endpoint, "pause")
    steer(console, endpoint, "enable")
    assert endpoint.state == State.ACTIVE
    steer(console, endpoint, "disable")
    assert (endpoint.state, endpoint.reason) == (State.DISABLED, "by operator")
    assert not Alert.objects.exists(), "who did it knows"
    assert LogEntry.objects.count() == 3


def test_several_are_paused_at_once(console: Client, new_endpoint: NewEndpoint) -> None:
    pks = [new_endpoint().pk, new_endpoint(state=State.DISABLED).pk]
    console.post(ENDPOINTS, {"action": "pause_selected", "_selected_action": pks})
    assert set(Endpoint.objects.values_list("state", flat=True)) == {
        State.PAUSED,
        State.DISABLED,
    }


def test_secrets_are_shown_only_to_who_reveals_them_and_that_is_noted(
    console: Client, endpoint: Endpoint
) -> None:
    old = endpoint.secrets[0]["value"]
    shown = steer(console, endpoint, "rotate")
    both = [secret["value"] for secret in endpoint.secrets]
    assert old in both
    assert len(both) == 2
    for hidden in (
        shown,
        page(console, ENDPOINTS),
        page(console, f"{ENDPOINTS}{endpoint.pk}/reveal/"),
    ):
        assert not any(secret in unescape(hidden) for secret in both)
    assert endpoint.hint in shown
    revealed = unescape(steer(console, endpoint, "reveal"))
    assert all(secret in revealed for secret in both)
    assert LogEntry.objects.filter(change_message="Secret revealed").count() == 1


@pytest.mark.parametrize(
    ("fields", "offered"),
    [
        ({}, {"test", "retry", "pause", "disable", "reveal", "rotate"}),
        ({"state": State.PAUSED}, {"test", "retry", "enable", "disable", "reveal", "rotate"}),
        ({"state": State.DISABLED}, {"test", "retry", "enable", "reveal", "rotate"}),
        ({"kind": Kind.DISCORD}, {"test", "retry", "pause", "disable"}),
    ],
)
def test_only_buttons_that_do_something_are_offered(
    console: Client, endpoint: Endpoint, fields: dict[str, Any], offered: set[str]
) -> None:
    Endpoint.objects.update(**fields)
    shown = page(console, f"{ENDPOINTS}{endpoint.pk}/change/")
    assert set(re.findall(rf"{ENDPOINTS}{endpoint.pk}/(\w+)/", shown)) - OWN == offered


def test_a_test_event_leads_to_its_delivery(console: Client, endpoint: Endpoint) -> None:
    assert "webhook.test" in steer(console, endpoint, "test")


def test_a_time_range_is_retried(console: Client, endpoint: Endpoint) -> None:
    deliver(3)
    finish()
    old = Delivery.objects.earliest("pk")
    long_ago = timezone.now() - timedelta(days=2)
    Delivery.objects.filter(pk=old.pk).update(created_at=long_ago)
    today = timezone.localtime().strftime("%Y-%m-%d")
    shown = steer(console, endpoint, "retry", since_0=today, since_1="00:00:00")
    assert "2 deliveries go out" in shown
    old.refresh_from_db()
    assert old.status == Status.DEAD
    assert "required" in steer(console, endpoint, "retry")


def numbers(client: Client, url: str) -> list[str]:
    found = re.findall(r"<dd[^>]*>(?:<a[^>]*>)?([\d,]+)", page(client, url))
    return [re.search(r"(\d+) % done", page(client, url))[1], *found]  # type: ignore[index]


def test_how_far_a_retry_is_can_be_watched(
    console: Client, endpoint: Endpoint, send: Send, server: Server
) -> None:
    deliver(4)
    finish()
    today = timezone.localtime().strftime("%Y-%m-%d")
    steer(console, endpoint, "retry", since_0=today, since_1="00:00:00")
    (retry,) = Retry.objects.all()
    url = f"{RETRIES}{retry.pk}/progress/"
    assert numbers(console, url) == ["0", "4", "4", "0", "0"]
    server.behaviours["/hook"] = answer(410)
    Endpoint.objects.update(rate=1)
    send()
    assert numbers(console, url) == ["25", "4", "3", "0", "1"]
    server.behaviours["/hook"] = answer(200)
    Endpoint.objects.update(rate=None, state=State.ACTIVE, not_before=None)
    send()
    assert numbers(console, url) == ["100", "4", "0", "3", "1"]
    assert "4 results" in page(console, f"{DELIVERIES}?retry__id__exact={retry.pk}")
    assert "100 %" in page(console, RETRIES)
    shown = page(console, f"{RETRIES}{retry.pk}/change/")
    for text in (f"{RETRIES}{retry.pk}/progress/", "operator", "/hook: "):
        assert text in shown
    steer(console, endpoint, "retry", since_0=today, since_1="00:00:00")
    assert numbers(console, url) == ["100", "4", "0", "3", "0", "1"], "one went to a later retry"


@pytest.mark.parametrize("verb", ["retry", "test"])
def test_who_sends_to_an_endpoint_that_is_not_active_is_told(
    console: Client, endpoint: Endpoint, verb: str
) -> None:
    assert "waits until it is enabled" not in page(console, f"{ENDPOINTS}{endpoint.pk}/{verb}/")
    Endpoint.objects.update(state=State.DISABLED)
    assert "waits until it is enabled" in page(console, f"{ENDPOINTS}{endpoint.pk}/{verb}/")


def test_one_delivery_shows_each_request_and_response(
    console: Client, endpoint: Endpoint, send: Send, server: Server
) -> None:
    server.behaviours["/hook"] = answer(500, "<b>out of order</b>", {"X-Shop": "closed"})
    (delivery,) = deliver()
    send()
    shown = page(console, f"{DELIVERIES}{delivery.pk}/change/")
    for text in ("answered 500", "&lt;b&gt;out of order", "x-shop: closed", "webhook-signature"):
        assert text in shown


@pytest.mark.parametrize("kind", Kind)
def test_one_delivery_shows_what_is_sent(console: Client, endpoint: Endpoint, kind: Kind) -> None:
    Endpoint.objects.update(kind=kind)
    (delivery,) = deliver()
    expected = "allowed_mentions" if kind == Kind.DISCORD else "specversion"
    assert expected in page(console, f"{DELIVERIES}{delivery.pk}/change/")


def test_one_and_many_are_retried(console: Client, endpoint: Endpoint) -> None:
    deliver(3)
    finish()
    first, *others = Delivery.objects.all()
    console.get(f"{DELIVERIES}{first.pk}/retry/")
    assert Delivery.objects.undelivered().count() == 3, "it asks first"
    console.post(f"{DELIVERIES}{first.pk}/retry/", YES)
    first.refresh_from_db()
    assert (first.status, first.counted) == (Status.RETRYING, 0)
    form = {"action": "retry_selected", "_selected_action": [row.pk for row in others]}
    console.post(DELIVERIES, form | YES)
    assert Delivery.objects.filter(status=Status.RETRYING).count() == 3


def test_an_endpoint_is_deleted_with_its_deliveries(
    console: Client, endpoint: Endpoint, new_endpoint: NewEndpoint
) -> None:
    other = new_endpoint("/other")
    deliver(3)
    url = f"{ENDPOINTS}{endpoint.pk}/delete/"
    assert "deliveries: 3" in page(console, url).lower()
    console.post(url, {"post": "yes"})
    assert list(Endpoint.objects.all()) == [other]
    assert Delivery.objects.count() == 3
    form = {"action": "delete_selected", "_selected_action": [other.pk], "post": "yes"}
    console.post(ENDPOINTS, form)
    assert not Delivery.objects.exists()


def test_facets_count(console: Client, endpoint: Endpoint) -> None:
    deliver(2)
    assert "Pending (2)" in page(console, DELIVERIES).replace("\n", " ")


def test_who_may_only_look_sees_neither_address_nor_secret(
    client: Client, endpoint: Endpoint
) -> None:
    client.force_login(operator("deliveries.view_endpoint", "deliveries.view_delivery"))
    shown = page(client, f"{ENDPOINTS}{endpoint.pk}/change/")
    assert "/hook" not in shown.replace(endpoint.name, "")
    assert "whsec_" not in shown
    for verb in ("test", "pause", "enable", "disable", "reveal", "rotate", "retry"):
        assert client.post(f"{ENDPOINTS}{endpoint.pk}/{verb}/", YES).status_code == 403
    (delivery,) = deliver()
    assert client.post(f"{DELIVERIES}{delivery.pk}/retry/", YES).status_code == 403
    made = Retry.objects.create(what="one", by="operator")
    for part in ("", "1/change/", f"{made.pk}/progress/"):
        assert client.get(f"{RETRIES}{part}").status_code == 403
    page(client, f"{DELIVERIES}{delivery.pk}/change/")


def test_one_that_was_given_up_is_an_alert_until_it_is_enabled(
    console: Client, endpoint: Endpoint
) -> None:
    give_up(endpoint, "It answered 410: it is gone.")
    alert = Alert.objects.open().get()
    assert alert.message == "/hook: It answered 410: it is gone."
    assert alert.message in page(console, "/admin/").replace("&#x27;", "'")
    link = f'href="{ENDPOINTS}{endpoint.pk}/change/"'
    assert link in page(console, "/admin/operations/alert/")
    assert link in page(console, f"/admin/operations/alert/{alert.pk}/change/")
    steer(console, endpoint, "enable")
    assert not Alert.objects.open().exists()
    give_up(endpoint, "It answered 410: it is gone.")
    delete_endpoint(endpoint)
    assert not Alert.objects.open().exists()


def test_an_attempt_without_an_answer_is_shown(console: Client, endpoint: Endpoint) -> None:
    (delivery,) = deliver()
    Attempt.objects.create(
        delivery=delivery,
        number=1,
        started_at=timezone.now(),
        duration_ms=7,
        url=endpoint.url,
        request_headers={},
        error="no answer within 30 s",
        succeeded=False,
    )
    assert "no answer within 30 s" in page(console, f"{DELIVERIES}{delivery.pk}/change/")
