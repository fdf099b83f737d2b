"""What the jobs of Twitch do, seen from outside: a bot tells, time passes, people are told."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from domains.twitch.models import Stream
from tests.everywhere import Everywhere

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

STREAMS, MESSAGES = "/api/twitch/streams", "/api/twitch/messages"


def chat(site: Everywhere, channel: str, **days_ago: int) -> Any:
    """Messages by their ids, each said so many days ago."""
    now = timezone.now()
    messages = [
        {
            "id": name,
            "user_id": "1",
            "username": "ann",
            "text": "Hello.",
            "sent_at": (now - timedelta(days=days)).isoformat(),
        }
        for name, days in days_ago.items()
    ]
    return site.request("POST", MESSAGES, {"channel": channel, "messages": messages})


def silent(stream: int, hours: int) -> datetime:
    """Nothing was heard of it for so long; when it was."""
    at = timezone.now() - timedelta(hours=hours)
    Stream.objects.filter(pk=stream).update(started_at=at, last_activity_at=at)
    return at


def test_of_a_stream_that_fell_silent_all_are_told_once(site: Everywhere) -> None:
    silenced, lively = (
        site.request("POST", STREAMS, {"channel": name, "title": "Baking"})["id"]
        for name in ("silenced", "lively")
    )
    site.request("POST", f"{STREAMS}/{silenced}/viewers", {"viewers": 12})
    last_heard = silent(silenced, hours=25)
    silent(lively, hours=23)
    silent(Stream.objects.chat_only().pk, hours=10_000)
    with site.watch("twitchbot.stream.ended") as seen:
        site.run_job("STREAM_CLOSER")
        site.run_job("STREAM_CLOSER")
    (ended,) = (one["data"] for one in seen)
    assert (ended["stream_id"], ended["peak_viewers"]) == (silenced, 12)
    assert ended["ended_at"] == last_heard.isoformat()
    streams = site.request("GET", f"{STREAMS}?active=true")["results"]
    assert {one["channel"] for one in streams} == {"lively", ""}
    again = site.request("POST", STREAMS, {"channel": "silenced"})
    assert again["id"] != silenced, "its channel is free for another"


def test_chat_is_gone_after_90_days_and_counted_for_ever(site: Everywhere) -> None:
    told = chat(site, "kitchen", older=91, old=90, young=89)
    assert told["new"] == 3
    site.run_job("MESSAGE_CLEANUP")
    site.run_job("MESSAGE_CLEANUP")
    kept = site.request("GET", f"{MESSAGES}?channel=kitchen")["results"]
    assert [one["twitch_id"] for one in kept] == ["young"]
    stream = site.request("GET", f"{STREAMS}/{told['stream']}")
    assert stream["total_messages"] == 3
    assert chat(site, "kitchen", young=89)["known"] == 1
