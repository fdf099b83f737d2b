from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from broadcasts import reminders
from broadcasts.directory import HttpDirectory, UserServiceUnavailable
from broadcasts.models import Broadcast, Product, Receipt, Reminder
from broadcasts.receipts import mark_seen
from broadcasts.reminders import (
    AlreadyReminded,
    count_unseen,
    remind,
    resume_reminders,
    unseen,
)
from broadcasts.services import InvalidTransition, cancel
from outbox.models import Event
from tests.factories import ActiveFactory, DraftFactory, GroupFactory, UserFactory
from tests.racing import race

pytestmark = pytest.mark.django_db


@pytest.fixture
def people() -> list[User]:
    return [UserFactory.create(username=name) for name in ("ann", "bob", "cleo", "dan")]


def names(broadcast: Broadcast, **asked: Any) -> list[str]:
    return [person.username for person in unseen(broadcast, **asked).people]


def told() -> list[list[str]]:
    events = Event.objects.filter(type="broadcast.reminded").order_by("id")
    return [event.channels for event in events]


def audience(kind: str, people: list[User]) -> dict[str, Any]:
    if kind == "ROLE":
        GroupFactory.create(name="crew").user_set.add(*people)
        return {"audience": kind, "targets": ["crew"]}
    if kind == "PRODUCT":
        Product.objects.create(slug="shop", name="Shop").subscribers.add(*people)
        return {"audience": kind, "targets": ["shop"]}
    if kind == "SELECTED":
        return {"audience": kind, "targets": [str(user.pk) for user in people]}
    return {}


@pytest.mark.parametrize("kind", ["ALL", "ROLE", "PRODUCT", "SELECTED"])
def test_who_has_not_seen_it_is_found_searched_and_counted(kind: str, people: list[User]) -> None:
    User.objects.exclude(pk__in=[user.pk for user in people]).delete()
    broadcast = ActiveFactory.create(**audience(kind, people))
    mark_seen(people[1], [broadcast.pk])
    User.objects.filter(username="dan").update(is_active=False)
    assert names(broadcast) == ["ann", "cleo"]
    assert names(broadcast, search="CLE") == ["cleo"]
    assert count_unseen(broadcast) == 2


def test_the_unseen_come_in_pages_by_username(people: list[User]) -> None:
    broadcast = ActiveFactory.create()
    first = unseen(broadcast, limit=3)
    assert ([p.username for p in first.people], first.after) == (["ann", "bob", "cleo"], "cleo")
    assert unseen(broadcast, after="cleo", limit=3).after is None
    assert names(broadcast, after="cleo", limit=3) == ["dan"]


def test_who_has_not_seen_it_is_sent_it_once_more(people: list[User]) -> None:
    broadcast = ActiveFactory.create()
    mark_seen(people[0], [broadcast.pk])
    reminder = remind(broadcast, people[0])
    assert (reminder.people, reminder.sender_name) == (3, "ann")
    assert reminder.finished_at
    assert told() == [[f"user-{user.pk}" for user in people[1:]]]
    data = Event.objects.get(type="broadcast.reminded").data
    assert (data["title"], data["broadcast_id"]) == (broadcast.title, broadcast.pk)
    assert data["reminded_at"]


def test_a_second_reminder_at_once_is_refused_and_one_later_is_not(people: list[User]) -> None:
    broadcast = ActiveFactory.create()
    first = remind(broadcast, None)
    with pytest.raises(AlreadyReminded, match="Wait 10 minutes"):
        remind(broadcast, None)
    Reminder.objects.filter(pk=first.pk).update(created_at=timezone.now() - timedelta(minutes=11))
    assert remind(broadcast, None).pk != first.pk


@pytest.mark.parametrize("end", ["draft", "cancelled", "passing", "expired"])
def test_what_is_in_no_inbox_is_not_reminded_of(end: str) -> None:
    broadcast = {
        "draft": lambda: DraftFactory.create(),
        "cancelled": lambda: cancel(ActiveFactory.create()),
        "passing": lambda: ActiveFactory.create(fire_and_forget=True),
        "expired": lambda: ActiveFactory.create(expires_at=timezone.now() + timedelta(hours=1)),
    }[end]()
    if end == "expired":
        Broadcast.objects.filter(pk=broadcast.pk).update(expires_at=timezone.now())
    with pytest.raises(InvalidTransition):
        remind(broadcast, None)
    assert not Reminder.objects.exists()


def test_many_are_told_in_stretches_each_once(
    people: list[User], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reminders, "STRETCH", 2)
    monkeypatch.setattr(reminders, "CHUNK", 1)
    reminder = remind(ActiveFactory.create(), None)
    assert (reminder.people, reminder.after, reminder.finished_at) == (2, "bob", None)
    assert resume_reminders() == 2
    assert resume_reminders() == 0
    reminder.refresh_from_db()
    assert (reminder.people, bool(reminder.finished_at)) == (4, True)
    assert told() == [[f"user-{user.pk}"] for user in people]


def test_nobody_is_reminded_of_what_ends_meanwhile(
    people: list[User], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reminders, "STRETCH", 2)
    broadcast = ActiveFactory.create()
    remind(broadcast, None)
    cancel(broadcast)
    assert resume_reminders() == 0
    assert not Reminder.objects.filter(finished_at=None).exists()
    assert len(told()) == 1


def test_a_directory_that_is_away_delays_the_reminder(
    people: list[User], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise UserServiceUnavailable("timed out")

    broadcast = ActiveFactory.create()
    with monkeypatch.context() as patched:
        patched.setattr(reminders, "unseen", away)
        reminder = remind(broadcast, None)
    assert (reminder.people, reminder.last_error) == (0, "timed out")
    assert resume_reminders() == 4
    reminder.refresh_from_db()
    assert (reminder.people, reminder.last_error) == (4, "")


@pytest.mark.django_db(transaction=True)
def test_of_two_reminders_at_once_one_is_sent() -> None:
    UserFactory.create()
    broadcast = ActiveFactory.create()
    outcomes = race(*[lambda: remind(broadcast, None)] * 2)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AlreadyReminded", "Reminder"]
    assert len(told()) == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_processes_that_go_on_one_tells_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reminders, "STRETCH", 1)
    UserFactory.create_batch(2)
    remind(ActiveFactory.create(), None)
    race(*[resume_reminders] * 3)
    channels = [channel for channels in told() for channel in channels]
    assert sorted(channels) == sorted(set(channels))
    while resume_reminders():
        pass
    assert len(told()) == 2


def service(usernames: list[str]) -> HttpDirectory:
    """A user service as `docs/directory.md` has it."""

    def answer(request: httpx.Request) -> httpx.Response:
        asked = request.url.params
        if request.url.path.endswith("/count"):
            return httpx.Response(200, json={"count": len(usernames)})
        found = [n for n in sorted(usernames) if n > asked["after"] and asked["search"] in n]
        users = [{"username": name, "name": ""} for name in found[: int(asked["limit"])]]
        return httpx.Response(200, json={"users": users})

    transport = httpx.MockTransport(answer)
    return HttpDirectory(httpx.Client(transport=transport, base_url="http://users"))


def test_a_user_service_is_paged_through(
    people: list[User], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = service(["ann", "bob", "cleo", "dan", "who has never been here"])
    monkeypatch.setattr(reminders, "get_directory", lambda: directory)
    broadcast = ActiveFactory.create()
    for user in people[:2]:
        mark_seen(user, [broadcast.pk])
    first = unseen(broadcast, limit=2)
    assert ([p.username for p in first.people], first.after) == (["cleo", "dan"], "dan")
    assert names(broadcast, search="cl", limit=2) == ["cleo"]
    assert count_unseen(broadcast) == 3
    assert not directory.knows_roles


def test_a_page_of_a_user_service_has_no_more_than_was_asked_for(
    people: list[User], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = service(["ann", "bob", "cleo", "dan"])
    monkeypatch.setattr(reminders, "get_directory", lambda: directory)
    broadcast = ActiveFactory.create()
    mark_seen(people[0], [broadcast.pk])
    page = unseen(broadcast, limit=2)
    assert ([person.username for person in page.people], page.after) == (["bob", "cleo"], "cleo")
    assert names(broadcast, after="cleo", limit=2) == ["dan"]


def test_a_page_of_a_user_service_asks_a_bounded_number_of_times(
    people: list[User], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = service([user.username for user in people])
    monkeypatch.setattr(reminders, "get_directory", lambda: directory)
    monkeypatch.setattr("broadcasts.directory.MOST_PAGES", 2)
    broadcast = ActiveFactory.create()
    for user in people[:2]:
        mark_seen(user, [broadcast.pk])
    page = unseen(broadcast, limit=1)
    assert (page.people, page.after) == ([], "bob")
    assert [p.username for p in unseen(broadcast, after="bob", limit=1).people] == ["cleo"]


def test_who_sees_it_after_the_reminder_counts_as_any_other(people: list[User]) -> None:
    broadcast = ActiveFactory.create()
    remind(broadcast, None)
    mark_seen(people[0], [broadcast.pk])
    assert Receipt.objects.filter(seen_at__isnull=False).count() == 1
    assert "ann" not in names(broadcast)
