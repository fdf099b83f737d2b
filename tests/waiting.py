import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL = 0.05  # seconds
PATIENCE = 120  # seconds: who is slow is not wrong, and nobody waits longer than it takes


def wait_until(condition: Callable[[], T], timeout: float = PATIENCE, message: str = "") -> T:
    """Return the first true value of `condition`; raise `TimeoutError` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{message or condition} was not so within {timeout:g} s")
        time.sleep(POLL)
    return value
