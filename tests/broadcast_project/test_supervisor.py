import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.servers import CHECKOUT
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.processes

# A supervisor of one part, which runs the code that is given.
SUPERVISE = """
import asyncio, sys
from broadcast_project import supervisor
supervisor.STOP_TIMEOUT = float(sys.argv[2])
def write(part, line):
    print(part, line, flush=True)
async def main():
    await supervisor.Supervisor({"part": [sys.executable, "-c", sys.argv[1]]}, write).run()
asyncio.run(main())
"""
REPORT_AND_WAIT = "import os, signal; print('pid', os.getpid()); signal.pause()"
STUBBORN = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: print("was asked to stop", flush=True))
print("pid", os.getpid())
while True:
    signal.pause()
"""
WITH_CHILD = (
    "import subprocess, sys, signal;"
    " child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']);"
    " print('pid', child.pid); signal.pause()"
)


class Supervised:
    def __init__(self, code: str, log: Path, stop_timeout: float = 15) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SUPERVISE, code, str(stop_timeout)],
                cwd=CHECKOUT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def pids(self) -> list[int]:
        return [int(line.split()[2]) for line in self.lines() if line.startswith("part pid ")]

    def await_pids(self, count: int = 1) -> list[int]:
        wait_until(lambda: len(self.pids()) >= count, message=f"{count} starts")
        return self.pids()

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


Supervise = Callable[..., Supervised]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    started: list[Supervised] = []

    def start(code: str, stop_timeout: float = 15) -> Supervised:
        started.append(Supervised(code, tmp_path / f"{len(started)}.log", stop_timeout))
        return started[-1]

    yield start
    for supervised in started:
        supervised.process.kill()
        supervised.process.wait()
        for pid in supervised.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def gone(pid: int) -> bool:
    """A zombie counts: whoever adopts it may take its time."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    with suppress(FileNotFoundError):
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    return stat.parent.parent.exists()


def test_a_part_that_is_killed_is_started_again_and_one_line_says_so(supervise: Supervise) -> None:
    supervised = supervise(REPORT_AND_WAIT)
    (first,) = supervised.await_pids()
    os.kill(first, signal.SIGKILL)
    _, second = supervised.await_pids(2)
    assert second != first
    assert "part part was ended by SIGKILL; starts again in 0.5 s" in supervised.lines()


def test_a_part_that_fails_at_once_is_started_again_at_growing_intervals(
    supervise: Supervise,
) -> None:
    supervised = supervise("raise SystemExit(3)")
    line = "part part ended with exit code 3; starts again in {} s"
    wait_until(lambda: len(supervised.lines()) >= 3)
    assert supervised.lines()[:3] == [line.format(pause) for pause in ("0.5", "1", "2")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_parts_and_is_a_success(
    supervise: Supervise, number: signal.Signals
) -> None:
    supervised = supervise(REPORT_AND_WAIT)
    (pid,) = supervised.await_pids()
    assert supervised.stop(number) == 0
    assert gone(pid)


def test_a_part_that_does_not_stop_is_killed_after_a_while(supervise: Supervise) -> None:
    supervised = supervise(STUBBORN, stop_timeout=0.2)
    (pid,) = supervised.await_pids()
    assert supervised.stop() == 0
    assert gone(pid)
    assert "part part is killed: it did not stop when it was asked to" in supervised.lines()


def test_a_second_signal_kills_at_once(supervise: Supervise) -> None:
    supervised = supervise(STUBBORN, stop_timeout=600)
    (pid,) = supervised.await_pids()
    supervised.process.send_signal(signal.SIGINT)
    wait_until(lambda: "part was asked to stop" in supervised.lines())
    assert supervised.process.poll() is None
    assert supervised.stop() == 0
    assert gone(pid)


def test_a_pause_between_starts_ends_with_a_signal(supervise: Supervise) -> None:
    supervised = supervise("raise SystemExit(3)")
    wait_until(lambda: any("in 4 s" in line for line in supervised.lines()))
    assert supervised.stop() == 0


def test_what_a_dead_part_leaves_behind_is_ended(supervise: Supervise) -> None:
    supervised = supervise(WITH_CHILD)
    (child,) = supervised.await_pids()
    parent = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    supervised.await_pids(2)
    wait_until(lambda: gone(child))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends children with their parent")
def test_no_part_survives_a_killed_supervisor(supervise: Supervise) -> None:
    supervised = supervise(REPORT_AND_WAIT)
    (pid,) = supervised.await_pids()
    supervised.process.kill()
    wait_until(lambda: gone(pid))


def test_a_line_longer_than_a_buffer_is_passed_on_whole(supervise: Supervise) -> None:
    supervised = supervise("print('x' * 1_000_000, flush=True); import signal; signal.pause()")
    wait_until(lambda: f"part {'x' * 1_000_000}" in supervised.lines())
