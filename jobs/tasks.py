"""The clock of the jobs themselves."""

from datetime import timedelta

from django.conf import settings

from jobs import clock
from jobs.leases import fenced
from jobs.models import Run, RunStatus
from jobs.progress import advance, expect
from jobs.registry import periodic

BATCH = 5_000


@periodic("RUN_RETENTION", every="24h")
def delete_old_runs() -> int:
    """Delete the history of runs older than RUN_RETENTION_DAYS, in batches."""
    before = clock.now() - timedelta(days=settings.RUN_RETENTION_DAYS)
    old = Run.objects.filter(slot__lt=before).exclude(status=RunStatus.RUNNING)
    expect(old.count())
    deleted = 0
    while ids := list(old.values_list("pk", flat=True)[:BATCH]):
        with fenced():
            deleted += Run.objects.filter(pk__in=ids).delete()[0]
        advance(len(ids))
    return deleted
