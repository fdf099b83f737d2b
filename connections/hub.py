"""The streams of one process: one reader of the log, no thread and no database connection each.

Everything here runs on the event loop; only `_read` (the reader of the log) and what goes through
`in_database` run in threads, and they hand their results back to the loop.
"""

import asyncio
import logging
import os
import random
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import Context, copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connection
from django.utils import timezone
from django_eventstream import views as eventstream_views
from django_eventstream.views import ListenerManager

from connections.admissions import Admissions
from connections.counters import counters
from connections.registry import Registry, get_registry
from connections.ring import Ring
from connections.screening import RELEASE, Held, held_by, until
from connections.services import CLOSE
from connections.signals import delivered
from connections.stream import Stream
from connections.wire import Frame, frames_of, notice
from jobs import tracing
from outbox.logs import EventLog, LogUnavailable, Record, get_log, newer
from outbox.topics import BROADCASTS

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

DATABASE_THREADS = 4
READ_WAIT = 1.0  # seconds; a commit wakes the reader sooner
STRETCH = 500  # events that are replayed at a time
FLUSH = 0.25  # seconds between batches of receipts and of ended connections
SHUTDOWN_GRACE = 3.0  # seconds for the last frames to leave
AGAIN = 1.0  # seconds until a database that is away is asked again
RELEASES = 100  # recent ones of which is kept what they released


def database_task(function: Callable[P, T]) -> Callable[P, T]:
    """Give the connection back after the call, so that none is held by a thread that waits."""

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return call


class Hub(ListenerManager):  # type: ignore[misc]
    """django-eventstream's listener manager, with streams that cost neither thread nor query."""

    def __init__(self, node: str = "") -> None:
        super().__init__()
        self.node = node or f"{settings.NODE_NAME}:{os.getpid()}"
        self.streams: dict[UUID, Stream] = {}
        self.by_channel: dict[str, set[Stream]] = defaultdict(set)
        self.ring = Ring(settings.SSE_RING_SIZE, settings.SSE_RING_BYTES)
        self.head = 0
        self.arrived: deque[list[Frame]] = deque()  # read, and not yet dispatched
        self.read_to = 0  # what the reader's thread has handed over; `head` follows on the loop
        self.stopping = threading.Event()
        self.database = ThreadPoolExecutor(DATABASE_THREADS, thread_name_prefix="database")
        self.deliveries: dict[int, set[int]] = defaultdict(set)
        self.closed: dict[UUID, str] = {}
        self.admissions = Admissions(self)
        self.held: dict[int, asyncio.Task[list[Held] | None]] = {}  # by the position of a release
        self.started: asyncio.Task[None] | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.reader = threading.Thread(target=self._read, name="log-reader", daemon=True)

    @property
    def log(self) -> EventLog:
        return get_log()

    @property
    def registry(self) -> Registry:
        return get_registry()

    # Life of the process

    async def start(self) -> None:
        """Read the log from now on; the first stream that connects starts it, once."""
        if self.started is None or _has_failed(self.started):
            # Its tasks live on: they are not of the request that happens to be the first.
            self.started = asyncio.create_task(self._start(), context=Context())
        await asyncio.shield(self.started)

    async def _start(self) -> None:
        eventstream_views.listener_manager = self
        await self._begin()

    async def _begin(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self.in_database(self.registry.start, self.node)
        records, since = await self.in_database(self.log.tail, BROADCASTS, self.ring.size)
        self.ring.fill(frames_of(records), since)
        self.head = self.read_to = records[-1].position if records else since
        self.reader.start()
        self.tasks = [
            asyncio.create_task(self._heartbeats()),
            asyncio.create_task(self._flushes()),
        ]

    async def shut_down(self) -> None:
        """Tell every client to come back a little later, each at its own moment, and end."""
        self.stopping.set()
        if not self.reader.is_alive():
            return
        for stream in list(self.streams.values()):
            data = {"retry_after": random.randint(500, 5_000)}  # noqa: S311 (jitter, no secret)
            stream.close(notice("SERVER_SHUTDOWN", data), "server shutdown")
        deadline = time.monotonic() + SHUTDOWN_GRACE
        while self.streams and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        for task in self.tasks:
            task.cancel()
        await self.flush()
        await self.in_database(self.registry.stop, self.node)
        self.reader.join(SHUTDOWN_GRACE)
        self.database.shutdown()

    async def in_database(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it in one of the few threads that may use the database."""
        call = database_task(function)
        return await asyncio.get_running_loop().run_in_executor(
            self.database, partial(copy_context().run, call, *args, **kwargs)
        )

    # Streams

    def add(self, stream: Stream, asked_at: int) -> None:
        """Subscribe. `asked_at` is the head before its channels were looked up: permissions that
        changed between the look-up and now would otherwise be missed."""
        self.streams[stream.id] = stream
        counters.opened += 1
        for channel in stream.channels:
            self.by_channel[channel].add(stream)
        for frame in self.ring.after(asked_at) or ():
            if stream.channels.isdisjoint(frame.channels):
                continue
            if frame.type == CLOSE:
                self._close_as_told(frame, {stream})
            elif frame.type == RELEASE and stream.screen and frame.position <= stream.position:
                stream.screen.release(until(frame))

    def remove(self, stream: Stream, reason: str) -> None:
        if self.streams.pop(stream.id, None) is None:
            return
        counters.closed += 1
        for channel in stream.channels:
            self.by_channel[channel].discard(stream)
            if not self.by_channel[channel]:
                del self.by_channel[channel]
        self.closed[stream.id] = reason

    def kick(self, user_id: int, channel: str) -> None:
        """django-eventstream's word for: this person may not read this channel any more."""
        for stream in list(self.by_channel.get(channel, ())):
            if stream.user_id == user_id:
                self._close(stream, "permissions changed", reconnect=True)

    def written(self, stream: Stream, frames: list[Frame]) -> None:
        """These frames were written to the socket of `stream`."""
        counters.frames += len(frames)
        for frame in frames:
            counters.bytes += len(frame.body)
            if frame.is_message and frame.data:
                self.deliveries[frame.data["broadcast_id"]].add(stream.user_id)

    def ask_held(self, release: Frame) -> "asyncio.Task[list[Held] | None]":
        """What it releases, asked once for all; None when that is too much, or nobody knows."""
        if release.position not in self.held:
            self.held[release.position] = asyncio.create_task(self._find_held(release))
            for position in list(self.held)[:-RELEASES]:
                del self.held[position]
        return self.held[release.position]

    async def _find_held(self, release: Frame) -> list[Held] | None:
        while True:
            try:
                return await self.in_database(held_by, release)
            except (OperationalError, InterfaceError) as error:
                logger.warning("What was held has to wait: %s", error)
                await asyncio.sleep(AGAIN)
            except Exception:
                logger.exception("Release %s cannot be understood", release.position)
                return None

    # The log

    def _read(self) -> None:
        while not self.stopping.is_set():
            try:
                with closing(self.log.consumer([BROADCASTS])) as consumer:
                    self._catch_up()
                    connection.close()  # the consumer may need none
                    while not self.stopping.is_set():
                        self._hand_over(consumer.poll(wait=READ_WAIT))
            except Exception as error:  # the log is away: clients keep their streams
                known = isinstance(error, LogUnavailable)
                logger.warning(
                    "The log cannot be read; again in a second: %s", error, exc_info=not known
                )
                close_old_connections()
                self.stopping.wait(1)
        close_old_connections()

    def _catch_up(self) -> None:
        """What was published before the consumer began: subscribe, replay, live, as clients do."""
        while records := self.log.replay(BROADCASTS, self.read_to, STRETCH):
            self._hand_over(records)
        if records is None:
            self.read_to = self.log.head()
            self.loop.call_soon_threadsafe(self._lose_track, self.read_to)

    def _hand_over(self, records: list[Record]) -> None:
        if fresh := newer(records, self.read_to):
            self.read_to = fresh[-1].position
            self.arrived.append(frames_of(fresh))
            self.loop.call_soon_threadsafe(self._take_in)

    def _take_in(self) -> None:
        """All that has arrived while the loop was busy: one write a stream, not one an event."""
        frames: list[Frame] = []
        while self.arrived:
            frames += self.arrived.popleft()
        if frames:
            self.dispatch(frames)

    def _lose_track(self, head: int) -> None:
        """This process was away for longer than the log is kept."""
        self.head = max(head, self.head)  # what came after it may have been taken in before
        self.ring.fill([], self.head)
        for stream in list(self.streams.values()):
            stream.reset()
            stream.wake.set()

    def dispatch(self, frames: list[Frame]) -> None:
        """Hand the frames to whom they address; in the ring before any stream can ask for them."""
        began = time.time_ns()
        self.ring.extend(frames)
        self.head = frames[-1].position if frames else self.head
        touched: set[Stream] = set()
        for frame in frames:
            addressed = self._addressed(frame)
            touched |= addressed
            if frame.type == CLOSE:
                self._close_as_told(frame, addressed)
            elif frame.replayable():  # or it passed while no relay published
                for stream in addressed:
                    stream.push(frame)
        for stream in touched:
            stream.flush()
        if settings.TRACING:
            self._trace(frames, began)

    def _trace(self, frames: list[Frame], began: int) -> None:
        """One span an event: never one a client."""
        for frame in frames:
            tracing.record(
                f"dispatch {frame.type}",
                "consumer",
                frame.traceparent,
                began,
                node=self.node,
                position=frame.position,
                streams=len(self._addressed(frame)),
            )

    def _addressed(self, frame: Frame) -> set[Stream]:
        streams = self.by_channel
        if len(frame.channels) == 1:
            return streams.get(frame.channels[0], set())
        return set().union(*(streams[c] for c in frame.channels if c in streams))

    def _close_as_told(self, frame: Frame, addressed: set[Stream]) -> None:
        assert frame.data is not None
        wanted, api_key = frame.data["connection_id"], frame.data.get("api_key")
        for stream in list(addressed):
            if wanted in (None, str(stream.id)) and api_key in (None, stream.api_key):
                self._close(stream, frame.data["reason"], reconnect=frame.data["reconnect"])

    def _close(self, stream: Stream, reason: str, *, reconnect: bool) -> None:
        data = {"reason": reason, "reconnect": reconnect}
        stream.close(notice("DISCONNECTED", data), reason)

    # The clock

    async def _heartbeats(self) -> None:
        touch_at = 0.0
        while True:
            await asyncio.sleep(settings.SSE_HEARTBEAT)
            beat = notice("HEARTBEAT", {"timestamp": timezone.now().isoformat()})
            now = time.monotonic()
            for stream in list(self.streams.values()):
                if stream.stuck_since and now - stream.stuck_since > settings.SSE_SEND_TIMEOUT:
                    stream.cut("reads too slowly")
                else:
                    stream.push(beat)
                    stream.flush()
            await self._quietly(self.registry.heartbeat, self.node, list(self.streams))
            if now >= touch_at:
                await self._quietly(self.registry.touch, list(self.streams))
                touch_at = now + settings.SSE_CLIENT_CLEANUP_INACTIVE_TIMEOUT.total_seconds() / 3

    async def _flushes(self) -> None:
        while True:
            await asyncio.sleep(FLUSH)
            await self.flush()

    async def flush(self) -> None:
        """Write receipts, new and ended connections, each as one batch."""
        deliveries, self.deliveries = self.deliveries, defaultdict(set)
        closed, self.closed = self.closed, {}
        if deliveries and not await self._quietly(_record, deliveries):
            for broadcast_id, user_ids in deliveries.items():
                self.deliveries[broadcast_id] |= user_ids
        if self.registry.unwritten:
            await self._quietly(self.registry.flush)
        if closed and not await self._quietly(self.registry.unregister, closed):
            self.closed |= closed  # again with the next batch

    async def _quietly(self, function: Callable[..., None], *args: Any) -> bool:
        """A failure must not end the clock; False when the database is away: try again."""
        try:
            await self.in_database(function, *args)
        except (OperationalError, InterfaceError) as error:
            logger.warning("%s has to wait: %s", function.__qualname__, error)
            return False
        except Exception:
            logger.exception("%s failed", function.__qualname__)
        return True


def _has_failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _record(deliveries: dict[int, set[int]]) -> None:
    now = timezone.now()
    for broadcast_id, user_ids in deliveries.items():
        delivered.send(Hub, data={"broadcast_id": broadcast_id}, user_ids=user_ids, at=now)


_hub: Hub | None = None


def get_hub(node: str = "") -> Hub:
    """The hub of this process; `node` names it when it is made."""
    global _hub
    if _hub is None:
        _hub = Hub(node)
    return _hub
