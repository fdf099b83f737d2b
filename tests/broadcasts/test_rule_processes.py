"""Rules by real processes that are killed in the middle."""

import random
import signal
import uuid
from collections.abc import Iterator

import pytest
from django.db import transaction

from broadcasts.models import Broadcast, Outcome, Rule, RuleMatch, Status
from broadcasts.rules import create
from outbox.models import DeadLetter
from outbox.services import build_event, emit_all
from tests.conftest import Spawn
from tests.live import database_of
from tests.processes import Environment
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

EVENTS, KILLS = 200, 4


@pytest.fixture
def env(live_database: Environment) -> Iterator[Environment]:
    env = live_database | {"OUTBOX_LEASE_SECONDS": "2"}
    with database_of(env):
        yield env


def happen(start: int, end: int) -> None:
    with transaction.atomic():
        emit_all([build_event("link.expired", f"link-{n}", {"n": n}) for n in range(start, end)])


def test_through_kill_9_each_event_is_broadcast_once_by_each_rule(
    spawn: Spawn, env: Environment
) -> None:
    rules = [
        create(Rule(name=name, pattern="link.*", title=name + " {{ n }}"), None)
        for name in ("One", "Two")
    ]
    relays = [spawn(["relay"], env), spawn(["relay"], env)]
    for kill in range(KILLS):
        before = RuleMatch.objects.count()
        happen(kill * EVENTS // KILLS, (kill + 1) * EVENTS // KILLS)
        wait_until(lambda before=before: RuleMatch.objects.count() > before)  # type: ignore[misc]
        victim = relays.pop(random.randrange(len(relays)))
        victim.send(signal.SIGKILL)
        relays.append(spawn(["relay"], env))
    sent = Broadcast.objects.filter(status=Status.ACTIVE)
    wait_until(lambda: sent.count() >= 2 * EVENTS, message="all are broadcast")
    titles = sorted(sent.values_list("title", flat=True))
    assert titles == sorted(f"{rule.name} {n}" for rule in rules for n in range(EVENTS))
    assert Broadcast.objects.count() == RuleMatch.objects.count() == 2 * EVENTS
    assert not RuleMatch.objects.exclude(outcome=Outcome.BROADCAST).exists()
    assert not DeadLetter.objects.exists()


def test_events_come_through_kafka_as_well(spawn: Spawn, env: Environment, kafka_url: str) -> None:
    create(Rule(name="Links", pattern="link.expired", title="Link {{ n }}"), None)
    prefix = f"{uuid.uuid4().hex[:8]}-"
    on_kafka = env | {"KAFKA_BOOTSTRAP_SERVERS": kafka_url, "KAFKA_TOPIC_PREFIX": prefix}
    relays = [spawn(["relay"], on_kafka), spawn(["relay"], on_kafka)]
    happen(0, 100)
    wait_until(lambda: Broadcast.objects.filter(status=Status.ACTIVE).count() >= 100)
    for relay in relays:
        relay.send(signal.SIGTERM)
        assert relay.wait() == 0
    assert Broadcast.objects.count() == 100
