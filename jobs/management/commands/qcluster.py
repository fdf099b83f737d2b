import logging
import os
from multiprocessing import Process, active_children
from types import FrameType
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import close_old_connections, connection
from django_q import cluster
from django_q.management.commands.qcluster import Command as QClusterCommand
from django_q.scheduler import scheduler

from jobs.acting import acting_as
from jobs.schedules import set_aside_broken, synchronise

logger = logging.getLogger(__name__)

LOOK = 0.2  # seconds between looks at whether it is told to stop


def careful_scheduler(*args: Any, **kwargs: Any) -> None:
    """django-q2's scheduler, without the rows at which it would give up on all others."""
    close_old_connections()
    try:
        set_aside_broken()
    except Exception:  # the database is away: it would end the process that keeps the workers
        logger.exception("The schedules could not be looked at; again in half a minute")
    scheduler(*args, **kwargs)


class CarefulSentinel(cluster.Sentinel):  # type: ignore[misc]
    """The process that keeps the workers."""

    def reincarnate(self, process: Process) -> None:
        """Nothing must live on half: what is killed while it waits for a task takes the lock of the
        queue with it, and no other process of this cluster would ever get one.
        """
        if process.exitcode is None or process.exitcode >= 0:
            super().reincarnate(process)
            return
        logger.critical("A process of this qcluster was killed: it ends, to be started again whole")
        for child in active_children():
            child.kill()
        os._exit(1)  # at once: an exit in order would wait for the queues


class CarefulCluster(cluster.Cluster):  # type: ignore[misc]
    told_to_stop = False

    def sig_handler(self, signum: int, frame: FrameType | None) -> None:
        """Only remembered: one that comes while the sentinel is being forked would find nothing to
        stop, and be lost.
        """
        self.told_to_stop = True

    def run(self) -> None:
        """Until it is told to stop, or ends by itself."""
        self.start()
        while self.sentinel.is_alive() and not self.told_to_stop:
            self.sentinel.join(LOOK)
        self.stop()


class Command(QClusterCommand):  # type: ignore[misc]
    help = "Run the periodic jobs (django-q2), on as many nodes as you like."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--run-once", action="store_true", help="Do what is queued, then end.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not hasattr(cluster, "scheduler"):
            raise CommandError("This django-q2 has no scheduler to guard: check its version.")
        synchronise()
        connection.close()  # else the processes that are forked from this one would share it
        # django-q2 closes what is old around each task: none is, unless it is broken.
        connection.settings_dict |= {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
        cluster.scheduler = careful_scheduler
        cluster.Sentinel = CarefulSentinel
        logger.info("Running the periodic jobs; their runs are in the admin under Jobs.")
        running = CarefulCluster()
        running.told_to_stop = options["run_once"]
        with acting_as(None):  # what it forks does nothing for whoever started it
            running.run()
        if not running.told_to_stop:
            raise CommandError("qcluster ended by itself: it is to be started again.")
