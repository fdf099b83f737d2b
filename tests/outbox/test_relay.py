import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models.functions import Now
from django.test import override_settings
from django.utils import timezone

from outbox.leases import Fenced
from outbox.logs import DatabaseLog, LogUnavailable, get_log
from outbox.models import DeadLetter, Event, LeaderLease, Priority
from outbox.relay import Relay
from outbox.services import build_event, emit
from outbox.signals import event_parked
from tests.databases import prefer_indexes
from tests.outbox.twins import RecordingLog
from tests.racing import race

pytestmark = pytest.mark.django_db

TOO_LARGE = {"text": "x" * 2_000}


@pytest.fixture
def log() -> RecordingLog:
    return RecordingLog()


@pytest.fixture
def relay(log: RecordingLog) -> Relay:
    return Relay(log)


def emit_one(key: str, data: dict[str, Any] | None = None, **options: Any) -> Event:
    with transaction.atomic():
        return emit("link.expired", key, data or {}, **options)


def published() -> list[str]:
    """Keys in the order of their positions, which are dense from 1."""
    events = Event.objects.published().order_by("position")
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    return [event.key for event in events]


def let_back_off_pass() -> None:
    Event.objects.filter(next_attempt_at__isnull=False).update(next_attempt_at=timezone.now())


def test_events_are_published_in_their_order() -> None:
    for key in "abc":
        emit_one(key)
    Relay(DatabaseLog()).step()
    assert published() == ["a", "b", "c"]


def test_the_log_is_chosen_by_its_path() -> None:
    get_log.cache_clear()
    with override_settings(EVENT_LOG_BACKEND="tests.outbox.twins.RecordingLog"):
        assert type(Relay().log).__name__ == "RecordingLog"
    get_log.cache_clear()


def test_urgent_goes_first() -> None:
    emit_one("low", priority=Priority.LOW)
    emit_one("normal")
    emit_one("urgent", priority=Priority.URGENT)
    emit_one("high", priority=Priority.HIGH)
    Relay(DatabaseLog()).step()
    assert published() == ["urgent", "high", "normal", "low"]


def test_urgent_does_not_overtake_within_its_key() -> None:
    first = emit_one("a", priority=Priority.LOW)
    emit_one("b")
    last = emit_one("a", priority=Priority.URGENT)
    Relay(DatabaseLog()).step()
    first.refresh_from_db()
    last.refresh_from_db()
    assert (first.position or 0) < (last.position or 0)
    assert published() == ["b", "a", "a"]


@override_settings(OUTBOX_BATCH_SIZE=3)
def test_a_step_publishes_every_batch(relay: Relay, log: RecordingLog) -> None:
    sizes: list[int] = []
    log.afterwards = lambda: sizes.append(len(log.published))
    for n in range(8):
        emit_one(f"key-{n}")
    relay.step()
    assert len(published()) == 8
    assert sizes[:3] == [3, 6, 8]


@override_settings(OUTBOX_BATCH_SIZE=1)
def test_a_step_ends_before_a_long_backlog_does(relay: Relay) -> None:
    for n in range(25):
        emit_one(f"key-{n}")
    assert [relay.step(), len(published())] == [0, 10]
    assert [relay.step(), len(published())] == [0, 20]
    assert relay.step() > 0
    assert len(published()) == 25


@override_settings(EVENT_MAX_BYTES=1_000)
def test_what_is_too_large_is_parked_with_its_error() -> None:
    event = emit_one("poison", TOO_LARGE)
    Relay(DatabaseLog()).step()
    letter = DeadLetter.objects.get(source="relay", event_id=event.event_id)
    assert "EVENT_MAX_BYTES=1000" in letter.error
    assert "UnpublishableEvent" in letter.traceback
    assert (letter.payload["data"], letter.attempts) == (TOO_LARGE, 1)
    assert Event.objects.parked().get() == event


@override_settings(EVENT_MAX_BYTES=1_000)
def test_poison_holds_back_its_key_and_nothing_else() -> None:
    emit_one("bad", TOO_LARGE)
    emit_one("good")
    emit_one("bad", {"small": 1})
    relay = Relay(DatabaseLog())
    relay.step()
    emit_one("bad", {"small": 2})
    relay.step()
    assert published() == ["good"]
    assert Event.objects.pending().count() == 2


@override_settings(EVENT_MAX_BYTES=1_000, OUTBOX_BATCH_SIZE=2)
def test_batches_of_nothing_but_poison_do_not_end_the_step() -> None:
    for n in range(4):
        emit_one(f"bad-{n}", TOO_LARGE)
    emit_one("good")
    Relay(DatabaseLog()).step()
    assert published() == ["good"]
    assert DeadLetter.objects.count() == 4


def test_what_is_no_json_is_parked() -> None:
    event = Event(key="a", data={"when": object()})
    with pytest.raises(ValueError, match="no JSON"):
        DatabaseLog().check(event)


def test_a_check_that_breaks_parks_its_event(relay: Relay, log: RecordingLog) -> None:
    def check(event: Event) -> None:
        if event.key == "bad":
            raise RuntimeError("a bug")

    log.check = check  # type: ignore[method-assign]
    emit_one("bad")
    emit_one("good")
    relay.step()
    assert published() == ["good"]
    assert "RuntimeError: a bug" in DeadLetter.objects.get().traceback


@override_settings(EVENT_MAX_BYTES=1_000)
def test_an_answer_to_parking_that_breaks_does_not_stop_the_stream() -> None:
    def break_down(**_: Any) -> None:
        LeaderLease.objects.get(name="nobody")

    event_parked.connect(break_down)
    try:
        emit_one("bad", TOO_LARGE)
        emit_one("good")
        Relay(DatabaseLog()).step()
    finally:
        event_parked.disconnect(break_down)
    assert published() == ["good"]
    assert Event.objects.parked().count() == 1


def test_a_refused_event_is_tried_again_later(relay: Relay, log: RecordingLog) -> None:
    log.refused["a"] = OSError("no")
    event = emit_one("a")
    before = timezone.now()
    relay.step()
    event.refresh_from_db()
    assert (event.attempts, event.error, event.position) == (1, "no", None)
    assert event.next_attempt_at is not None
    assert event.next_attempt_at >= before + timedelta(seconds=2)
    log.refused.clear()
    relay.step()
    assert not Event.objects.published().exists()
    let_back_off_pass()
    relay.step()
    assert Event.objects.published().get().error == ""


@override_settings(EVENT_MAX_ATTEMPTS=3)
def test_an_event_that_is_always_refused_is_parked(relay: Relay, log: RecordingLog) -> None:
    log.refused["a"] = OSError("never")
    emit_one("a")
    for _ in range(3):
        assert not DeadLetter.objects.exists()
        relay.step()
        let_back_off_pass()
    letter = DeadLetter.objects.get()
    assert (letter.attempts, letter.error, letter.key) == (3, "never", "a")


@override_settings(EVENT_MAX_ATTEMPTS=1)
def test_what_follows_a_refused_event_is_held_back_not_blamed(
    relay: Relay, log: RecordingLog
) -> None:
    log.refused["a"] = OSError("no")
    first, second = emit_one("a"), emit_one("a")
    relay.step()
    second.refresh_from_db()
    assert DeadLetter.objects.get().event_id == first.event_id
    assert (second.attempts, second.position, second.parked_at) == (0, None, None)


def test_a_log_that_is_away_costs_no_event_an_attempt(relay: Relay, log: RecordingLog) -> None:
    log.raised = LogUnavailable("no broker")
    emit_one("a")
    emit_one("b")
    for _ in range(10):
        relay.step()
    assert not Event.objects.exclude(attempts=0).exists()
    log.raised = None
    relay.step()
    assert log.published == [(1, "a"), (2, "b")]


def test_one_event_that_chokes_the_log_is_found(relay: Relay, log: RecordingLog) -> None:
    publish = log.publish

    def choke(events: Any) -> dict[int, Exception]:
        if any(event.key == "bad" for event in events):
            raise RuntimeError("a bug")
        return publish(events)

    log.publish = choke  # type: ignore[method-assign]
    for key in ("a", "bad", "bad", "b"):
        emit_one(key)
    relay.step()
    assert [key for _, key in log.published] == ["a", "b"]
    assert [event.attempts for event in Event.objects.pending().order_by("id")] == [1, 0]


def test_a_crash_between_publish_and_mark_publishes_the_same_positions_again(
    log: RecordingLog,
) -> None:
    def crash() -> None:
        raise SystemExit

    emit_one("a")
    emit_one("b")
    log.afterwards = crash
    with pytest.raises(SystemExit):
        Relay(log).step()
    LeaderLease.objects.update(until=None)
    emit_one("c", priority=Priority.URGENT)
    log.afterwards = lambda: None
    Relay(log).step()
    assert log.published == [(1, "a"), (2, "b"), (1, "a"), (2, "b"), (3, "c")]
    assert published() == ["a", "b", "c"]


@pytest.mark.django_db(transaction=True)
def test_a_commit_whose_answer_was_lost_gives_no_event_a_second_position(
    relay: Relay, log: RecordingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams replay what has a position: with another they would show the same event again."""
    relay.step()
    emit_one("a")
    commit = connection._commit  # type: ignore[attr-defined]

    def commit_and_lose_the_answer() -> None:
        monkeypatch.undo()
        commit()
        raise OperationalError("server closed the connection unexpectedly")

    assert relay.lead()
    monkeypatch.setattr(connection, "_commit", commit_and_lose_the_answer)
    with pytest.raises(OperationalError):
        relay.publish_batch()
    emit_one("b")
    relay.step()
    assert published() == ["a", "b"]


def test_only_one_leads() -> None:
    first, second = Relay(DatabaseLog()), Relay(DatabaseLog())
    assert first.lead()
    assert not second.lead()
    assert first.lead()


def test_a_lease_that_ran_out_is_taken_over() -> None:
    first, second = Relay(DatabaseLog()), Relay(DatabaseLog())
    first.lead()
    LeaderLease.objects.update(until=Now() - timedelta(seconds=1))
    assert second.lead()
    assert not first.lead()
    assert LeaderLease.objects.get().token == 2


def test_who_resigns_is_followed_at_once() -> None:
    first, second = Relay(DatabaseLog()), Relay(DatabaseLog())
    first.lead()
    first.resign()
    assert second.lead()
    first.resign()
    assert second.lead()
    assert LeaderLease.objects.get().holder == second.holder


def test_a_stale_leader_writes_nothing() -> None:
    stale = Relay(DatabaseLog())
    stale.lead()
    LeaderLease.objects.update(until=None)
    Relay(DatabaseLog()).lead()
    emit_one("a")
    with pytest.raises(Fenced):
        stale.publish_batch()
    event = Event.objects.get()
    assert (event.position, event.published_at) == (None, None)


def test_a_leader_that_is_overtaken_while_it_publishes_marks_nothing(
    relay: Relay, log: RecordingLog
) -> None:
    def overtake() -> None:
        log.afterwards = lambda: None
        LeaderLease.objects.update(until=None)
        assert Relay(log).lead()

    log.afterwards = overtake
    emit_one("a")
    assert relay.step() == 1.0
    assert relay.token == 0
    assert Event.objects.get().published_at is None


@pytest.mark.django_db(transaction=True)
def test_relays_that_race_for_the_lease_have_one_winner() -> None:
    LeaderLease.objects.create(name="relay")
    relays = [Relay(DatabaseLog()) for _ in range(6)]
    assert race(*[relay.lead for relay in relays]).count(True) == 1


@pytest.mark.django_db(transaction=True)
def test_ids_that_commit_out_of_order_are_not_skipped() -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time: ids commit in order")
    relay = Relay(DatabaseLog())
    consumer = DatabaseLog().consumer(["link"], after=0)
    seen: list[str] = []

    def look() -> None:
        relay.step()
        seen.extend(record.key for record in consumer.poll())

    with transaction.atomic():
        early = emit("link.expired", "opened first, committed last", {})
        other: list[Any] = race(lambda: emit_one("opened last, committed first").pk)
        race(look)
    assert early.pk < other[0]
    race(look)
    assert seen == ["opened last, committed first", "opened first, committed last"]
    assert published() == seen


@pytest.mark.django_db(transaction=True)
def test_many_writers_and_two_relays_leave_no_gap() -> None:
    def write(name: str) -> Callable[[], object]:
        return lambda: [emit_one(f"{name}-{n}") for n in range(25)].clear()

    def work() -> None:
        relay = Relay(DatabaseLog())
        for _ in range(20):
            relay.step()

    outcomes = race(write("a"), write("b"), work, work)
    assert outcomes == [None] * 4
    LeaderLease.objects.update(until=None)
    Relay(DatabaseLog()).step()
    keys = published()
    assert len(set(keys)) == 50
    for name in "ab":
        mine = [key for key in keys if key.startswith(name)]
        assert mine == [f"{name}-{n}" for n in range(25)]


def test_a_dead_letter_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    emit_one("bad", TOO_LARGE)
    with override_settings(EVENT_MAX_BYTES=10), caplog.at_level(logging.ERROR):
        Relay(DatabaseLog()).step()
    assert "parked after" in caplog.text


def test_a_backlog_costs_a_fixed_number_of_queries_a_batch(
    django_assert_max_num_queries: Any,
) -> None:
    Event.objects.bulk_create(
        Event(type="link.expired", topic="link", key=f"key-{n}", data={}) for n in range(500)
    )
    relay = Relay(DatabaseLog())
    relay.lead()
    with django_assert_max_num_queries(20):
        relay.publish_batch()
    assert len(published()) == 500


@pytest.fixture
def indexes_preferred() -> None:
    old = [build_event("link.expired", str(number), {}) for number in range(2_000)]
    for position, event in enumerate(old, start=1):
        event.position, event.published_at = position, timezone.now()
    Event.objects.bulk_create(old)
    emit_one("new")
    prefer_indexes(Event)


@pytest.mark.usefixtures("indexes_preferred")
def test_looking_for_work_reads_no_event_that_is_published() -> None:
    plan = Event.objects.publishable(timezone.now())[:500].explain()
    assert "outbox_event_pending" in plan
    assert "outbox_event_unpublished_key" in plan
    assert "outbox_event_position" in Event.objects.unmarked().order_by("position").explain()


@pytest.mark.usefixtures("indexes_preferred")
def test_counting_what_waits_reads_no_event_that_is_published() -> None:
    plan = Event.objects.pending().order_by().values("pk").explain()
    assert "outbox_event_pending" in plan or "outbox_event_unpublished_key" in plan
    assert "outbox_event_position" in plan


@pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has such updates")
def test_a_mark_touches_no_index() -> None:
    counted = "SELECT pg_stat_get_xact_tuples_hot_updated('outbox_event'::regclass)"
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE outbox_event CASCADE")  # a page that others filled has no room
        for key in "abc":
            emit_one(key)
        cursor.execute(counted)
        (before,) = cursor.fetchone()  # of tests before this one, until PostgreSQL reports them
        Relay(DatabaseLog()).step()
        cursor.execute(counted)
        assert cursor.fetchone() == (before + 3,)
