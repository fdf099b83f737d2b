"""Quiet hours by the clock of a person's wall, whatever that does twice a year."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

EVERY_DAY = frozenset(range(7))  # Monday is 0
DAY = timedelta(days=1)
ZONES = frozenset(available_timezones() - {"localtime"})  # which is another one on each node


@dataclass(frozen=True)
class Window:
    start: datetime
    end: datetime


@dataclass(frozen=True)
class QuietHours:
    """From `start` to `end`, the next day if that is not later; on the days on which they begin."""

    start: time
    end: time
    zone: ZoneInfo
    days: frozenset[int] = EVERY_DAY

    def next(self, at: datetime) -> Window:
        """The hours that are on at this moment, or else the next."""
        day = at.astimezone(self.zone).date() - DAY
        while True:  # a change of clocks may swallow one, never all
            window = self._beginning_on(day)
            if day.weekday() in self.days and window.start < window.end and window.end > at:
                return window
            day += DAY

    def _beginning_on(self, day: date) -> Window:
        ends_on = day if self.end > self.start else day + DAY
        # An hour that comes twice is quiet both times.
        return Window(moment(day, self.start, self.zone), moment(ends_on, self.end, self.zone, 1))


def moment(day: date, at: time, zone: ZoneInfo, fold: int = 0) -> datetime:
    """When a wall shows this time, in UTC; `fold` chooses between two.

    What a change of clocks leaves out is as much later as it left out (as in RFC 5545).
    """
    local = datetime.combine(day, at, zone)
    first, second = (local.replace(fold=n).astimezone(UTC) for n in (0, 1))
    return second if fold and first < second else first


def next_moment(at: time, zone: ZoneInfo, after: datetime) -> datetime:
    """The first time after a moment that a wall shows this time."""
    day = after.astimezone(zone).date()
    return next(m for n in range(3) if (m := moment(day + n * DAY, at, zone)) > after)


def zone_of(name: str) -> ZoneInfo:
    """UTC for a zone that this machine does not know (any more)."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")
