"""What the hub survives: poison in the log, and a database that is away."""

import asyncio
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError

from connections import hub as hub_module
from connections.hub import Hub
from connections.signals import delivered
from connections.stream import Stream
from connections.wire import Frame, frames_of
from outbox.logs import Record
from tests.waiting import PATIENCE


def record(position: int, data: Any) -> Record:
    value = {"data": data}
    return Record("broadcasts", 0, position, "k", uuid4(), "demo.told", position, ["all"], value)


def test_an_event_that_cannot_be_encoded_does_not_stop_the_others() -> None:
    poison = [["no object"], {"fire_and_forget": True}, {"no JSON": {1, 2}}]
    records = [record(n, data) for n, data in enumerate([{"n": 1}, *poison, {"n": 2}], 1)]
    assert [frame.position for frame in frames_of(records)] == [1, 5]


class Outages:
    """A log that fails in each of its ways at first, as it does while the database is away."""

    def __init__(self) -> None:
        self.failures = ["consumer", "replay", "poll"]
        self.polls: list[list[Record]] = [[], [record(7, {"n": 7}), record(8, {"n": 8})]]

    def fail(self, where: str) -> None:
        if self.failures and self.failures[0] == where:
            self.failures.pop(0)
            raise OperationalError("away")

    def consumer(self, topics: list[str]) -> "Outages":
        self.fail("consumer")
        return self

    def replay(self, topic: str, after: int, limit: int) -> list[Record] | None:
        self.fail("replay")
        return [record(n, {"n": n}) for n in (6, 7) if n > after]

    def poll(self, wait: float) -> list[Record]:
        self.fail("poll")
        return self.polls.pop(0) if self.polls else []

    def close(self) -> None: ...


def read_of(log: Any, monkeypatch: pytest.MonkeyPatch, until: int) -> list[int]:
    """The positions that the reader's thread hands to the loop."""
    monkeypatch.setattr(hub_module, "get_log", lambda: log)
    hub = Hub("a")
    monkeypatch.setattr(hub.stopping, "wait", lambda seconds: None)
    read: list[int] = []

    class Loop:
        def call_soon_threadsafe(self, call: Callable[..., None], *given: int) -> None:
            read.extend(given)
            if not given:
                call()
            if read[-1] >= until:
                hub.stopping.set()

    def dispatch(frames: list[Frame]) -> None:
        read.extend(frame.position for frame in frames)

    hub.loop = Loop()  # type: ignore[assignment]
    monkeypatch.setattr(hub, "dispatch", dispatch)
    reader = threading.Thread(target=hub._read, daemon=True)
    reader.start()
    reader.join(PATIENCE)
    return read


def test_the_reader_goes_on_whatever_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    outages = Outages()
    assert read_of(outages, monkeypatch, until=8) == [6, 7, 8]
    assert outages.failures == []


def test_what_comes_twice_in_one_batch_is_handed_over_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after a relay died between publish and mark, and the next one published it again."""

    class Repeating(Outages):
        def __init__(self) -> None:
            super().__init__()
            self.failures = []
            self.polls = [[record(n, {"n": n}) for n in (8, 9, 8, 9, 10, 7, 8)]]

    assert read_of(Repeating(), monkeypatch, until=10) == [6, 7, 8, 9, 10]


def test_what_came_while_the_loop_was_busy_is_dispatched_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = Hub("a")
    dispatched: list[list[Frame]] = []
    monkeypatch.setattr(hub, "dispatch", dispatched.append)
    frames = [Frame(b"", position, ("all",)) for position in (1, 2, 3)]
    hub.arrived.extend([frames[:1], frames[1:]])
    hub._take_in()
    hub._take_in()
    assert dispatched == [frames]


def test_streams_are_told_when_what_the_process_missed_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Forgetful(Outages):
        def replay(self, topic: str, after: int, limit: int) -> list[Record] | None:
            return None

        def head(self) -> int:
            return 5

    assert read_of(Forgetful(), monkeypatch, until=8) == [5, 7, 8]


def test_who_lost_track_is_told_to_reset() -> None:
    hub = Hub("a")
    stream = Stream(hub, uuid4(), 1, ["all"], 3)
    hub.streams[stream.id] = stream
    hub._lose_track(9)
    assert (hub.head, hub.ring.since, stream.position) == (9, 9, 9)
    assert b"RESET" in stream.queue[0].body


@pytest.mark.django_db(transaction=True)
def test_deliveries_that_could_not_be_written_are_written_later() -> None:
    failures = [OperationalError("away")]
    written: dict[int, set[int]] = {}

    def receive(data: dict[str, Any], user_ids: set[int], at: datetime, **_: Any) -> None:
        if failures:
            raise failures.pop()
        written[data["broadcast_id"]] = user_ids

    async def flush_twice() -> None:
        hub = Hub("a")
        hub.deliveries[1] = {1, 2}
        await hub.flush()
        hub.deliveries[1].add(3)
        await hub.flush()
        assert not hub.deliveries

    before, delivered.receivers = delivered.receivers, []
    delivered.connect(receive)
    try:
        asyncio.run(flush_twice())
    finally:
        delivered.receivers = before
        delivered.sender_receivers_cache.clear()
    assert written == {1: {1, 2, 3}}


class Listener:
    """What the hub needs to know of a stream."""

    def __init__(self) -> None:
        self.positions: list[int] = []

    def push(self, frame: Any) -> None:
        self.positions.append(frame.position)

    def flush(self) -> None: ...


def test_what_was_fire_and_forget_and_has_passed_is_given_to_nobody() -> None:
    until = {1: "2000-01-01T00:00:00+00:00", 2: "2100-01-01T00:00:00+00:00"}
    data = [{"fire_and_forget": True, "expires_at": moment} for moment in until.values()]
    hub, listener = Hub("test"), Listener()
    hub.by_channel["all"].add(listener)  # type: ignore[arg-type]
    hub.dispatch(frames_of([record(n, one) for n, one in enumerate(data, 1)]))
    assert listener.positions == [2]
    hub.database.shutdown()
