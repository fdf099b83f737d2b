"""The time that decides what is due: the database's, so that nodes whose clocks differ agree."""

from datetime import datetime

from django.db import connection
from django.utils import timezone

LONGEST_SLEEP = 2.0  # seconds; a commit wakes sooner


def now() -> datetime:
    if connection.vendor == "sqlite":  # it runs in this process, by its clock
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def seconds_until(*moments: datetime | None) -> float:
    """Until the first of them; at most LONGEST_SLEEP."""
    at = now()
    waits = [(moment - at).total_seconds() for moment in moments if moment]
    return max(0.0, min([LONGEST_SLEEP, *waits]))
