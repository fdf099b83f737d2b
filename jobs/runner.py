"""Runs every registered worker in a thread of its own until SIGTERM or Ctrl-C."""

import logging
import signal
import threading
from types import FrameType

from django.db import close_old_connections, connection

from jobs.registry import Worker, workers
from jobs.wake import Wake

logger = logging.getLogger(__name__)

BACK_OFF = 1.0  # seconds before a worker that raised is tried again


class Runner:
    def __init__(self) -> None:
        self.stopping = threading.Event()

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        threads = [
            threading.Thread(target=self._repeat, args=(name, cls()), name=name)
            for name, cls in workers.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def stop(self, number: int, frame: FrameType | None) -> None:
        logger.info("Stopping on %s", signal.Signals(number).name)
        self.stopping.set()

    def _repeat(self, name: str, worker: Worker) -> None:
        logger.info("Worker %s started", name)
        with Wake("outbox", stopping=self.stopping) as wake:
            while not self.stopping.is_set():
                try:
                    delay = worker.step()
                except Exception:  # one worker's failure must not stop it or the others
                    logger.exception("Worker %s failed; again in %s s", name, BACK_OFF)
                    delay = BACK_OFF
                    close_old_connections()
                wake.wait(delay)
        worker.stop()
        connection.close()
        logger.info("Worker %s stopped", name)
