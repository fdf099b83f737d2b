"""Writes what people do, in the transaction in which they do it; deletes it when it is old."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Model

from jobs import clock
from jobs.acting import Actor, acting
from jobs.correlation import correlation_id
from jobs.leases import fenced
from jobs.progress import advance, expect
from operations.audit.models import AuditEntry

BATCH = 5_000


def write(actor: Actor, action: str, subject: Model | None, detail: dict[str, Any]) -> AuditEntry:
    """An entry; texts as long as their columns."""
    return AuditEntry.objects.create(
        action=action,
        door=actor.door,
        user_id=actor.user_id,
        person=_cut(actor.name, 150),
        via=_cut(actor.via, 200),
        address=_cut(actor.address, 100),
        subject_type=subject._meta.label_lower if subject else "",
        subject_id=_cut(str(subject.pk), 100) if subject else "",
        subject=_cut(_name_of(subject), 200) if subject else "",
        detail=detail,
        correlation_id=correlation_id(),
    )


def _name_of(subject: Model) -> str:
    """A row that was made of texts may not know its own name before it is read again."""
    try:
        return str(subject)
    except (AttributeError, TypeError, ValueError):
        return str(type(subject)._default_manager.get(pk=subject.pk))


def _cut(text: str, length: int) -> str:
    # PostgreSQL takes no NUL, which anybody can type into a name.
    return text.replace("\0", "")[:length]


def forget_old() -> int:
    """Delete entries older than AUDIT_RETENTION_DAYS, in batches; how many."""
    if not settings.AUDIT_RETENTION_DAYS:
        return 0
    before = clock.now() - timedelta(days=settings.AUDIT_RETENTION_DAYS)
    old = AuditEntry.objects.before(before).order_by("pk")
    expect(old.count())
    deleted = 0
    while ids := list(old.values_list("pk", flat=True)[:BATCH]):
        with fenced():
            deleted += _forget(ids, before)
        advance(len(ids))
    return deleted


def _forget(ids: Collection[int], before: datetime) -> int:
    """What is missing is told where it is missed."""
    count = AuditEntry.objects.filter(pk__in=ids).forget(before)
    if count and (actor := acting()):
        write(actor, "audit.forgotten", None, {"entries": count, "before": before})
    return count
