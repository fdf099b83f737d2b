"""When a failed delivery is tried again: each kind has its job, its limit and its schedule."""

from datetime import timedelta

from django.conf import settings

from deliveries.models import Kind
from jobs.intervals import parse_duration
from jobs.registry import periodic_jobs

STANDARD = ["5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"]
"""What the specification of Standard Webhooks proposes: ten attempts in three days."""

RETRY_JOBS = {Kind.WEBHOOK: "WEBHOOK_RETRY_SCHEDULER", Kind.DISCORD: "NOTIFICATION_RETRY"}


def retries(kind: str) -> bool:
    """Whether failed deliveries are tried again without an operator."""
    return periodic_jobs[RETRY_JOBS[Kind(kind)]].enabled


def delay_after(kind: str, failures: int) -> timedelta | None:
    """How long to wait after so many failed attempts; None: it was the last."""
    if kind == Kind.WEBHOOK and settings.WEBHOOK_RETRY_SCHEDULE:
        delays = schedule()
        return delays[failures - 1] if failures <= len(delays) else None
    most = {
        Kind.WEBHOOK: settings.WEBHOOK_MAX_RETRIES,
        Kind.DISCORD: settings.NOTIFICATION_RETRY_MAX_RETRIES,
    }
    return timedelta(minutes=2**failures) if failures < most[Kind(kind)] else None


def schedule() -> list[timedelta]:
    given = settings.WEBHOOK_RETRY_SCHEDULE
    return [parse_duration(text) for text in (STANDARD if given == ["standard"] else given)]
