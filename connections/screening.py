"""What a stream keeps back because its person prefers so: asked of a backend by dotted path.

What is muted is not written. What is held is written when a release of the log comes by: it says up
to when (`until`) what was held since when (`since`) is to be shown to the people it addresses.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from connections.wire import Frame

RELEASE = "quiet.ended"


@dataclass(frozen=True)
class Held:
    """A message as it is written when it was held: a frame of no position."""

    frame: Frame
    without: frozenset[int] = field(default_factory=frozenset)
    """People who have dealt with it meanwhile."""


class Screen(ABC):
    """The preferences of one person, as of the connect; a change of them cuts the stream."""

    released_to: datetime

    def keeps_back(self, frame: Frame) -> bool:
        """Whether a message is not to be written now."""
        if frame.mandatory or frame.activated_at is None:
            return False
        return self.mutes(frame) or self.holds(frame.activated_at)

    @abstractmethod
    def mutes(self, frame: Frame) -> bool:
        """Whether it is of no interest, at any time."""

    @abstractmethod
    def holds(self, at: datetime) -> bool:
        """Whether what is activated at this moment waits for a release that is yet to come."""

    def release(self, until: datetime) -> None:
        """A release came by: what was activated before this moment is not held any more."""
        self.released_to = max(self.released_to, until)


class Screening(ABC):
    """Used in the threads of the database."""

    @abstractmethod
    def screens_of(self, user_ids: Collection[int]) -> dict[int, Screen]:
        """Of those who prefer anything, in one query. A screen belongs to one stream."""

    @abstractmethod
    def held(
        self, user_ids: Collection[int], since: datetime, until: datetime
    ) -> list[Held] | None:
        """What may be released to some of these people, in its order, in a fixed number of
        queries. Whom of them each is for, its channels say. None when it is too much."""


@cache
def get_screening() -> Screening:
    """The backend that `SSE_SCREENING` names."""
    screening: Screening = import_string(settings.SSE_SCREENING)()
    return screening


def until(release: Frame) -> datetime:
    assert release.data is not None
    return datetime.fromisoformat(release.data["until"])


def held_by(release: Frame) -> list[Held] | None:
    """What the release is about, for all whom it addresses."""
    assert release.data is not None
    people = [int(channel.removeprefix("user-")) for channel in release.channels]
    since = datetime.fromisoformat(release.data["since"])
    return get_screening().held(people, since, until(release))
