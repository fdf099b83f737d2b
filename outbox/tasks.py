"""The clock of the outbox."""

from datetime import timedelta

from django.conf import settings

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
    old = Event.objects.published().filter(
        published_at__lt=clock.now() - timedelta(days=settings.EVENT_RETENTION_DAYS)
    )
    expect(old.count())
    deleted = 0
    while ids := list(old.order_by("position").values_list("pk", flat=True)[:BATCH]):
        with fenced():
            Event.objects.filter(pk__in=ids).delete()
        advance(len(ids))
        deleted += len(ids)
    return deleted
