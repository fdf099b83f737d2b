"""The stream's promise, whatever comes between: each frame of its channels once, in order."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from connections import stream as stream_module
from connections.ring import Ring
from connections.stream import Stream
from connections.wire import Frame, encode, notice
from outbox.logs import Record
from tests.waiting import PATIENCE


class MemoryLog:
    """The log as a list: the twin of the database's, for interleavings."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.deleted_to = 0

    def replay(self, topic: str, after: int, limit: int) -> list[Record] | None:
        if after < self.deleted_to:
            return None
        return [record for record in self.records if record.position > after][:limit]


class MemoryHub:
    """What a stream needs of its hub; `in_database` lets the loop run on, as a thread would."""

    def __init__(self, ring_size: int) -> None:
        self.ring = Ring(ring_size, 1 << 20)
        self.log = MemoryLog()
        self.head = 0
        self.streams: list[Stream] = []
        self.wrote: list[Frame] = []
        self.sent = b""

    async def in_database(self, function: Callable[..., Any], *args: Any) -> Any:
        answer = function(*args)
        for _ in range(3):
            await asyncio.sleep(0)
        return answer

    def written(self, stream: Stream, frames: list[Frame]) -> None:
        self.wrote += frames

    def publish(self, channel: str, *, more: bool = False) -> None:
        position = len(self.log.records) + 1
        self.log.records.append(record(position, channel))
        frame = Frame(encode("MESSAGE", {"n": position}, position), position, (channel,))
        self.ring.extend([frame])
        self.head = position
        for stream in self.streams:
            if channel in stream.channels:
                stream.push(frame)
            if not more:
                stream.flush()


def record(position: int, channel: str) -> Record:
    value = {"data": {"n": position}}
    return Record(
        "broadcasts", 0, position, "k", uuid4(), "broadcast.activated", position, [channel], value
    )


@pytest.fixture(autouse=True)
def hub_of_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "STRETCH", 3)


async def follow(
    steps: list[str], *, ring_size: int, buffer: int, start: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[MemoryHub, Stream]:
    hub = MemoryHub(ring_size)
    monkeypatch.setattr(settings, "SSE_CLIENT_BUFFER_BYTES", buffer)
    for _ in range(start):
        hub.publish("mine")
    stream = Stream(hub, uuid4(), 1, ["mine"], 0)  # type: ignore[arg-type]
    hub.streams.append(stream)
    reads = asyncio.Semaphore(0)

    async def write(body: bytes) -> None:
        await reads.acquire()
        hub.sent += body

    task = asyncio.create_task(stream.run(write))
    for step in steps:
        if step in ("mine", "other"):
            hub.publish(step)
        elif step == "mine, and more":
            hub.publish("mine", more=True)
        elif step == "read":
            reads.release()
        await asyncio.sleep(0)
    stream.flush()
    for _ in range(2_000):  # the socket drains
        reads.release()
        await asyncio.sleep(0)
    task.cancel()
    return hub, stream


@given(
    steps=st.lists(
        st.sampled_from(["mine", "mine", "mine, and more", "other", "read", "yield"]), max_size=60
    ),
    ring_size=st.integers(2, 12),
    buffer=st.sampled_from([60, 200, 10_000]),
    start=st.integers(0, 12),
)
@hypothesis_settings(max_examples=300)
def test_every_frame_of_its_channels_is_written_once_and_in_order(
    steps: list[str], ring_size: int, buffer: int, start: int
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        hub, _ = asyncio.run(
            follow(steps, ring_size=ring_size, buffer=buffer, start=start, monkeypatch=monkeypatch)
        )
    wanted = [r.position for r in hub.log.records if "mine" in r.channels]
    assert [frame.position for frame in hub.wrote] == wanted
    assert hub.sent == b"".join(frame.body for frame in hub.wrote)


def written_by(
    write: Callable[[bytes], Any], then: Callable[[MemoryHub, Stream], None]
) -> tuple[MemoryHub, "asyncio.Task[None]"]:
    """A stream that waits for its first frame, then one for it, then `then`."""

    async def run() -> tuple[MemoryHub, "asyncio.Task[None]"]:
        hub = MemoryHub(10)
        stream = Stream(hub, uuid4(), 1, ["mine"], 0)  # type: ignore[arg-type]
        hub.streams.append(stream)
        task = asyncio.create_task(stream.run(write))
        await asyncio.sleep(0)
        hub.publish("mine")
        then(hub, stream)
        for _ in range(10):
            await asyncio.sleep(0)
        return hub, task

    return asyncio.run(run())


def test_what_the_socket_takes_is_written_before_any_task_runs() -> None:
    at_once: list[int] = []

    async def write(body: bytes) -> None:
        pass

    written_by(write, lambda hub, stream: at_once.append(len(hub.wrote)))
    assert at_once == [1]


def test_what_the_socket_does_not_take_is_waited_for_by_the_task() -> None:
    free = asyncio.Event()
    stuck: list[float] = []

    async def write(body: bytes) -> None:
        await free.wait()

    def then(hub: MemoryHub, stream: Stream) -> None:
        assert not hub.wrote
        stuck.append(stream.stuck_since)
        free.set()

    hub, task = written_by(write, then)
    assert stuck[0] > 0
    assert [frame.position for frame in hub.wrote] == [1]
    assert task.cancelled()  # by the end of the loop: it waited for more


def test_a_stream_that_is_cut_while_it_is_written_to_ends() -> None:
    ended: list[str] = []

    async def write(body: bytes) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("write")

    hub, task = written_by(write, lambda hub, stream: stream.cut("reads too slowly"))
    assert ended == ["write"]
    assert task.cancelled()
    assert not hub.wrote


def test_what_a_write_waits_for_fails_in_the_write() -> None:
    drained: list[asyncio.Future[None]] = []

    async def write(body: bytes) -> None:
        drained.append(asyncio.get_running_loop().create_future())
        with suppress(ConnectionResetError):  # some servers end it in a way of their own
            await drained[0]

    hub, task = written_by(write, lambda *_: drained[0].set_exception(ConnectionResetError()))
    assert [frame.position for frame in hub.wrote] == [1]
    assert task.cancelled()  # by the end of the loop: it waited for more


def test_a_write_that_fails_ends_its_stream_and_no_other() -> None:
    async def write(body: bytes) -> None:
        raise OSError("the client is gone")

    hub, task = written_by(write, lambda hub, stream: None)
    assert isinstance(task.exception(), OSError)
    assert not hub.wrote


def test_a_client_that_does_not_read_never_holds_more_than_its_buffer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []

    async def never_reads() -> None:
        hub = MemoryHub(10_000)
        monkeypatch.setattr(settings, "SSE_CLIENT_BUFFER_BYTES", 1_000)
        stream = Stream(hub, uuid4(), 1, ["mine"], 0)  # type: ignore[arg-type]
        hub.streams.append(stream)

        async def write(body: bytes) -> None:
            await asyncio.Event().wait()

        task = asyncio.create_task(stream.run(write))
        for _ in range(500):
            hub.publish("mine")
            await asyncio.sleep(0)
            sizes.append(stream.size)
        task.cancel()

    asyncio.run(never_reads())
    assert max(sizes) <= 1_000


def test_what_is_gone_from_the_log_is_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    async def too_late() -> list[Frame]:
        hub = MemoryHub(2)
        for _ in range(20):
            hub.publish("mine")
        hub.log.deleted_to = 10
        stream = Stream(hub, uuid4(), 1, ["mine"], 3)  # type: ignore[arg-type]
        hub.streams.append(stream)

        async def write(body: bytes) -> None:
            await asyncio.sleep(0)

        task = asyncio.create_task(stream.run(write))
        for _ in range(50):
            await asyncio.sleep(0)
        hub.publish("mine")
        for _ in range(50):
            await asyncio.sleep(0)
        task.cancel()
        return hub.wrote

    wrote = asyncio.run(too_late())
    assert [frame.body.split(b"\n")[0] for frame in wrote] == [b"event: RESET", b"event: MESSAGE"]
    assert [frame.position for frame in wrote] == [0, 21]


@pytest.mark.parametrize("behind", [True, False])
def test_what_comes_after_a_stream_was_told_to_end_is_not_for_it(
    monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    async def told_to_end() -> list[bytes]:
        hub = MemoryHub(10)
        stream = Stream(hub, uuid4(), 1, ["mine"], 0)  # type: ignore[arg-type]
        hub.streams.append(stream)
        written: list[bytes] = []

        async def write(body: bytes) -> None:
            written.append(body)

        task = asyncio.create_task(stream.run(write))
        if not behind:
            await asyncio.sleep(0)
        stream.close(notice("DISCONNECTED", {}), "permissions changed")
        hub.publish("mine")
        await asyncio.wait_for(task, PATIENCE)
        return written

    assert [body.split(b"\n")[0] for body in asyncio.run(told_to_end())] == [b"event: DISCONNECTED"]


def test_a_message_past_its_moment_is_not_replayed() -> None:
    assert not Frame(b"", good_until=1.0).replayable()
    assert Frame(b"").replayable()
