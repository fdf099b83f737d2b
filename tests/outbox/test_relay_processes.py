"""Relays as they really run: processes that are killed, and that take over from each other."""

import signal
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from outbox.leases import RELAY
from outbox.models import Event, LeaderLease
from outbox.relay import FALLBACK_POLL
from outbox.services import emit
from tests.conftest import Spawn
from tests.live import database_of
from tests.processes import Environment, Spawned
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

LEASE = 2  # seconds


@pytest.fixture
def env(live_database: Environment) -> Iterator[Environment]:
    env = live_database | {"OUTBOX_LEASE_SECONDS": str(LEASE)}
    with database_of(env):
        yield env


def emit_some(count: int, start: int = 0) -> list[str]:
    keys = [f"key-{start + n}" for n in range(count)]
    for key in keys:
        with transaction.atomic():
            emit("link.expired", key, {})
    return keys


def published() -> list[str]:
    events = Event.objects.published().order_by("position")
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    return [event.key for event in events]


def works(relay: Spawned) -> bool:
    return "OUTBOX_RELAY started" in relay.output()


def leader(*relays: Spawned) -> Spawned | None:
    lease = LeaderLease.objects.filter(name=RELAY, until__gt=timezone.now()).first()
    leading = [relay for relay in relays if lease and f"-{relay.pid}-" in lease.holder]
    return leading[0] if leading else None


def test_of_two_relays_exactly_one_leads(spawn: Spawn, env: Environment) -> None:
    env |= {"OUTBOX_LEASE_SECONDS": "600"}  # it is not lost by standing still
    relays = [spawn(["relay"], env), spawn(["relay"], env)]
    wait_until(lambda: all(works(relay) for relay in relays))
    wait_until(lambda: leader(*relays))
    keys = emit_some(50)
    wait_until(lambda: len(published()) == 50)
    assert published() == keys
    assert LeaderLease.objects.get(name=RELAY).token == 1


def test_a_killed_leader_is_followed_and_nothing_is_lost_or_twice(
    spawn: Spawn, env: Environment
) -> None:
    relays = [spawn(["relay"], env), spawn(["relay"], env)]
    keys: list[str] = []
    for _ in range(3):
        first = wait_until(lambda: leader(*relays), message="somebody leads")
        wait_until(lambda: all(works(relay) for relay in relays), message="another stands by")
        keys += emit_some(20, start=len(keys))
        assert first
        first.send(signal.SIGKILL)
        killed = time.monotonic()
        relays.remove(first)
        relays.append(spawn(["relay"], env))
        keys += emit_some(20, start=len(keys))
        wait_until(lambda: leader(*relays), message="another leads")
        assert time.monotonic() - killed < LEASE + 30
    wait_until(lambda: Event.objects.published().count() == len(keys))
    assert published() == keys


def test_a_relay_that_is_told_to_stop_is_followed_at_once(spawn: Spawn, env: Environment) -> None:
    relay = spawn(["relay"], env | {"OUTBOX_LEASE_SECONDS": "600"})
    wait_until(lambda: leader(relay))
    relay.send(signal.SIGTERM)
    assert relay.wait() == 0
    lease = LeaderLease.objects.get(name=RELAY)
    assert (lease.until, lease.holder) == (None, "")


def test_what_is_emitted_is_published_within_moments(spawn: Spawn, env: Environment) -> None:
    relay = spawn(["relay"], env | {"OUTBOX_LEASE_SECONDS": "600"})
    wait_until(lambda: leader(relay))
    delays: list[timedelta] = []
    for n in range(20):
        emit_some(1, start=n)
        wait_until(lambda n=n: len(published()) == n + 1)  # type: ignore[misc]
        event = Event.objects.latest("id")
        assert event.published_at is not None
        delays.append(event.published_at - event.created_at)
    delays.sort()
    print(f"published after {delays[10].total_seconds() * 1000:.0f} ms in the median")
    assert delays[5] < timedelta(seconds=FALLBACK_POLL / 2)  # who is not woken looks this often
