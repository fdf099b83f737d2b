from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction
from django.db.models import F

from outbox.models import LeaderLease

STEP = 1_000_000


class Command(BaseCommand):
    help = (
        "Run once after the database was restored from a backup, before anything else is started:"
        " no position is given twice, so that no client takes a new event for one it has seen."
    )

    def handle(self, **options: Any) -> None:
        with transaction.atomic():
            lease, _ = LeaderLease.objects.select_for_update().get_or_create(name="relay")
            # Another holder may live on the old database: its token must not be taken here.
            LeaderLease.objects.filter(pk=lease.pk).update(
                position=F("position") + STEP, token=F("token") + STEP, holder="", until=None
            )
        lease.refresh_from_db()
        self.stdout.write(f"The next event is at position {lease.position + 1}.")
