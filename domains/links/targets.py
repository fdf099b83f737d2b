"""Where a name leads to, from the cache that all processes share, or of this process alone.

Who reads a row puts it there only while nothing is (`add`); who changes it puts the new one there
after the commit (`set`). So what was read before a change never stays after it.
"""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import datetime
from functools import partial

from django.conf import settings
from django.core.cache import cache
from django.db import transaction

from domains.links.models import Link, Name

MISSING = ()


@dataclass(frozen=True, slots=True)
class Target:
    link_id: int
    url: str
    is_active: bool
    expires_at: datetime | None

    def is_open(self, at: datetime) -> bool:
        """Its expiry is asked for here, at each click: no job has to come first."""
        return self.is_active and (self.expires_at is None or self.expires_at > at)


def find(name: str) -> Target | None:
    """One look into the cache; else one query."""
    found = cache.get(_key(name))
    if found is None:
        row = Name.objects.filter(name=name).values_list(
            "link_id", "link__original_url", "link__is_active", "link__expires_at"
        )
        if (found := row.first()) is None:
            return None  # not kept: names that are made up would push out those that are not
        cache.add(_key(name), found, kept())
    return Target(*found) if found else None


def replace(link: Link) -> None:
    """After the commit: what its names lead to from now on."""
    target = astuple(Target(link.pk, link.original_url, link.is_active, link.expires_at))
    _after_commit(link.names, target)


def forget(names: Iterable[str]) -> None:
    """After the commit: these lead nowhere any more."""
    _after_commit(names, MISSING)


def _after_commit(names: Iterable[str], target: tuple[object, ...]) -> None:
    entries = {_key(name): target for name in names}
    transaction.on_commit(partial(cache.set_many, entries, kept()), robust=True)


def kept() -> int:
    """Seconds. Without Redis no other process hears of a change, and finds out after these."""
    return 300 if settings.REDIS_URL else 3


def _key(name: str) -> str:
    return f"link:{name}"
