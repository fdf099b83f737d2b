from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from outbox.models import DeadLetter, Event, LeaderLease
from outbox.services import build_event
from tests.factories import DeadLetterFactory, operator

pytestmark = pytest.mark.django_db

DLT = "/api/admin/dlt"
OUTBOX = "/api/admin/outbox"
PERMISSIONS = [f"outbox.{verb}_deadletter" for verb in ("view", "change", "delete")]


@pytest.fixture
def boss(client: Client) -> User:
    user = operator(*PERMISSIONS, "outbox.view_event")
    client.force_login(user)
    return user


def found(client: Client, **query: Any) -> list[int]:
    response = client.get(f"{DLT}/messages", query)
    assert response.status_code == 200, response.content
    return [letter["id"] for letter in response.json()["results"]]


def unknown_consumer() -> DeadLetter:
    return DeadLetterFactory.create(source="nobody")


def test_dead_letters_are_listed_newest_first_and_filtered(client: Client, boss: User) -> None:
    relay = DeadLetterFactory.create(key="shop", error="refused").pk
    consumer = DeadLetterFactory.create(
        source="search", type="blog.post.published", topic="blog"
    ).pk
    assert found(client) == [consumer, relay]
    assert found(client, source="search") == [consumer]
    assert found(client, type="link.expired") == [relay]
    assert found(client, topic="blog") == [consumer]
    assert found(client, search="SHOP refused") == [relay]
    assert found(client, ordering="id") == [relay, consumer]


def test_only_the_detail_carries_payload_and_stack_trace(client: Client, boss: User) -> None:
    letter = DeadLetterFactory.create(payload={"data": 1}, traceback="Traceback …")
    [listed] = client.get(f"{DLT}/messages").json()["results"]
    body = client.get(f"{DLT}/messages/{letter.pk}").json()
    assert "payload" not in listed
    assert (body["payload"], body["traceback"]) == ({"data": 1}, "Traceback …")


def test_the_list_costs_the_same_for_2_and_for_20(client: Client, boss: User) -> None:
    counts = []
    for more in (2, 18):
        DeadLetterFactory.create_batch(more)
        with CaptureQueriesContext(connection) as queries:
            client.get(f"{DLT}/messages")
        counts.append(len(queries))
    assert counts == [6, 6]  # session, user, two for permissions, count, page


def test_a_redrive_gives_the_event_back(client: Client, boss: User) -> None:
    letter = DeadLetterFactory.create()
    response = client.post(f"{DLT}/redrive/{letter.pk}")
    assert response.status_code == 204
    assert Event.objects.pending().filter(event_id=letter.event_id).exists()
    assert not DeadLetter.objects.exists()
    assert client.post(f"{DLT}/redrive/{letter.pk}").status_code == 404


def test_what_cannot_be_redriven_says_why(client: Client, boss: User) -> None:
    letter = unknown_consumer()
    response = client.post(f"{DLT}/redrive/{letter.pk}")
    assert (response.status_code, response.json()["code"]) == (409, "not_redrivable")
    assert "nobody" in response.json()["message"]
    assert DeadLetter.objects.filter(pk=letter.pk).exists()


def test_redriving_all_lists_what_failed_and_why(client: Client, boss: User) -> None:
    DeadLetterFactory.create_batch(2)
    letter = unknown_consumer()
    body = client.post(f"{DLT}/redrive-all").json()
    [failure] = body.pop("failures")
    assert body == {"total_messages": 3, "success_count": 2, "failure_count": 1}
    assert failure["dead_letter_id"] == letter.pk
    assert "nobody" in failure["reason"]


def test_redriving_all_keeps_to_the_filters(client: Client, boss: User) -> None:
    DeadLetterFactory.create()
    kept = DeadLetterFactory.create(type="blog.post.published")
    assert client.post(f"{DLT}/redrive-all?type=link.expired").json()["success_count"] == 1
    assert found(client) == [kept.pk]


def test_a_purge_forgets_the_event(client: Client, boss: User) -> None:
    letter = DeadLetterFactory.create()
    assert client.delete(f"{DLT}/purge/{letter.pk}").status_code == 204
    assert not Event.objects.exists()
    assert client.delete(f"{DLT}/purge/{letter.pk}").status_code == 404


def test_purging_all_counts(client: Client, boss: User) -> None:
    DeadLetterFactory.create_batch(3)
    assert client.delete(f"{DLT}/purge-all").json() == {"count": 3}
    assert not DeadLetter.objects.exists()


def test_an_empty_outbox_says_so(client: Client, boss: User) -> None:
    assert client.get(OUTBOX).json() == {
        "depth": 0,
        "oldest_pending_seconds": None,
        "parked": 0,
        "position": 0,
        "leader": None,
        "leader_since": None,
    }


def test_the_outbox_says_what_waits_and_who_leads(client: Client, boss: User) -> None:
    now = timezone.now()
    event = build_event("link.expired", "link-1", {})
    event.save()
    Event.objects.filter(pk=event.pk).update(created_at=now - timedelta(minutes=1))
    DeadLetterFactory.create()
    LeaderLease.objects.create(
        name="relay", holder="one", since=now, until=now + timedelta(minutes=1), position=9
    )
    body = client.get(OUTBOX).json()
    assert (body["depth"], body["parked"], body["position"]) == (1, 1, 9)
    assert body["oldest_pending_seconds"] == pytest.approx(60, abs=30)
    assert body["leader"] == "one"


def test_a_lease_that_ran_out_leads_no_more(client: Client, boss: User) -> None:
    past = timezone.now() - timedelta(minutes=1)
    LeaderLease.objects.create(name="relay", holder="dead", since=past, until=past)
    assert client.get(OUTBOX).json()["leader"] is None


REQUESTS = [
    ("outbox.view_deadletter", "get", "/dlt/messages"),
    ("outbox.view_deadletter", "get", "/dlt/messages/{id}"),
    ("outbox.change_deadletter", "post", "/dlt/redrive/{id}"),
    ("outbox.change_deadletter", "post", "/dlt/redrive-all"),
    ("outbox.delete_deadletter", "delete", "/dlt/purge/{id}"),
    ("outbox.delete_deadletter", "delete", "/dlt/purge-all"),
    ("outbox.view_event", "get", "/outbox"),
]


@pytest.mark.parametrize(("needed", "method", "path"), REQUESTS)
def test_each_request_needs_its_own_permission(
    client: Client, needed: str, method: str, path: str
) -> None:
    address = "/api/admin" + path.replace("{id}", str(DeadLetterFactory.create().pk))
    others = {*PERMISSIONS, "outbox.view_event"} - {needed}
    for user, permitted in [(operator(*others), False), (operator(needed), True)]:
        client.force_login(user)
        assert (getattr(client, method)(address).status_code != 403) is permitted
