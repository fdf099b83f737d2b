"""Who has not seen a broadcast, and sending it to them once more.

A reminder is the same message again, to the streams of those who have not seen it: no second
message in an inbox. It is written in stretches, each with its cursor in one transaction, so that
two processes do not tell anybody twice and one that is killed is continued.
"""

import logging
from datetime import timedelta
from typing import cast

from django.contrib.auth.models import AbstractUser, User
from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from broadcasts.directory import (
    Stretch,
    UserServiceUnavailable,
    get_directory,
    name_of,
    named,
    stretch_of,
)
from broadcasts.messages import message_of
from broadcasts.models import Audience, Broadcast, Receipt, Reminder
from broadcasts.services import BROADCASTS, CHUNK, InvalidTransition
from jobs import clock
from jobs.acting import did
from jobs.wake import notify
from outbox.services import build_event, emit_all

logger = logging.getLogger(__name__)

STRETCH = 10_000  # people a transaction
PAUSE = timedelta(minutes=10)  # between two reminders: people are not nagged, nor clicks doubled


class AlreadyReminded(Exception):
    """One is under way, or was sent a moment ago (HTTP 409)."""

    def __init__(self, reminder: Reminder) -> None:
        super().__init__(
            _("A reminder was sent at %(time)s. Wait %(minutes)s minutes before the next one.")
            % {"time": f"{reminder.created_at:%H:%M:%S} UTC", "minutes": PAUSE.seconds // 60}
        )
        self.reminder = reminder


def count_unseen(broadcast: Broadcast) -> int:
    """How many of its people have not seen it. Raises `UserServiceUnavailable`."""
    if broadcast.audience == Audience.SELECTED:
        return _selected(broadcast).count()
    seen = _seen(broadcast)
    return get_directory().count_without(broadcast.audience, broadcast.targets, seen)


def unseen(broadcast: Broadcast, *, search: str = "", after: str = "", limit: int = 50) -> Stretch:
    """Some of them, by username, from behind `after`. Raises `UserServiceUnavailable`."""
    if broadcast.audience != Audience.SELECTED:
        asked = {"search": search, "after": after, "limit": limit}
        return get_directory().without(
            broadcast.audience,
            broadcast.targets,
            _seen(broadcast),
            **asked,  # type: ignore[arg-type]
        )
    people = named(_selected(broadcast), search).filter(username__gt=after).order_by("username")
    rows = people.values_list("pk", "username", "first_name", "last_name")
    return stretch_of(list(rows[: limit + 1]), limit)


def _seen(broadcast: Broadcast) -> QuerySet[Receipt]:
    return Receipt.objects.filter(broadcast_id=broadcast.pk, seen_at__isnull=False)


def _selected(broadcast: Broadcast) -> QuerySet[User]:
    """By their receipts: the names in its targets are too many to ask with."""
    return User.objects.filter(
        is_active=True, receipts__broadcast_id=broadcast.pk, receipts__seen_at=None
    )


def remind(broadcast: Broadcast, sender: AbstractUser | None) -> Reminder:
    """Send it once more to who has not seen it; the relay's process goes on where they are many.

    Raises `InvalidTransition` for what is in no inbox, and `AlreadyReminded`.
    """
    with transaction.atomic():
        now = clock.now()
        row = Broadcast.objects.select_for_update().visible(now).filter(pk=broadcast.pk)
        if not row.update(reminded_at=now):
            raise InvalidTransition(_("Only what is in inboxes now can be reminded of."))
        last = broadcast.reminders.first()
        if last and (last.finished_at is None or last.created_at > now - PAUSE):
            raise AlreadyReminded(last)
        name = name_of(sender) if sender else ""
        reminder = Reminder.objects.create(
            broadcast=broadcast,
            sender=cast("User | None", sender),
            sender_name=name,
            created_at=now,
        )
        did("broadcast.reminded", broadcast)
        notify(BROADCASTS)
    _go_on(reminder)
    reminder.refresh_from_db()
    return reminder


def resume_reminders() -> int:
    """What is under way, a stretch of each; how many people were told."""
    under_way = Reminder.objects.filter(finished_at=None).order_by("pk")
    return sum(_go_on(reminder) for reminder in under_way)


def _go_on(reminder: Reminder) -> int:
    try:
        return _stretch(reminder)
    except UserServiceUnavailable as error:
        text = str(error)
    except Exception as error:  # one must not stop the others
        logger.exception("Reminder %s could not go on", reminder.pk)
        text = str(error) or type(error).__name__
    Reminder.objects.filter(pk=reminder.pk, finished_at=None).update(last_error=text)
    return 0


def _stretch(reminder: Reminder) -> int:
    """The next of them; none if somebody else went on meanwhile."""
    broadcast = Broadcast.objects.get(pk=reminder.broadcast_id)
    found = unseen(broadcast, after=reminder.after, limit=STRETCH)
    with transaction.atomic():
        row = Broadcast.objects.select_for_update().visible(clock.now())
        in_inboxes = row.filter(pk=broadcast.pk).first()  # nothing follows its end
        people = found.people if in_inboxes else []
        mine = Reminder.objects.filter(pk=reminder.pk, after=reminder.after, finished_at=None)
        ends = found.after is None or not in_inboxes
        changes = {"finished_at": Now()} if ends else {"after": found.after}
        if not mine.update(people=F("people") + len(people), last_error="", **changes):
            return 0
        message = message_of(broadcast)
        channels = [f"user-{person.id}" for person in people]
        for start in range(0, len(channels), CHUNK):
            chunk = channels[start : start + CHUNK]
            key = f"broadcast-{broadcast.pk}"
            part = reminder.people + start
            event = build_event("broadcast.reminded", key, message, chunk, broadcast.priority, part)
            emit_all([event])
        notify(BROADCASTS)
    return len(people)
