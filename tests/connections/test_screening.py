"""The promise of a stream whose person prefers quiet: nothing in the night, each once after it."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import OperationalError
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from connections import hub as hub_module
from connections import stream as stream_module
from connections.hub import Hub
from connections.screening import RELEASE, Held, Screen
from connections.stream import Stream
from connections.wire import Frame, encode, frame_of, held_frame
from outbox.logs import Record
from tests.waiting import PATIENCE

START = datetime(2030, 1, 31, tzinfo=UTC)
DAY = timedelta(hours=10)  # of the day, the first six hours are quiet


class Nights(Screen):
    """Of `DAY`, the hours up to six are quiet."""

    def __init__(self, released_to: datetime = START) -> None:
        self.released_to = released_to

    def mutes(self, frame: Frame) -> bool:
        return frame.category == "chatter"

    def holds(self, at: datetime) -> bool:
        return at >= self.released_to and (at - START) % DAY < timedelta(hours=6)


class World:
    """The log, what is held, and one person's client that comes and goes, in hours from START."""

    def __init__(self, ring_size: int) -> None:
        self.hub = Hub("a")
        self.hub.ring.size = ring_size
        self.hub.in_database = self.in_database  # type: ignore[assignment, method-assign]
        self.records: list[Record] = []
        self.hours = 0
        self.released_to = START
        self.client: asyncio.Task[None] | None = None
        self.last_id = 0
        self.got: list[tuple[int, int]] = []  # broadcast, hour of arrival
        self.urgent: set[int] = set()
        self.reads = asyncio.Semaphore(0)

    @property
    def now(self) -> datetime:
        return START + timedelta(hours=self.hours)

    async def in_database(self, function: Callable[..., Any], *args: Any) -> Any:
        answer = function(*args)
        for _ in range(3):
            await asyncio.sleep(0)
        return answer

    def replay(self, topic: str, after: int, limit: int) -> list[Record]:
        return [record for record in self.records if record.position > after][:limit]

    def emit(self, kind: str, data: dict[str, Any], channel: str) -> None:
        position = len(self.records) + 1
        envelope = {"data": data}
        record = Record(
            "broadcasts", 0, position, "k", uuid4(), kind, position, [channel], envelope
        )
        self.records.append(record)
        self.hub.dispatch([frame_of(record)])

    def send(self, priority: str, category: str = "") -> None:
        number = len(self.records) + 1
        data = {
            "broadcast_id": number,
            "mandatory": priority == "URGENT",
            "category": category,
            "activated_at": self.now.isoformat(),
        }
        if priority == "URGENT":
            self.urgent.add(number)
        self.emit("broadcast.activated", data, "all")

    def pass_an_hour(self) -> None:
        self.hours += 1
        if self.hours % 10 == 6:
            since = max(self.now - timedelta(hours=6), self.released_to)
            data = {"since": since.isoformat(), "until": self.now.isoformat()}
            self.released_to = self.now
            self.emit(RELEASE, data, "user-1")

    def held_by(self, release: Frame) -> list[Held]:
        assert release.data
        since, until = (datetime.fromisoformat(release.data[name]) for name in ("since", "until"))
        return [
            Held(held_frame(record.type, record.value["data"], ["all"]))
            for record in self.records
            if record.type == "broadcast.activated"
            and since <= datetime.fromisoformat(record.value["data"]["activated_at"]) < until
            and record.value["data"]["mandatory"] is False
        ]

    def connect(self) -> None:
        screen = Nights(self.released_to)
        stream = Stream(self.hub, uuid4(), 1, ["all", "user-1"], self.last_id, screen)
        self.hub.add(stream, self.hub.head)

        async def write(body: bytes) -> None:
            await self.reads.acquire()
            self.read(body)

        async def follow() -> None:
            try:
                await stream.run(write)
            finally:
                self.hub.remove(stream, "")

        self.client = asyncio.create_task(follow())

    def read(self, body: bytes) -> None:
        for block in body.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if fields.get("event") == "MESSAGE":
                number = int(fields["data"].split('"broadcast_id":')[1].split(",")[0])
                self.got.append((number, self.hours))
            self.last_id = int(fields.get("id", self.last_id))

    async def cut(self) -> None:
        if self.client:
            self.client.cancel()
            await asyncio.wait([self.client])
        self.client = None

    async def step(self, step: str) -> None:
        if step == "cut":
            await self.cut()
            self.connect()
        elif step == "away":
            await self.cut()
        elif step == "hour":
            self.pass_an_hour()
        elif step == "read":
            self.reads.release()
        elif step == "chatter":
            self.send("NORMAL", "chatter")
        elif step != "yield":
            self.send(step)
        await asyncio.sleep(0)

    async def settle(self) -> None:
        while self.hours % 10 != 7:
            await self.step("hour")
        await self.step("cut")
        for _ in range(1_000):
            self.reads.release()
            await asyncio.sleep(0)
        await self.cut()


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "STRETCH", 3)


def live(
    steps: list[str], monkeypatch: pytest.MonkeyPatch, ring_size: int = 50, buffer: int = 10_000
) -> World:
    async def run() -> World:
        world = World(ring_size)
        monkeypatch.setattr(hub_module.Hub, "log", world)
        monkeypatch.setattr(hub_module, "held_by", world.held_by)
        monkeypatch.setattr(settings, "SSE_CLIENT_BUFFER_BYTES", buffer)
        world.connect()
        for step in steps:
            await world.step(step)
        await world.settle()
        return world

    return asyncio.run(run())


def wanted(world: World) -> set[int]:
    data = [r.value["data"] for r in world.records if r.type == "broadcast.activated"]
    return {d["broadcast_id"] for d in data if d["category"] != "chatter"}


STEPS = ["NORMAL", "NORMAL", "URGENT", "chatter", "hour", "hour", "read", "read", "cut", "away"]


@given(
    steps=st.lists(st.sampled_from(STEPS), max_size=80),
    ring_size=st.integers(2, 40),
    buffer=st.sampled_from([400, 10_000]),
)
@hypothesis_settings(max_examples=300, deadline=None)
def test_nothing_is_lost_whenever_the_client_is_cut(
    steps: list[str], ring_size: int, buffer: int
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        world = live(steps, monkeypatch, ring_size, 1 << 20 if buffer > 400 else buffer)
    got = {number for number, _ in world.got}
    if buffer > 400:  # else what was held may be more than the buffer: RESET
        assert got == wanted(world)
    assert got <= wanted(world)
    for number, hour in world.got:
        sent = START + timedelta(hours=hour) if number in world.urgent else None
        assert (
            sent
            or hour % 10 >= 6
            or world.records[number - 1].value["data"]["activated_at"]
            < (START + timedelta(hours=hour - hour % 10)).isoformat()
        )


@given(steps=st.lists(st.sampled_from([s for s in STEPS if s != "cut"]), max_size=80))
@hypothesis_settings(max_examples=200, deadline=None)
def test_a_client_that_reads_in_time_gets_each_once(steps: list[str]) -> None:
    eager = [each for step in steps for each in (step, *["read", "yield"] * 4)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        world = live(eager, monkeypatch)
    assert Counter(number for number, _ in world.got) == Counter(wanted(world))


def test_what_was_held_comes_at_the_end_although_the_client_has_a_later_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    night = ["NORMAL", "URGENT", "read", "yield", "away", *["hour"] * 6, "cut", "NORMAL"]
    world = live(night, monkeypatch)
    held, urgent, _, after = 1, 2, 3, 4
    assert [number for number, _ in world.got] == [urgent, held, after]


def test_more_than_the_buffer_takes_is_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    read = World.read

    def note(self: World, body: bytes) -> None:
        written.append(body)
        read(self, body)

    monkeypatch.setattr(World, "read", note)
    world = live([*["NORMAL"] * 10, "URGENT", "read", "yield"], monkeypatch, buffer=500)
    assert [number for number, _ in world.got] == [11]
    assert b"event: RESET\nid: 12\n" in b"".join(written)
    assert world.last_id == 12


def test_a_release_that_nobody_understands_is_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: World, release: Frame) -> list[Held]:
        raise KeyError("since")

    monkeypatch.setattr(World, "held_by", fail)
    world = live(["NORMAL", "URGENT", "read", "yield"], monkeypatch)
    assert ([number for number, _ in world.got], world.last_id) == ([2], 3)


def test_what_was_held_is_asked_again_while_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures = [OperationalError("away"), OperationalError("away")]
    ask = World.held_by

    def fail_at_first(self: World, release: Frame) -> list[Held]:
        if failures:
            raise failures.pop()
        return ask(self, release)

    monkeypatch.setattr(World, "held_by", fail_at_first)
    monkeypatch.setattr(hub_module, "AGAIN", 0)
    world = live(["NORMAL", "URGENT", "read", "yield"], monkeypatch)
    assert [number for number, _ in world.got] == [2, 1]


def test_of_more_releases_at_once_than_are_kept_each_comes_to_its_person(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module, "RELEASES", 3)
    asked: Counter[int] = Counter()

    def held_by(release: Frame) -> list[Held]:
        asked[release.position] += 1
        return []

    monkeypatch.setattr(hub_module, "held_by", held_by)

    async def morning(people: int) -> None:
        world = World(ring_size=100)
        got: dict[int, bytes] = dict.fromkeys(range(people), b"")
        tasks = []
        for person in got:
            stream = Stream(world.hub, uuid4(), person, [f"user-{person}"], 0, Nights())
            world.hub.add(stream, 0)

            async def write(body: bytes, person: int = person) -> None:
                got[person] += body

            tasks.append(asyncio.create_task(stream.run(write)))
        await asyncio.sleep(0)
        data = {"since": START.isoformat(), "until": (START + DAY).isoformat()}
        frames = [
            frame_of(
                Record(
                    "broadcasts", 0, n, "k", uuid4(), RELEASE, n, [f"user-{n - 1}"], {"data": data}
                )
            )
            for n in range(1, people + 1)
        ]
        world.hub.dispatch(frames)
        async with asyncio.timeout(PATIENCE):
            while not all(b"QUIET_HOURS_ENDED" in body for body in got.values()):
                await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(morning(30))
    assert asked == dict.fromkeys(range(1, 31), 1)


def test_what_a_stream_remembers_of_what_it_told_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_module, "MOST_TOLD", 10)

    async def day() -> int:
        world = World(ring_size=1_000)
        stream = Stream(world.hub, uuid4(), 1, ["all"], 0, Nights())
        stream.behind = False
        world.hub.add(stream, 0)
        world.hours = 7
        for _ in range(50):
            world.send("NORMAL")
        return len(stream.told)

    assert asyncio.run(day()) == 10


def test_what_is_released_is_encoded_once_for_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[Frame] = []
    append = Stream._append

    def note(self: Stream, frame: Frame) -> None:
        frames.append(frame)
        append(self, frame)

    async def two_tabs() -> None:
        world = World(50)
        monkeypatch.setattr(hub_module.Hub, "log", world)
        monkeypatch.setattr(hub_module, "held_by", world.held_by)
        for _ in range(2):
            world.connect()
        await asyncio.sleep(0)
        world.send("NORMAL")
        monkeypatch.setattr(Stream, "_append", note)
        world.hours = 5
        world.pass_an_hour()
        for _ in range(20):
            world.reads.release()
            await asyncio.sleep(0)

    asyncio.run(two_tabs())
    held, release = b"event: MESSAGE\n", b"event: QUIET_HOURS_ENDED\n"
    for kind in (held, release):
        same = [frame for frame in frames if frame.body.startswith(kind)]
        assert len(same) == 2
        assert same[0] is same[1]


def test_what_is_mandatory_passes() -> None:
    def frame(**data: Any) -> Frame:
        activated = {"broadcast_id": 1, "activated_at": START.isoformat(), "category": "chatter"}
        record = Record(
            "broadcasts", 0, 1, "k", uuid4(), "broadcast.activated", 1, ["all"],
            {"data": activated | data},
        )  # fmt: skip
        return frame_of(record)

    screen = Nights()
    assert screen.keeps_back(frame(mandatory=False))
    assert not screen.keeps_back(frame(mandatory=True))
    assert not screen.keeps_back(Frame(encode("HEARTBEAT", {})))


def test_a_reminder_of_what_was_told_by_day_comes_when_the_night_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    day, night = START - timedelta(hours=1), START + timedelta(hours=1)
    old = {"broadcast_id": 1, "category": "", "activated_at": day.isoformat()}
    again = old | {"reminded_at": night.isoformat()}

    async def run() -> World:
        world = World(50)
        monkeypatch.setattr(hub_module.Hub, "log", world)
        monkeypatch.setattr(
            hub_module,
            "held_by",
            lambda _: [Held(held_frame("broadcast.activated", again, ["all"]))],
        )
        world.connect()
        await asyncio.sleep(0)
        world.emit("broadcast.activated", old, "all")
        for step in ("read", "yield", "hour"):
            await world.step(step)
        world.emit("broadcast.reminded", again, "user-1")
        for _ in range(6):
            await world.step("hour")
        for _ in range(20):
            await world.step("read")
        return world

    by_day, after_the_night = asyncio.run(run()).got
    assert (by_day[0], after_the_night[0]) == (1, 1)
    assert by_day[1] < 6 <= after_the_night[1]
