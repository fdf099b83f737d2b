from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcasts.recurrence import Recurrence, in_words, parse_cron, parse_life, parse_zone

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def local(cron: str, zone: str, day: str, count: int = 3) -> list[str]:
    """The first moments from the beginning of a day on, as clocks there show them."""
    start = datetime.fromisoformat(day).replace(tzinfo=parse_zone(zone))
    moments = Recurrence(parse_cron(cron, zone)).after(start - datetime.resolution)
    return [f"{m.astimezone(start.tzinfo):%d. %H:%M %Z}" for m in islice(moments, count)]


@pytest.mark.parametrize(
    ("zone", "day", "expected"),
    [
        (BERLIN, "2026-03-28", ["28. 09:00 CET", "29. 09:00 CEST", "30. 09:00 CEST"]),
        (BERLIN, "2026-10-24", ["24. 09:00 CEST", "25. 09:00 CET", "26. 09:00 CET"]),
        (NEW_YORK, "2026-03-07", ["07. 09:00 EST", "08. 09:00 EDT", "09. 09:00 EDT"]),
        (NEW_YORK, "2026-10-31", ["31. 09:00 EDT", "01. 09:00 EST", "02. 09:00 EST"]),
    ],
)
def test_it_keeps_the_time_that_clocks_there_show(zone, day, expected):
    assert local("0 9 * * *", zone, day) == expected


@pytest.mark.parametrize(
    ("cron", "zone", "day", "expected"),
    [
        ("30 2 * * *", BERLIN, "2026-03-28", ["28. 02:30 CET", "29. 03:00 CEST", "30. 02:30 CEST"]),
        ("0 2 * * *", NEW_YORK, "2026-03-07", ["07. 02:00 EST", "08. 03:00 EDT", "09. 02:00 EDT"]),
        (
            "0,30 2 * * *",
            BERLIN,
            "2026-03-29",
            ["29. 03:00 CEST", "30. 02:00 CEST", "30. 02:30 CEST"],
        ),
        (
            "0 2,3 * * *",
            BERLIN,
            "2026-03-29",
            ["29. 03:00 CEST", "30. 02:00 CEST", "30. 03:00 CEST"],
        ),
    ],
)
def test_what_the_clock_leaps_over_comes_right_after_the_leap(cron, zone, day, expected):
    assert local(cron, zone, day) == expected


@pytest.mark.parametrize(
    ("cron", "zone", "day", "expected"),
    [
        ("30 2 * * *", BERLIN, "2026-10-24", ["24. 02:30 CEST", "25. 02:30 CEST", "26. 02:30 CET"]),
        ("30 1 * * *", NEW_YORK, "2026-10-31", ["31. 01:30 EDT", "01. 01:30 EDT", "02. 01:30 EST"]),
        ("0 * * * *", BERLIN, "2026-10-25", ["25. 00:00 CEST", "25. 01:00 CEST", "25. 02:00 CEST"]),
    ],
)
def test_what_the_clock_shows_twice_comes_the_first_time_only(cron, zone, day, expected):
    assert local(cron, zone, day) == expected
    if cron == "0 * * * *":
        assert local(cron, zone, day, 5)[3:] == ["25. 03:00 CET", "25. 04:00 CET"]


ZONES = [
    BERLIN,
    NEW_YORK,
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Cairo",
    "Asia/Kolkata",
]


@given(
    st.sampled_from(ZONES),
    st.integers(0, 59),
    st.integers(0, 23),
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001
)
def test_each_day_has_one_moment_in_every_zone(zone, minute, hour, start):
    moments = Recurrence(parse_cron(f"{minute} {hour} * * *", zone)).after(
        start.replace(tzinfo=UTC)
    )
    days = [moment.astimezone(parse_zone(zone)).date() for moment in islice(moments, 5)]
    assert days == [days[0] + timedelta(days=number) for number in range(5)]


def test_its_first_and_last_day_are_days_of_its_zone():
    cron = parse_cron("0 0,23 * * *", NEW_YORK)
    recurrence = Recurrence(cron, date(2026, 7, 3), date(2026, 7, 4))
    moments = [f"{m:%dT%H}" for m in recurrence.after(datetime(2026, 1, 1, tzinfo=UTC))]
    assert moments == ["03T04", "04T03", "04T04", "05T03"]


def test_a_day_that_never_comes_gives_no_moment():
    never = Recurrence(parse_cron("0 9 31 4 *", BERLIN))
    assert list(never.after(datetime(2026, 1, 1, tzinfo=UTC))) == []


def test_a_moment_itself_is_not_after_it():
    noon = datetime(2026, 7, 3, 12, tzinfo=UTC)
    hourly = Recurrence(parse_cron("0 * * * *", "UTC"))
    assert next(hourly.after(noon)) == noon + timedelta(hours=1)
    assert list(takewhile(lambda moment: moment <= noon, hourly.after(noon - datetime.resolution)))


@pytest.mark.parametrize(
    "text",
    ["", "5m", "* * * *", "0 0 9 * * *", "61 * * * *", "R 2 * * *", "r(1-5) * * * *", "H 2 * * *",
     "CRON_TZ=UTC * * * *", "@daily", "every monday at nine ok", "0 9 * * mon-xyz"],
)  # fmt: skip
def test_what_is_no_cron_expression_says_what_to_write(text):
    with pytest.raises(ValueError, match="0 9 \\* \\* mon-fri is 9:00 from Monday to Friday"):
        parse_cron(text)


@given(st.text(max_size=30))
def test_any_text_is_an_expression_or_a_clear_error(text):
    with suppress(ValueError):  # and nothing else
        parse_cron(text)


@pytest.mark.parametrize("name", ["", "Mars/Base", "Europe", "../etc/passwd", "UTC\0"])
def test_what_is_no_zone_says_so(name):
    with pytest.raises(ValueError, match="is no time zone: write UTC or Europe/Berlin"):
        parse_zone(name)


def test_a_life_is_a_duration_or_nothing():
    assert (parse_life(""), parse_life("8h")) == (None, timedelta(hours=8))


@pytest.mark.parametrize("text", ["0m", "soon", "-1h", "9999999999999999999d", "4000d"])
def test_what_is_no_life_says_what_to_write(text):
    with pytest.raises(ValueError, match="write 30m, 8h or 7d"):
        parse_life(text)


def test_an_expression_is_said_in_words():
    assert in_words("0 9 * * mon-fri") == "At 09:00, Monday through Friday"
