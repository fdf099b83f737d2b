"""The clock of Twitch."""

from datetime import timedelta

from django.conf import settings

from domains.twitch.models import Message, Stream
from domains.twitch.services import end_all
from jobs import clock
from jobs.leases import fenced
from jobs.progress import advance, expect
from jobs.registry import periodic

MESSAGES = 5_000  # that are deleted in one transaction
STREAMS = 500  # that are ended in one


@periodic("MESSAGE_CLEANUP", every="24h", at_most="15m")
def delete_old_messages() -> int:
    """Delete chat messages older than MESSAGE_CLEANUP_RETENTION_DAYS, in batches."""
    kept_since = clock.now() - timedelta(days=settings.MESSAGE_CLEANUP_RETENTION_DAYS)
    old = Message.objects.filter(sent_at__lt=kept_since)
    expect(old.count())
    deleted = 0
    oldest = old.order_by("sent_at", "id").values_list("sent_at", "id")
    batch = list(oldest[:MESSAGES])
    while batch:
        with fenced():
            Message.objects.filter(pk__in=[pk for _, pk in batch]).delete()
        advance(len(batch))
        deleted += len(batch)
        # From where the last one stood, so that what was deleted is not read over again.
        batch = list(oldest.filter(sent_at__gte=batch[-1][0])[:MESSAGES])
    return deleted


@periodic("STREAM_CLOSER", every="1h")
def close_abandoned_streams() -> int:
    """End streams of which nothing was heard for STREAM_CLOSER_INACTIVE_TIMEOUT."""
    since = clock.now() - settings.STREAM_CLOSER_INACTIVE_TIMEOUT
    abandoned = Stream.objects.abandoned(since).order_by("last_activity_at", "pk")
    expect(abandoned.count())
    closed = 0
    while True:
        with fenced():
            ended = end_all(list(abandoned.select_for_update()[:STREAMS]))
        if not ended:
            return closed
        advance(ended)
        closed += ended
