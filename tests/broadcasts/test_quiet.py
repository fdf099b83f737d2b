"""Quiet hours on the wall of a person, across midnight and across changes of the clocks."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcasts.quiet import QuietHours, moment, next_moment, zone_of

BERLIN, NEW_YORK, AUCKLAND = map(
    ZoneInfo, ("Europe/Berlin", "America/New_York", "Pacific/Auckland")
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hours(start: str, end: str, zone: ZoneInfo = BERLIN, *days: int) -> QuietHours:
    times = time.fromisoformat(start), time.fromisoformat(end)
    return QuietHours(*times, zone, frozenset(days or range(7)))


def window(quiet: QuietHours, at: str) -> tuple[str, str]:
    found = quiet.next(utc(at))
    return tuple(f"{m.astimezone(quiet.zone):%a %d %H:%M}" for m in (found.start, found.end))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2030-01-31T20:59", ("Thu 31 22:00", "Fri 01 07:00")),  # a minute before
        ("2030-01-31T21:00", ("Thu 31 22:00", "Fri 01 07:00")),
        ("2030-02-01T05:59:59", ("Thu 31 22:00", "Fri 01 07:00")),  # the last second
        ("2030-02-01T06:00", ("Fri 01 22:00", "Sat 02 07:00")),
    ],
)
def test_a_night_is_on_until_its_end_and_then_comes_the_next(
    at: str, expected: tuple[str, str]
) -> None:
    assert window(hours("22:00", "07:00"), at) == expected


def test_hours_within_a_day_end_on_it() -> None:
    assert window(hours("12:00", "13:30"), "2030-01-31T11:30") == ("Thu 31 12:00", "Thu 31 13:30")


def test_days_are_those_on_which_they_begin() -> None:
    friday_nights = hours("22:00", "07:00", BERLIN, 4)
    assert window(friday_nights, "2030-02-02T05:00") == ("Fri 01 22:00", "Sat 02 07:00")
    assert window(friday_nights, "2030-02-02T07:00") == ("Fri 08 22:00", "Sat 09 07:00")


def test_the_zone_decides_not_the_server() -> None:
    quiet = hours("22:00", "07:00", AUCKLAND)
    assert quiet.next(utc("2030-01-31T12:00")).end == utc("2030-01-31T18:00")


@pytest.mark.parametrize(
    ("zone", "day", "length"),
    [
        (BERLIN, "2030-03-30", 8),  # an hour of that night does not exist
        (BERLIN, "2030-10-26", 10),  # one comes twice
        (NEW_YORK, "2030-03-09", 8),
        (NEW_YORK, "2030-11-02", 10),
    ],
)
def test_a_night_of_a_change_of_clocks_ends_at_the_same_hour(
    zone: ZoneInfo, day: str, length: int
) -> None:
    quiet = hours("22:00", "07:00", zone)
    found = quiet.next(moment(date.fromisoformat(day), time(22), zone))
    assert f"{found.end.astimezone(zone):%H:%M}" == "07:00"
    assert found.end - found.start == timedelta(hours=length)


def test_an_hour_that_comes_twice_is_quiet_both_times() -> None:
    found = hours("02:15", "02:45").next(utc("2030-10-26T23:00"))
    assert (found.start, found.end) == (utc("2030-10-27T00:15"), utc("2030-10-27T01:45"))


def test_hours_that_a_change_of_clocks_leaves_out_are_an_hour_later() -> None:
    found = hours("02:15", "02:45").next(utc("2030-03-30T23:00"))
    assert (found.start, found.end) == (utc("2030-03-31T01:15"), utc("2030-03-31T01:45"))


def test_hours_that_a_change_of_clocks_swallows_are_not_on() -> None:
    found = hours("02:30", "03:15").next(utc("2030-03-30T23:00"))
    assert found.start == utc("2030-04-01T00:30")


ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]
)


@given(
    start=st.times(),
    end=st.times(),
    zone=ZONES,
    days=st.frozensets(st.integers(0, 6), min_size=1),
    at=st.datetimes(datetime(2029, 1, 1), datetime(2033, 1, 1)),  # noqa: DTZ001 (made aware below)
)
def test_windows_follow_each_other_without_a_hole(
    start: time, end: time, zone: str, days: frozenset[int], at: datetime
) -> None:
    quiet = QuietHours(start, end, ZoneInfo(zone), days)
    if start == end:
        return
    now = at.replace(tzinfo=UTC)
    found = quiet.next(now)
    assert found.start < found.end
    assert found.end > now
    assert quiet.next(found.start) == quiet.next(found.end - timedelta.resolution) == found
    assert quiet.next(found.end).end > found.end


def test_a_daily_moment_is_the_next_on_the_wall() -> None:
    eight = time(8)
    assert next_moment(eight, BERLIN, utc("2030-03-30T06:59")) == utc("2030-03-30T07:00")
    assert next_moment(eight, BERLIN, utc("2030-03-30T07:00")) == utc("2030-03-31T06:00")


def test_a_zone_that_is_gone_is_utc() -> None:
    assert zone_of("Mars/Olympus").key == zone_of("../x").key == "UTC"
