"""Private servers: for one test run, or for this checkout (`make services`).

Each listens on a free port of the loopback address and keeps its data in a directory of its own;
a server that is already there is never touched.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from tests.servers.connect import KafkaConnect
from tests.servers.kafka import Kafka
from tests.servers.nginx import Nginx
from tests.servers.postgres import Postgres
from tests.servers.programs import CHECKOUT, Daemon, MissingError, find_program, free_port
from tests.servers.pushpin import Pushpin
from tests.servers.redis import Redis

__all__ = [
    "CHECKOUT",
    "Daemon",
    "Kafka",
    "KafkaConnect",
    "MissingError",
    "Nginx",
    "Postgres",
    "Pushpin",
    "Redis",
    "Server",
    "find_program",
    "free_port",
    "running",
    "temporary",
]


class Server(Protocol):
    name: str
    variable: str  # the environment variable that selects the server

    def start(self) -> str: ...
    def stop(self) -> None: ...


S = TypeVar("S", bound=Server)


@contextlib.contextmanager
def running(make: Callable[[Path], S]) -> Iterator[S]:
    """A server that lasts as long as the block, for who stops and starts it; else `temporary`."""
    with tempfile.TemporaryDirectory(prefix="broadcast-") as root:
        Path(root).chmod(0o755)
        server = make(Path(root) / "data")
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def temporary(make: Callable[[Path], Server]) -> Iterator[str]:
    """The URL of a server that lasts as long as the block."""
    with running(make) as server:
        yield server.start()
