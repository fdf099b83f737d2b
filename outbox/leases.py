"""Who of several processes does it: a row with a lease, a fencing token and a position."""

import logging
import os
import secrets
import time
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from jobs.leases import from_now
from jobs.registry import Standing
from outbox.models import LeaderLease

logger = logging.getLogger(__name__)

RELAY = "relay"
STAND_BY = 1.0  # seconds between looks at a lease that somebody else holds


class Fenced(Exception):
    """Another process has taken the lead."""


class Leader:
    def __init__(self, name: str) -> None:
        self.name = name
        self.holder = f"{settings.NODE_NAME}-{os.getpid()}-{secrets.token_hex(3)}"
        self.token = 0
        self.renewed_at = 0.0  # monotonic

    @property
    def row(self) -> QuerySet[LeaderLease]:
        """The lease as long as this process has it: no row is found by a token of the past."""
        return LeaderLease.objects.filter(name=self.name, token=self.token)

    def lead(self) -> bool:
        """Take, keep or fail to get the lease, by the clock of the database."""
        renewed_at = time.monotonic()
        if self.token and self.row.update(until=self.until()):
            self.renewed_at = renewed_at
            return True
        lease = LeaderLease.objects.filter(name=self.name)
        LeaderLease.objects.get_or_create(name=self.name)
        free = lease.filter(Q(until=None) | Q(until__lt=Now()))
        taken = free.update(
            holder=self.holder, since=Now(), until=self.until(), token=F("token") + 1
        )
        if not taken:
            self.token = 0
            return False
        mine = lease.filter(holder=self.holder).values_list("token", flat=True)
        self.token = mine.first() or 0  # none: somebody took it while this process slept
        self.renewed_at = renewed_at
        logger.info("%s %s leads with token %s", self.name, self.holder, self.token)
        return bool(self.token)

    def leads(self) -> bool:
        """`lead`, asked of the database only now and then: what is written is fenced anyway."""
        return self.is_fresh or self.lead()

    @property
    def is_fresh(self) -> bool:
        age = time.monotonic() - self.renewed_at
        return bool(self.token) and age < settings.OUTBOX_LEASE_SECONDS / 6

    def resign(self) -> None:
        """Let the next one lead at once instead of after the lease has run out."""
        self.row.update(until=None, holder="")
        self.token = 0

    def until(self) -> Any:
        return from_now(timedelta(seconds=settings.OUTBOX_LEASE_SECONDS))


def leading(name: str) -> LeaderLease | None:
    """None when the last one let go, or its time ran out."""
    return LeaderLease.objects.filter(name=name, until__gt=Now()).first()


def standing_of(name: str, pending: int) -> Standing:
    lease = leading(name)
    return Standing(pending, lease.holder, lease.since) if lease else Standing(pending, leader="")
