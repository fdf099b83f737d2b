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

from tests.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
START_TIMEOUT = 60  # seconds
STOP_TIMEOUT = 30  # seconds
NOT_EPHEMERAL = range(20_000, 32_768)  # Linux gives no outgoing connection one of these


class MissingError(Exception):
    """A server's program is not installed; the message says how to install it."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lasting_ports(count: int) -> list[int]:
    """Free ports to come back to.

    An outgoing connection could take an ephemeral port while its server is down: even that of a
    client which tries to reach the server again, and then talks to itself.
    """
    ports = random.sample(NOT_EPHEMERAL, len(NOT_EPHEMERAL))
    return list(itertools.islice(filter(is_free, ports), count))


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
        try:
            wait_until(lambda: condition() or not self.running(), START_TIMEOUT)
            if not self.running():
                raise RuntimeError(f"{self.directory.name} ended while it started")
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
            os.killpg(os.getpgid(self.pid), signal.SIGKILL)
            wait_until(lambda: not self.running(), STOP_TIMEOUT, f"{self.directory} is killed")

    def send(self, number: signal.Signals) -> None:
        if self.running():
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

    def output(self) -> str:
        log = self.directory / "log"
        return log.read_text(errors="replace") if log.exists() else ""
