"""Discord's webhooks: an event as an embed within the limits that it documents.

Beyond any of them Discord refuses the message, for ever.
https://discord.com/developers/docs/resources/message#embed-object-embed-limits
"""

import json
from datetime import timedelta
from typing import Any

import httpx

FIELDS = 25
TITLE, DESCRIPTION, FIELD_NAME, FIELD_VALUE, FOOTER, AUTHOR = 256, 4096, 256, 1024, 2048, 256
TOTAL = 6000
"""Of all texts of an embed together."""

COLOURS = {
    "blog": 3447003,
    "twitchbot": 10181046,
    "link": 3066993,
    "broadcast": 15844367,
    "alert": 15158332,
    "endpoint": 15158332,
}
COLOUR = 5814783
TEXTS = ("message", "content")  # what of the data is the text of the embed
LEFT_OUT = {"title", "html", *TEXTS}


def address(url: str) -> str:
    """With `wait`, Discord answers when the message is there, or says why not."""
    return str(httpx.URL(url).copy_merge_params({"wait": "true"}))


def message_of(envelope: dict[str, Any]) -> dict[str, Any]:
    return {"embeds": [embed_of(envelope)], "allowed_mentions": {"parse": []}}


def embed_of(envelope: dict[str, Any]) -> dict[str, Any]:
    data = envelope.get("data") or {}
    text = next((data[name] for name in TEXTS if data.get(name)), "")
    room = Room()
    embed: dict[str, Any] = {
        "title": room.take(data.get("title") or envelope["type"], TITLE),
        "author": {"name": room.take(envelope["source"], AUTHOR)},
        "footer": {"text": room.take(f"{envelope['type']} · {envelope['id']}", FOOTER)},
        "timestamp": envelope["time"],
        "color": COLOURS.get(envelope["type"].partition(".")[0], COLOUR),
    }
    if text:
        embed["description"] = room.take(text, DESCRIPTION)
    embed["fields"] = fields_of(data, room)
    return embed


def fields_of(data: dict[str, Any], room: "Room") -> list[dict[str, Any]]:
    fields: list[dict[str, Any]] = []
    for name, value in data.items():
        if name in LEFT_OUT or value is None:
            continue
        taken = room.take(name, FIELD_NAME), room.take(value, FIELD_VALUE)
        if len(fields) == FIELDS or not all(taken):
            break
        fields.append({"name": taken[0], "value": taken[1], "inline": True})
    return fields


class Room:
    """What is left of the total; lengths are those of UTF-16, as in Discord's own clients."""

    def __init__(self) -> None:
        self.left = TOTAL

    def take(self, value: object, most: int) -> str:
        """As much of it as fits, never blank unless nothing does."""
        text = (value if isinstance(value, str) else json.dumps(value)).strip() or "–"
        text = cut(text, min(most, self.left))
        self.left -= units(text)
        return text


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def cut(text: str, most: int) -> str:
    if units(text) <= most:
        return text
    if most < 1:
        return ""
    shorter = text.encode("utf-16-le")[: (most - 1) * 2].decode("utf-16-le", "ignore")
    return shorter.rstrip() + "…"


def retry_after(body: str) -> timedelta | None:
    wait = _said(body).get("retry_after")
    return timedelta(seconds=wait) if isinstance(wait, int | float) and wait < 1e6 else None


def is_global(body: str) -> bool:
    return _said(body).get("global") is True


def _said(body: str) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
