"""Verbs on streams and commands; admin, API and jobs call them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Greatest
from django.utils.translation import gettext as _

from domains.twitch.models import CHAT_ONLY, Command, Stream
from jobs import clock
from jobs.acting import did, differences
from jobs.transitions import InvalidTransition as InvalidTransition
from outbox.models import Event
from outbox.services import build_event, emit, emit_all


class NotAllowed(Exception):
    """The command does not answer this person, or not now; the message says why."""


def facts(stream: Stream) -> dict[str, Any]:
    return {
        "stream_id": stream.pk,
        "channel": stream.channel,
        "title": stream.title,
        "game_name": stream.game_name,
        "started_at": stream.started_at.isoformat(),
    }


def start(channel: str, twitch_id: str | None = None, **fields: Any) -> tuple[Stream, bool]:
    """The stream, and whether it is new: a bot that starts again says what is known already.

    Another one that is live in the channel ends at its last activity: Twitch has one at a time.
    """
    try:
        return _start(channel, twitch_id or None, fields)
    except IntegrityError:  # two said it at once; now it is known
        return _start(channel, twitch_id or None, fields)


@transaction.atomic
def _start(channel: str, twitch_id: str | None, fields: dict[str, Any]) -> tuple[Stream, bool]:
    known = Stream.objects.filter(twitch_id=twitch_id).first() if twitch_id else None
    if known:
        return known, False
    now = clock.now()
    fields = {"started_at": now} | fields
    live = Stream.objects.real().active().filter(channel=channel).select_for_update()
    end_all(list(live))
    stream = Stream.objects.create(
        channel=channel, twitch_id=twitch_id, last_activity_at=now, **fields
    )
    emit("twitchbot.stream.started", f"stream-{stream.pk}", facts(stream))
    return stream, True


@transaction.atomic
def update(stream: Stream, **fields: Any) -> None:
    """Another title or game; what is said again is activity and nothing else.

    Raises `InvalidTransition` when it has ended.
    """
    stored = _live(stream).select_for_update().values(*fields, "pk").first()
    if not stored:
        raise InvalidTransition(_not_live(stream))
    _live(stream).update(**fields, last_activity_at=Greatest("last_activity_at", clock.now()))
    stream.refresh_from_db()
    if changes := differences(stored, fields, fields):
        emit("twitchbot.stream.updated", f"stream-{stream.pk}", facts(stream))
        did("twitchbot.stream.changed", stream, changes=changes)


def count_viewers(stream: Stream, viewers: int) -> None:
    """So many watch now. Raises `InvalidTransition` when it has ended."""
    counted = _live(stream).update(
        peak_viewers=Greatest("peak_viewers", viewers),
        viewer_sum=F("viewer_sum") + viewers,
        viewer_samples=F("viewer_samples") + 1,
        last_activity_at=Greatest("last_activity_at", clock.now()),
    )
    if not counted:
        raise InvalidTransition(_not_live(stream))
    stream.refresh_from_db()


@transaction.atomic
def end(stream: Stream, at: datetime | None = None) -> None:
    """It is over, now or at that moment. Raises `InvalidTransition` when it was already."""
    moment = max(at or clock.now(), stream.started_at)
    if not _live(stream).update(ended_at=moment):
        raise InvalidTransition(_not_live(stream))
    stream.refresh_from_db()
    emit_all([_ended(stream)])
    did("twitchbot.stream.ended", stream)


@transaction.atomic
def switch(commands: QuerySet[Command], *, is_active: bool) -> list[Command]:
    """On or off; those that were not so before. What was counted meanwhile stays."""
    others = list(commands.exclude(is_active=is_active).select_for_update())
    Command.objects.filter(pk__in=[one.pk for one in others]).update(is_active=is_active)
    for command in others:
        did("twitchbot.command.changed", command, changes={"is_active": [not is_active, is_active]})
    return others


def end_all(streams: Iterable[Stream]) -> int:
    """End them at their last activity, all in one statement; their rows are locked."""
    ended = list(streams)
    rows = Stream.objects.filter(pk__in=[stream.pk for stream in ended])
    rows.update(ended_at=Greatest("last_activity_at", "started_at"))
    for stream in ended:
        stream.ended_at = max(stream.last_activity_at, stream.started_at)
    if ended:
        emit_all([_ended(stream) for stream in ended])
    return len(ended)


def _ended(stream: Stream) -> Event:
    assert stream.ended_at
    data = facts(stream) | {
        "ended_at": stream.ended_at.isoformat(),
        "peak_viewers": stream.peak_viewers,
        "average_viewers": stream.average_viewers,
        "total_messages": stream.total_messages,
    }
    return build_event("twitchbot.stream.ended", f"stream-{stream.pk}", data)


def _live(stream: Stream) -> Any:
    return Stream.objects.real().active().filter(pk=stream.pk)


def _not_live(stream: Stream) -> str:
    if stream.is_chat_only:
        return _("%(name)s is no stream of Twitch, and never ends.") % {"name": CHAT_ONLY}
    return _("%(stream)s has ended already.") % {"stream": stream}


@dataclass(frozen=True)
class Caller:
    """Who calls a command, as the chat says it."""

    name: str
    is_moderator: bool = False
    is_subscriber: bool = False
    is_broadcaster: bool = False


def use(command: Command, channel: str, caller: Caller) -> str:
    """The answer, counted. Of two at once within the cool-down one gets it; `NotAllowed` says why.

    The broadcaster may all; a moderator, too, passes what is for subscribers.
    """
    _refuse(command, caller)
    now = clock.now()
    rested = Q(last_used_at=None) | Q(
        last_used_at__lte=now - timedelta(seconds=command.cooldown_seconds)
    )
    used = Command.objects.filter(rested, pk=command.pk, is_active=True)
    if not used.update(usage_count=F("usage_count") + 1, last_used_at=now):
        raise NotAllowed(_("%(command)s cools down: try again later.") % {"command": command})
    command.refresh_from_db()
    filled = {"user": caller.name, "channel": channel, "count": str(command.usage_count)}
    answer = command.response
    for field, value in filled.items():
        answer = answer.replace(f"{{{field}}}", value)
    return answer


def _refuse(command: Command, caller: Caller) -> None:
    if not command.is_active:
        raise NotAllowed(_("%(command)s is switched off.") % {"command": command})
    if caller.is_broadcaster or caller.is_moderator:
        return
    if command.moderator_only:
        raise NotAllowed(_("%(command)s is for moderators.") % {"command": command})
    if command.subscriber_only and not caller.is_subscriber:
        raise NotAllowed(_("%(command)s is for subscribers.") % {"command": command})
