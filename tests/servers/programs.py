"""What every server needs: its program, free ports, a process that outlives its starter."""

import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.waiting import PATIENCE, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
START_TIMEOUT = PATIENCE
STOP_TIMEOUT = 60  # seconds, until it is killed
NOT_EPHEMERAL = range(20_000, 32_768)  # Linux gives no outgoing connection one of these
# Of two runs beside each other (`tests/run.py`) each has its own: 0 or 1.
OURS = NOT_EPHEMERAL[int(os.environ.get("TEST_PORTS", "0")) :: 2]
PORTS = itertools.cycle(random.sample(OURS, len(OURS)))


class MissingError(Exception):
    """A server's program is not installed; the message says how to install it."""


def free_port() -> int:
    (port,) = lasting_ports(1)
    return port


def lasting_ports(count: int) -> list[int]:
    """Free ports to come back to, none of which this process was given before.

    An outgoing connection could take an ephemeral port before its server starts or while it is
    down: even that of a client which tries to reach the server, and then talks to itself.
    """
    return list(itertools.islice(filter(is_free, PORTS), count))


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=START_TIMEOUT) as response:
            return bool(response.status == HTTPStatus.OK)
    except OSError:
        return False


def speaks(url: str) -> bool:
    """Whatever it says; `answers` is content with nothing but OK."""
    try:
        with urlopen(url, timeout=START_TIMEOUT):
            return True
    except HTTPError:
        return True
    except OSError:
        return False


def find_program(name: str, package: str, *directories: Path) -> Path:
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, directories)])
    found = shutil.which(name, path=path)
    if not found:
        raise MissingError(f"no {name} found; apt-get install {package}")
    return Path(found)


@dataclass
class Daemon:
    """A process, and what it starts, with a directory of its own; its command names the directory.

    `log` in the directory has its output, `pid` its process.
    """

    directory: Path

    def start(self, command: list[str], env: Mapping[str, str] | None = None) -> None:
        if self.running():
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        # Through a shell, so that it is nobody's child: a test may end before it does.
        script = 'nohup "$@" >>log 2>&1 </dev/null & echo $! >pid'
        subprocess.run(
            ["sh", "-c", script, "sh", *command],
            cwd=self.directory,
            env=os.environ | (env or {}),
            start_new_session=True,
            check=True,
        )

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for what it does when it is ready; with what it said, when it never is."""

        def ready() -> bool:
            if condition():
                return True
            if self.has_ended():
                raise RuntimeError(f"{self.directory.name} ended while it started")
            return False

        try:
            wait_until(ready, START_TIMEOUT)
        except (TimeoutError, RuntimeError) as error:
            error.add_note(self.output())
            raise

    def stop(self) -> None:
        self.send(signal.SIGTERM)
        with suppress(TimeoutError):
            wait_until(lambda: not self.running(), STOP_TIMEOUT)
        self.kill()

    def kill(self) -> None:
        """End it as a crash does."""
        if self.running():
            with suppress(ProcessLookupError):  # it ended just now
                os.killpg(os.getpgid(self.pid), signal.SIGKILL)
            wait_until(lambda: not self.running(), STOP_TIMEOUT, f"{self.directory} is killed")

    def send(self, number: signal.Signals) -> None:
        if self.running():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    @property
    def pid(self) -> int:
        return int((self.directory / "pid").read_text())

    def running(self) -> bool:
        """The command is asked, too: after a restart the pid may be another process's."""
        if not (self.directory / "pid").exists():
            return False
        arguments = ["ps", "-ww", "-o", "args=", "-p", str(self.pid)]
        command = subprocess.run(arguments, capture_output=True, text=True).stdout
        return str(self.directory) in command

    def has_ended(self) -> bool:
        """Other than by `running`: a process that is about to become a program has no command."""
        arguments = ["ps", "-o", "stat=", "-p", str(self.pid)]
        state = subprocess.run(arguments, capture_output=True, text=True).stdout.strip()
        return not state or state.startswith("Z")

    def output(self) -> str:
        log = self.directory / "log"
        return log.read_text(errors="replace") if log.exists() else ""
