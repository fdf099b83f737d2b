"""Which event types somebody asks for: `link.expired`, all that begin so (`blog.*`), or `*`."""

import re
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

PATTERN = re.compile(r"\*|[a-z0-9_-]+(\.[a-z0-9_-]+)*(\.\*)?")
INTERNAL = frozenset(
    {
        "broadcast.acknowledged",
        "broadcast.dismissed",
        "broadcast.read",
        "connection.close",
        "quiet.ended",
    }
)
"""Of single people and their streams: for who names them in full, never by `*`."""

ADDRESSED = ("broadcast", "connection", "quiet")
"""Domains whose events have the topic `broadcasts`: what broadcasts are, and what they cause."""


def check_patterns(patterns: Any) -> None:
    """Raise `ValidationError` unless it is a list of event types, or of their beginnings."""
    if not isinstance(patterns, list) or not patterns:
        raise ValidationError(_('Name at least one event type, such as "link.*" or "*".'))
    wrong = [str(p) for p in patterns if not isinstance(p, str) or not PATTERN.fullmatch(p)]
    if wrong:
        message = _(
            "%(wrong)s: write an event type (link.expired), its beginning (link.*) or * for all."
        )
        raise ValidationError(message % {"wrong": ", ".join(wrong)})


def patterns_of(event_type: str) -> list[str]:
    """Every pattern that asks for it."""
    if event_type in INTERNAL:
        return [event_type]
    parts = event_type.split(".")
    return ["*", *(".".join([*parts[:n], "*"]) for n in range(1, len(parts))), event_type]


def wanted(patterns: Iterable[str], event_type: str) -> bool:
    """Whether one of the patterns asks for it."""
    return not set(patterns_of(event_type)).isdisjoint(patterns)
