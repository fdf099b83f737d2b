"""Chat comes in batches, and may come again: each message counts once."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from operator import attrgetter
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Greatest

from domains.twitch.models import ChannelViewer, Message, Stream, Viewer
from jobs import clock

MOST_MESSAGES = 1_000
"""In one batch."""

BATCH = 200
COUNTED = ["total_messages", "first_seen_at", "last_seen_at"]
FLAGS = ["is_moderator", "is_vip", "is_subscriber"]

AHEAD = timedelta(minutes=5)
"""By which the clock of a bot may go before ours: what is later is taken as said now."""


@dataclass(frozen=True)
class Ingested:
    stream: Stream
    new: int
    known: int


def ingest(channel: str, messages: Sequence[Message]) -> Ingested:
    """Store what is new, and count it at its stream and viewers, in one transaction.

    The stream is the live one of the channel, else the Chat-Only one. Its row is locked, so that
    batches of one stream follow each other, and counters miss nothing. The same message in two
    batches for two streams is refused by its id, and is known at the second try.
    """
    try:
        return _ingest(channel, messages)
    except IntegrityError:
        return _ingest(channel, messages)


@transaction.atomic
def _ingest(channel: str, messages: Sequence[Message]) -> Ingested:
    stream = _stream_of(channel)
    new = _new_ones(messages)
    if new:
        now = clock.now()
        for message in new:
            message.pk, message.stream, message.channel = None, stream, channel
            if message.sent_at > now + AHEAD:
                message.sent_at = now
        _count_viewers(channel, new)
        Message.objects.bulk_create(new, batch_size=500)
        newest = max(message.sent_at for message in new)
        Stream.objects.filter(pk=stream.pk).update(
            total_messages=F("total_messages") + len(new),
            last_activity_at=Greatest("last_activity_at", newest),
        )
        stream.refresh_from_db()
    return Ingested(stream, len(new), len(messages) - len(new))


def _stream_of(channel: str) -> Stream:
    """Locked. One that ended while this waited for it is not the one."""
    rows = Stream.objects.select_for_update()
    live = rows.filter(channel=channel, ended_at=None, is_chat_only=False).first()
    return live or rows.get(pk=Stream.objects.chat_only().pk)


def _new_ones(messages: Sequence[Message]) -> list[Message]:
    """One of each id, without those that are stored."""
    by_id = {message.twitch_id: message for message in messages}
    known = Message.objects.filter(twitch_id__in=by_id).values_list("twitch_id", flat=True)
    for twitch_id in known:
        del by_id[twitch_id]
    return list(by_id.values())


def _count_viewers(channel: str, new: Sequence[Message]) -> None:
    """Missing rows are made and all are locked in one order, so that two channels never deadlock.

    Only then are they read and counted up: what another batch counted is seen.
    """
    said: dict[str, list[Message]] = defaultdict(list)
    for message in sorted(new, key=attrgetter("user_id", "sent_at")):
        said[message.user_id].append(message)
    Viewer.objects.bulk_create(
        [Viewer(twitch_id=user_id, **_seen(of)) for user_id, of in said.items()],
        ignore_conflicts=True,
    )
    locked = Viewer.objects.filter(twitch_id__in=said).select_for_update().order_by("twitch_id")
    viewers = {viewer.pk: viewer for viewer in locked}
    for viewer in viewers.values():
        last = said[viewer.twitch_id][-1]
        viewer.username, viewer.display_name = last.username, last.display_name
        _count(viewer, said[viewer.twitch_id])
    Viewer.objects.bulk_update(
        viewers.values(), ["username", "display_name", *COUNTED], batch_size=BATCH
    )
    ChannelViewer.objects.bulk_create(
        [
            ChannelViewer(channel=channel, viewer=viewer, **_seen(said[viewer.twitch_id]))
            for viewer in viewers.values()
        ],
        ignore_conflicts=True,
    )
    here = ChannelViewer.objects.filter(channel=channel, viewer__in=viewers)
    rows = list(here.select_for_update().order_by("viewer_id"))
    for row in rows:
        of = said[viewers[row.viewer_id].twitch_id]
        for flag in FLAGS:
            setattr(row, flag, getattr(of[-1], flag))
        _count(row, of)
    ChannelViewer.objects.bulk_update(rows, [*FLAGS, *COUNTED], batch_size=BATCH)


def _seen(messages: Sequence[Message]) -> dict[str, Any]:
    return {"first_seen_at": messages[0].sent_at, "last_seen_at": messages[-1].sent_at}


def _count(row: Viewer | ChannelViewer, messages: Sequence[Message]) -> None:
    row.total_messages += len(messages)
    row.first_seen_at = min(row.first_seen_at, messages[0].sent_at)
    row.last_seen_at = max(row.last_seen_at, messages[-1].sent_at)
