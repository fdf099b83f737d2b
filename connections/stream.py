"""One client's stream: a bounded buffer of shared frames, and the coroutine that writes them."""

import asyncio
import time
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings

from connections.counters import counters
from connections.screening import RELEASE, Held, Screen, until
from connections.services import CLOSE
from connections.wire import Frame, encode, frames_of, notice
from outbox.topics import BROADCASTS

if TYPE_CHECKING:
    from connections.hub import Hub

Writing = Coroutine[Any, Any, None]
Write = Callable[[bytes], Writing]
Told = tuple[int | None, datetime | None]

WRITE_BYTES = 65_536  # about as much as one write takes
STRETCH = 500  # events of the log that are replayed at a time
MOST_TOLD = 2_000  # messages; a release writes at most a quarter of that again
CLIENT_GONE = "client disconnected"


class Stream:
    """Live, or behind: a stream that is behind ignores what comes and catches up by replay.

    It starts behind, at the position that the client names. It falls behind when its buffer is
    full, because its client reads too slowly; when the socket has drained, it is replayed what it
    missed, or told to RESET when that is gone.
    """

    __slots__ = (
        "api_key", "asked", "begun", "behind", "channels", "farewell", "hub", "id", "idle",
        "most_bytes", "position", "queue", "reason", "screen", "size", "stuck_since", "task",
        "told", "user_id", "wake", "write",
    )  # fmt: skip

    def __init__(
        self,
        hub: "Hub",
        id: UUID,  # noqa: A002
        user_id: int,
        channels: Iterable[str],
        position: int,
        screen: Screen | None = None,
        api_key: str = "",
    ) -> None:
        self.hub = hub
        self.id = id
        self.user_id = user_id
        self.api_key = api_key
        self.channels = frozenset(channels)
        self.position = position
        self.screen = screen
        if screen:
            self.told: dict[Told, None] = {}  # the latest messages that it wrote, or has queued
            self.asked: tuple[int, asyncio.Task[list[Held] | None]] | None = None
        self.behind = True
        self.most_bytes = settings.SSE_CLIENT_BUFFER_BYTES  # asked for once: it costs microseconds
        self.queue: deque[Frame] = deque()
        self.size = 0
        self.wake = asyncio.Event()
        self.idle = False  # whether the task waits for `wake`
        self.begun: tuple[Writing, Any, list[Frame]] | None = None
        self.write: Write
        self.farewell: Frame | None = None
        self.reason = CLIENT_GONE
        self.stuck_since = 0.0
        self.task: asyncio.Task[None] | None = None

    def push(self, frame: Frame) -> None:
        """Queue a frame for `flush`; never waits, never grows beyond the buffer."""
        if self.behind or self.farewell or (frame.position and frame.position <= self.position):
            return
        if self.screen:
            if frame.type == RELEASE:  # asking what was held takes a while: catch up from before it
                self._ask_held(frame)
                self.position = max(self.position, frame.position - 1)
                self.behind = True
                self.wake.set()
                return
            if self.screen.keeps_back(frame):
                return
        if self.size + len(frame.body) > self.most_bytes and self.queue:
            self._fall_behind()
            return
        self._append(frame)

    def flush(self) -> None:
        """Write what is queued: here and now if the socket takes it, else by the task.

        To wake a task for each frame would cost more than all but the system call.
        """
        if not self.queue:
            return
        if not self.idle or self.wake.is_set():
            self.wake.set()
            return
        frames = self._take()
        writing = self.write(_bytes_of(frames))
        try:
            awaited = writing.send(None)
        except StopIteration:
            self.hub.written(self, frames)
            if not self.queue:
                return
        except Exception as error:
            self.begun = _failed(error), None, frames
        else:
            self.stuck_since = time.monotonic()
            self.begun = writing, awaited, frames
        self.wake.set()

    def close(self, farewell: Frame, reason: str) -> None:
        """End after what is queued, with a last word. What comes later is for who returns: this
        one may not be allowed to read it any more."""
        self.farewell, self.reason = farewell, reason
        self.wake.set()
        if self.stuck_since:
            self.cut(reason)

    def cut(self, reason: str) -> None:
        """End now: the client does not take what it is sent."""
        self.reason = reason
        if self.task:
            self.task.cancel()

    async def run(self, write: Write) -> None:
        """Write until the end. What is written is what `position` has passed."""
        self.task = asyncio.current_task()
        self.write = write
        try:
            await self._run()
        finally:
            self.idle = False
            if self.begun:
                self.begun[0].close()

    async def _run(self) -> None:
        while True:
            if self.begun:
                (writing, awaited, frames), self.begun = self.begun, None
                await _go_on(writing, awaited)
                self._wrote(frames)
            if self.behind and not self.queue and not self.farewell:
                await self._catch_up()
            if frames := self._take():
                self.stuck_since = time.monotonic()
                await self.write(_bytes_of(frames))
                self._wrote(frames)
            elif self.farewell:
                await self.write(self.farewell.body)
                return
            elif not self.behind:
                self.wake.clear()
                self.idle = True
                await self.wake.wait()
                self.idle = False

    def _wrote(self, frames: list[Frame]) -> None:
        self.stuck_since = 0.0
        self.hub.written(self, frames)

    async def _catch_up(self) -> None:
        """Queue what was missed; live from the moment when the ring has the rest.

        The ring is asked and the stream goes live without yielding to the loop, so that nothing
        falls between replay and live.
        """
        missed = self.hub.ring.after(self.position)
        if missed is None:
            await self._replay_from_log()
            return
        if await self._replay(missed):
            self.position = max(self.position, self.hub.head)
            self.behind = False

    async def _replay_from_log(self) -> None:
        """Queue a stretch of the log, or a RESET when what was missed is gone or too long."""
        complete_to = self.hub.ring.since  # whatever the ring has let go is in the log by now
        records = None
        if self.hub.head - self.position <= settings.SSE_REPLAY_LIMIT:
            records = await self.hub.in_database(
                self.hub.log.replay, BROADCASTS, self.position, STRETCH
            )
        if records is None:
            self.reset()
            return
        if not await self._replay(frames_of(records)):
            return
        if records:
            self.position = records[-1].position
        if len(records) < STRETCH:
            self.position = max(self.position, complete_to)

    async def _replay(self, frames: Iterable[Frame]) -> bool:
        """Queue what is for this stream, without yielding to the loop; False, after having yielded,
        up to a release of which was not known what it releases: by now it is."""
        for frame in frames:
            if not self._mine(frame):
                continue
            if self.screen and frame.type == RELEASE:
                asked = self._ask_held(frame)
                if not asked.done():
                    self.position = max(self.position, frame.position - 1)
                    await asyncio.wait([asked])
                    return False
                self._release(frame, asked.result())
            else:
                self._append(frame)
        return True

    def _ask_held(self, release: Frame) -> "asyncio.Task[list[Held] | None]":
        """Keep the question: the hub forgets it when many releases come at once."""
        if self.asked is None or self.asked[0] != release.position:
            self.asked = release.position, self.hub.ask_held(release)
        return self.asked[1]

    def _release(self, release: Frame, held: list[Held] | None) -> None:
        """Queue what was held, and last the release itself: its id says that nothing is held now.

        Cut before that, the client comes back with an earlier id, and all of it is written again.
        """
        assert self.screen
        mine = [one.frame for one in held or () if self._is_mine(one, self.screen)]
        if held is None or sum(len(frame.body) for frame in mine) > self.most_bytes:
            self._append(reset_at(release.position))
        else:
            for frame in mine:
                self._append(frame)
            self._append(release)
        self.screen.release(until(release))
        self.asked = None

    def _is_mine(self, held: Held, screen: Screen) -> bool:
        frame = held.frame
        return not (
            self.channels.isdisjoint(frame.channels)
            or screen.mutes(frame)
            or self.user_id in held.without
            or _told_of(frame) in self.told
        )

    def reset(self) -> None:
        """Tell the client to refetch its inbox; go on from here."""
        counters.resets += 1
        self.position = self.hub.head
        self._append(notice("RESET", {"position": self.position}, self.position))

    def _mine(self, frame: Frame) -> bool:
        return (
            frame.type != CLOSE
            and frame.replayable()
            and not self.channels.isdisjoint(frame.channels)
            and not (self.screen and self.screen.keeps_back(frame))
        )

    def _fall_behind(self) -> None:
        """Forget the queue; go on from the last frame that was written."""
        counters.fallen_behind += 1
        first = next((frame for frame in self.queue if frame.position), None)
        if first:
            self.position = first.position - 1
        if self.screen:
            for frame in self.queue:
                self.told.pop(_told_of(frame), None)
        self.queue.clear()
        self.size = 0
        self.behind = True
        self.wake.set()

    def _append(self, frame: Frame) -> None:
        self.queue.append(frame)
        self.size += len(frame.body)
        if self.screen and frame.is_message:
            self.told[_told_of(frame)] = None
            if len(self.told) > MOST_TOLD:
                del self.told[next(iter(self.told))]
        if frame.position:
            self.position = frame.position

    def _take(self) -> list[Frame]:
        taken: list[Frame] = []
        size = 0
        while self.queue and size < WRITE_BYTES:
            frame = self.queue.popleft()
            size += len(frame.body)
            taken.append(frame)
        self.size -= size
        return taken


def _told_of(frame: Frame) -> Told:
    """Its broadcast, and when: a reminder tells of one that was told before."""
    return (frame.data or {}).get("broadcast_id"), frame.activated_at


def reset_at(position: int) -> Frame:
    return Frame(encode("RESET", {"position": position}, position), position)


def _bytes_of(frames: list[Frame]) -> bytes:
    return b"".join([frame.body for frame in frames])


@types.coroutine
def _go_on(writing: Writing, awaited: Any) -> Generator[Any, Any, None]:
    """What was begun outside a task, by the task: first what it waits for, then the rest."""
    with suppress(StopIteration):
        while True:
            try:
                yield awaited
            except BaseException as error:  # the server's to answer: it may know of it
                awaited = writing.throw(error)
            else:
                awaited = writing.send(None)


async def _failed(error: Exception) -> None:
    raise error
