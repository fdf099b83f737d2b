"""What each scope of an API key opens: one table; `docs/api-keys.md` shows the same."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import TextChoices
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _


class Scope(TextChoices):
    STREAM = "stream", _("Stream: the owner's stream, inbox and receipts")
    PUBLISH = "publish", _("Publish: broadcasts, series, templates and all domains")
    READ = "read", _("Read: whatever the owner may see")
    ADMIN = "admin", _("Admin: whatever the owner may do")


SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Area:
    """Some addresses, the scopes that may read there, and those that may write; any one will do."""

    addresses: str
    reads: frozenset[str]
    writes: frozenset[str]


def _area(addresses: str, reads: str, writes: str) -> Area:
    return Area(addresses, frozenset(reads.split()), frozenset(writes.split()))


# The first that fits decides; an address that none fits is closed to keys. Keys are no key's to
# make: one that was stolen could else outlive being found.
AREAS = [
    _area("/api/(schema|docs)", "stream publish read admin", ""),
    _area("/api/events/stream", "read admin", ""),
    _area("/api/user/sse/stats", "read admin", ""),
    _area("/api/user/sse/connected/[^/]+", "stream read", ""),
    _area("/api/user/sse/.+", "stream", "stream"),
    _area("/api/user/.+", "stream read", "stream"),
    _area("/api/admin/api-keys(/.*)?", "read admin", ""),
    _area("/api/admin/(broadcasts|series)/[^/]+/(approve|reject)", "", "admin"),
    _area("/api/admin/(broadcasts|series|templates)(/.*)?", "publish read admin", "publish admin"),
    _area("/api/admin/.+", "read admin", "admin"),
    _area(
        "/api/(blog|foodfolio|links|twitch|warcraft)(/.*)?", "publish read admin", "publish admin"
    ),
]
_PATTERNS = [(re.compile(area.addresses), area) for area in AREAS]


def opening(method: str, path: str) -> frozenset[str]:
    """The scopes of which a key needs one for this request; none opens what it is empty for."""
    for pattern, area in _PATTERNS:
        if pattern.fullmatch(path):
            return area.reads if method in SAFE else area.writes
    return frozenset()


def opens(scopes: Collection[str], method: str, path: str) -> bool:
    return not opening(method, path).isdisjoint(scopes)


def refusal(method: str, path: str) -> str:
    """Why, and what to do."""
    needed = sorted(opening(method, path))
    if not needed:
        return gettext("No API key may do this: sign in.")
    return gettext("The key needs one of these scopes: %(scopes)s.") % {"scopes": ", ".join(needed)}
