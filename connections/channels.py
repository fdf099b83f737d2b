"""django-eventstream's seams: which channels a request reads, and their stored events."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.http import HttpRequest
from django.utils.module_loading import import_string
from django_eventstream.channelmanager import ChannelManagerBase
from django_eventstream.event import Event
from django_eventstream.storage import EventDoesNotExist, StorageBase

from connections.services import CLOSE
from connections.wire import NAMES
from outbox.logs import get_log
from outbox.topics import BROADCASTS


@cache
def _user_channels() -> Callable[[Sequence[AbstractUser]], list[list[str]]]:
    function: Callable[[Sequence[AbstractUser]], list[list[str]]]
    function = import_string(settings.SSE_USER_CHANNELS)
    return function


def channels_of_each(users: Sequence[AbstractUser]) -> list[list[str]]:
    """Every channel that each may read; asked of the function that the settings name."""
    return _user_channels()(users)


def channels_of(user: AbstractUser) -> list[str]:
    return channels_of_each([user])[0]


class ChannelManager(ChannelManagerBase):  # type: ignore[misc]
    def get_channels_for_request(
        self, request: HttpRequest, view_kwargs: dict[str, Any]
    ) -> set[str]:
        return set(channels_of(request.user)) if request.user.is_authenticated else set()

    def can_read_channel(self, user: AbstractUser | None, channel: str) -> bool:
        return user is not None and user.is_active and channel in channels_of(user)

    def is_channel_reliable(self, channel: str) -> bool:
        return True


class LogStorage(StorageBase):  # type: ignore[misc]
    """Reads the event log; writes go through `outbox.services.emit`, in a transaction."""

    def append_event(self, channel: str, event_type: str, data: Any) -> Event:
        raise NotImplementedError("Call outbox.services.emit(type, key, data, channels=[...]).")

    def get_events(self, channel: str, last_id: int, limit: int = 100) -> list[Event]:
        if last_id > self.get_current_id(channel):
            raise EventDoesNotExist(f"Position {last_id} is from the future", 0)
        records = get_log().replay(BROADCASTS, last_id, settings.SSE_REPLAY_LIMIT)
        if records is None:
            raise EventDoesNotExist(f"Position {last_id} is gone", self.get_current_id(channel))
        return [
            Event(channel, NAMES.get(r.type, r.type), r.value["data"], id=r.position)
            for r in records
            if channel in r.channels and r.type != CLOSE
        ][:limit]

    def get_current_id(self, channel: str) -> int:
        return get_log().head()
