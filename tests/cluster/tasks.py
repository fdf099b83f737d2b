"""Jobs that the tests of a cluster watch; what each does stands in files and events."""

import os
import time
from pathlib import Path

from jobs.leases import current_lease, fenced
from jobs.registry import periodic
from outbox.services import emit

HERE = Path(os.environ.get("VAR_DIR", "."))


def write_down(name: str) -> None:
    """What a job writes: only while it holds its lease."""
    lease = current_lease()
    assert lease
    with fenced():
        emit(f"test.{name}", key=lease.slot.isoformat(), data={"token": lease.token})


@periodic("TEST_EVERY_SECOND", every="1s", at_most="2s")
def every_second() -> int:
    """Write one event a slot."""
    write_down("second")
    return 1


@periodic("TEST_LONG", every="1s", at_most="4s")
def long() -> int:
    """Run for several times the length of its lease."""
    time.sleep(10)
    write_down("long")
    return 1


@periodic("TEST_FREEZE", every="1s", at_most="4s")
def freeze() -> int:
    """The first run says that it has begun, and waits to be let go."""
    begun, go = HERE / "begun", HERE / "go"
    if not begun.exists():
        begun.write_text(str(os.getpid()))
        while not go.exists():
            time.sleep(0.01)
    write_down("freeze")
    return 1


@periodic("TEST_RAISES", every="1s")
def raises() -> int:
    """Fail each time."""
    raise ValueError("a bug")


@periodic("TEST_HANGS", every="1s")
def hangs() -> int:
    """Never return."""
    time.sleep(10_000)
    return 0
