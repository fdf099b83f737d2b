"""What belongs together has one id, whoever does it and whenever."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from broadcast_project.logs import Correlated
from broadcasts import rules
from broadcasts.models import Broadcast, Rule
from broadcasts.services import activate_due, compose, expire_overdue, send
from connections.consumers import StreamConsumer
from deliveries.models import Delivery, Endpoint
from deliveries.services import collect
from jobs import registry
from jobs.correlation import correlated, correlation_id, event_id
from jobs.execution import request_run, run_due, tick
from jobs.models import Job
from jobs.registry import periodic, periodic_jobs
from outbox import consumers
from outbox.consumers import Envelope, consumer_group
from outbox.deadletters import redrive
from outbox.logs import DatabaseLog
from outbox.models import DeadLetter, Event
from outbox.relay import Relay
from outbox.services import emit
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
Handle = Callable[[Envelope], None]


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """The lines of the log, as its handler sees them."""
    lines: list[dict[str, Any]] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(vars(record))

    keeping = Keeping()
    keeping.addFilter(Correlated())
    logging.getLogger().addHandler(keeping)
    yield lines
    logging.getLogger().removeHandler(keeping)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """By which ids the job TEST ran."""
    monkeypatch.setattr(registry, "periodic_jobs", periodic_jobs)
    ids: list[str] = []

    def job() -> int:
        """A job of a test."""
        ids.append(correlation_id())
        return 1

    periodic("TEST", every="0 0 29 2 *")(job)
    Job.objects.get_or_create(name="TEST")
    return ids


def happens(name: str = "asked") -> Event:
    with transaction.atomic(), correlated(name):
        event = emit("link.expired", "link-1", {"code": "spring"})
    relay = Relay(DatabaseLog())
    relay.step()
    relay.resign()
    return event


def consumed_by(handle: Handle) -> None:
    group = consumers.Group("mail", ["link"], handle)
    with closing(DatabaseLog().consumer(group.topics, group=group.name)) as consumer:
        consumers.consume(group, consumer)


def test_a_consumer_knows_what_it_handles_and_what_it_emits_inherits_it() -> None:
    known: list[tuple[str, str]] = []

    def handle(envelope: Envelope) -> None:
        known.append((correlation_id(), event_id()))
        with transaction.atomic():
            emit("mail.sent", "mail-1", {})

    event = happens()
    consumed_by(handle)
    assert known == [("asked", str(event.event_id))]
    assert Event.objects.get(type="mail.sent").correlation_id == "asked"
    assert correlation_id() == ""


def test_what_cannot_be_handled_keeps_it_also_when_it_is_redriven(
    logged: list[dict[str, Any]],
) -> None:
    known: list[str] = []

    def fail(envelope: Envelope) -> None:
        raise ValueError("broken")

    event = happens()
    consumed_by(fail)
    letter = DeadLetter.objects.get()
    assert letter.payload["correlationid"] == "asked"
    lines = [line for line in logged if line["name"] == "outbox.consumers"]
    assert {(line["correlation_id"], line["event_id"]) for line in lines} == {
        ("asked", str(event.event_id))
    }
    consumer_group("mail", ["link"])(lambda _: known.append(correlation_id()))
    try:
        redrive(letter)
    finally:
        del consumers.groups["mail"]
    assert known == ["asked"]


def test_what_cannot_be_published_is_logged_and_parked_with_it(
    logged: list[dict[str, Any]],
) -> None:
    with override_settings(EVENT_MAX_BYTES=5):
        happens()
    assert DeadLetter.objects.get().payload["correlationid"] == "asked"
    lines = [line for line in logged if line["name"] == "outbox.relay"]
    assert [line["correlation_id"] for line in lines] == ["asked"]


def test_a_delivery_has_it_in_its_body() -> None:
    Endpoint.objects.create(name="x", url="https://example.org/x", patterns=["*"])
    event = happens()
    event.refresh_from_db()
    collect([event.envelope()])
    assert json.loads(Delivery.objects.get().body)["correlationid"] == "asked"


def test_a_broadcast_of_a_rule_and_all_that_it_tells_inherit_it() -> None:
    UserFactory.create()
    rule = Rule(name="x", pattern="link.*", title="x", content="x", audience="ALL")
    rules.create(rule, None)
    event = happens()
    event.refresh_from_db()
    rules.apply([event.envelope()])
    activate_due()
    (broadcast,) = Broadcast.objects.all()
    assert broadcast.caused_by == "asked"
    told = Event.objects.filter(key=f"broadcast-{broadcast.pk}")
    assert set(told.values_list("type", "correlation_id")) == {
        ("broadcast.scheduled", "asked"),
        ("broadcast.activated", "asked"),
    }


def test_what_the_clock_does_belongs_to_who_sent_it_not_to_who_wrote_it() -> None:
    UserFactory.create()
    now = timezone.now()
    fields: dict[str, Any] = {"title": "x", "content": "x", "audience": "ALL"}
    fields |= {"scheduled_at": now + timedelta(hours=1), "expires_at": now + timedelta(hours=2)}
    with correlated("wrote"):
        broadcast = compose(None, **fields)
    with correlated("sent"):
        send(broadcast)
    Broadcast.objects.update(scheduled_at=now - timedelta(hours=2))
    with correlated("run"):
        activate_due()
    Broadcast.objects.update(expires_at=now - timedelta(hours=1))
    with correlated("run"):
        expire_overdue()
    told = Event.objects.filter(key=f"broadcast-{broadcast.pk}").order_by("id")
    assert list(told.values_list("type", "correlation_id")) == [
        ("broadcast.scheduled", "sent"),
        ("broadcast.activated", "sent"),
        ("broadcast.expired", "sent"),
    ]


def test_each_run_of_a_job_has_its_own(ran: list[str]) -> None:
    for _ in range(2):
        request_run("TEST")
        run_due(periodic_jobs["TEST"])
    assert len({*ran}) == 2
    assert all(ran)


def test_one_that_was_asked_for_has_that_of_who_asked(ran: list[str]) -> None:
    request_run("TEST")
    tick("TEST", "asked")
    assert ran == ["asked"]


def test_a_stream_that_is_refused_names_it_in_its_header_and_its_body() -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/user/sse/connect",
        "query_string": b"",
        "headers": [(b"x-request-id", b"asked")],
    }

    async def ask() -> tuple[dict[bytes, bytes], dict[str, Any]]:
        asking = ApplicationCommunicator(StreamConsumer.as_asgi(), scope)
        await asking.send_input({"type": "http.request"})
        start, body = await asking.receive_output(), await asking.receive_output()
        await asking.send_input({"type": "http.disconnect"})
        await asking.wait()
        return dict(start["headers"]), json.loads(body["body"])

    headers, error = asyncio.run(ask())
    assert (headers[b"x-request-id"], error["request_id"]) == (b"asked", "asked")
