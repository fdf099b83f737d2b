import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL = 0.05  # seconds


def wait_until(condition: Callable[[], T], timeout: float = 30, message: str = "") -> T:
    """Return the first true value of `condition`; raise `TimeoutError` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{message or condition} was not so within {timeout:g} s")
        time.sleep(POLL)
    return value
