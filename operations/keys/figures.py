"""What keys were used for on each of the last days: for a whole page of them at once."""

from collections.abc import Iterable
from datetime import UTC, date, timedelta

from jobs import clock
from operations.keys.models import ApiKey, ApiKeyUsage

DAYS = 30


def days_of(keys: Iterable[ApiKey], days: int = DAYS) -> dict[int, list[ApiKeyUsage]]:
    """By key, one for each day up to today (UTC), also where there is no row; one statement."""
    today = clock.now().astimezone(UTC).date()
    wanted = [today - timedelta(days=days - 1 - n) for n in range(days)]
    pks = [key.pk for key in keys]
    rows = ApiKeyUsage.objects.filter(key__in=pks, day__gte=wanted[0], day__lte=today)
    found: dict[tuple[int, date], ApiKeyUsage] = {(row.key_id, row.day): row for row in rows}
    return {
        pk: [found.get((pk, day)) or ApiKeyUsage(key_id=pk, day=day) for day in wanted]
        for pk in pks
    }
