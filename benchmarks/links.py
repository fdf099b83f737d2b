"""Short links: what a click costs, and the statistics of one that was clicked 10 million times.

Peer, in the same run: the same numbers counted from the single clicks.
"""

from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.db.models import Count
from django.db.models.functions import TruncDate
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from benchmarks.reports import Report, seconds, times
from domains.links.clicks import Visit, collector, record
from domains.links.models import Click, DailyCount, Link
from domains.links.services import create

CLICKS, QUICK = 10_000_000, 100_000
REDIRECTS = 2_000
BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36"
)


def run(*, quick: bool) -> Report:
    clicks = QUICK if quick else CLICKS
    link = create("https://example.org/page", title="Clicked often")
    browser = Client(headers={"host": settings.ALLOWED_HOSTS[0], "user-agent": BROWSER})
    path = f"/s/{link.short_code}"
    assert browser.get(path).status_code == 302
    cached = times(range(REDIRECTS), lambda _: browser.get(path))

    def uncached(_: int) -> None:
        cache.clear()
        browser.get(path)

    from_rows = times(range(REDIRECTS), uncached)
    collector.flush()
    batches = [
        [Visit(link.pk, timezone.now(), "203.0.113.9", BROWSER) for _ in range(1_000)]
        for _ in range(20)
    ]
    writing = seconds(lambda: write(batches))

    filling = seconds(lambda: fill(link, clicks))
    operator = Client(headers={"host": settings.ALLOWED_HOSTS[0]})
    operator.force_login(User.objects.create_superuser("operator"))
    page = reverse("admin:links_link_stats_one", args=[link.pk])
    pages = times(range(20), lambda _: operator.get(f"{page}?days=365"))
    answers = times(range(20), lambda _: operator.get(f"/api/links/{link.pk}/stats"))
    counting = seconds(lambda: count_each(link)) * 1_000
    return Report(
        "links",
        {
            "redirect_from_cache_p50_ms": cached.p50,
            "redirect_from_cache_p99_ms": cached.p99,
            "redirect_from_rows_p50_ms": from_rows.p50,
            "clicks_written_per_s": round(20_000 / writing),
            "clicks": clicks,
            "daily_counts": DailyCount.objects.count(),
            "filling_s": round(filling),
            "page_of_a_year_p50_ms": pages.p50,
            "page_of_a_year_p95_ms": pages.p95,
            "api_of_30_days_p50_ms": answers.p50,
            "counted_from_clicks_ms": round(counting),
        },
        {"counted_from_clicks_to_page": round(counting / pages.p50, 1)},
    )


def write(batches: list[list[Visit]]) -> None:
    for batch in batches:
        record(batch)


def fill(link: Link, count: int) -> None:
    """Single clicks of a year, and from them the daily counts: both by the database alone."""
    moment = {
        "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', %s, '-' || (i %% 365) || ' days')",
        "postgresql": "%s::timestamptz - make_interval(days => i %% 365)",
    }[connection.vendor]
    now = timezone.now() - timedelta(minutes=5)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %s)
            INSERT INTO links_click
                (link_id, clicked_at, address, country, device, browser, referrer, is_bot)
            SELECT %s, {moment}, '203.0.113.0',
                substr('ABCDEFGHIJKLMNOPQRSTUVWXYZ', 1 + i %% 26, 1) || 'X',
                'desktop', 'B' || (i %% 12), 'site-' || (i %% 90) || '.example', i %% 10 = 0
            FROM n
            """,
            [count, link.pk, now],
        )
        for dimension, column in enumerate(
            ("''", "''", "country", "device", "browser", "referrer")
        ):
            day = {"sqlite": "date(clicked_at)", "postgresql": "clicked_at::date"}
            cursor.execute(
                f"""
                INSERT INTO links_dailycount (link_id, dimension, day, value, count)
                SELECT link_id, %s, {day[connection.vendor]} AS one_day, {column} AS of, COUNT(*)
                FROM links_click WHERE is_bot = %s AND link_id = %s
                GROUP BY link_id, one_day, of
                ON CONFLICT (link_id, dimension, day, value) DO UPDATE SET count = excluded.count
                """,
                [dimension, dimension == 1, link.pk],
            )
        cursor.execute("ANALYZE")


def count_each(link: Link) -> None:
    """What the page would ask without daily counts."""
    clicks = Click.objects.filter(link=link, is_bot=False).order_by()
    by_day = clicks.annotate(day=TruncDate("clicked_at")).values_list("day")
    assert list(by_day.annotate(Count("pk")))
    for column in ("country", "device", "browser", "referrer"):
        assert list(clicks.values_list(column).annotate(most=Count("pk")).order_by("-most")[:10])
