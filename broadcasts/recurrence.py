"""The moments of a cron expression in a time zone.

A moment that the clock leaps over, as summer time begins, comes right after the leap; one that it
shows twice, as summer time ends, comes the first time only.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from cron_descriptor import ExpressionDescriptor, Options
from croniter import CroniterBadDateError
from django.utils.translation import gettext as _

from broadcasts.quiet import ZONES
from jobs.intervals import Cron, parse_duration, parse_interval

RANDOM = re.compile(r"(?<![a-z])r(?![a-z])", re.IGNORECASE)  # each look would find another moment
LONGEST_LIFE = timedelta(days=3_650)


@dataclass(frozen=True)
class Recurrence:
    cron: Cron
    starts_on: date | None = None
    ends_on: date | None = None
    """Days of its zone, both included."""

    @property
    def zone(self) -> ZoneInfo:
        return self.cron.zone

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Every later moment in UTC, in order; perhaps without an end."""
        if self.starts_on:
            midnight = datetime.combine(self.starts_on, time.min, self.zone).astimezone(UTC)
            moment = max(moment, midnight - datetime.resolution)
        while True:
            try:
                moment = self.cron.after(moment)
            except (CroniterBadDateError, OverflowError):  # as for the 31st of April
                return
            local = moment.astimezone(self.zone)
            if self.ends_on and local.date() > self.ends_on:
                return
            if not local.fold:
                yield moment


def parse_zone(name: str) -> ZoneInfo:
    """Raise `ValueError` for what the IANA database has not."""
    if name not in ZONES:
        text = _("“%(zone)s” is no time zone: write UTC or Europe/Berlin.")
        raise ValueError(text % {"zone": name})
    return ZoneInfo(name)


def parse_cron(expression: str, zone: str = "UTC") -> Cron:
    """Five fields. Raise `ValueError` with what is allowed."""
    parse_zone(zone)
    try:
        cron = parse_interval(f"CRON_TZ={zone} {expression}")
    except ValueError as error:
        raise ValueError(_no_cron(expression)) from error
    if RANDOM.search(expression) or not isinstance(cron, Cron):
        raise ValueError(_no_cron(expression))
    return cron


def parse_life(text: str) -> timedelta | None:
    """`30m`, `8h`, `7d`, or nothing. Raise `ValueError` with what is allowed."""
    if not text:
        return None
    with suppress(ValueError, OverflowError):
        if timedelta() < (life := parse_duration(text)) <= LONGEST_LIFE:
            return life
    raise ValueError(_("“%(text)s” is no duration: write 30m, 8h or 7d.") % {"text": text})


def _no_cron(expression: str) -> str:
    text = _(
        "“%(text)s” is no cron expression. Write minute, hour, day of the month, month and day of "
        "the week: 0 9 * * mon-fri is 9:00 from Monday to Friday."
    )
    return text % {"text": expression}


def in_words(expression: str) -> str:
    """A valid expression as people say it; in English, since the library half knows others."""
    options = Options()
    options.use_24hour_time_format = True
    return str(ExpressionDescriptor(expression, options).get_description())
