"""Clicks in numbers, made of daily counts: a fixed number of queries, however many clicks."""

from dataclasses import dataclass
from datetime import date, timedelta

from django.db.models import Q, QuerySet, Sum
from django.utils import timezone

from domains.links.models import DailyCount, Dimension, Link, Reader

MOST_VALUES = 10  # of a dimension


@dataclass(frozen=True)
class Day:
    day: date
    clicks: int
    bots: int


@dataclass(frozen=True)
class Share:
    value: str
    """Empty: unknown."""
    clicks: int
    share: float
    """Of the clicks of these days, 0 to 1."""


@dataclass(frozen=True)
class Statistics:
    total: int
    """Of the link's whole life, without bots."""
    bots: int
    today: int
    last_7_days: int
    last_30_days: int
    readers: int
    """Signed-in people."""
    days: list[Day]
    countries: list[Share]
    devices: list[Share]
    browsers: list[Share]
    referrers: list[Share]

    @property
    def clicks(self) -> int:
        """Of these days."""
        return sum(day.clicks for day in self.days)


def statistics_of(link: Link, since: date, until: date) -> Statistics:
    """Both days belong to it. Seven queries."""
    link.refresh_from_db(fields=["click_count", "bot_count"])
    days = clicks_by_date(link, since, until)
    clicks = sum(day.clicks for day in days)
    recent = _recent(link)
    return Statistics(
        total=link.click_count,
        bots=link.bot_count,
        today=recent["today"],
        last_7_days=recent["last_7_days"],
        last_30_days=recent["last_30_days"],
        readers=Reader.objects.filter(link=link).count(),
        days=days,
        countries=_top(link, Dimension.COUNTRY, since, until, clicks),
        devices=_top(link, Dimension.DEVICE, since, until, clicks),
        browsers=_top(link, Dimension.BROWSER, since, until, clicks),
        referrers=_top(link, Dimension.REFERRER, since, until, clicks),
    )


def clicks_by_date(link: Link, since: date, until: date) -> list[Day]:
    """Every day, also those without a click. One query."""
    counts = {
        (day, dimension): count
        for day, dimension, count in _between(link, since, until)
        .filter(dimension__in=[Dimension.CLICKS, Dimension.BOTS])
        .values_list("day", "dimension", "count")
    }
    days = (since + timedelta(days=n) for n in range((until - since).days + 1))
    return [
        Day(day, counts.get((day, Dimension.CLICKS), 0), counts.get((day, Dimension.BOTS), 0))
        for day in days
    ]


def _between(link: Link, since: date, until: date) -> "QuerySet[DailyCount]":
    return DailyCount.objects.filter(link=link, day__range=(since, until))


def _recent(link: Link) -> dict[str, int]:
    today = timezone.localdate()
    last = _between(link, today - timedelta(days=29), today).filter(dimension=Dimension.CLICKS)
    sums = last.aggregate(
        today=Sum("count", filter=Q(day=today)),
        last_7_days=Sum("count", filter=Q(day__gt=today - timedelta(days=7))),
        last_30_days=Sum("count"),
    )
    return {name: count or 0 for name, count in sums.items()}


def _top(link: Link, dimension: int, since: date, until: date, clicks: int) -> list[Share]:
    rows = _between(link, since, until).filter(dimension=dimension).values_list("value")
    most = rows.annotate(sum=Sum("count")).order_by("-sum", "value")[:MOST_VALUES]
    return [Share(value, count, count / clicks if clicks else 0.0) for value, count in most]
