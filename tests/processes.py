import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.servers import CHECKOUT
from tests.waiting import PATIENCE

Environment = dict[str, str]
STOP_TIMEOUT = 20  # seconds that a process gets for its own clean-up


@dataclass
class Spawned:
    """A running `manage.py`, the leader of a process group."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, arguments: list[str], env: Environment, log: Path) -> "Spawned":
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "manage.py", *arguments],
                cwd=CHECKOUT,
                env=env | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        return cls(f"manage.py {' '.join(arguments)}", process, log)

    @property
    def pid(self) -> int:
        return self.process.pid

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        return self.process.wait(timeout)

    def close(self) -> None:
        """End it and everything that it started."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_TIMEOUT)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


def environment(database_url: str, var: Path) -> Environment:
    """What a process of the project is started with; nothing comes from the developer's .env."""
    return os.environ | {
        "DATABASE_URL": database_url,
        "VAR_DIR": str(var),
        "SECRET_KEY": "for tests only",
        "DEBUG": "false",
        "HTTPS": "false",
        "REDIS_URL": "",
    }
