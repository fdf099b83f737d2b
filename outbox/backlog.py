"""How the outbox stands: what waits, since when, and who publishes it."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Min
from django.utils import timezone

from jobs.registry import Standing
from outbox.leases import RELAY, leading, standing_of
from outbox.logs import get_log
from outbox.models import Event


@dataclass(frozen=True)
class Backlog:
    depth: int
    oldest_pending_seconds: float | None
    parked: int
    position: int
    leader: str | None
    leader_since: datetime | None


def backlog() -> Backlog:
    """Five statements, whatever the outbox holds."""
    waiting = Event.objects.pending().aggregate(depth=Count("pk"), oldest=Min("created_at"))
    oldest: datetime | None = waiting["oldest"]
    lease = leading(RELAY)
    return Backlog(
        depth=waiting["depth"],
        oldest_pending_seconds=(timezone.now() - oldest).total_seconds() if oldest else None,
        parked=Event.objects.parked().count(),
        position=get_log().head(),
        leader=lease.holder if lease else None,
        leader_since=lease.since if lease else None,
    )


def standing() -> Standing:
    """The backlog as far as the console of the jobs tells it."""
    return standing_of(RELAY, Event.objects.pending().count())
