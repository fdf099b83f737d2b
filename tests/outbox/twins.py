"""An event log that records what is published: not transactional, and as unreliable as told."""

from collections.abc import Callable, Iterable, Sequence

from outbox.logs import Consumer, EventLog, Record
from outbox.models import Event


class RecordingLog(EventLog):
    def __init__(self) -> None:
        self.published: list[tuple[int, str]] = []
        """Position and key."""
        self.refused: dict[str, Exception] = {}
        """By key."""
        self.raised: BaseException | None = None
        """By `publish`, instead of doing anything."""
        self.afterwards: Callable[[], None] = lambda: None

    def publish(self, events: Sequence[Event]) -> dict[int, Exception]:
        if self.raised:
            raise self.raised
        failures = {e.pk: self.refused[e.key] for e in events if e.key in self.refused}
        self.published += [(e.position or 0, e.key) for e in events if e.pk not in failures]
        self.afterwards()
        return failures

    def consumer(
        self, topics: Iterable[str], *, group: str | None = None, after: int | None = None
    ) -> Consumer:
        raise NotImplementedError

    def head(self) -> int:
        return max((position for position, _ in self.published), default=0)

    def replay(self, topic: str, after: int, limit: int) -> list[Record] | None:
        return None

    def tail(self, topic: str, limit: int) -> tuple[list[Record], int]:
        return [], self.head()
