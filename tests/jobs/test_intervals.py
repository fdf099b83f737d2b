from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.intervals import MOST_SLOTS, Every, parse_duration, parse_interval

NOON = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("1h", 3600),
        ("24h", 86400),
        ("2d", 172800),
        ("1h30m", 5400),
        ("PT5M", 300),
        ("P1DT12H", 129600),
    ],
)
def test_a_duration_is_read_as_the_documents_write_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5m ", "1.5h", "5x", "PT5"])
def test_what_is_no_duration_says_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="write 30s, 5m"):
        parse_duration(text)


@pytest.mark.parametrize(
    "text",
    ["0s", "* * * *", "61 * * * *", "0 0 2 * * *", "CRON_TZ=Mars/Base 0 2 * * *", "every day"],
)
def test_what_is_no_interval_says_so(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        parse_interval(text)


def test_slots_of_a_duration_are_the_same_on_every_node() -> None:
    every = parse_interval("5m")
    assert every.slot(NOON) == NOON.replace(minute=0, second=0)
    assert every.after(every.slot(NOON)) == NOON.replace(minute=5, second=0)


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001
    st.timedeltas(timedelta(milliseconds=1), timedelta(days=30)),
)
def test_a_moment_lies_in_its_slot_and_before_the_next(at: datetime, length: timedelta) -> None:
    at, every = at.replace(tzinfo=UTC), Every(length)
    assert every.slot(at) <= at < every.after(every.slot(at))


def test_a_cron_slot_is_the_last_moment_that_was() -> None:
    daily = parse_interval("0 2 * * *")
    two = NOON.replace(hour=2, minute=0, second=0)
    assert daily.slot(NOON) == two
    assert daily.slot(two) == two
    assert daily.after(two) == two + timedelta(days=1)


def test_cron_keeps_the_wall_clock_of_its_zone_across_daylight_saving() -> None:
    daily = parse_interval("CRON_TZ=Europe/Berlin 0 9 * * *")
    slots = list(daily.between(NOON.replace(day=28), NOON.replace(day=31)))
    assert [slot.hour for slot in slots] == [7, 7, 7]  # summer time began on the 29th at 01:00 UTC
    assert daily.slot(NOON).hour == 8


def test_a_long_absence_does_not_list_every_slot() -> None:
    assert len(list(parse_interval("1s").between(NOON, NOON + timedelta(days=1)))) == MOST_SLOTS
