"""How many requests may go out: below what Battle.net documents, whoever asks for them.

36,000 an hour and 100 a second are allowed. Each limit is a bucket that fills steadily (GCRA), so
that no hour and no second, wherever it begins, has more than the setting says.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from domains.warcraft.models import Budget
from jobs import clock

CHUNK = 20  # requests that a process takes at a time: one write to the row for each
BURST = {"hourly_at": 0.1, "secondly_at": 0.25}
"""The part of a limit that may go out at once; the rest comes evenly."""


@transaction.atomic
def reserve() -> tuple[int, float]:
    """A chunk of requests that is the caller's now; or 0, and the seconds until there is one."""
    now = clock.now()
    row = _locked(now)
    if row.held_until and row.held_until > now:
        return 0, (row.held_until - now).total_seconds()
    limits = buckets()
    chunk = min(CHUNK, *(int(bucket.burst) for bucket in limits.values()))
    wait = max(bucket.wait(getattr(row, name) - now, chunk) for name, bucket in limits.items())
    if wait > 0:
        return 0, wait
    for name, bucket in limits.items():
        earned = max(getattr(row, name), now) + timedelta(seconds=chunk / bucket.rate)
        setattr(row, name, earned)
    row.save(update_fields=list(limits))
    return chunk, 0.0


@dataclass(frozen=True)
class Bucket:
    burst: float
    rate: float
    """Requests a second that are earned."""

    def wait(self, debt: timedelta, chunk: int) -> float:
        """Seconds until it holds a chunk, when all that was taken is earned after `debt`."""
        available = self.burst - max(debt.total_seconds(), 0.0) * self.rate
        return max((chunk - available) / self.rate, 0.0)


def buckets() -> dict[str, Bucket]:
    """By the column of their row: in any hour, burst and what is earned are the limit."""
    limits = {
        "hourly_at": (settings.BATTLENET_REQUESTS_PER_HOUR, 3_600),
        "secondly_at": (settings.BATTLENET_REQUESTS_PER_SECOND, 1),
    }
    found = {}
    for name, (limit, seconds) in limits.items():
        burst = max(limit * BURST[name], 1.0)
        found[name] = Bucket(burst, max(limit - burst, 1.0) / seconds)
    return found


@transaction.atomic
def hold(seconds: float) -> None:
    """Nobody asks Battle.net anything for so long."""
    now = clock.now()
    row = _locked(now)
    until = now + timedelta(seconds=seconds)
    row.held_until = max(row.held_until or until, until)
    row.save(update_fields=["held_until"])


def _locked(now: datetime) -> Budget:
    rows = Budget.objects.select_for_update()
    return rows.first() or rows.get_or_create(pk=1, defaults=dict.fromkeys(BURST, now))[0]
