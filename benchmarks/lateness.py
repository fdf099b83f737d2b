"""How late scheduled broadcasts go out: from their moment until they are active, and published.

Relays of its own run as processes: one for moments at random, then three for a thousand broadcasts
of one moment. Peer: a job that looks once every 60 s, which is late by half of that in the median,
whatever the machine; it is computed, not measured.
"""

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from benchmarks.reports import Report, Times
from broadcasts.models import Broadcast, Status
from broadcasts.services import compose, send
from outbox.models import Event
from tests.processes import Spawned
from tests.waiting import wait_until

BROADCASTS = 50
AT_ONCE = 1_000
NODES = 3
TICK = 60_000  # milliseconds
TYPE = "broadcast.activated"


def run(*, quick: bool) -> Report:
    count, span = (15, 5) if quick else (BROADCASTS, 20)
    User.objects.create(username="reader")
    with relays(1):
        moments = schedule(count, span)
        published = figures("published", late(moments, wait_for(moments, span)))
    activated = figures("activated", late(moments, activated_at()))
    with relays(NODES):
        at_once = schedule_at_once(AT_ONCE // 10 if quick else AT_ONCE)
        all_published = figures("at_once_published", late(at_once, wait_for(at_once, 0)))
    all_activated = figures("at_once_activated", late(at_once, activated_at()))
    return Report(
        "lateness",
        {"broadcasts": count, **activated, **published}
        | {"at_once_broadcasts": len(at_once), "at_once_nodes": NODES}
        | {**all_activated, **all_published},
        {
            "tick_of_60_s_to_published": round(TICK / 2 / published["published_p50_ms"]),
            "tick_of_60_s_to_at_once_published": round(
                TICK / 2 / all_published["at_once_published_p50_ms"]
            ),
        },
    )


@contextmanager
def relays(number: int) -> Iterator[None]:
    """So many, each with its clock running."""
    running: list[Spawned] = []
    try:
        for node in range(number):
            log = Path(settings.VAR_DIR) / f"relay-{node}.log"
            env = os.environ | {"NODE_NAME": f"node-{node}", "LOG_LEVEL": "INFO"}
            running.append(Spawned.start(["relay"], env, log))
        for relay in running:
            wait_until(lambda relay=relay: "BROADCAST_CLOCK started" in relay.output())  # type: ignore[misc]
        yield
    finally:
        for relay in running:
            relay.close()


def figures(name: str, values: list[float]) -> dict[str, float]:
    times = Times(values)
    return {
        f"{name}_p50_ms": times.p50,
        f"{name}_p95_ms": times.p95,
        f"{name}_p99_ms": times.p99,
        f"{name}_max_ms": round(max(values), 2),
    }


def schedule(count: int, span: float) -> dict[int, datetime]:
    """Their random moments by id; the first is far enough for all of them to be scheduled."""
    start = timezone.now() + timedelta(seconds=3)
    moments = {}
    for number in range(count):
        moment = start + timedelta(seconds=random.uniform(0, span))
        broadcast = send(compose(None, title=f"Number {number}", content="*Text*"), moment)
        assert broadcast.status == Status.SCHEDULED
        moments[broadcast.pk] = moment
    return moments


def schedule_at_once(count: int) -> dict[int, datetime]:
    """All at one moment, written in bulk: it must not come while they are still composed."""
    moment = timezone.now() + timedelta(seconds=5)
    made = Broadcast.objects.bulk_create(
        Broadcast(
            title=f"Number {number}",
            content="*Text*",
            status=Status.SCHEDULED,
            scheduled_at=moment,
        )
        for number in range(count)
    )
    return {broadcast.pk: moment for broadcast in made}


Moments = Iterable[tuple[int, datetime | None]]


def wait_for(moments: dict[int, datetime], seconds: float) -> Moments:
    """When the event of each was published."""
    keys = [f"broadcast-{pk}" for pk in moments]
    events = Event.objects.published().filter(type=TYPE, key__in=keys)
    wait_until(lambda: events.count() == len(moments), seconds + 120)
    return [(event.data["broadcast_id"], event.published_at) for event in events]


def activated_at() -> Moments:
    return Broadcast.objects.values_list("pk", "activated_at")


def late(moments: dict[int, datetime], happened: Moments) -> list[float]:
    """Milliseconds, and never before the moment."""
    values = [
        (at - moments[pk]).total_seconds() * 1_000 for pk, at in happened if at and pk in moments
    ]
    assert len(values) == len(moments)
    assert min(values) >= 0
    return values
