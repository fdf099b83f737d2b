"""The lease of a job: one row that one node holds, with a fencing token; time is the database's.

A holder that lives renews it; a holder that was killed, frozen or cut off loses it after
`at_most`, and whatever it still tries to write under its old token is refused.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import close_old_connections, connection, transaction
from django.db.models import DateTimeField, ExpressionWrapper, QuerySet, Value
from django.db.models.functions import Now

from jobs.models import Job, Run, RunStatus

logger = logging.getLogger(__name__)

WRITTEN_EVERY = 2.0  # seconds between two writes of how far a run has come


class Fenced(Exception):
    """This node no longer holds the lease: another may run the job now."""


@dataclass
class Lease:
    job: str
    token: int
    slot: datetime
    length: timedelta
    run: int
    """Its key, as the history has it."""
    lost: threading.Event = field(default_factory=threading.Event)
    done: int = 0
    expected: int = 0
    written: int = 0
    watch: Callable[[int, int], None] = lambda done, expected: None

    @property
    def row(self) -> QuerySet[Job]:
        return Job.objects.filter(name=self.job, token=self.token)

    def renew(self) -> bool:
        return bool(self.row.update(until=from_now(self.length)))

    def advance(self, done: int, expected: int = 0) -> None:
        """So many items are done, and so many more are known of; `jobs.progress` says it."""
        self.done += done
        self.expected += expected
        self.watch(self.done, self.expected)

    def write_progress(self) -> None:
        """For the console. A run that was taken over is no longer RUNNING: it stays as it was."""
        if (done := self.done) != self.written:
            run = Run.objects.filter(job=self.job, token=self.token, status=RunStatus.RUNNING)
            run.update(items=done)
            self.written = done

    def lock(self) -> None:
        """Hold the row for the current transaction, or raise `Fenced`."""
        if self.lost.is_set() or not self.row.update(token=self.token):
            raise Fenced(f"{self.job} was taken over")


_current: ContextVar[Lease | None] = ContextVar("lease", default=None)


def current_lease() -> Lease | None:
    """The lease under which this code runs; None outside of a run."""
    return _current.get()


def from_now(length: timedelta) -> "ExpressionWrapper[Any]":
    return ExpressionWrapper(Now() + Value(length), output_field=DateTimeField())


@contextmanager
def fenced() -> Iterator[None]:
    """A transaction that commits only while this run holds its lease.

    For what a job writes: `with fenced(): ...`. Outside of a run it is just a transaction.
    """
    with transaction.atomic():
        if lease := _current.get():
            lease.lock()
        yield


@contextmanager
def held(lease: Lease) -> Iterator[None]:
    """Keep the lease, by a thread of its own, while the block runs."""
    done = threading.Event()
    keeping = threading.Thread(target=_keep, args=(lease, done), name=f"lease-{lease.job}")
    keeping.start()
    token = _current.set(lease)
    try:
        yield
    finally:
        _current.reset(token)
        done.set()
        keeping.join()


def _keep(lease: Lease, done: threading.Event) -> None:
    """Renew it at each third of its length; in between, write how far the run has come."""
    third = lease.length.total_seconds() / 3
    renewal = time.monotonic() + third
    while not done.wait(min(max(renewal - time.monotonic(), 0), WRITTEN_EVERY)):
        try:
            lease.write_progress()
            if time.monotonic() < renewal:
                continue
            renewal = time.monotonic() + third
            if not lease.renew():
                lease.lost.set()
                logger.warning("%s was taken over by another node", lease.job)
                break
        except Exception:  # a database that is away now may be back before the lease runs out
            logger.exception("The lease of %s could not be kept", lease.job)
            close_old_connections()
    connection.close()
