import subprocess
from pathlib import Path

from tests.servers.programs import START_TIMEOUT, STOP_TIMEOUT, find_program, is_free, lasting_ports
from tests.waiting import wait_until


class Redis:
    """Stopped and started, it keeps its port, and nothing else."""

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
            port = self._port()
            options = ["--bind", "127.0.0.1", "--port", port, "--daemonize", "yes"]
            options += ["--save", "", "--appendonly", "no", "--logfile", "log"]
            subprocess.run([self.program, *options], cwd=self.directory, check=True)
            wait_until(self._running, START_TIMEOUT, "Redis answers")
        return f"redis://127.0.0.1:{self._port_file.read_text()}/0"

    def stop(self) -> None:
        if self._running():
            self._ask("shutdown", "nosave")
            wait_until(lambda: not self._running(), STOP_TIMEOUT, "Redis ends")

    def flush(self) -> None:
        self._ask("flushall")

    def _port(self) -> str:
        """The one that it had, unless that is another's now."""
        file = self._port_file
        if not file.exists() or not is_free(int(file.read_text())):
            file.write_text(str(lasting_ports(1)[0]))
        return file.read_text()

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
