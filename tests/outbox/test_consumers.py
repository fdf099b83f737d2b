from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction

from outbox import consumers
from outbox.consumers import ATTEMPTS, Envelope, Group, consumer_group
from outbox.deadletters import NotRedrivable, purge, redrive, redrive_all
from outbox.logs import DatabaseLog
from outbox.models import ConsumerOffset, DeadLetter
from outbox.relay import Relay
from outbox.services import emit

pytestmark = pytest.mark.django_db


class Handler:
    def __init__(self) -> None:
        self.handled: list[str] = []
        self.failing: set[str] = set()
        self.calls = 0

    def __call__(self, envelope: Envelope) -> None:
        self.calls += 1
        if envelope["subject"] in self.failing:
            raise ValueError(f"cannot handle {envelope['subject']}")
        self.handled.append(envelope["subject"])


@pytest.fixture
def handler() -> Iterator[Handler]:
    handler = Handler()
    consumer_group("mail", ["link"])(handler)
    yield handler
    del consumers.groups["mail"]


@pytest.fixture
def group(handler: Handler) -> Group:
    return consumers.groups["mail"]


def publish(*keys: str) -> None:
    with transaction.atomic():
        for key in keys:
            emit("link.expired", key, {"n": 1})
    relay = Relay(DatabaseLog())
    relay.step()
    relay.resign()


def consume(group: Group) -> int:
    with closing(DatabaseLog().consumer(group.topics, group=group.name)) as consumer:
        return consumers.consume(group, consumer)


def test_everything_is_handled_once_and_in_order(group: Group, handler: Handler) -> None:
    publish(*"abc")
    assert (consume(group), consume(group)) == (3, 0)
    assert handler.handled == ["a", "b", "c"]


def test_who_asks_for_no_topic_gets_nothing(group: Group) -> None:
    publish(*"abc")
    with closing(DatabaseLog().consumer([], group=group.name)) as consumer:
        assert consumer.poll() == []


def test_what_cannot_be_handled_is_a_dead_letter_of_its_group(
    group: Group, handler: Handler
) -> None:
    handler.failing = {"b"}
    publish(*"abc")
    consume(group)
    letter = DeadLetter.objects.get()
    assert (letter.source, letter.key, letter.attempts, letter.position) == (
        "mail",
        "b",
        ATTEMPTS,
        2,
    )
    assert letter.error == "cannot handle b"
    assert "ValueError" in letter.traceback
    assert letter.payload["data"] == {"n": 1}
    assert handler.handled == ["a", "c"]


def test_a_handler_gets_three_attempts(group: Group, handler: Handler) -> None:
    handler.failing = {"a"}
    publish("a")
    consume(group)
    assert handler.calls == ATTEMPTS


def test_two_failures_of_one_key_are_two_dead_letters(group: Group, handler: Handler) -> None:
    handler.failing = {"a"}
    publish("a", "a")
    consume(group)
    assert DeadLetter.objects.count() == 2


def test_what_is_read_again_after_a_crash_is_one_dead_letter(
    group: Group, handler: Handler
) -> None:
    handler.failing = {"a"}
    publish("a")
    consume(group)
    ConsumerOffset.objects.update(offset=0)
    consume(group)
    assert DeadLetter.objects.count() == 1


def test_a_redrive_handles_the_event_now(group: Group, handler: Handler) -> None:
    handler.failing = {"a"}
    publish("a")
    consume(group)
    handler.failing = set()
    redrive(DeadLetter.objects.get())
    assert handler.handled == ["a"]
    assert not DeadLetter.objects.exists()


def test_a_redrive_that_fails_keeps_the_letter(group: Group, handler: Handler) -> None:
    handler.failing = {"a"}
    publish("a")
    consume(group)
    with pytest.raises(ValueError, match="cannot handle a"):
        redrive(DeadLetter.objects.get())
    assert DeadLetter.objects.get().attempts == ATTEMPTS + 1


def test_redriving_all_tells_which_failed_and_why(group: Group, handler: Handler) -> None:
    handler.failing = {"a", "b"}
    publish(*"ab")
    consume(group)
    handler.failing = {"b"}
    result = redrive_all(DeadLetter.objects.all())
    left = DeadLetter.objects.get()
    assert (result.total, result.succeeded) == (2, 1)
    assert result.failures == [(left.pk, "cannot handle b")]


def test_a_group_that_is_gone_says_so() -> None:
    letter = DeadLetter.objects.create(
        source="gone", event_id=uuid4(), type="t", topic="link", key="a", payload={}, error="e"
    )
    with pytest.raises(NotRedrivable, match="gone"):
        redrive(letter)


def test_a_purged_letter_is_gone_and_its_event_stays(group: Group, handler: Handler) -> None:
    handler.failing = {"a"}
    publish("a")
    consume(group)
    purge(DeadLetter.objects.get())
    assert not DeadLetter.objects.exists()
    assert len(DatabaseLog().replay("link", 0, 10) or []) == 1


@pytest.mark.django_db(transaction=True)
def test_a_handler_that_breaks_its_transaction_does_not_break_the_group(
    group: Group, handler: Handler
) -> None:
    def broken(envelope: Envelope) -> Any:
        with transaction.atomic():
            DeadLetter.objects.create(source="x", event_id=uuid4(), payload=None)

    publish("a")
    consume(Group("mail", ["link"], broken))
    assert DeadLetter.objects.get().source == "mail"


@pytest.mark.parametrize("foreign", [{}, {"correlationid": "x" * 1_000}, {"correlationid": ["a"]}])
def test_what_others_publish_needs_none_of_our_attributes(foreign: Envelope) -> None:
    with consumers.handling(foreign, "mail"), transaction.atomic():
        assert len(emit("link.expired", "a", {}).correlation_id) == 32
