from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from domains.twitch.events import EVENTS
from domains.twitch.models import Command, Stream
from domains.twitch.services import (
    Caller,
    InvalidTransition,
    NotAllowed,
    count_viewers,
    end,
    start,
    update,
    use,
)
from outbox.models import Event
from tests.domains.twitch.conftest import CHANNEL, in_hours, live
from tests.racing import race
from tests.test_docs import rows

pytestmark = pytest.mark.django_db


def told() -> list[str]:
    events = Event.objects.filter(topic="twitchbot").order_by("pk")
    return [name.rpartition(".")[2] for name in events.values_list("type", flat=True)]


def test_a_stream_is_told_of_when_it_starts_changes_and_ends() -> None:
    stream = live(title="Bread", game_name="Cooking")
    count_viewers(stream, 10)
    count_viewers(stream, 25)
    update(stream, title="Rye")
    end(stream)
    assert told() == ["started", "updated", "ended"]
    last = Event.objects.latest("pk")
    assert last.key == f"stream-{stream.pk}"
    assert stream.ended_at
    assert last.data == {
        "stream_id": stream.pk,
        "channel": CHANNEL,
        "title": "Rye",
        "game_name": "Cooking",
        "started_at": stream.started_at.isoformat(),
        "ended_at": stream.ended_at.isoformat(),
        "peak_viewers": 25,
        "average_viewers": 18,
        "total_messages": 0,
    }


def test_what_is_said_again_is_heard_and_not_told() -> None:
    stream = live(hours_ago=1, title="Bread", game_name="Cooking")
    heard = stream.last_activity_at
    read_before = Stream.objects.get(pk=stream.pk)
    update(stream, title="Rye", game_name="Cooking")
    for fields in ({"title": "Rye", "game_name": "Cooking"}, {}):
        update(read_before, **fields)
    assert (read_before.title, told()) == ("Rye", ["started", "updated"])
    assert read_before.last_activity_at > stream.last_activity_at > heard


@pytest.mark.django_db(transaction=True)
def test_of_two_who_say_the_same_at_once_one_is_told() -> None:
    stream = live(title="Bread")
    race(*[lambda: update(Stream.objects.get(pk=stream.pk), title="Rye")] * 4)
    assert told() == ["started", "updated"]


def test_a_bot_that_starts_again_says_what_is_known() -> None:
    stream, is_new = start(CHANNEL, "abc")
    again, is_new_again = start(CHANNEL, "abc")
    assert (stream, is_new, is_new_again) == (again, True, False)
    assert told() == ["started"]


def test_a_channel_has_one_live_stream_and_the_other_ends_at_its_last_activity() -> None:
    old = live(hours_ago=5)
    new = live()
    old.refresh_from_db()
    assert old.ended_at == old.last_activity_at
    assert new.is_active
    assert told() == ["started", "ended", "started"]


@pytest.mark.django_db(transaction=True)
def test_two_bots_that_start_at_once_start_one_stream() -> None:
    Stream.objects.chat_only()
    for number in range(8):
        outcomes = race(*[lambda n=number: start(CHANNEL, f"id-{n}")] * 3)
        assert sum(is_new for _, is_new in outcomes) == 1, outcomes
    assert Stream.objects.real().active().count() == 1
    assert told().count("started") == 8
    assert told().count("ended") == 7


def test_what_has_ended_stays_so() -> None:
    stream = live()
    end(stream)
    for verb in (end, lambda s: count_viewers(s, 1), lambda s: update(s, title="x")):
        with pytest.raises(InvalidTransition, match="has ended already"):
            verb(stream)
    assert told() == ["started", "ended"]


def test_the_chat_only_stream_is_there_once_and_never_ends() -> None:
    sentinel = Stream.objects.chat_only()
    assert Stream.objects.get(is_chat_only=True) == sentinel
    with pytest.raises(InvalidTransition, match="never ends"):
        end(sentinel)
    for wrong in (
        lambda: Stream.objects.filter(pk=sentinel.pk).update(ended_at=timezone.now()),
        lambda: Stream.objects.create(
            is_chat_only=True, started_at=timezone.now(), last_activity_at=timezone.now()
        ),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            wrong()


@pytest.mark.django_db(transaction=True)
def test_counts_of_viewers_at_once_are_all_counted() -> None:
    stream = live()
    race(*[lambda n=n: count_viewers(Stream.objects.get(pk=stream.pk), n) for n in (5, 50, 500)])
    stream.refresh_from_db()
    assert (stream.viewer_samples, stream.viewer_sum, stream.peak_viewers) == (3, 555, 500)


def test_a_command_answers_and_cools_down() -> None:
    command = Command.objects.create(
        name="toast", response="{user} in {channel}: {count}", cooldown_seconds=30
    )
    assert use(command, CHANNEL, Caller("Ann {count}")) == "Ann 1 in toast: 1"
    with pytest.raises(NotAllowed, match="cools down"):
        use(command, CHANNEL, Caller("Ben"))
    with in_hours(1):
        assert use(command, CHANNEL, Caller("Ben")).endswith("2")


@pytest.mark.parametrize(
    ("only", "caller", "allowed"),
    [
        ("moderator_only", Caller("a"), False),
        ("moderator_only", Caller("a", is_subscriber=True), False),
        ("moderator_only", Caller("a", is_moderator=True), True),
        ("moderator_only", Caller("a", is_broadcaster=True), True),
        ("subscriber_only", Caller("a"), False),
        ("subscriber_only", Caller("a", is_subscriber=True), True),
        ("subscriber_only", Caller("a", is_moderator=True), True),
    ],
)
def test_a_command_answers_those_whom_it_is_for(only: str, caller: Caller, allowed: bool) -> None:
    command = Command.objects.create(name="hush", response="Hush.", **{only: True})
    if allowed:
        assert use(command, CHANNEL, caller) == "Hush."
    else:
        with pytest.raises(NotAllowed, match=r"is for (moderators|subscribers)"):
            use(command, CHANNEL, caller)


def test_a_command_that_is_off_answers_nobody() -> None:
    command = Command.objects.create(name="hush", response="Hush.", is_active=False)
    with pytest.raises(NotAllowed, match="switched off"):
        use(command, CHANNEL, Caller("a", is_broadcaster=True))


@pytest.mark.django_db(transaction=True)
def test_of_two_callers_within_the_cool_down_one_is_answered() -> None:
    command = Command.objects.create(name="toast", response="!", cooldown_seconds=60)
    outcomes = race(*[lambda: use(command, CHANNEL, Caller("a"))] * 4)
    assert sum(outcome == "!" for outcome in outcomes) == 1
    command.refresh_from_db()
    assert command.usage_count == 1


def test_a_start_in_the_past_is_kept() -> None:
    begun = timezone.now() - timedelta(hours=2)
    stream, _is_new = start(CHANNEL, started_at=begun)
    assert stream.started_at == begun
    assert stream.last_activity_at > begun


def test_what_it_declares_is_what_the_documents_describe() -> None:
    described = {name for name in rows("events.md", "Event types") if name.startswith("twitchbot.")}
    assert set(EVENTS) == described
