"""GRIP: a proxy such as Pushpin holds the socket; we say what to hold, and have what it missed.

Every held stream is on one GRIP channel that brings the events in the order of the log, each with
the id of the one before it. So one number says how far a stream is, the same that its client sees
as the id of the last event; the proxy notices by itself that something is missing, and asks us
for it. A stream is also on one GRIP channel for each of its own channels (its marks): they decide
which events of the chain it sees, and are where it is told to ask, or to end.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.contrib.auth.models import User
from django.core import signing
from gripcontrol import Channel, create_grip_channel_header, validate_sig

from connections.channels import channels_of
from connections.hub import Hub
from connections.services import CLOSE
from connections.wire import Frame, encode, frames_of, notice
from outbox.logs import get_log
from outbox.models import LeaderLease
from outbox.topics import BROADCASTS

NAME = "grip"  # of the publisher's lease
CHAIN = "broadcasts"
STRETCH = 500  # events of the log that are looked through for one answer
PAGE_BYTES = 1_000_000
FIRST_PAGE_BYTES = 64_000  # Pushpin takes no more than 100,000 bytes with the first answer
LINK_TIMEOUT = 300  # seconds after which a proxy asks, even if it knows of nothing missing
PATH = "/api/user/sse/connect"
SALT = "connections.grip"


def is_proxied(headers: dict[bytes, str]) -> bool:
    """Whether the request says that it came through a GRIP proxy; `is_signed` says if it did."""
    return bool(settings.GRIP_URLS) and b"grip-sig" in headers


def is_signed(headers: dict[bytes, str]) -> bool:
    if not is_proxied(headers):
        return False
    key = settings.GRIP_KEY
    secret = b64decode(key[7:]) if key.startswith("base64:") else key.encode()
    return bool(validate_sig(headers[b"grip-sig"], secret))


def published() -> int:
    """The position up to which proxies have been told, or are being told at this moment."""
    row = LeaderLease.objects.filter(name=NAME).values_list("position", flat=True)
    return row.first() or get_log().head()  # there was no publisher yet


def mark(channel: str) -> str:
    """The GRIP channel of a channel; the name of a role may hold what a header may not."""
    return f"to-{quote(channel, safe='')}"


@dataclass(frozen=True)
class Link:
    """What the proxy brings along when it asks: its request has no session and no token."""

    user_id: int
    connection_id: str
    opened: int
    """Up to where proxies had been told when it began: what ended streams before is not for it."""
    position: int

    def sign(self) -> str:
        return signing.dumps(astuple(self), salt=SALT)

    @classmethod
    def read(cls, text: str) -> "Link":
        """Raises `signing.BadSignature`."""
        return cls(*signing.loads(text, salt=SALT))


def moved_on(link: Link, headers: dict[bytes, str]) -> Link:
    """How far the stream is: by the chain that the proxy follows, or by our last answer."""
    given = headers.get(b"grip-last", "").partition("last-id=")[2].strip()
    return replace(link, position=max(link.position, int(given) if given.isdecimal() else 0))


def channels_of_holder(link: Link) -> list[str] | None:
    """The channels of whose stream it is; None when there is no such person any more."""
    user = User.objects.filter(pk=link.user_id, is_active=True).first()
    return channels_of(user) if user else None


def heartbeat() -> bytes:
    return encode("HEARTBEAT", {"timestamp": None})  # the proxy repeats the same bytes


def hold(channels: Iterable[str], link: Link, *, whole: bool = True) -> dict[str, str]:
    """Hold the stream, complete up to the position of the link; ask soon if it is not `whole`."""
    chain = Channel(CHAIN, prev_id=str(link.position))
    chain.filters.append("require-sub")
    beat = b64encode(heartbeat()).decode()
    return {
        "Grip-Hold": "stream",
        "Grip-Channel": create_grip_channel_header([chain, *map(Channel, map(mark, channels))]),
        "Grip-Keep-Alive": f"{beat}; format=base64; timeout={max(1, int(settings.SSE_HEARTBEAT))}",
    } | ask_again(link, LINK_TIMEOUT if whole else 1)


def ask_again(link: Link, seconds: int = 0) -> dict[str, str]:
    """When the stream misses something, or after so long; without a hold, at once.

    The link stands in the path: Pushpin answers streams that ask for the same path from the same
    position with one answer, whatever their queries are.
    """
    return {"Grip-Link": f"<{PATH}/{link.sign()}>; rel=next; timeout={seconds}"}


@dataclass
class Page:
    """What a stream missed, up to `position`; `whole` if that is all there is."""

    body: bytes
    position: int
    whole: bool = True
    closed: Frame | None = None
    """What the stream was ended by meanwhile."""


async def missed(hub: Hub, channels: list[str], link: Link, to: int) -> Page | None:
    """What follows the link, as far as the proxies have been told; None when it is gone."""
    found = await _frames(hub, channels, link.position, to)
    if found is None:
        return None
    frames, end = found
    body = b""
    for frame in frames:
        if frame.type == CLOSE:
            if frame.position > link.opened and closes_all(frame):
                return Page(body, frame.position, closed=frame)
        elif frame.replayable():
            if body and len(body) + len(frame.body) > PAGE_BYTES:
                return Page(body, frame.position - 1, whole=False)
            body += frame.body
    return Page(body, max(link.position, end), whole=end == to)


async def _frames(
    hub: Hub, channels: list[str], after: int, to: int
) -> tuple[list[Frame], int] | None:
    """Those to one of the channels, and the position up to which they are all of them."""
    mine = set(channels)
    frames = hub.ring.after(after) if hub.head >= to else None
    if frames is None:
        records = await hub.in_database(get_log().replay, BROADCASTS, after, STRETCH)
        if records is None:
            return None
        if len(records) == STRETCH:
            to = min(to, records[-1].position)
        frames = frames_of(records)
    return [f for f in frames if f.position <= to and not mine.isdisjoint(f.channels)], to


def closes_all(frame: Frame) -> bool:
    """Whether it ends every stream of the person; held ones have no number of their own, and none
    was opened by an API key."""
    assert frame.data is not None
    return frame.data["connection_id"] is None and "api_key" not in frame.data


def farewell(frame: Frame) -> bytes:
    assert frame.data is not None
    data: dict[str, Any] = {key: frame.data[key] for key in ("reason", "reconnect")}
    return notice("DISCONNECTED", data).body


def reset(position: int) -> bytes:
    return notice("RESET", {"position": position}, position).body
