"""MESSAGE_CLEANUP and STREAM_CLOSER, which the originals had, and which did harm."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from domains.twitch import tasks
from domains.twitch.models import Message, Stream
from domains.twitch.tasks import close_abandoned_streams, delete_old_messages
from outbox.models import Event
from tests.domains.twitch.conftest import CHANNEL, live, message
from tests.racing import race

pytestmark = pytest.mark.django_db

ENDED = "twitchbot.stream.ended"
MANY = 2_500


def messages(count: int, days: int, first: int = 0) -> None:
    stream = Stream.objects.chat_only()
    at = timezone.now() - timedelta(days=days)
    Message.objects.bulk_create(
        message(first + n, stream=stream, channel=CHANNEL, sent_at=at) for n in range(count)
    )


def abandoned(count: int, hours: int = 30) -> None:
    at = timezone.now() - timedelta(hours=hours)
    Stream.objects.bulk_create(
        Stream(channel=f"c{n}", started_at=at, last_activity_at=at) for n in range(count)
    )


def test_old_messages_go_however_many_newer_ones_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "MESSAGES", 1_000)
    messages(12_000, days=1)
    messages(MANY, days=91, first=20_000)
    with CaptureQueriesContext(connection) as queries:
        assert delete_old_messages() == MANY
    assert Message.objects.count() == 12_000
    assert len(queries) < 25
    assert delete_old_messages() == 0


def test_the_retention_is_a_setting(settings: Settings) -> None:
    messages(3, days=10)
    assert delete_old_messages() == 0
    settings.MESSAGE_CLEANUP_RETENTION_DAYS = 9
    assert delete_old_messages() == 3


def test_messages_of_one_moment_are_deleted_in_several_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "MESSAGES", 2)
    messages(7, days=100)
    assert delete_old_messages() == 7


def test_an_abandoned_stream_ends_at_its_last_activity() -> None:
    old, young = live("old", hours_ago=25), live("young", hours_ago=23)
    assert close_abandoned_streams() == 1
    old.refresh_from_db()
    young.refresh_from_db()
    assert (old.ended_at, young.ended_at) == (old.last_activity_at, None)
    event = Event.objects.get(type=ENDED)
    assert event.data["ended_at"] == old.last_activity_at.isoformat()
    assert close_abandoned_streams() == 0
    assert Event.objects.filter(type=ENDED).count() == 1


def test_the_chat_only_stream_is_never_closed() -> None:
    sentinel = Stream.objects.chat_only()
    long_ago = timezone.now() - timedelta(days=900)
    Stream.objects.update(started_at=long_ago, last_activity_at=long_ago)
    assert close_abandoned_streams() == 0
    sentinel.refresh_from_db()
    assert sentinel.is_active
    assert not Event.objects.filter(type=ENDED).exists()


def test_the_timeout_is_a_setting(settings: Settings) -> None:
    live(hours_ago=2)
    settings.STREAM_CLOSER_INACTIVE_TIMEOUT = timedelta(hours=1)
    assert close_abandoned_streams() == 1


def test_all_that_are_abandoned_end_with_a_bounded_number_of_statements() -> None:
    abandoned(MANY)
    with CaptureQueriesContext(connection) as queries:
        assert close_abandoned_streams() == MANY
    assert not Stream.objects.real().active().exists()
    assert Event.objects.filter(type=ENDED).count() == MANY
    assert len(queries) < 80  # of which 25 insert a hundred events each


@pytest.mark.django_db(transaction=True)
def test_two_runners_at_once_end_each_stream_once() -> None:
    abandoned(MANY)
    outcomes = race(close_abandoned_streams, close_abandoned_streams)
    assert sum(outcomes) == MANY, outcomes
    keys = Event.objects.filter(type=ENDED).values_list("key", flat=True)
    assert len(keys) == len(set(keys)) == MANY


@pytest.mark.django_db(transaction=True)
def test_two_cleaners_at_once_stand_in_nobodys_way() -> None:
    messages(MANY, days=91)
    messages(10, days=1, first=5_000)
    outcomes = race(delete_old_messages, delete_old_messages)
    assert all(isinstance(outcome, int) for outcome in outcomes), outcomes
    assert Message.objects.count() == 10


def test_the_jobs_run_by_name() -> None:
    messages(2, days=91)
    abandoned(1)
    call_command("run_job", "MESSAGE_CLEANUP")
    call_command("run_job", "STREAM_CLOSER")
    assert not Message.objects.exists()
    assert Event.objects.filter(type=ENDED).count() == 1
