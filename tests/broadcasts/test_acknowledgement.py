import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import Client
from selenium.webdriver import Chrome

from broadcasts.models import Broadcast, Receipt
from broadcasts.receipts import (
    AcknowledgementMissing,
    NotInInbox,
    acknowledge,
    dismiss,
    mark_all_read,
    mark_read,
    statistics,
)
from broadcasts.services import cancel, compose, duplicate
from outbox.models import Event
from tests.conftest import Spawn
from tests.factories import ActiveFactory, UserFactory
from tests.pages import Page, Site
from tests.processes import Environment

pytestmark = pytest.mark.django_db


@pytest.fixture
def reader() -> User:
    return UserFactory.create()


@pytest.fixture
def rules(reader: User) -> Broadcast:
    return ActiveFactory.create(title="New rules", requires_acknowledgement=True)


def test_who_acknowledges_has_got_seen_and_read_it_once_and_for_all(
    rules: Broadcast, reader: User
) -> None:
    assert acknowledge(reader, [rules.pk]) == 1
    before: Any = Receipt.objects.values().get()
    assert acknowledge(reader, [rules.pk]) == 1
    assert Receipt.objects.values().get() == before
    assert before["status"] == "READ"
    stamps = {before[f"{stage}_at"] for stage in ("delivered", "seen", "read", "acknowledged")}
    assert len(stamps) == 1
    counted = statistics(rules)
    assert (counted.read, counted.acknowledged, counted.acknowledgement_rate) == (1, 1, 1.0)


def test_reading_is_not_acknowledging(rules: Broadcast, reader: User) -> None:
    mark_read(reader, [rules.pk])
    mark_all_read(reader)
    assert statistics(rules).acknowledged == 0
    read_at = Receipt.objects.get().read_at
    acknowledge(reader, [rules.pk])
    assert Receipt.objects.get().read_at == read_at


def test_the_other_tabs_hear_of_it_once(rules: Broadcast, reader: User) -> None:
    for _ in range(2):
        acknowledge(reader, [rules.pk])
    event = Event.objects.get(type="broadcast.acknowledged")
    assert event.channels == [f"user-{reader.pk}"]
    assert event.data["broadcast_ids"] == [rules.pk]
    assert event.data["acknowledged_at"]


def test_it_cannot_be_dismissed_before(rules: Broadcast, reader: User) -> None:
    other = ActiveFactory.create()
    with pytest.raises(AcknowledgementMissing, match=str(rules.pk)):
        dismiss(reader, [rules.pk, other.pk])
    assert not Receipt.objects.exists()
    acknowledge(reader, [rules.pk])
    assert dismiss(reader, [rules.pk, other.pk]) == 2


def test_what_does_not_ask_for_it_is_not_acknowledged(rules: Broadcast, reader: User) -> None:
    other = ActiveFactory.create()
    with pytest.raises(ValidationError, match=f"no acknowledgement: {other.pk}"):
        acknowledge(reader, [rules.pk, other.pk])
    assert not Receipt.objects.exists()


def test_what_is_over_cannot_be_acknowledged(rules: Broadcast, reader: User) -> None:
    cancel(rules)
    with pytest.raises(NotInInbox):
        acknowledge(reader, [rules.pk])


def test_what_is_in_no_inbox_cannot_ask_for_it() -> None:
    with pytest.raises(ValidationError, match="kept in no inbox"):
        compose(None, title="T", fire_and_forget=True, requires_acknowledgement=True)


def test_a_duplicate_asks_for_it_as_well(rules: Broadcast) -> None:
    assert duplicate(rules, None).requires_acknowledgement


def post(client: Client, path: str, **data: Any) -> Any:
    return client.post(
        f"/api/user/messages/{path}", json.dumps(data), content_type="application/json"
    )


def test_a_reader_acknowledges_by_the_api(client: Client, rules: Broadcast, reader: User) -> None:
    other = ActiveFactory.create()
    client.force_login(reader)
    message = client.get("/api/user/messages?search=rules").json()["results"][0]
    assert (message["requires_acknowledgement"], message["acknowledged_at"]) == (True, None)
    refused = post(client, "dismiss", broadcast_id=rules.pk)
    assert (refused.status_code, refused.json()["code"]) == (409, "acknowledgement_missing")
    assert post(client, "acknowledge", broadcast_id=rules.pk).json() == {"count": 1, "unread": 1}
    message = client.get("/api/user/messages?search=rules").json()["results"][0]
    assert message["acknowledged_at"]
    assert post(client, "acknowledge", broadcast_id=other.pk).status_code == 400
    assert post(client, "acknowledge", broadcast_id=999).status_code == 404


def test_the_anonymous_acknowledge_nothing(client: Client, rules: Broadcast) -> None:
    assert post(client, "acknowledge", broadcast_id=rules.pk).status_code == 401


ACKNOWLEDGED = """
from broadcasts.models import Receipt
print(Receipt.objects.filter(acknowledged_at__isnull=False, read_at__isnull=False).count())
"""
REMIND = """
from broadcasts.models import Broadcast, Receipt
from broadcasts.reminders import remind
Receipt.objects.all().delete()
print(remind(Broadcast.objects.get(title={title!r}), None).people)
"""
SEEN = """
from broadcasts.models import Receipt
print(Receipt.objects.filter(broadcast__title="New rules", seen_at__isnull=False).count())
"""
ACTIONS = ".message [data-action]:not([hidden])"


@pytest.fixture
def page(live_database: Environment, free_port: int, spawn: Spawn, browser: Chrome) -> Page:
    page = Page(browser, Site(live_database | {"DEBUG": "true"}, free_port, spawn).start())
    page.sign_in()
    return page


@pytest.mark.chromium
@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_a_reader_acknowledges_on_the_page_and_only_then_dismisses(page: Page) -> None:
    page.site.send("New rules", requires_acknowledgement=True)
    page.wait(lambda: page.titles == ["New rules"], "it is there")
    assert page.texts(ACTIONS) == ["Acknowledge", "Mark read"]
    page.click("[data-action=read]")
    page.wait(lambda: page.texts(ACTIONS) == ["Acknowledge"], "it is read")
    page.click("[data-action=acknowledge]")
    page.wait(lambda: page.texts(ACTIONS) == ["Dismiss"], "it is acknowledged")
    assert page.find(".acknowledged").text.startswith("Acknowledged")
    assert page.site.code(ACKNOWLEDGED).strip() == "1"
    page.open()
    page.wait(lambda: page.texts(ACTIONS) == ["Dismiss"], "it stays so")
    page.click("[data-action=dismiss]")
    page.wait(lambda: page.shows("#empty-nothing"), "it is gone")


@pytest.mark.chromium
@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_a_reminder_brings_it_back_to_the_top_and_counts_nothing_twice(page: Page) -> None:
    page.site.send("New rules", "Lunch")
    page.wait(lambda: page.titles == ["Lunch", "New rules"], "both are there")
    people = page.site.code(REMIND.format(title="New rules")).strip()
    assert people == "1"
    page.wait(lambda: page.titles == ["New rules", "Lunch"], "it is on top")
    assert page.texts(".reminder:not([hidden])") == ["Reminder"]
    assert page.find("#unread").text == "Unread: 2"
    assert page.texts("#polite p") == ["Reminder: New rules"]
    page.wait(lambda: page.site.code(SEEN).strip() == "1", "it is reported as seen again")
