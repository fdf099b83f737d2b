from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from domains.twitch.ingest import Ingested, ingest
from domains.twitch.models import ChannelViewer, Message, Stream, Viewer
from domains.twitch.services import end, start
from domains.twitch.tasks import close_abandoned_streams
from tests.domains.twitch.conftest import CHANNEL, live, message
from tests.racing import race

pytestmark = pytest.mark.django_db


def test_chat_is_counted_at_its_stream_and_viewers() -> None:
    stream = live(hours_ago=2)
    said = timezone.now()
    done = ingest(
        CHANNEL,
        [
            message(1, "1", sent_at=said - timedelta(minutes=5)),
            message(2, "2", is_subscriber=True, sent_at=said),
            message(3, "1", display_name="Ann", is_moderator=True, sent_at=said),
        ],
    )
    assert (done.stream, done.new, done.known) == (stream, 3, 0)
    stream.refresh_from_db()
    assert (stream.total_messages, stream.last_activity_at) == (3, said)
    ann = Viewer.objects.get(twitch_id="1")
    assert (ann.display_name, ann.total_messages) == ("Ann", 2)
    assert ann.last_seen_at - ann.first_seen_at == timedelta(minutes=5)
    here = ChannelViewer.objects.get(viewer=ann, channel=CHANNEL)
    assert (here.total_messages, here.is_moderator, here.is_subscriber) == (2, True, False)


def test_what_comes_again_counts_once() -> None:
    stream = live()
    ingest(CHANNEL, [message(1), message(2)])
    done = ingest(CHANNEL, [message(2), message(3), message(3)])
    assert (done.new, done.known) == (1, 2)
    stream.refresh_from_db()
    assert stream.total_messages == Message.objects.count() == 3
    assert Viewer.objects.get().total_messages == 3


def test_what_is_said_while_nobody_streams_goes_to_the_chat_only_stream() -> None:
    stream = live()
    end(stream)
    live("elsewhere")
    done = ingest(CHANNEL, [message(1)])
    assert done.stream == Stream.objects.chat_only()
    assert Message.objects.get().channel == CHANNEL


def test_what_was_said_before_moves_no_activity_back_and_the_future_is_now() -> None:
    stream = live()
    before = stream.last_activity_at
    ingest(CHANNEL, [message(1, sent_at=timezone.now() - timedelta(days=3))])
    stream.refresh_from_db()
    assert stream.last_activity_at == before
    ingest(CHANNEL, [message(2, sent_at=timezone.now() + timedelta(days=3000))])
    stream.refresh_from_db()
    assert stream.last_activity_at < timezone.now()


def test_a_viewer_is_counted_in_each_channel() -> None:
    ingest("one", [message(1)])
    ingest("two", [message(2), message(3)])
    assert Viewer.objects.get().total_messages == 3
    counts = dict(ChannelViewer.objects.values_list("channel", "total_messages"))
    assert counts == {"one": 1, "two": 2}


def test_a_batch_costs_few_statements() -> None:
    live()
    ingest(CHANNEL, [message(n, str(n)) for n in range(250)])
    with CaptureQueriesContext(connection) as queries:
        ingest(CHANNEL, [message(1_000 + n, str(n)) for n in range(500)])
    assert len(queries) < 60  # SQLite takes fewer rows at once than PostgreSQL


def batches(*several: tuple[str, list[int]]) -> list[Callable[[], Ingested]]:
    def sending(channel: str, numbers: list[int]) -> Callable[[], Ingested]:
        return lambda: ingest(channel, [message(n, str(n % 7)) for n in numbers])

    return [sending(channel, numbers) for channel, numbers in several]


@pytest.mark.django_db(transaction=True)
def test_batches_at_once_lose_no_count() -> None:
    stream = live()
    Stream.objects.chat_only()
    outcomes: list[Any] = race(
        *batches(
            (CHANNEL, list(range(100))),
            (CHANNEL, list(range(50, 150))),  # half of it has come before
            (CHANNEL, list(range(300, 200, -1))),
            ("elsewhere", list(range(400, 300, -1))),
        )
    )
    assert sum(done.new for done in outcomes) == Message.objects.count() == 350, outcomes
    stream.refresh_from_db()
    assert stream.total_messages == 250
    assert Stream.objects.chat_only().total_messages == 100
    assert sum(Viewer.objects.values_list("total_messages", flat=True)) == 350
    assert sum(ChannelViewer.objects.values_list("total_messages", flat=True)) == 350


@pytest.mark.django_db(transaction=True)
def test_the_same_batch_for_two_channels_at_once_is_stored_once() -> None:
    for number in range(5):
        same = list(range(number * 20, number * 20 + 20))
        outcomes: list[Any] = race(*batches(("one", same), ("two", same)))
        assert sorted(done.new for done in outcomes) == [0, 20], outcomes
    live("one")
    outcomes = race(*batches(("one", [500, 501]), ("two", [500, 501])))
    assert sorted(done.new for done in outcomes) == [0, 2], outcomes
    assert sum(Stream.objects.values_list("total_messages", flat=True)) == 102


@pytest.mark.django_db(transaction=True)
def test_a_message_and_the_closer_at_once_leave_no_message_in_an_ended_stream() -> None:
    Stream.objects.chat_only()
    for number in range(8):
        stream = live(hours_ago=30, twitch_id=f"id-{number}")
        outcomes = race(
            *batches((CHANNEL, [number])), close_abandoned_streams, lambda: start("other")
        )
        stream.refresh_from_db()
        closed = outcomes[1] == 1
        assert closed == (not stream.is_active)
        assert stream.total_messages == (0 if closed else 1)
