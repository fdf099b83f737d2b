"""Runs every registered worker in a thread of its own until SIGTERM or Ctrl-C."""

import logging
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType

from django.db import close_old_connections, connection

from jobs.execution import run_due, seconds_until_due
from jobs.registry import PeriodicJob, Worker, periodic_jobs, workers
from jobs.schedules import synchronise
from jobs.wake import Wake

logger = logging.getLogger(__name__)

BACK_OFF = 1.0  # seconds before a worker that raised is tried again
GRACE = 10.0  # seconds that a step may take to end at SIGTERM
SHORTEST_SLEEP = 0.05  # seconds
LONGEST_SLEEP = 2.0  # seconds; a run that was asked for does not wait longer


class WorkerDied(Exception):
    """The process ends, so that whoever keeps it starts it again whole."""


class JobWorker:
    """A periodic job that ticks faster than django-q2 looks."""

    wakes_on = "jobs"

    def __init__(self, job: PeriodicJob) -> None:
        self.job = job

    def step(self) -> float:
        ran = run_due(self.job)
        # What is due and was not taken is locked: a moment, not a tight loop.
        return min(max(seconds_until_due(self.job), 0 if ran else SHORTEST_SLEEP), LONGEST_SLEEP)

    def stop(self) -> None:
        pass


def all_workers() -> dict[str, Callable[[], Worker]]:
    fast = {name: job for name, job in periodic_jobs.items() if job.is_fast}
    return workers | {name: partial(JobWorker, job) for name, job in fast.items()}


class Runner:
    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.died: list[str] = []

    def run(self) -> None:
        """Raises `WorkerDied` when a worker ended by itself: nothing must live on half."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        synchronise()
        connection.close()  # this thread only waits from here on
        threads = [
            threading.Thread(target=self._repeat, args=(name, cls()), name=name, daemon=True)
            for name, cls in all_workers().items()
        ]
        for thread in threads:
            thread.start()
        self.stopping.wait()
        self._join(threads)
        if self.died:
            raise WorkerDied(", ".join(self.died))

    def _join(self, threads: list[threading.Thread]) -> None:
        deadline = time.monotonic() + GRACE
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
            if thread.is_alive():
                logger.warning("Worker %s does not end; its lease runs out by itself", thread.name)

    def stop(self, number: int, frame: FrameType | None) -> None:
        logger.info("Stopping on %s", signal.Signals(number).name)
        self.stopping.set()

    def _repeat(self, name: str, worker: Worker) -> None:
        logger.info("Worker %s started", name)
        try:
            with Wake(worker.wakes_on, stopping=self.stopping) as wake:
                while not self.stopping.is_set():
                    wake.wait(self._step(name, worker))
            worker.stop()
        except BaseException:
            logger.exception("Worker %s died", name)
            self.died.append(name)
            self.stopping.set()
        connection.close()
        logger.info("Worker %s stopped", name)

    def _step(self, name: str, worker: Worker) -> float:
        try:
            return worker.step()
        except Exception:  # one worker's failure must not stop it or the others
            logger.exception("Worker %s failed; again in %s s", name, BACK_OFF)
            close_old_connections()
            return BACK_OFF
