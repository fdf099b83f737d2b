"""Broadcast content as HTML, from the cache that all processes share.

It is found by what it was rendered from, and the rows alone say what is shown: an entry whose
eviction was lost, or that was filled a moment later, is never asked for again.
"""

from collections.abc import Iterable
from hashlib import blake2b

from django.core.cache import cache

from broadcasts.markdown import RENDERER, render

KEPT = 3_600  # seconds

outcomes = {"hit": 0, "miss": 0}  # of this process; nobody needs them exact enough for a lock


def rendered(contents: Iterable[str]) -> dict[str, str]:
    """The HTML of each, by the content."""
    keys = {content: _key(content) for content in contents}
    found = cache.get_many(keys.values()) or {}
    missed = {key: render(content) for content, key in keys.items() if key not in found}
    if missed:
        cache.set_many(missed, KEPT)
    outcomes["hit"] += len(found)
    outcomes["miss"] += len(missed)
    html = found | missed
    return {content: html[key] for content, key in keys.items()}


def forget(*contents: str) -> None:
    """A broadcast is over: make room."""
    cache.delete_many([_key(content) for content in contents])


def _key(content: str) -> str:
    return f"content:{blake2b(content.encode(), key=RENDERER, digest_size=32).hexdigest()}"
