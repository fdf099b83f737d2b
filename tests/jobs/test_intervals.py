from datetime import timedelta

import pytest
from jobs.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h", 3600), ("24h", 86400), ("2d", 172800), ("1h30m", 5400)],
)
def test_a_duration_is_read_as_the_documents_write_it(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5m ", "1.5h", "5x", "0 2 * * *"])
def test_what_is_no_duration_says_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="write 30s, 5m"):
        parse_duration(text)
