"""Sleep that a commit elsewhere cuts short, on either database.

PostgreSQL says so itself (`LISTEN`/`NOTIFY`, on a connection of its own). SQLite cannot, but
`PRAGMA data_version` changes with each commit of another connection and costs microseconds.
"""

import logging
import threading
import time
from types import TracebackType
from typing import Self

import psycopg
from django.db import connection

logger = logging.getLogger(__name__)

SQLITE_POLL = 0.02  # seconds
POSTGRES_SLICE = 0.5  # seconds between looks at `stopping`


def notify(channel: str) -> None:
    """Wake who waits on `channel` when the current transaction commits; SQLite needs no word."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, '')", [channel])


class Wake:
    """Used by one thread: `wait(seconds)` returns at a commit, at `stopping` or after `seconds`."""

    def __init__(self, channel: str, *, stopping: threading.Event | None = None) -> None:
        self.channel = channel
        self.stopping = stopping or threading.Event()
        self.listener: psycopg.Connection | None = None
        self.version = 0
        self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self.listener:
            self.listener.close()

    def wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.stopping.is_set() and (left := deadline - time.monotonic()) > 0:
            if self._woken(left):
                return

    def _woken(self, left: float) -> bool:
        if connection.vendor == "postgresql":
            return self._notified(min(left, POSTGRES_SLICE))
        version = self._data_version()
        if version != self.version:
            self.version = version
            return True
        return self.stopping.wait(min(left, SQLITE_POLL))

    def _notified(self, seconds: float) -> bool:
        try:
            if self.listener is None:
                self._listen()
            if self.listener is None:  # the server is away: poll until it is back
                return self.stopping.wait(seconds)
            return any(True for _ in self.listener.notifies(timeout=seconds, stop_after=1))
        except psycopg.OperationalError:
            logger.warning("LISTEN lost its connection; polling until it is back")
            self.listener = None
            return self.stopping.wait(seconds)

    def _listen(self) -> None:
        if connection.vendor != "postgresql":
            self.version = self._data_version()
            return
        try:
            params = connection.get_connection_params()
            keys = ("cursor_factory", "context", "pool")
            plain = {key: value for key, value in params.items() if key not in keys}
            self.listener = psycopg.connect(**plain, autocommit=True)
            self.listener.execute(f'LISTEN "{self.channel}"')
        except psycopg.OperationalError:
            logger.warning("LISTEN %s cannot connect; polling", self.channel)

    def _data_version(self) -> int:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            return int(cursor.fetchone()[0])
