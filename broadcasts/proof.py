"""What became of a broadcast, in numbers: `docs/proof.md` says from which moment to which.

Each costs a fixed number of queries, over the receipts of this one broadcast. No index by moment
serves them: it would slow the one write that grows with every message to every person.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import BigIntegerField, Count, F, Func, Max, Min, Q, QuerySet
from django.utils import timezone

from broadcasts.directory import get_directory
from broadcasts.models import Broadcast
from outbox.models import Event

HOUR = 3_600
AT_ONCE = timedelta(minutes=1)
MOST_BARS = 72
DAYS = (1, 7, 28, 364)
MOST_ROLES = 20
STAGES = ("delivered", "seen", "read", "acknowledged")

Counts = Mapping[str, int]  # of people, by stage


class HoursSince1970(Func):
    """Of a moment, whole ones; in the database's own arithmetic, which a hundred thousand need."""

    output_field = BigIntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "CAST(strftime('%%%%s', %(expressions)s) AS INTEGER) / 3600"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "FLOOR(EXTRACT(EPOCH FROM %(expressions)s) / 3600)::bigint"
        return self.as_sql(compiler, connection, template=template, **context)


@dataclass(frozen=True)
class Deliveries:
    count: int
    first: datetime | None
    last: datetime | None
    at_once: int
    """People to whom it was delivered within a minute from when it went out."""


@dataclass(frozen=True)
class Waits:
    """From when it went out to when it was delivered; None while it was to nobody."""

    median: timedelta | None
    p95: timedelta | None
    """Of 100 people to whom it was delivered, 95 waited no longer."""


@dataclass(frozen=True)
class Publication:
    """Of its events; the log keeps them for EVENT_RETENTION_DAYS."""

    events: int
    published: int
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True)
class Bar:
    start: datetime
    counts: Counts


@dataclass(frozen=True)
class Course:
    """How many people reached each stage, in bars of so many days; of an hour with 0."""

    days: int
    bars: list[Bar]


@dataclass(frozen=True)
class Role:
    name: str
    """Empty for those who have none."""
    counts: Counts


def deliveries(broadcast: Broadcast) -> Deliveries:
    """One query."""
    went_out = broadcast.activated_at or broadcast.created_at
    found = broadcast.receipts.filter(delivered_at__isnull=False).aggregate(
        count=Count("pk"),
        first=Min("delivered_at"),
        last=Max("delivered_at"),
        at_once=Count("pk", filter=Q(delivered_at__lte=went_out + AT_ONCE)),
    )
    return Deliveries(**found)


def waits(broadcast: Broadcast, delivered: int) -> Waits:
    """Of so many. By nearest rank, which both databases can tell; two queries."""
    receipts = broadcast.receipts.filter(delivered_at__isnull=False)
    moments = receipts.order_by("delivered_at").values_list("delivered_at", flat=True)

    def wait(share: float) -> timedelta | None:
        rank = max(math.ceil(share * delivered) - 1, 0)
        moment = moments[rank : rank + 1].first() if delivered else None
        if moment is None or broadcast.activated_at is None:
            return None
        # A node's clock may be behind that of the database.
        return max(moment - broadcast.activated_at, timedelta())

    return Waits(wait(0.5), wait(0.95))


def publication(broadcast: Broadcast) -> Publication:
    """One query."""
    found = publications(broadcast).aggregate(
        events=Count("pk"),
        published=Count("published_at"),
        first=Min("published_at"),
        last=Max("published_at"),
    )
    return Publication(**found)


def publications(broadcast: Broadcast) -> QuerySet[Event]:
    published = ["broadcast.activated", "broadcast.sent"]
    return Event.objects.filter(type__in=published, key=f"broadcast-{broadcast.pk}").order_by()


def course(broadcast: Broadcast) -> Course:
    """By hour, or by as many days as make at most MOST_BARS bars. One query a stage."""
    by_stage = {stage: _by_hour(broadcast, stage) for stage in STAGES}
    hours = {hour for counted in by_stage.values() for hour in counted}
    if not hours:
        return Course(0, [])
    first, last = min(hours), max(hours)
    if last - first < MOST_BARS:
        return Course(0, _bars(by_stage, range(first, last + 1), lambda hour: hour, local))
    first_day, last_day = local(first).toordinal(), local(last).toordinal()
    count = last_day - first_day + 1
    days = next((days for days in DAYS if count <= days * MOST_BARS), DAYS[-1])
    starts = range(first_day, last_day + 1, days)

    def start_of(hour: int) -> int:
        day = local(hour).toordinal()
        return day - (day - first_day) % days

    return Course(days, _bars(by_stage, starts, start_of, _midnight))


def _bars(
    by_stage: Mapping[str, Mapping[int, int]],
    starts: range,
    start_of: Callable[[int], int],
    moment_of: Callable[[int], datetime],
) -> list[Bar]:
    sums = {start: dict.fromkeys(STAGES, 0) for start in starts}
    for stage, counted in by_stage.items():
        for hour, count in counted.items():
            sums[start_of(hour)][stage] += count
    return [Bar(moment_of(start), counts) for start, counts in sums.items()]


def _by_hour(broadcast: Broadcast, stage: str) -> dict[int, int]:
    moment = f"{stage}_at"
    stamped = broadcast.receipts.filter(**{f"{moment}__isnull": False}).order_by()
    hours = stamped.annotate(hour=HoursSince1970(F(moment))).values_list("hour")
    return dict(hours.annotate(Count("pk")))


def local(hour: int) -> datetime:
    return timezone.localtime(datetime.fromtimestamp(hour * HOUR, UTC))


def _midnight(day: int) -> datetime:
    return timezone.make_aware(datetime.combine(date.fromordinal(day), time.min))


def roles(broadcast: Broadcast) -> list[Role] | None:
    """The MOST_ROLES that it was delivered to most; None when only a user service knows. One query.

    Who has several counts in each.
    """
    if not get_directory().knows_roles:
        return None
    counts = [Count(f"{stage}_at") for stage in STAGES]
    rows: Any = broadcast.receipts.order_by().values_list("user__groups__name").annotate(*counts)
    most = rows.order_by("-delivered_at__count", "user__groups__name")[:MOST_ROLES]
    return [Role(name or "", dict(zip(STAGES, counted, strict=True))) for name, *counted in most]
