"""The recent frames of one process: replay for clients that were away for a moment."""

from bisect import bisect_right

from connections.wire import Frame


class Ring:
    """Complete after `since`; bounded in frames and in bytes."""

    def __init__(self, size: int, most_bytes: int) -> None:
        self.size = size
        self.most_bytes = most_bytes
        self.since = 0
        self.frames: list[Frame] = []
        self.bytes = 0

    def fill(self, frames: list[Frame], since: int) -> None:
        self.frames, self.since = [], since
        self.bytes = 0
        self.extend(frames)

    def extend(self, frames: list[Frame]) -> None:
        self.frames += frames
        self.bytes += sum(len(frame.body) for frame in frames)
        # Cut in strides, not one by one: deleting from the front of a list moves all of it.
        if len(self.frames) > self.size * 1.25 or self.bytes > self.most_bytes * 1.25:
            self._cut()

    def after(self, position: int) -> list[Frame] | None:
        """All frames after a position; `None` when the ring no longer has them all."""
        if position < self.since:
            return None
        return self.frames[bisect_right(self.frames, position, key=lambda f: f.position) :]

    def _cut(self) -> None:
        cut = 0
        while len(self.frames) - cut > self.size or (
            self.bytes > self.most_bytes and cut < len(self.frames)
        ):
            self.bytes -= len(self.frames[cut].body)
            self.since = self.frames[cut].position
            cut += 1
        del self.frames[:cut]
