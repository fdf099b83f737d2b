"""A broadcast as its readers get it: in the stream and in the inbox alike."""

from datetime import datetime
from typing import Any

from broadcasts.models import Broadcast
from outbox.models import Priority


def message_of(broadcast: Broadcast, html: str | None = None) -> dict[str, Any]:
    """JSON-ready; without what belongs to one person (`seen_at`, `read_at`, `acknowledged_at`).

    `html` is the rendered content, for who has it already.
    """
    return {
        "broadcast_id": broadcast.pk,
        "correlation_id": str(broadcast.correlation_id),
        "title": broadcast.title,
        "content": broadcast.content,
        "html": broadcast.html if html is None else html,
        "category": broadcast.category,
        "priority": Priority(broadcast.priority).name,
        "reference": broadcast.reference,
        "sender_name": broadcast.sender_name,
        "fire_and_forget": broadcast.fire_and_forget,
        "force_logoff": broadcast.force_logoff,
        "requires_acknowledgement": broadcast.requires_acknowledgement,
        "activated_at": _iso(broadcast.activated_at),
        "expires_at": _iso(broadcast.expires_at),
        "reminded_at": _iso(broadcast.reminded_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
