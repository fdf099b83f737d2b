"""Private servers: for one test run, or for this checkout (`make services`).

Each listens on a free port of the loopback address and keeps its data in a directory of its own;
a server that is already there is never touched.
"""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from tests.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 60  # seconds


class MissingError(Exception):
    """A server's program is not installed; the message says how to install it."""


class Server(Protocol):
    name: str
    variable: str  # the environment variable that selects the server

    def start(self) -> str: ...
    def stop(self) -> None: ...


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_program(name: str, package: str, *directories: Path) -> Path:
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, directories)])
    found = shutil.which(name, path=path)
    if not found:
        raise MissingError(f"no {name} found; apt-get install {package}")
    return Path(found)


class Postgres:
    name = "PostgreSQL"
    variable = "DATABASE_URL"

    def __init__(self, directory: Path) -> None:
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        self.programs = find_program("initdb", "postgresql", *installed).resolve().parent
        self.directory = directory

    def start(self) -> str:
        """Start it unless it runs, and return its URL."""
        if not (self.directory / "PG_VERSION").exists():
            self._create()
        if not self._running():
            options = f"-F -p {free_port()} -c listen_addresses=127.0.0.1 -c max_connections=100"
            options += " -c unix_socket_directories=''"  # a path may be too long for a socket
            log = str(self.directory / "log")
            self._run("pg_ctl", "-w", "-t", str(START_TIMEOUT), "-l", log, "-o", options, "start")
        port = (self.directory / "postmaster.pid").read_text().splitlines()[3]
        return f"postgres://broadcast@127.0.0.1:{port}/postgres"

    def stop(self) -> None:
        if self._running():
            self._run("pg_ctl", "-w", "-m", "fast", "stop")

    def _create(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._user():
            shutil.chown(self.directory, **self._user())
        self._run("initdb", "--username=broadcast", "--auth=trust", "--no-sync", "--locale=C.UTF-8")

    def _running(self) -> bool:
        return self._run("pg_ctl", "status", check=False).returncode == 0

    def _run(
        self, program: str, *arguments: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [str(self.programs / program), *arguments],
            env=os.environ | {"PGDATA": str(self.directory)},
            cwd=self.directory if self.directory.exists() else None,
            capture_output=True,
            text=True,
            extra_groups=[] if self._user() else None,
            **self._user(),
        )
        if check and result.returncode:
            raise RuntimeError(f"{program} failed: {result.stderr or result.stdout}")
        return result

    @staticmethod
    def _user() -> dict[str, Any]:
        """PostgreSQL refuses to run as root."""
        if os.geteuid() != 0:
            return {}
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        return {"user": user.pw_uid, "group": user.pw_gid}


class Redis:
    name = "Redis"
    variable = "REDIS_URL"

    def __init__(self, directory: Path) -> None:
        self.program = find_program("redis-server", "redis-server")
        self.client = find_program("redis-cli", "redis-server")
        self.directory = directory

    def start(self) -> str:
        """Start it unless it runs, and return its URL."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self._running():
            port = str(free_port())
            self._port_file.write_text(port)
            options = ["--bind", "127.0.0.1", "--port", port, "--daemonize", "yes"]
            options += ["--save", "", "--appendonly", "no", "--logfile", "log"]
            subprocess.run([self.program, *options], cwd=self.directory, check=True)
            wait_until(self._running, START_TIMEOUT, "Redis answers")
        return f"redis://127.0.0.1:{self._port_file.read_text()}/0"

    def stop(self) -> None:
        if self._running():
            self._ask("shutdown", "nosave")

    @property
    def _port_file(self) -> Path:
        return self.directory / "port"

    def _running(self) -> bool:
        """The directory is asked, too: after a restart the port may be another server's."""
        if not self._port_file.exists():
            return False
        return str(self.directory) in self._ask("config", "get", "dir").splitlines()

    def _ask(self, *command: str) -> str:
        port = self._port_file.read_text()
        arguments = [str(self.client), "-h", "127.0.0.1", "-p", port, *command]
        return subprocess.run(arguments, capture_output=True, text=True).stdout


SERVERS: list[Callable[[Path], Server]] = [Postgres, Redis]


@contextlib.contextmanager
def temporary(make: Callable[[Path], Server]) -> Iterator[str]:
    """The URL of a server that lasts as long as the block."""
    with tempfile.TemporaryDirectory(prefix="broadcast-") as root:
        Path(root).chmod(0o755)
        server = make(Path(root) / "data")
        url = server.start()
        try:
            yield url
        finally:
            server.stop()


def main(action: str) -> None:
    for make in SERVERS:
        try:
            server = make(CHECKOUT / "var" / "services" / make.__name__.lower())
        except MissingError as missing:
            print(f"# {make.__name__}: {missing}")
            continue
        if action == "stop":
            server.stop()
        else:
            print(f"export {server.variable}={server.start()}")


if __name__ == "__main__":
    main(sys.argv[1])
