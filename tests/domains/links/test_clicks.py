import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from domains.links import clicks, services
from domains.links.checks import check_geoip
from domains.links.clicks import ELSEWHERE, MOST_REFERRERS, Collector, Visit, record
from domains.links.models import Click, DailyCount, Dimension, Link, Reader
from domains.links.visitors import anonymise, client_of, problem_of_countries, referrer_host
from tests.domains.links.conftest import BOT, CHROME, IPHONE, Follow, link
from tests.racing import race

pytestmark = pytest.mark.django_db

GEOIP = str(Path(__file__).with_name("GeoIP2-Country-Test.mmdb"))
NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)
BRITISH = "81.2.69.142"


def counts(dimension: Dimension) -> dict[str, int]:
    rows = DailyCount.objects.filter(dimension=dimension)
    return dict(rows.values_list("value", "count"))


def visits(made: Link, count: int = 1, **fields: Any) -> list[Visit]:
    given: dict[str, Any] = {"at": NOON, "user_agent": CHROME} | fields
    return [Visit(made.pk, **given) for _ in range(count)]


def test_a_click_says_network_country_device_browser_and_where_from(
    follow: Follow, collector: Collector, settings: Settings, client: Client
) -> None:
    settings.GEOIP_PATH = GEOIP
    made = link()
    client.defaults["REMOTE_ADDR"] = BRITISH
    follow(made, referer="https://news.example.com/article?of=mine")
    assert collector.flush()
    click = Click.objects.get()
    assert (click.address, click.country) == ("81.2.69.0", "GB")
    assert (click.device, click.browser) == ("desktop", "Chrome")
    assert (click.referrer, click.is_bot) == ("news.example.com", False)
    made.refresh_from_db()
    assert made.click_count == 1
    assert counts(Dimension.COUNTRY) == {"GB": 1}
    assert counts(Dimension.REFERRER) == {"news.example.com": 1}


def test_nothing_that_is_stored_tells_the_whole_address(
    follow: Follow, collector: Collector, client: Client
) -> None:
    made = link()
    client.defaults["REMOTE_ADDR"] = "203.0.113.77"
    follow(made)
    collector.flush()
    for table in connection.introspection.table_names():
        if table.startswith("links_"):
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT * FROM {table}")
                assert "203.0.113.77" not in str(cursor.fetchall())


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("203.0.113.77", "203.0.113.0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ("::ffff:203.0.113.77", "203.0.113.0"),
        ("fe80::1%eth0", "fe80::"),
        ("somewhere", None),
        ("", None),
    ],
)
def test_an_address_loses_its_end(address: str, kept: str | None) -> None:
    assert anonymise(address) == kept


@pytest.mark.parametrize(
    ("user_agent", "device", "browser"),
    [
        (CHROME, "desktop", "Chrome"),
        (IPHONE, "mobile", "Safari"),
        (IPHONE.replace("iPhone;", "iPad;"), "tablet", "Safari"),
        (CHROME.replace("Windows NT 10.0; Win64; x64", "Linux; Android 14; X"), "tablet", "Chrome"),
        (CHROME.replace("Safari/537.36", "Safari/537.36 Edg/125.0.0.0"), "desktop", "Edge"),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0",
            "desktop",
            "Firefox",
        ),
        ("Something/1.0", "other", "Other"),
    ],
)
def test_devices_and_browsers(user_agent: str, device: str, browser: str) -> None:
    client = client_of(user_agent)
    assert (client.device, client.browser, client.is_bot) == (device, browser, False)


@pytest.mark.parametrize("user_agent", [BOT, "curl/8.1", "", "Slackbot-LinkExpanding 1.0"])
def test_bots_are_counted_apart(follow: Follow, collector: Collector, user_agent: str) -> None:
    made = link()
    follow(made, user_agent)
    follow(made)
    collector.flush()
    made.refresh_from_db()
    assert (made.click_count, made.bot_count) == (1, 1)
    assert counts(Dimension.BOTS) == counts(Dimension.CLICKS) == {"": 1}
    assert counts(Dimension.BROWSER) == {"Chrome": 1}


def test_what_a_browser_fetches_in_advance_is_no_click_of_a_person(
    follow: Follow, collector: Collector
) -> None:
    follow(made := link(), sec_purpose="prefetch;prerender")
    collector.flush()
    made.refresh_from_db()
    assert (made.click_count, made.bot_count) == (0, 1)


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("https://User:secret@News.example:8443/a?b=c#d", "news.example"),
        ("android-app://com.slack", "com.slack"),
        ("http://[::1", ""),
        ("https://<script>", ""),
        ("nonsense", ""),
        ("https://" + "x" * 300, ""),
    ],
)
def test_of_a_referrer_the_host_is_kept(header: str, host: str) -> None:
    assert referrer_host(header) == host


@pytest.mark.parametrize(
    ("proxies", "header", "network"),
    [
        (0, "198.51.100.7", "127.0.0.0"),
        (1, "1.2.3.4, 198.51.100.7", "198.51.100.0"),
        (2, "1.2.3.4, 198.51.100.7, 10.0.0.1", "198.51.100.0"),
        (2, "198.51.100.7", "127.0.0.0"),
    ],
)
def test_behind_proxies_the_address_is_what_they_saw(
    follow: Follow,
    collector: Collector,
    settings: Settings,
    proxies: int,
    header: str,
    network: str,
) -> None:
    settings.TRUSTED_PROXIES = proxies
    follow(link(), x_forwarded_for=header)
    collector.flush()
    assert Click.objects.get().address == network


def test_without_a_database_of_countries_they_are_unknown(
    follow: Follow, collector: Collector
) -> None:
    follow(link())
    collector.flush()
    assert Click.objects.get().country == ""


def test_a_file_that_is_no_database_of_countries_is_named(
    settings: Settings, tmp_path: Path
) -> None:
    settings.GEOIP_PATH = str(tmp_path / "missing.mmdb")
    (warning,) = check_geoip()
    assert (warning.id, "missing.mmdb" in warning.msg) == ("links.W001", True)
    settings.GEOIP_PATH = __file__
    assert problem_of_countries()
    settings.GEOIP_PATH = GEOIP
    assert not check_geoip()


def test_who_was_signed_in_is_known_by_id_and_not_in_the_click(
    client: Client, follow: Follow, collector: Collector
) -> None:
    made, user = link(), User.objects.create_user("reader")
    follow(made)
    client.force_login(user)
    follow(made)
    follow(made)
    collector.flush()
    reader = Reader.objects.get()
    assert (reader.link, reader.user, reader.clicks) == (made, user, 2)
    assert Click.objects.count() == 3


def test_a_thousand_clicks_are_few_statements() -> None:
    made = [link() for _ in range(20)]
    many = [visit for one in made for visit in visits(one, 50)]
    with CaptureQueriesContext(connection) as captured:
        record(many)
    assert len(captured) <= 16  # SQLite takes few values a statement
    assert Click.objects.count() == 1_000
    assert set(Link.objects.values_list("click_count", flat=True)) == {50}


def test_later_batches_add_to_what_is_there() -> None:
    made = link()
    user = User.objects.create_user("reader")
    for hour in range(3):
        record(visits(made, 2, at=NOON + timedelta(hours=hour), user_id=user.pk))
    assert counts(Dimension.CLICKS) == {"": 6}
    reader = Reader.objects.get()
    assert (reader.clicks, reader.first_at) == (6, NOON)
    assert reader.last_at == NOON + timedelta(hours=2)


def test_a_day_is_that_of_the_server(settings: Settings) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"
    record(visits(link(), at=datetime(2030, 1, 31, 20, tzinfo=UTC)))
    assert (
        DailyCount.objects.filter(dimension=Dimension.CLICKS).get().day.isoformat() == "2030-02-01"
    )


def test_made_up_referrers_do_not_make_rows_without_end() -> None:
    made = link()
    for batch in range(3):
        record(
            [
                visit
                for n in range(80)
                for visit in visits(made, referrer=f"https://made-up-{batch * 80 + n}.example")
            ]
        )
    found = counts(Dimension.REFERRER)
    assert len(found) == MOST_REFERRERS + 1
    assert sum(found.values()) == 240
    assert found[ELSEWHERE] == 140


def test_clicks_of_what_was_deleted_meanwhile_are_dropped(collector: Collector) -> None:
    gone, there = link(), link()
    user = User.objects.create_user("reader")
    waiting = visits(gone) + visits(there, user_id=user.pk)
    services.delete(gone)
    user.delete()
    collector.waiting.extend(waiting)
    assert collector.flush()
    assert Click.objects.get().link == there
    assert not Reader.objects.exists()


def test_while_the_database_is_away_clicks_wait(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = link()
    for visit in visits(made, 3):
        collector.add(visit)

    def away(batch: list[Visit]) -> None:
        raise OperationalError("connection refused")

    with monkeypatch.context() as patched:
        patched.setattr(clicks, "record", away)
        assert not collector.flush()
    assert len(collector.waiting) == 3
    assert collector.flush()
    made.refresh_from_db()
    assert made.click_count == 3


def test_while_it_is_away_for_long_memory_is_bounded_and_what_is_dropped_is_told(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clicks, "MOST_WAITING", 2)
    for visit in visits(link(), 5):
        collector.add(visit)
    assert (len(collector.waiting), collector.dropped) == (2, 3)
    with caplog.at_level(logging.ERROR):
        assert collector.flush()
    assert "3 clicks were dropped" in caplog.text


def test_one_that_cannot_be_written_takes_no_other_with_it(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    made = link()
    broken = Visit(made.pk, at="yesterday", user_agent=CHROME)  # type: ignore[arg-type]
    collector.waiting.extend([*visits(made), broken, *visits(made)])
    assert collector.flush()
    made.refresh_from_db()
    assert made.click_count == 2
    assert "could not be written" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_processes_that_write_at_once_count_each_click_once() -> None:
    made = [link() for _ in range(5)]
    users = [User.objects.create_user(f"reader-{n}").pk for n in range(3)]

    def write(links: list[Link]) -> None:
        for _ in range(5):
            record([v for one in links for u in users for v in visits(one, user_id=u)])

    outcomes = race(lambda: write(made), lambda: write(made[::-1]), lambda: write(made))
    assert outcomes == [None, None, None]
    assert set(Link.objects.values_list("click_count", flat=True)) == {45}
    assert set(DailyCount.objects.values_list("count", flat=True)) == {45}
    assert set(Reader.objects.values_list("clicks", flat=True)) == {15}
