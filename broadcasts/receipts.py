"""Delivered, seen, read, …: each stamped once, in batches, whoever says it how often."""

import threading
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import Case, Count, F, QuerySet, Value, When
from django.db.models.functions import Coalesce, Now
from django.utils import timezone
from django.utils.translation import gettext as _

from broadcasts.directory import channels_of
from broadcasts.models import Broadcast, Receipt, ReceiptStatus
from broadcasts.preferences import shown_to
from jobs import clock
from outbox.services import emit

BATCH = 1_000
STAGES = ("delivered", "seen", "read", "acknowledged", "dismissed")


class Stamped:
    """How many receipts this process stamped, by stage; counted when the stamps are committed."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(STAGES, 0)
        self._lock = threading.Lock()

    def add(self, stage: str, count: int) -> None:
        if count:
            transaction.on_commit(lambda: self._add(stage, count), robust=True)

    def _add(self, stage: str, count: int) -> None:
        with self._lock:
            self.counts[stage] += count


stamped = Stamped()


class NotInInbox(Exception):
    """No such broadcast in this person's inbox (HTTP 404)."""


class AcknowledgementMissing(Exception):
    """It asks to be acknowledged before it is dismissed (HTTP 409)."""


def inbox_of(user: AbstractUser) -> QuerySet[Any]:
    """Broadcasts that the person sees now with their stamps on them, without an order."""
    return shown_to(user, Broadcast.objects.inbox(user.pk, channels_of(user), Now()))


def record_deliveries(broadcast_id: int, user_ids: Collection[int], at: datetime) -> None:
    """Written to a socket of each of these people. Idempotent; one statement a thousand."""
    at_in_database = connection.ops.adapt_datetimefield_value(at)
    for ids in _batches(user_ids):
        with connection.cursor() as cursor:
            people = ", ".join(["%s"] * len(ids))
            cursor.execute(DELIVER % people, [at_in_database, at_in_database, broadcast_id, *ids])
            stamped.add("delivered", cursor.rowcount)


# By hand, because this is the one write that grows with every message to every person: through
# the models it costs some fifty times as much. Who was deleted meanwhile falls out of the SELECT;
# its order keeps two nodes that tell of the same people from locking each other out.
DELIVER = """
    INSERT INTO broadcasts_receipt (broadcast_id, user_id, status, created_at, delivered_at)
    SELECT
        broadcast.id,
        person.id,
        CASE
            WHEN broadcast.status IN ('CANCELLED', 'EXPIRED') THEN 'SUPERSEDED' ELSE 'DELIVERED'
        END,
        %%s,
        %%s
    FROM broadcasts_broadcast broadcast, auth_user person
    WHERE broadcast.id = %%s AND person.id IN (%s)
    ORDER BY person.id
    ON CONFLICT (user_id, broadcast_id) DO UPDATE SET
        delivered_at = excluded.delivered_at,
        status = CASE
            WHEN broadcasts_receipt.status IN ('PENDING', 'FAILED') THEN excluded.status
            ELSE broadcasts_receipt.status
        END
    WHERE broadcasts_receipt.delivered_at IS NULL
"""


def mark_seen(user: AbstractUser, broadcast_ids: Collection[int]) -> int:
    """The client says that they were on screen. How many were; raises `NotInInbox`.

    Of what is in no inbox, too: where a proxy holds the stream, or a process was killed, this is
    the only word that it arrived. And of what has just left it: muted, dismissed in another tab,
    cancelled or expired after it was looked at.
    """
    wanted = set(broadcast_ids)
    theirs = Broadcast.objects.lately_shown(clock.now()).addressed_to(user.pk, channels_of(user))
    found = list(theirs.filter(pk__in=wanted).values_list("pk", flat=True))
    _refuse_others(wanted, found)
    _stamp(user_ids=[user.pk], broadcast_ids=found, stage="seen_at")
    return len(found)


def mark_read(user: AbstractUser, broadcast_ids: Collection[int]) -> int:
    """Read, on every screen of this person. How many; raises `NotInInbox`."""
    found = _in_inbox(user, broadcast_ids)
    unread = inbox_of(user).filter(pk__in=found, read_at=None)
    _read(user, list(unread.values_list("pk", flat=True)))
    return len(found)


def mark_all_read(user: AbstractUser) -> int:
    """Everything unread. How many there were."""
    unread = inbox_of(user).filter(read_at=None)
    return _read(user, list(unread.values_list("pk", flat=True)))


def acknowledge(user: AbstractUser, broadcast_ids: Collection[int]) -> int:
    """Taken note of, and so read, on every screen of this person. How many.

    Raises `NotInInbox`, and `ValidationError` for what does not ask for it.
    """
    found = _in_inbox(user, broadcast_ids)
    rows = inbox_of(user).filter(pk__in=found)
    if others := list(rows.filter(requires_acknowledgement=False).values_list("pk", flat=True)):
        ids = ", ".join(map(str, others))
        raise ValidationError(
            _("These ask for no acknowledgement: %(ids)s. Mark them as read.") % {"ids": ids}
        )
    at = timezone.now()
    with transaction.atomic():
        fresh = list(rows.filter(acknowledged_at=None).values_list("pk", flat=True))
        _stamp(user_ids=[user.pk], broadcast_ids=fresh, stage="acknowledged_at", at=at)
        _tell(user, "broadcast.acknowledged", fresh, acknowledged_at=at.isoformat())
    return len(found)


def dismiss(user: AbstractUser, broadcast_ids: Collection[int]) -> int:
    """Take them out of the inbox, on every screen. How many.

    Raises `NotInInbox`, and `AcknowledgementMissing` where one asks for that first.
    """
    found = _in_inbox(user, broadcast_ids)
    asking = inbox_of(user).filter(
        pk__in=found, requires_acknowledgement=True, acknowledged_at=None
    )
    if missing := list(asking.values_list("pk", flat=True)):
        ids = ", ".join(map(str, missing))
        raise AcknowledgementMissing(_("Acknowledge before you dismiss: %(ids)s.") % {"ids": ids})
    with transaction.atomic():
        _stamp(user_ids=[user.pk], broadcast_ids=found, stage="dismissed_at")
        _tell(user, "broadcast.dismissed", found)
    return len(found)


@dataclass(frozen=True)
class Statistics:
    targeted: int
    delivered: int
    seen: int
    read: int
    dismissed: int
    acknowledged: int = 0

    @property
    def delivery_rate(self) -> float | None:
        """Between 0 and 1; None when nobody was targeted."""
        return self._rate(self.delivered)

    @property
    def seen_rate(self) -> float | None:
        return self._rate(self.seen)

    @property
    def read_rate(self) -> float | None:
        return self._rate(self.read)

    @property
    def acknowledgement_rate(self) -> float | None:
        return self._rate(self.acknowledged)

    def _rate(self, part: int) -> float | None:
        return min(part / self.targeted, 1.0) if self.targeted else None


def statistics(broadcast: Broadcast) -> Statistics:
    return statistics_of([broadcast])[broadcast.pk]


def statistics_of(broadcasts: Iterable[Broadcast]) -> dict[int, Statistics]:
    """By broadcast id, counted from the receipts: right however often something arrived."""
    broadcasts = list(broadcasts)
    rows: Iterable[Any] = (
        Receipt.objects.filter(broadcast__in=[broadcast.pk for broadcast in broadcasts])
        .order_by()
        .values("broadcast_id")
        .annotate(
            delivered=Count("delivered_at"),
            seen=Count("seen_at"),
            read=Count("read_at"),
            acknowledged=Count("acknowledged_at"),
            dismissed=Count("dismissed_at"),
        )
    )
    counted: dict[int, dict[str, int]] = defaultdict(lambda: dict.fromkeys(STAGES, 0))
    for row in rows:
        counted[row["broadcast_id"]] = {stage: row[stage] for stage in STAGES}
    return {b.pk: Statistics(targeted=b.targeted or 0, **counted[b.pk]) for b in broadcasts}


def _in_inbox(user: AbstractUser, broadcast_ids: Collection[int]) -> list[int]:
    wanted = set(broadcast_ids)
    found = list(inbox_of(user).filter(pk__in=wanted).values_list("pk", flat=True))
    _refuse_others(wanted, found)
    return found


def _refuse_others(wanted: set[int], found: list[int]) -> None:
    if missing := wanted.difference(found):
        raise NotInInbox(", ".join(map(str, sorted(missing))))


def _read(user: AbstractUser, broadcast_ids: list[int]) -> int:
    with transaction.atomic():
        _stamp(user_ids=[user.pk], broadcast_ids=broadcast_ids, stage="read_at")
        _tell(user, "broadcast.read", broadcast_ids)
    return len(broadcast_ids)


def _tell(user: AbstractUser, event: str, broadcast_ids: list[int], **more: str) -> None:
    for ids in _batches(broadcast_ids):
        data = {"broadcast_id": ids[0] if len(ids) == 1 else None, "broadcast_ids": ids} | more
        emit(event, key=f"user-{user.pk}", data=data, channels=[f"user-{user.pk}"])


def _stamp(
    *, user_ids: list[int], broadcast_ids: list[int], stage: str, at: datetime | None = None
) -> None:
    """Stamp a stage, and those that it implies, where they are not stamped yet.

    Two statements for a thousand receipts: the missing rows, then the stamps.
    """
    at = at or timezone.now()
    for ids in _batches(broadcast_ids):
        new = [Receipt(broadcast_id=pk, user_id=user_id) for pk in ids for user_id in user_ids]
        Receipt.objects.bulk_create(new, ignore_conflicts=True, batch_size=BATCH)
        stamps = {field: Coalesce(F(field), Value(at)) for field in IMPLIED[stage]}
        unstamped = Receipt.objects.filter(
            broadcast_id__in=ids, user_id__in=user_ids, **{stage: None}
        )
        count = unstamped.update(status=_status_after(stage), **stamps)
        stamped.add(stage.removesuffix("_at"), count)


# Dismissing implies nothing: who throws a letter away has not read it.
IMPLIED = {
    "delivered_at": ["delivered_at"],
    "seen_at": ["delivered_at", "seen_at"],
    "read_at": ["delivered_at", "seen_at", "read_at"],
    "acknowledged_at": ["delivered_at", "seen_at", "read_at", "acknowledged_at"],
    "dismissed_at": ["dismissed_at"],
}
MOVES = {
    "delivered_at": (ReceiptStatus.DELIVERED, ["PENDING", "FAILED"]),
    "seen_at": (ReceiptStatus.SEEN, ["PENDING", "FAILED", "DELIVERED"]),
    "read_at": (ReceiptStatus.READ, ["PENDING", "FAILED", "DELIVERED", "SEEN"]),
    "acknowledged_at": (ReceiptStatus.READ, ["PENDING", "FAILED", "DELIVERED", "SEEN"]),
}


def _status_after(stage: str) -> Case | F:
    """The status moves forward only, and never out of SUPERSEDED."""
    if stage not in MOVES:
        return F("status")
    status, before = MOVES[stage]
    return Case(When(status__in=before, then=Value(status)), default=F("status"))


def _batches(ids: Collection[int]) -> Iterable[list[int]]:
    ids = list(ids)
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]
