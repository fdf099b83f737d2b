"""Durations as the documents write them: `2s`, `5m`, `1h`, `24h`."""

import re
from datetime import timedelta

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
PATTERN = re.compile(r"(?:\d+[smhd])+")


def parse_duration(text: str) -> timedelta:
    """Raise `ValueError` with what is allowed when `text` is no duration."""
    if not PATTERN.fullmatch(text):
        raise ValueError(f"{text!r} is no duration: write 30s, 5m, 1h, 24h or 1h30m")
    parts = re.findall(r"(\d+)([smhd])", text)
    return sum((timedelta(**{UNITS[unit]: int(n)}) for n, unit in parts), timedelta())
