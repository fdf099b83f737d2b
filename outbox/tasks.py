"""The clock of the outbox."""

from bisect import bisect_left
from datetime import datetime, timedelta
from typing import cast

from django.conf import settings
from django.db.models import Max, Min

from jobs import clock
from jobs.leases import fenced
from jobs.progress import advance, expect
from jobs.registry import periodic, worker
from outbox.backlog import standing
from outbox.models import Event
from outbox.relay import Relay

BATCH = 5_000


@worker("OUTBOX_RELAY", standing=standing)
class RelayWorker:
    """Publish the outbox to the event log."""

    wakes_on = "outbox"

    def __init__(self) -> None:
        self.relay = Relay()

    def step(self) -> float:
        return self.relay.step()

    def stop(self) -> None:
        self.relay.resign()


@periodic("EVENT_RETENTION", every="24h")
def delete_old_events() -> int:
    """Delete published events older than EVENT_RETENTION_DAYS, in batches."""
    kept_since = clock.now() - timedelta(days=settings.EVENT_RETENTION_DAYS)
    events = Event.objects.published()
    ends = events.aggregate(first=Min("position"), last=Max("position"))
    if ends["first"] is None:
        return 0

    def published_at(position: int) -> datetime:
        at = events.filter(position__gte=position).order_by("position").values_list("published_at")
        return cast(datetime, at[0][0])

    # They are marked in the order of their positions, so that no index of the moments is needed.
    places = range(ends["first"], ends["last"] + 1)
    old = places[: bisect_left(places, kept_since, key=published_at)]
    expect(len(old))
    deleted = 0
    for start in range(0, len(old), BATCH):
        part = old[start : start + BATCH]
        with fenced():
            count, _ = events.filter(position__range=(part[0], part[-1])).delete()
        advance(len(part))
        deleted += count
    return deleted
