import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.servers.programs import START_TIMEOUT, find_program, lasting_ports


class Postgres:
    """Stopped and started, it keeps its port and its data."""

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
            options = f"-F -p {self._port()} -c listen_addresses=127.0.0.1 -c max_connections=100"
            options += " -c wal_level=logical"  # what Debezium reads
            options += " -c unix_socket_directories=''"  # a path may be too long for a socket
            log = str(self.directory / "log")
            self._run("pg_ctl", "-w", "-t", str(START_TIMEOUT), "-l", log, "-o", options, "start")
        port = (self.directory / "postmaster.pid").read_text().splitlines()[3]
        return f"postgres://broadcast@127.0.0.1:{port}/postgres"

    def stop(self, mode: str = "fast") -> None:
        """`immediate` is what a crash leaves behind."""
        if self._running():
            self._run("pg_ctl", "-w", "-m", mode, "stop")

    def _port(self) -> str:
        file = self.directory / "port"
        if not file.exists():
            file.write_text(str(*lasting_ports(1)))
        return file.read_text()

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
