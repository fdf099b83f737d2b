"""Events of the log as bytes of Server-Sent Events: encoded once, written to every socket."""

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django_eventstream.utils import sse_encode_event

from outbox.logs import Record

logger = logging.getLogger(__name__)

# What clients are told an event is; any other type keeps its own name.
NAMES = {
    "broadcast.activated": "MESSAGE",
    "broadcast.sent": "MESSAGE",
    "broadcast.reminded": "MESSAGE",
    "broadcast.cancelled": "MESSAGE_REMOVED",
    "broadcast.expired": "MESSAGE_REMOVED",
    "broadcast.dismissed": "MESSAGE_REMOVED",
    "broadcast.read": "READ_RECEIPT",
    "broadcast.acknowledged": "READ_RECEIPT",
    "quiet.ended": "QUIET_HOURS_ENDED",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """Ready bytes. `position` is 0 for what is not of the log (HEARTBEAT, notices)."""

    body: bytes
    position: int = 0
    channels: tuple[str, ...] = ()
    type: str = ""
    data: dict[str, Any] | None = None
    good_until: float = float("inf")
    """Unix time after which it is not replayed any more (fire and forget)."""
    category: str = ""
    mandatory: bool = False
    """Nobody's preferences keep it back."""
    activated_at: datetime | None = None
    """Or reminded of: the moment by which quiet hours hold it."""
    traceparent: str = ""

    @property
    def is_message(self) -> bool:
        return NAMES.get(self.type) == "MESSAGE"

    def replayable(self) -> bool:
        return self.good_until > time.time()


def encode(event: str, data: dict[str, Any], position: int | None = None) -> bytes:
    """One SSE event; `position` becomes its id."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    body: str = sse_encode_event(event, text, event_id=position)
    return body.encode()


def frames_of(records: Iterable[Record]) -> list[Frame]:
    """Without those that cannot be encoded: one of them must not stop the stream of all."""
    frames = []
    for record in records:
        try:
            frames.append(frame_of(record))
        except Exception:
            logger.exception("Event %s cannot be sent to streams", record.event_id)
    return frames


def frame_of(record: Record) -> Frame:
    data = record.value["data"]
    good_until = float("inf")
    if data.get("fire_and_forget"):
        good_until = datetime.fromisoformat(data["expires_at"]).timestamp()
    trace = record.value.get("traceparent", "")
    told = data | {"traceparent": trace} if trace else data  # the client's word goes on with it
    return Frame(
        body=encode(NAMES.get(record.type, record.type), told, record.position),
        position=record.position,
        channels=tuple(record.channels),
        type=record.type,
        data={"broadcast_id": data.get("broadcast_id")} if "broadcast_id" in data else data,
        good_until=good_until,
        traceparent=trace,
        **_screened_by(data),
    )


def _screened_by(data: dict[str, Any]) -> dict[str, Any]:
    """What preferences ask of a message; read once for all streams."""
    activated_at = data.get("reminded_at") or data.get("activated_at")
    return {
        "category": data.get("category", ""),
        "mandatory": bool(data.get("mandatory")),
        "activated_at": datetime.fromisoformat(activated_at) if activated_at else None,
    }


def held_frame(kind: str, data: dict[str, Any], channels: Iterable[str]) -> Frame:
    """A message that was held, as it is written later: the log has passed its position."""
    return Frame(
        body=encode(NAMES[kind], data | {"held": True}),
        channels=tuple(channels),
        type=kind,
        data={"broadcast_id": data["broadcast_id"]},
        **_screened_by(data),
    )


def notice(event: str, data: dict[str, Any], position: int | None = None) -> Frame:
    return Frame(body=encode(event, data, position))
