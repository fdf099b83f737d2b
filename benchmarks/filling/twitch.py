"""Rows that the jobs of Twitch delete or end."""

from collections.abc import Callable
from datetime import timedelta

from django.utils import timezone

from domains.twitch.models import Message, Stream

BATCH = 5_000


def old_messages(count: int) -> None:
    stream, at = Stream.objects.chat_only(), timezone.now() - timedelta(days=120)
    rows = (
        Message(
            twitch_id=f"m{number}",
            stream=stream,
            channel="toast",
            user_id=str(number % 500),
            username=f"user{number % 500}",
            text="What is in the oven today?",
            sent_at=at + timedelta(seconds=number % 86_400),
        )
        for number in range(count)
    )
    Message.objects.bulk_create(rows, batch_size=BATCH)


def abandoned_streams(count: int) -> None:
    at = timezone.now() - timedelta(hours=30)
    rows = (
        Stream(channel=f"c{number}", started_at=at, last_activity_at=at) for number in range(count)
    )
    Stream.objects.bulk_create(rows, batch_size=BATCH)


FILL: dict[str, Callable[[int], None]] = {
    "MESSAGE_CLEANUP": old_messages,
    "STREAM_CLOSER": abandoned_streams,
}
