import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from outbox.models import ConsumerOffset, DeadLetter, Event
from outbox.relay import Relay
from outbox.services import emit

pytestmark = pytest.mark.django_db

EVENTS = "/admin/outbox/event/"
LETTERS = "/admin/outbox/deadletter/"


@pytest.fixture
def console(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator", password="x"))
    return client


def staff(*permissions: str) -> Client:
    user = User.objects.create_user(f"staff-{uuid.uuid4()}", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def raised(key: str = "post-1", **fields: Any) -> Event:
    with transaction.atomic():
        event = emit("blog.post.published", key, {"title": "Hello"})
    Event.objects.filter(pk=event.pk).update(**fields)
    event.refresh_from_db()
    return event


def parked(key: str = "post-1", **fields: Any) -> DeadLetter:
    event = raised(key, parked_at=timezone.now(), attempts=5, error="too big")
    letter = {
        "source": DeadLetter.RELAY,
        "event_id": event.event_id,
        "type": event.type,
        "topic": event.topic,
        "key": key,
        "payload": event.envelope(),
        "error": "too big",
        "traceback": "Traceback: here",
    }
    return DeadLetter.objects.create(**letter | fields)


def rows(response: Any) -> list[Any]:
    return list(response.context["cl"].result_list)


def test_events_are_filtered_by_their_state(console):
    now = timezone.now()
    events = {
        "pending": raised("a"),
        "retrying": raised("b", attempts=2),
        "published": raised("c", published_at=now, position=1),
        "parked": raised("d", parked_at=now),
    }
    for state, event in events.items():
        response = console.get(f"{EVENTS}?state={state}")
        assert rows(response) == [event]
        assert state.capitalize() in response.text


def test_the_events_of_one_key_are_found(console):
    raised("post-1")
    other = raised("post-2")
    assert rows(console.get(f"{EVENTS}?key=post-2")) == [other]
    assert rows(console.get(f"{EVENTS}?q=post-2")) == [other]


def test_an_event_shows_its_envelope_and_cannot_be_changed(console):
    event = raised()
    page = console.get(f"{EVENTS}{event.pk}/change/")
    assert "specversion" in page.text
    assert console.post(f"{EVENTS}{event.pk}/change/", {"type": "x"}).status_code == 403
    assert console.post(f"{EVENTS}{event.pk}/delete/", {"post": "yes"}).status_code == 403
    assert console.get(f"{EVENTS}add/").status_code == 403


def test_waiting_events_without_a_relay_raise_the_alarm(console):
    assert "The relay does not run" not in console.get(EVENTS).text
    raised()
    assert "The relay does not run" in console.get(EVENTS).text


def test_the_leading_relay_is_named(console):
    relay = Relay()
    relay.lead()
    raised()
    page = console.get(EVENTS).text
    assert relay.holder in page
    assert "The relay does not run" not in page


def test_a_dead_letter_shows_payload_and_stack_trace(console):
    letter = parked()
    page = console.get(f"{LETTERS}{letter.pk}/change/").text
    assert "Traceback: here" in page
    assert "blog.post.published" in page


def test_redriving_one_returns_its_event_to_the_outbox(console):
    letter = parked()
    assert console.get(f"{LETTERS}{letter.pk}/redrive/").status_code == 200
    assert DeadLetter.objects.exists()
    console.post(f"{LETTERS}{letter.pk}/redrive/", {"confirmed": "yes"})
    assert not DeadLetter.objects.exists()
    assert Event.objects.pending().exists()
    assert LogEntry.objects.get().get_change_message() == "Redriven"


def test_what_cannot_be_redriven_says_why(console):
    letter = parked()
    Event.objects.all().delete()
    url = f"{LETTERS}{letter.pk}/redrive/"
    assert "no longer in the outbox" in console.post(url, {"confirmed": "yes"}, follow=True).text


def test_redriving_all_lists_what_failed_and_why(console):
    parked("good")
    bad = parked("bad")
    Event.objects.filter(key="bad").delete()
    page = console.post(f"{LETTERS}redrive-all/", {"confirmed": "yes"})
    assert page.context["failures"] == [
        (bad, "the event is no longer in the outbox; purge this dead letter")
    ]
    assert list(DeadLetter.objects.all()) == [bad]
    assert "1 event goes out again" in page.text


def test_purging_forgets_the_event(console):
    letter = parked()
    console.post(f"{LETTERS}{letter.pk}/purge/")
    assert DeadLetter.objects.exists()
    console.post(f"{LETTERS}{letter.pk}/purge/", {"confirmed": "yes"})
    assert not DeadLetter.objects.exists()
    assert not Event.objects.exists()
    assert LogEntry.objects.filter(object_repr=str(letter)).exists()


def test_purging_all_asks_first(console):
    parked("a"), parked("b")
    assert "Purge for good" in console.post(f"{LETTERS}purge-all/").text
    assert DeadLetter.objects.count() == 2
    console.post(f"{LETTERS}purge-all/", {"confirmed": "yes"})
    assert not DeadLetter.objects.exists()


def test_the_selected_are_redriven_and_purged(console):
    first, second, third = parked("a"), parked("b"), parked("c")
    form = {"action": "redrive_selected", "_selected_action": [first.pk], "confirmed": "yes"}
    console.post(LETTERS, form)
    form = {"action": "purge_selected", "_selected_action": [second.pk], "confirmed": "yes"}
    console.post(LETTERS, form)
    assert list(DeadLetter.objects.all()) == [third]
    assert Event.objects.pending().get().key == "a"


def test_offsets_say_how_far_behind_the_head_they_are(console):
    relay = Relay()
    for key in "abc":
        raised(key)
    relay.step()
    ConsumerOffset.objects.create(group="search", topic="blog", offset=1)
    assert rows(console.get("/admin/outbox/consumeroffset/"))[0].head == 3


@pytest.mark.parametrize("path", [EVENTS, LETTERS, "/admin/outbox/consumeroffset/"])
def test_a_list_costs_the_same_with_2_rows_and_with_20(console, path):
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert console.get(path).status_code == 200
        return len(queries)

    def add(count: int) -> None:
        for _ in range(count):
            letter = parked(str(uuid.uuid4()))
            ConsumerOffset.objects.create(group=letter.key, topic="blog")

    add(2)
    console.get(path)
    few = cost()
    add(18)
    assert cost() == few < 20


def test_the_list_does_not_fetch_payloads(console):
    parked()
    with CaptureQueriesContext(connection) as queries:
        console.get(LETTERS)
        console.get(EVENTS)
    sql = json.dumps([query["sql"] for query in queries])
    assert "payload" not in sql
    assert "traceback" not in sql


def test_the_anonymous_are_sent_to_the_login(client):
    letter = parked()
    for url in [EVENTS, LETTERS, f"{LETTERS}{letter.pk}/redrive/", f"{LETTERS}purge-all/"]:
        assert client.get(url).url.startswith("/admin/login/")


def test_staff_without_permission_are_refused():
    letter, client = parked(), staff()
    for path in ("", f"{letter.pk}/redrive/", f"{letter.pk}/purge/", "redrive-all/", "purge-all/"):
        assert client.post(LETTERS + path, {"confirmed": "yes"}).status_code == 403
    assert client.get(EVENTS).status_code == 403
    assert DeadLetter.objects.exists()


def test_viewing_dead_letters_includes_neither_redrive_nor_purge():
    letter, client = parked(), staff("view_deadletter")
    page = client.get(f"{LETTERS}{letter.pk}/change/")
    assert page.status_code == 200
    assert "/purge/" not in page.text
    assert client.post(f"{LETTERS}{letter.pk}/purge/", {"confirmed": "yes"}).status_code == 403


def test_the_oldest_wait_is_shown(console):
    raised(created_at=timezone.now() - timedelta(minutes=5))
    assert "5 min" in console.get(EVENTS).text
