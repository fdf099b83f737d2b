"""Deliveries as they really go out: by processes that are killed in the middle."""

import random
import signal
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest
from django.db import transaction
from django.utils import timezone

from deliveries.models import Delivery, Endpoint, Status
from outbox.models import DeadLetter
from outbox.services import build_event, emit_all
from tests.conftest import Spawn
from tests.deliveries.receiver import Server, hang
from tests.live import database_of
from tests.processes import Environment
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

ALIVE, DEAD, EVENTS, KILLS = 15, 5, 250, 5


@pytest.fixture
def env(live_database: Environment) -> Iterator[Environment]:
    env = live_database | {
        "OUTBOX_LEASE_SECONDS": "2",
        "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        "WEBHOOK_TIMEOUT": "3",
    }
    with database_of(env):
        yield env


def test_through_kill_9_every_delivery_to_a_living_endpoint_arrives(
    spawn: Spawn, env: Environment, server: Server
) -> None:
    paths = [f"/{number}" for number in range(ALIVE)]
    for path in [*paths, *(f"/dead/{number}" for number in range(DEAD))]:
        Endpoint.objects.create(name=path, url=server.url(path), patterns=["link.*"])
        if path.startswith("/dead"):
            server.behaviours[path] = hang
    relays = [spawn(["relay"], env), spawn(["relay"], env)]
    for kill in range(KILLS):
        with transaction.atomic():
            numbers = range(kill * EVENTS // KILLS, (kill + 1) * EVENTS // KILLS)
            emit_all([build_event("link.expired", f"link-{n}", {"n": n}) for n in numbers])
        before = len(server.received)
        wait_until(lambda before=before: len(server.received) > before)  # type: ignore[misc]
        victim = relays.pop(random.randrange(len(relays)))
        victim.send(signal.SIGKILL)
        relays.append(spawn(["relay"], env))
    alive = Delivery.objects.filter(endpoint__name__in=paths)
    wait_until(
        lambda: alive.filter(status=Status.SUCCESS).count() == ALIVE * EVENTS,
        timeout=240,
        message="all are delivered",
    )
    expected = {str(pk) for pk in alive.values_list("event_id", flat=True)}
    for path in paths:
        assert set(server.ids(path)) == expected
    times = Counter(server.ids("/0"))
    assert sum(times.values()) < 2 * EVENTS, "more than at least once, but not by much"
    dead = Delivery.objects.exclude(endpoint__name__in=paths)
    assert dead.filter(status=Status.SUCCESS).count() == 0
    assert dead.count() == DEAD * EVENTS


def test_a_relay_that_is_told_to_stop_leaves_no_claim(
    spawn: Spawn, env: Environment, server: Server
) -> None:
    Endpoint.objects.create(name="/", url=server.url(), patterns=["*"])
    server.behaviours["/"] = hang
    relay = spawn(["relay"], env | {"WEBHOOK_TIMEOUT": "60"})
    with transaction.atomic():
        emit_all([build_event("link.expired", "link-1", {})])
    wait_until(lambda: server.received)
    relay.send(signal.SIGTERM)
    assert relay.wait() == 0
    delivery = Delivery.objects.get()
    assert (delivery.status, delivery.claimed_by) == (Status.PENDING, "")
    assert delivery.next_attempt_at
    assert delivery.next_attempt_at <= timezone.now()


def test_events_come_through_kafka_as_well(
    spawn: Spawn, env: Environment, server: Server, kafka_url: str
) -> None:
    Endpoint.objects.create(name="/", url=server.url(), patterns=["*"])
    prefix = f"{uuid.uuid4().hex[:8]}-"
    on_kafka = env | {"KAFKA_BOOTSTRAP_SERVERS": kafka_url, "KAFKA_TOPIC_PREFIX": prefix}
    relays = [spawn(["relay"], on_kafka), spawn(["relay"], on_kafka)]
    with transaction.atomic():
        emit_all([build_event("link.expired", f"link-{n}", {"n": n}) for n in range(300)])
        emit_all([build_event("broadcast.activated", "broadcast-1", {}, channels=["all"])])
    done = Delivery.objects.filter(status=Status.SUCCESS)
    wait_until(lambda: done.count() == 301, timeout=90)
    for relay in relays:
        relay.send(signal.SIGTERM)
        assert relay.wait() == 0
    assert len(server.ids()) == len(set(server.ids())) == 301
    assert not DeadLetter.objects.exists()
