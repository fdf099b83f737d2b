"""What people prefer, and the end of what was held for them.

A message is held by when it was activated: within the quiet hours of its reader, and after
`released_to`. The inbox asks the clock; streams go by the log, where each end of quiet hours is an
event with a position, so that a client that was away is told what it missed like anything else.
"""

from collections import defaultdict
from collections.abc import Iterable
from copy import copy
from datetime import datetime, timedelta
from typing import Any, cast

from django.contrib.auth.models import AbstractUser, User
from django.db import transaction
from django.db.models import QuerySet

from broadcasts.directory import channels_of
from broadcasts.models import Broadcast, Email, Preference, Status
from broadcasts.quiet import Window
from connections.screening import RELEASE
from connections.services import disconnect_people
from jobs import clock
from outbox.models import Event
from outbox.services import build_event, emit_all

CHUNK = 1_000  # people a release
KEPT_BY_USER = Preference._meta.get_field("user").remote_field


def preference_of(user: AbstractUser) -> Preference:
    """Theirs, or one of someone who prefers nothing, not saved."""
    return Preference.objects.of(user.pk) or Preference(user=cast(User, user))


def shown_to(user: AbstractUser, broadcasts: QuerySet[Any]) -> QuerySet[Any]:
    """Of these broadcasts, what the preferences of a person let them see now: one query."""
    preference = Preference.objects.of(user.pk)
    KEPT_BY_USER.set_cached_value(user, preference)  # who asks for their language has it
    if preference is None:
        return broadcasts
    held = preference.held(clock.now()) if preference.quiet_hours else None
    return preference.shown(broadcasts, held)


def categories_of(user: AbstractUser) -> list[str]:
    """Those of all that the person was ever sent, whatever they have muted."""
    sent = Broadcast.objects.addressed_to(user.pk, channels_of(user))
    sent = sent.filter(status__in=[Status.ACTIVE, Status.EXPIRED]).exclude(category="")
    return list(sent.order_by("category").values_list("category", flat=True).distinct())


@transaction.atomic
def prefer(user: AbstractUser, **fields: Any) -> Preference:
    """Change what a person prefers. Raises `ValidationError` with a message a field.

    Other quiet hours release what the old ones held. Streams are cut where they must know, and
    return at once.
    """
    Preference.objects.get_or_create(user=cast(User, user))
    preference = Preference.objects.select_for_update(of=["self"]).get(pk=user.pk)
    preference.user = cast(User, user)
    before = copy(preference)
    for name, value in fields.items():
        setattr(preference, name, value)
    preference.full_clean()
    other_hours = preference.quiet_hours != before.quiet_hours
    now = clock.now()
    if other_hours:
        _begin_anew(preference, before, now)
    _plan_email(preference, before, now)
    preference.save()
    other_words = preference.language != before.language
    if other_hours or other_words or preference.muted_categories != before.muted_categories:
        disconnect_people({user.pk}, reason="preferences changed", reconnect=True)
    return preference


def stop_email(user_id: int) -> None:
    """The person wants no e-mail any more; idempotent."""
    Preference.objects.filter(pk=user_id).update(email=Email.NEVER, email_due_at=None)


def release_due() -> int:
    """Release what was held by quiet hours that are over; of how many people.

    Processes share the work: what another holds locked is passed over.
    """
    due = Preference.objects.ending(clock.now())
    if not due.exists():
        return 0  # on SQLite a transaction would lock out all who write
    with transaction.atomic():
        over = list(due.select_for_update(skip_locked=True)[:CHUNK])
        held: defaultdict[Window, list[int]] = defaultdict(list)
        for preference in over:
            if window := _held_by(preference):
                held[window].append(preference.pk)
            assert preference.quiet_ends_at
            preference.released_to = preference.quiet_ends_at
            preference.quiet_ends_at = _next_end(preference, preference.released_to)
        Preference.objects.bulk_update(over, ["released_to", "quiet_ends_at"])
        emit_all([_release(window, people) for window, people in held.items()])
    return len(over)


def _begin_anew(preference: Preference, before: Preference, now: datetime) -> None:
    """Release what is held, and hold by the new hours from now on."""
    held = _held_by(before)
    if held and held.start < now:
        emit_all([_release(Window(held.start, min(held.end, now)), [preference.pk])])
    if preference.quiet_hours or preference.released_to:
        preference.released_to = now
    preference.quiet_ends_at = _next_end(preference, now)


def _held_by(preference: Preference) -> Window | None:
    """From when to when its hours hold, or held what is yet to be released."""
    if not (preference.quiet_hours and preference.quiet_ends_at):
        return None
    end = preference.quiet_ends_at
    start = preference.quiet_hours.next(end - timedelta.resolution).start
    return Window(max(start, preference.released_to or start), end)


def _next_end(preference: Preference, after: datetime) -> datetime | None:
    return preference.quiet_hours.next(after).end if preference.quiet_hours else None


def _release(held: Window, people: Iterable[int]) -> Event:
    """With a key of its own: releases of other people need no order, and none waits for another."""
    channels = [f"user-{pk}" for pk in people]
    data = {"since": held.start.isoformat(), "until": held.end.isoformat()}
    return build_event(RELEASE, f"quiet-hours-{channels[0]}", data, channels)


def _plan_email(preference: Preference, before: Preference, now: datetime) -> None:
    if before.email == Email.NEVER:
        preference.mailed_to = now  # what was there before is not mailed
    preference.email_due_at = preference.next_email(now)
