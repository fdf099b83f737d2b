from typing import Any

from django.core.management.base import CommandError
from django.db import connection
from django_q import cluster
from django_q.management.commands.qcluster import Command as QClusterCommand
from django_q.scheduler import scheduler

from jobs.schedules import set_aside_broken, synchronise


def careful_scheduler(*args: Any, **kwargs: Any) -> None:
    """django-q2's scheduler, without the rows at which it would give up on all others."""
    set_aside_broken()
    scheduler(*args, **kwargs)


class Command(QClusterCommand):  # type: ignore[misc]
    help = "Run the periodic jobs (django-q2), on as many nodes as you like."

    def handle(self, *args: Any, **options: Any) -> None:
        if not hasattr(cluster, "scheduler"):
            raise CommandError("This django-q2 has no scheduler to guard: check its version.")
        synchronise()
        connection.close()  # else the processes that are forked from this one would share it
        # django-q2 closes what is old around each task: none is, unless it is broken.
        connection.settings_dict |= {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
        cluster.scheduler = careful_scheduler
        self.stdout.write("Running the periodic jobs; their runs are in the admin under Jobs.")
        super().handle(*args, **options)
