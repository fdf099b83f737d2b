"""Events relayed from the outbox to the event log, and read from it.

Peer, in the same run: one transaction for each event, on a sample.
"""

from collections.abc import Callable

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from benchmarks.reports import Report, seconds
from outbox.logs import DatabaseLog
from outbox.models import Event, LeaderLease
from outbox.relay import Relay
from outbox.services import build_event, emit_all

KEYS = 500


def run(*, quick: bool) -> Report:
    count, sample = (3_000, 500) if quick else (30_000, 2_000)
    emitting = seconds(lambda: emit_many(count))
    relay = Relay(DatabaseLog())
    relaying = seconds(until_published(relay, count))
    reading = seconds(lambda: read(count))
    relay.resign()
    emit_many(sample)
    naive = seconds(lambda: publish_one_by_one(sample)) / sample * count
    check_order(count + sample)
    return Report(
        "relay",
        {
            "events": count,
            "emitted_per_s": round(count / emitting),
            "relayed_per_s": round(count / relaying),
            "read_per_s": round(count / reading),
            "one_by_one_per_s": round(count / naive),
        },
        {"one_by_one_to_relay": round(naive / relaying, 1)},
    )


def emit_many(count: int) -> None:
    for start in range(0, count, 100):
        with transaction.atomic():
            emit_all(
                [
                    build_event("link.expired", f"link-{n % KEYS}", {"link_id": n})
                    for n in range(start, min(start + 100, count))
                ]
            )


def until_published(relay: Relay, count: int) -> Callable[[], None]:
    def publish() -> None:
        while Event.objects.published().count() < count:
            relay.step()

    return publish


def read(count: int) -> None:
    consumer = DatabaseLog().consumer(["link"], after=0)
    records = 0
    while polled := consumer.poll():
        records += len(polled)
    assert records == count


def publish_one_by_one(count: int) -> None:
    for _ in range(count):
        with transaction.atomic():
            LeaderLease.objects.update(position=F("position") + 1)
            event = Event.objects.publishable(timezone.now())[0]
            event.position = LeaderLease.objects.get().position
            event.published_at = timezone.now()
            event.save(update_fields=["position", "published_at"])


def check_order(count: int) -> None:
    """Dense, and in the order of each key."""
    seen: dict[str, int] = {}
    events = Event.objects.published().order_by("position")
    for number, event in enumerate(events.iterator(), 1):
        assert event.position == number
        assert seen.get(event.key, 0) < event.pk
        seen[event.key] = event.pk
    assert number == count
