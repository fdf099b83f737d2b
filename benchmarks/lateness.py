"""How late scheduled broadcasts go out: from their moment until they are active, and published.

A relay of its own runs as a process. Peer: a job that looks once every 60 s, which is late by half
of that in the median, whatever the machine; it is computed, not measured.
"""

import os
import random
from collections.abc import Iterable
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
TICK = 60_000  # milliseconds
TYPE = "broadcast.activated"


def run(*, quick: bool) -> Report:
    count, span = (15, 5) if quick else (BROADCASTS, 20)
    User.objects.create(username="reader")
    relay = Spawned.start(["relay"], dict(os.environ), Path(settings.VAR_DIR) / "relay.log")
    try:
        moments = schedule(count, span)
        wait_until(lambda: Event.objects.published().filter(type=TYPE).count() == count, span + 60)
    finally:
        relay.close()
    activated = Times(late(moments, Broadcast.objects.values_list("pk", "activated_at")))
    published = Times(late(moments, published_at()))
    return Report(
        "lateness",
        {
            "broadcasts": count,
            "activated_p50_ms": activated.p50,
            "activated_p95_ms": activated.p95,
            "activated_max_ms": round(max(activated.values), 2),
            "published_p50_ms": published.p50,
            "published_p95_ms": published.p95,
            "published_max_ms": round(max(published.values), 2),
        },
        {"tick_of_60_s_to_published": round(TICK / 2 / published.p50)},
    )


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


def published_at() -> Iterable[tuple[int, datetime | None]]:
    for event in Event.objects.published().filter(type=TYPE):
        yield event.data["broadcast_id"], event.published_at


def late(
    moments: dict[int, datetime], happened: Iterable[tuple[int, datetime | None]]
) -> list[float]:
    """Milliseconds, and never before the moment."""
    values = [(at - moments[pk]).total_seconds() * 1_000 for pk, at in happened if at]
    assert len(values) == len(moments)
    assert min(values) >= 0
    return values
