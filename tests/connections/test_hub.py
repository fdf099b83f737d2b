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
from connections.wire import Frame, frames_of
from outbox.logs import Record


def record(position: int, data: Any) -> Record:
    value = {"data": data}
    return Record("broadcasts", 0, position, "k", uuid4(), "demo.told", position, ["all"], value)


def test_an_event_that_cannot_be_encoded_does_not_stop_the_others() -> None:
    poison = [["no object"], {"fire_and_forget": True}, {"no JSON": {1, 2}}]
    records = [record(n, data) for n, data in enumerate([{"n": 1}, *poison, {"n": 2}], 1)]
    assert [frame.position for frame in frames_of(records)] == [1, 5]


class Outages:
    """A log and a wake-up that fail at first, as they do while the database is away."""

    def __init__(self) -> None:
        self.failures = ["listen", "poll", "wait"]
        self.polls: list[list[Record]] = [[], [record(7, {"n": 7})]]

    def fail(self, where: str) -> None:
        if self.failures and self.failures[0] == where:
            self.failures.pop(0)
            raise OperationalError("away")

    def poll(self) -> list[Record]:
        self.fail("poll")
        return self.polls.pop(0) if self.polls else []

    def __enter__(self) -> "Outages":
        self.fail("listen")
        return self

    def __exit__(self, *_: object) -> None: ...

    def wait(self, seconds: float) -> None:
        self.fail("wait")


def test_the_reader_goes_on_whatever_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    outages = Outages()
    monkeypatch.setattr(hub_module, "get_log", lambda: outages)
    monkeypatch.setattr(hub_module, "Wake", lambda *_, **__: outages)
    monkeypatch.setattr(outages, "consumer", lambda *_, **__: outages, raising=False)
    hub = Hub("a")
    monkeypatch.setattr(hub.stopping, "wait", lambda seconds: None)
    read: list[Frame] = []

    class Loop:
        def call_soon_threadsafe(self, call: Callable[..., None], frames: list[Frame]) -> None:
            read.extend(frames)
            hub.stopping.set()

    hub.loop = Loop()  # type: ignore[assignment]
    reader = threading.Thread(target=hub._read, daemon=True)
    reader.start()
    reader.join(10)
    assert [frame.position for frame in read] == [7]
    assert outages.failures == []


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
