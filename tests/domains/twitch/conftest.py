from datetime import datetime, timedelta
from typing import Any

import time_machine
from django.utils import timezone

from domains.twitch.models import Message, Stream
from domains.twitch.services import start

CHANNEL = "toast"


def live(channel: str = CHANNEL, hours_ago: float = 0, **fields: Any) -> Stream:
    """A stream of which nothing was heard for so many hours."""
    stream, _is_new = start(channel, **fields)
    if hours_ago:
        at = timezone.now() - timedelta(hours=hours_ago)
        Stream.objects.filter(pk=stream.pk).update(started_at=at, last_activity_at=at)
        stream.refresh_from_db()
    return stream


def message(number: int, user: str = "1", **fields: Any) -> Message:
    given: dict[str, Any] = {
        "twitch_id": f"m{number}",
        "user_id": user,
        "username": f"user{user}",
        "text": f"Line {number}",
        "sent_at": timezone.now(),
    }
    return Message(**(given | fields))


def in_hours(hours: float) -> "time_machine.travel":
    return time_machine.travel(datetime.now().astimezone() + timedelta(hours=hours), tick=False)
