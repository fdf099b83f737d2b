"""What is done to API keys; each is an event of the log as well, and cuts streams at once."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from jobs import clock
from jobs.acting import did, differences
from jobs.leases import fenced, from_now
from jobs.progress import advance, expect
from jobs.transitions import InvalidTransition as InvalidTransition
from operations.keys.models import ApiKey
from operations.keys.secrets import Written, digest_of, new_key, new_secret
from operations.keys.signals import key_cut
from outbox.services import build_event, emit, emit_all

BATCH = 500
EXPIRED = "expired"


def may_hold(person: AbstractBaseUser | AnonymousUser, owner_id: int) -> bool:
    """Whether this person may see a secret that acts as the owner: their own, or a superuser."""
    return person.pk == owner_id or bool(getattr(person, "is_superuser", False))


def check_may_hold(person: AbstractBaseUser | AnonymousUser, owner_id: int) -> None:
    """Raises `PermissionDenied`: who made a key for somebody else could act as they may."""
    if not may_hold(person, owner_id):
        raise PermissionDenied(
            _("Only a superuser makes, widens or rotates the keys of somebody else.")
        )


def check_may_give(
    person: AbstractBaseUser | AnonymousUser,
    owner_id: int,
    scopes: Collection[str],
    before: Collection[str],
) -> None:
    """To a key that is there. Raises `PermissionDenied`: who has its secret could else let
    themselves do more as its owner. To take scopes away is no such thing."""
    if not set(scopes) <= set(before):
        check_may_hold(person, owner_id)


@transaction.atomic
def make(owner: User, name: str, scopes: Collection[str], **fields: Any) -> tuple[ApiKey, str]:
    """The key, and how it is written: that is kept nowhere."""
    written = new_key()
    key = ApiKey(owner=owner, name=name, scopes=list(scopes), **fields)
    key.key_id, key.digest = written.key_id, digest_of(written.secret)
    key.save(force_insert=True)
    emit("key.created", key=written.key_id, data=facts(key))
    return key, str(written)


@transaction.atomic
def edit(key: ApiKey, **fields: Any) -> None:
    """Write these fields alone, if they are others: what was counted meanwhile stays."""
    stored = ApiKey.objects.select_for_update().get(pk=key.pk)
    for name, value in fields.items():
        setattr(key, name, value)
    changes = differences({name: getattr(stored, name) for name in fields}, fields)
    if not changes:
        return
    ApiKey.objects.filter(pk=key.pk).update(**fields)
    emit("key.changed", key=key.key_id, data=facts(key) | {"changed": sorted(changes)})
    did("key.changed", key, changes=changes)
    if "scopes" in changes:
        cut(key, reason="its API key changed", reconnect=True)


@transaction.atomic
def rotate(key: ApiKey, overlap: timedelta) -> str:
    """A new secret; the one before it works for `overlap` longer, and older ones no more."""
    row = ApiKey.objects.select_for_update().get(pk=key.pk)
    secret, older = new_secret(), row.old_digest
    row.old_digest = row.digest if overlap else ""
    row.old_until = clock.now() + overlap if overlap else None
    row.digest = digest_of(secret)
    row.save(update_fields=["digest", "old_digest", "old_until"])
    key.old_until = row.old_until
    until = row.old_until.isoformat() if row.old_until else None
    emit("key.rotated", key=row.key_id, data=facts(row) | {"old_until": until})
    did("key.rotated", key, old_until=until)
    if older or not overlap:
        cut(row, reason="its API key was rotated", reconnect=True)
    return str(Written(row.key_id, secret))


@transaction.atomic
def disable(key: ApiKey, reason: str) -> None:
    """Raises `InvalidTransition`. From the next request on, in every process."""
    if not ApiKey.objects.filter(pk=key.pk, enabled=True).update(enabled=False, reason=reason):
        raise InvalidTransition(_("%(key)s is disabled already.") % {"key": key})
    key.enabled, key.reason = False, reason
    emit("key.disabled", key=key.key_id, data=facts(key) | {"reason": reason})
    did("key.disabled", key, reason=reason)
    cut(key, reason="its API key was disabled")


@transaction.atomic
def enable(key: ApiKey) -> None:
    """Raises `InvalidTransition`, also for one that has expired: a later expiry comes first."""
    if ApiKey.objects.filter(pk=key.pk, expires_at__lte=Now()).exists():
        raise InvalidTransition(_("%(key)s has expired: give it a later expiry.") % {"key": key})
    if not ApiKey.objects.filter(pk=key.pk, enabled=False).update(enabled=True, reason=""):
        raise InvalidTransition(_("%(key)s is enabled already.") % {"key": key})
    key.enabled, key.reason = True, ""
    emit("key.enabled", key=key.key_id, data=facts(key))
    did("key.enabled", key)


@transaction.atomic
def delete(key: ApiKey) -> None:
    """With what it was used for."""
    emit("key.deleted", key=key.key_id, data=facts(key))
    cut(key, reason="its API key was deleted")
    key.delete()


def end_expired() -> int:
    """Disable keys past their expiry, and end secrets whose overlap is over; how many."""
    at = clock.now()
    return _end_keys(at) + _end_overlaps(at)


def next_ends(after: datetime) -> list[datetime | None]:
    """When the next key expires, and when the next secret that was rotated out ends."""
    keys = ApiKey.objects.filter(enabled=True, expires_at__gt=after).order_by("expires_at")
    old = ApiKey.objects.filter(old_until__gt=after).order_by("old_until")
    return [
        keys.values_list("expires_at", flat=True).first(),
        old.values_list("old_until", flat=True).first(),
    ]


def _end_keys(at: datetime) -> int:
    """A batch in a transaction: who was given a later expiry in between is not in it."""
    expired = ApiKey.objects.expired(at)
    expect(expired.count())
    ended = 0
    while expired.exists() and (keys := _end_some(at)):
        ended += len(keys)
        advance(len(keys))
    return ended


def _end_some(at: datetime) -> list[ApiKey]:
    with fenced():
        found = ApiKey.objects.expired(at).order_by("pk").select_for_update(skip_locked=True)
        keys = list(found[:BATCH])
        ended = ApiKey.objects.filter(pk__in=[key.pk for key in keys])
        ended.update(enabled=False, reason=EXPIRED)
        emit_all([build_event("key.expired", key=key.key_id, data=facts(key)) for key in keys])
        cut(*keys, reason="its API key expired")
    return keys


def _end_overlaps(at: datetime) -> int:
    """What an old secret opened may last for days: it comes back with the new one, or not."""
    ended = 0
    overlapped = ApiKey.objects.overlapped(at)
    while overlapped.exists() and (keys := _end_some_overlaps(at)):
        ended += len(keys)
    return ended


def _end_some_overlaps(at: datetime) -> list[ApiKey]:
    with fenced():
        found = ApiKey.objects.overlapped(at).order_by("pk").select_for_update(skip_locked=True)
        keys = list(found[:BATCH])
        over = ApiKey.objects.filter(pk__in=[key.pk for key in keys])
        over.update(old_digest="", old_until=None)
        cut(*keys, reason="its API key was rotated", reconnect=True)
    return keys


def waiting_to_end() -> int:
    """Keys whose expiry passed longer ago than the job is apart from its next run."""
    return ApiKey.objects.filter(
        enabled=True, expires_at__lte=from_now(-timedelta(hours=2))
    ).count()


def cut(*keys: ApiKey, reason: str, reconnect: bool = False) -> None:
    key_cut.send(ApiKey, keys=keys, reason=reason, reconnect=reconnect)


def facts(key: ApiKey) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "name": key.name,
        "owner_id": key.owner_id,
        "scopes": list(key.scopes),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
    }
