"""One trace, and one id, from the request that composes to the client that has seen it."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from confluent_kafka import Consumer
from django.contrib.auth.models import User
from django.utils import timezone

from broadcasts.models import Broadcast
from deliveries.models import Endpoint
from outbox.models import Event
from tests.collector import Collector, Seen, collector
from tests.conftest import Spawn
from tests.deliveries.receiver import receiver
from tests.everywhere import OPERATOR, READER, Everywhere
from tests.live import database_of
from tests.processes import Environment
from tests.servers import CHECKOUT
from tests.sse import Client, Received, basic, token_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ASKED = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "X-Request-ID": "asked-by-a-test"}
SOON = timedelta(seconds=2)


@pytest.fixture
def collected() -> Iterator[Collector]:
    with collector() as found:
        yield found


@pytest.fixture(params=["database", "kafka"])
def site(
    request: pytest.FixtureRequest,
    live_database: Environment,
    spawn: Spawn,
    free_port: int,
    collected: Collector,
) -> Iterator[Everywhere]:
    on_kafka = {}
    if request.param == "kafka":
        url, prefix = request.getfixturevalue("kafka_url"), f"{uuid4().hex[:8]}-"
        on_kafka = {"KAFKA_BOOTSTRAP_SERVERS": url, "KAFKA_TOPIC_PREFIX": prefix}
    env = live_database | on_kafka
    env |= {
        "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collected.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",  # milliseconds
    }
    with receiver() as server, database_of(env):
        site = Everywhere(env, free_port, spawn, server, on_kafka)
        site.start()
        Endpoint.objects.create(name="all", url=server.url("/all"), patterns=["broadcast.*"])
        yield site


def ask(
    site: Everywhere, path: str, data: Any, who: str, headers: dict[str, str]
) -> dict[str, Any]:
    headers = {"Authorization": basic(who, who), "Content-Type": "application/json"} | headers
    url = f"http://127.0.0.1:{site.port}{path}"
    with urlopen(Request(url, json.dumps(data).encode(), headers)) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


@contextmanager
def reading(site: Everywhere) -> Iterator[Client]:
    client = Client(site.port, token_of(User.objects.get(username=READER).pk, site.env))
    loop = asyncio.new_event_loop()
    task = loop.create_task(client.follow(lambda _: False))
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([task])))
    thread.start()
    try:
        wait_until(lambda: client.counts["CONNECTED"], message="the stream is open")
        yield client
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


def compose(site: Everywhere, **fields: Any) -> int:
    reader = str(User.objects.get(username=READER).pk)
    data = {"title": "x", "content": "x", "audience": "SELECTED", "targets": [reader]} | fields
    pk: int = ask(site, "/api/admin/broadcasts", data, OPERATOR, ASKED)["id"]
    return pk


def arrived(client: Client, pk: int) -> Received | None:
    return next((r for r in client.of("MESSAGE") if r.data["broadcast_id"] == pk), None)


def one(collected: Collector, name: str) -> Seen:
    found: list[Seen] = wait_until(
        lambda: [span for span in collected.named(name) if span.trace == TRACE],
        message=f"{name} is collected",
    )
    assert len(found) == 1
    return found[0]


def activating(collected: Collector, what_came_of_it: Seen) -> Seen:
    """Of the two that may have looked, the request and the clock, the one that activated it."""

    def found() -> list[Seen]:
        return [s for s in collected.named("activate") if s.id == what_came_of_it.parent]

    wait_until(found, message="the activation is collected")
    return found()[0]


def test_one_trace_leads_from_composing_to_what_was_seen(
    site: Everywhere, collected: Collector
) -> None:
    with reading(site) as client:
        pk = compose(site)
        wait_until(lambda: arrived(client, pk), message="it is on screen")
        message = arrived(client, pk)
    assert message
    trace = {"traceparent": message.data["traceparent"]}
    seen = ask(site, "/api/user/messages/ack-visibility", {"broadcast_id": pk}, READER, trace)
    assert seen["count"] == 1

    composing = one(collected, "POST api/admin/broadcasts")
    told = [
        one(collected, "publish broadcast.activated"),
        one(collected, "dispatch broadcast.activated"),
        one(collected, "deliver broadcast.activated"),
        one(collected, "POST api/user/messages/ack-visibility"),
    ]
    assert (composing.kind, composing.parent) == ("SERVER", "00f067aa0ba902b7")
    assert composing.attributes["correlation_id"] == "asked-by-a-test"
    activated = activating(collected, told[0])
    assert activated.parent == composing.id
    assert {span.parent for span in told} == {activated.id}
    assert [span.kind for span in told] == ["PRODUCER", "CONSUMER", "CLIENT", "SERVER"]
    assert {span.service for span in told} == {"broadcast"}
    assert told[1].attributes["streams"] == 1

    sent = {json.loads(r.body)["type"]: r for r in site.receiver.received}["broadcast.activated"]
    assert sent.headers["traceparent"] == f"00-{TRACE}-{told[2].id}-01"
    assert json.loads(sent.body)["correlationid"] == "asked-by-a-test"
    if site.on_kafka:
        on_kafka(site, str(sent.id), f"00-{TRACE}-{activated.id}-01".encode())


def on_kafka(site: Everywhere, event_id: str, traceparent: bytes) -> None:
    options = {
        "bootstrap.servers": site.on_kafka["KAFKA_BOOTSTRAP_SERVERS"],
        "group.id": uuid4().hex,
        "auto.offset.reset": "earliest",
    }
    with closing(Consumer(options)) as consumer:
        consumer.subscribe([f"{site.on_kafka['KAFKA_TOPIC_PREFIX']}broadcasts"])
        headers: dict[str, dict[str, Any]] = {}

        def read() -> bool:
            if (message := consumer.poll(0.5)) and not message.error():
                value = json.loads(message.value() or b"")
                headers[value["id"]] = dict(message.headers() or [])
            return event_id in headers

        wait_until(read, message="it is on Kafka")
    assert headers[event_id]["traceparent"] == traceparent


def test_what_its_clock_does_later_belongs_to_who_sent_it(
    site: Everywhere, collected: Collector
) -> None:
    pk = compose(site, scheduled_at=(timezone.now() + SOON).isoformat())
    composing = one(collected, "POST api/admin/broadcasts")
    published = one(collected, "publish broadcast.activated")
    assert activating(collected, published).parent == composing.id
    events = Event.objects.filter(key=f"broadcast-{pk}").values_list("type", "correlation_id")
    assert set(events) >= {("broadcast.activated", "asked-by-a-test")}
    assert {name for _, name in events} == {"asked-by-a-test"}
    assert Broadcast.objects.get(pk=pk).caused_by == "asked-by-a-test"


def test_without_a_collector_opentelemetry_is_not_even_imported() -> None:
    code = (
        "import os, sys, django; os.environ['DJANGO_SETTINGS_MODULE'] ="
        " 'broadcast_project.settings'; django.setup()\n"
        "import broadcast_project.asgi\n"
        "from jobs import tracing\n"
        "with tracing.span('x'): tracing.describe(y=1); tracing.record('z', 'client', 'p', 0)\n"
        # `redis` imports what it knows of it by itself, where it is installed.
        "ours = ('opentelemetry.sdk.trace', 'opentelemetry.exporter')\n"
        "print([name for name in sys.modules if name.startswith(ours)],"
        " tracing.traceparent() == '')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, check=True, stdout=subprocess.PIPE
    )
    assert done.stdout.decode().strip() == "[] True"
