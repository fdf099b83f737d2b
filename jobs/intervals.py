"""When a job runs: every so often, or at the moments of a cron expression.

Time is cut into slots; a slot is named by the moment at which it begins. Every node computes the
same slots from the database's clock, so that a slot can be run once by whoever claims it.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterBadCronError, croniter
from django.conf import settings
from django.utils.dateparse import parse_duration as parse_iso8601

UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
PART = re.compile(r"(\d+)(ms|[smhd])")
DURATION = re.compile(r"(?:\d+(?:ms|[smhd]))+")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST_SLOTS = 1_000  # slots that are listed when a job was away; more are not worth a row each


class Interval(ABC):
    runs_at_start = True
    """Whether the slot in which the first node starts is due at once."""

    @abstractmethod
    def slot(self, at: datetime) -> datetime:
        """The latest slot that has begun."""

    @abstractmethod
    def after(self, slot: datetime) -> datetime:
        """The next slot."""

    def between(self, last: datetime, now: datetime) -> Iterator[datetime]:
        """The slots after `last` up to `now`, oldest first; at most MOST_SLOTS."""
        slot = self.after(last)
        for _ in range(MOST_SLOTS):
            if slot > now:
                return
            yield slot
            slot = self.after(slot)


@dataclass(frozen=True)
class Every(Interval):
    length: timedelta

    def slot(self, at: datetime) -> datetime:
        return at - (at - EPOCH) % self.length

    def after(self, slot: datetime) -> datetime:
        return self.slot(slot) + self.length


@dataclass(frozen=True)
class Cron(Interval):
    """Wall-clock moments of a time zone; croniter knows its daylight saving."""

    expression: str
    zone: ZoneInfo
    runs_at_start = False

    def slot(self, at: datetime) -> datetime:
        # A moment later, because get_prev() is strict and `at` may be a slot itself.
        local = (at + timedelta(microseconds=1)).astimezone(self.zone)
        found: datetime = croniter(self.expression, local).get_prev(datetime)
        return found.astimezone(UTC)

    def after(self, slot: datetime) -> datetime:
        found: datetime = croniter(self.expression, slot.astimezone(self.zone)).get_next(datetime)
        return found.astimezone(UTC)


def parse_duration(text: str) -> timedelta:
    """`2s`, `5m`, `1h30m`, or ISO 8601 (`PT5M`). Raise `ValueError` with what is allowed."""
    if DURATION.fullmatch(text):
        return sum((int(n) * UNITS[unit] for n, unit in PART.findall(text)), timedelta())
    length = parse_iso8601(text) if text.startswith("P") else None
    if length is None:
        raise ValueError(f"{text!r} is no duration: write 30s, 5m, 1h, 24h, 1h30m or PT5M")
    return length


def parse_interval(text: str) -> Interval:
    """A duration, or a cron expression (`0 2 * * *`, or `CRON_TZ=Europe/Berlin 0 2 * * *`).

    Without a zone it is that of TIME_ZONE. Raise `ValueError` with what is allowed.
    """
    if " " not in text.strip():
        length = parse_duration(text.strip())
        if length <= timedelta():
            raise ValueError(f"{text!r} is no interval: it must be longer than nothing")
        return Every(length)
    zone_name, expression = settings.TIME_ZONE, text.strip()
    if expression.startswith("CRON_TZ="):
        zone_name, _, expression = expression.removeprefix("CRON_TZ=").partition(" ")
    try:
        zone = ZoneInfo(zone_name)
        if len(expression.split()) != 5:
            raise CroniterBadCronError("it has not five fields")
        croniter(expression)
    except (CroniterBadCronError, ZoneInfoNotFoundError, ValueError, KeyError) as error:
        raise ValueError(
            f"{text!r} is no cron expression ({error}): write five fields such as '0 2 * * *', "
            "with a zone 'CRON_TZ=Europe/Berlin 0 2 * * *'"
        ) from error
    return Cron(expression, zone)
