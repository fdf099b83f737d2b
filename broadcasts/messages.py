"""A broadcast as its readers get it: in the stream and in the inbox alike."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from broadcasts.languages import Text
from broadcasts.markdown import render
from broadcasts.models import Broadcast
from outbox.models import Priority


def message_of(broadcast: Broadcast, html: Mapping[str, str] | None = None) -> dict[str, Any]:
    """For the stream: in all its languages, since the same bytes go to every reader.

    `html` has what its contents were rendered to, if that is known.
    """
    texts = broadcast.texts
    html = html or {text.content: render(text.content) for text in texts.values()}
    translations = {
        language: {"title": text.title, "content": text.content, "html": html[text.content]}
        for language, text in texts.items()
        if language != broadcast.language
    }
    message = message_in(broadcast, texts[broadcast.language], html[broadcast.content])
    return message | {"translations": translations}


def message_in(broadcast: Broadcast, text: Text, html: str) -> dict[str, Any]:
    """In one of its languages; `html` is the rendered content.

    JSON-ready; without what belongs to one person (`seen_at`, `read_at`, `acknowledged_at`).
    """
    return {
        "broadcast_id": broadcast.pk,
        "correlation_id": str(broadcast.correlation_id),
        "language": text.language,
        "title": text.title,
        "content": text.content,
        "html": html,
        "category": broadcast.category,
        "priority": Priority(broadcast.priority).name,
        "reference": broadcast.reference,
        "sender_name": broadcast.sender_name,
        "fire_and_forget": broadcast.fire_and_forget,
        "force_logoff": broadcast.force_logoff,
        "mandatory": broadcast.is_mandatory,
        "requires_acknowledgement": broadcast.requires_acknowledgement,
        "activated_at": _iso(broadcast.activated_at),
        "expires_at": _iso(broadcast.expires_at),
        "reminded_at": _iso(broadcast.reminded_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
