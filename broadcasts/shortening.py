"""The links in a broadcast, shortened when it is sent, by what `LINK_SHORTENER` names."""

import re
from collections.abc import Callable, Iterator, Sequence, Set
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, Protocol

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.module_loading import import_string
from markdown_it.common.utils import UNESCAPE_ALL_RE, unescapeAll

from broadcasts.markdown import links_of
from broadcasts.models import Broadcast

ADDRESS = re.compile(r"https?://[^\s<>\"`]+", re.IGNORECASE)
BEGINNING = re.compile(r"https?://", re.IGNORECASE)
PART = re.compile(f"{UNESCAPE_ALL_RE.pattern}|.", re.IGNORECASE | re.DOTALL)
ENDINGS = ".,;:!?*_~'\"()[]{}|"  # what may follow an address and be none of it
LISTED = 20  # people


class Clicks(Protocol):
    """Of one link."""

    @property
    def url(self) -> str: ...
    @property
    def short_url(self) -> str: ...
    @property
    def page(self) -> str: ...
    @property
    def clicks(self) -> int: ...
    @property
    def people(self) -> int: ...


class Person(Protocol):
    @property
    def username(self) -> str: ...
    @property
    def first_at(self) -> datetime: ...
    @property
    def clicks(self) -> int: ...


class People(Protocol):
    @property
    def count(self) -> int: ...
    @property
    def first(self) -> Sequence[Person]: ...


class Shortener(Protocol):
    """The contract of the backend; `reference` is the broadcast, as a text."""

    needs: str
    """The permission that opens `Clicks.page`."""

    def shorten(self, url: str, *, reference: str, title: str = "") -> str:
        """Raises `ValidationError` for what it does not shorten."""

    def clicks(self, reference: str) -> Sequence[Clicks]: ...

    def people(self, reference: str, limit: int) -> People: ...


def get_shortener() -> Shortener | None:
    """None where nothing shortens links."""
    if not settings.LINK_SHORTENER:
        return None
    shortener: Shortener = import_string(settings.LINK_SHORTENER)()
    return shortener


def reference_of(broadcast: Broadcast) -> str:
    return f"broadcast-{broadcast.pk}"


def shorten_links(broadcast: Broadcast) -> None:
    """In all its languages, in the transaction that sends it."""
    if not broadcast.shorten_links or not (shortener := get_shortener()):
        return
    known = shortener

    @cache
    def shorten(url: str) -> str:
        try:
            return known.shorten(url, reference=reference_of(broadcast), title=broadcast.title)
        except ValidationError:
            return url

    broadcast.content = shortened(broadcast.content, shorten)
    broadcast.translations = {
        language: text | {"content": shortened(text["content"], shorten)}
        for language, text in broadcast.translations.items()
    }
    Broadcast.objects.filter(pk=broadcast.pk).update(
        content=broadcast.content, translations=broadcast.translations
    )


def find_links(broadcast: Broadcast) -> None:
    """Before the transaction that shortens them: on SQLite nobody else writes meanwhile."""
    if broadcast.shorten_links and get_shortener():
        _cut(broadcast.content)
        for text in broadcast.translations.values():
            _cut(text["content"])


def shortened(content: str, shorten: Callable[[str], str]) -> str:
    """The Markdown with other addresses: of what its readers see as links, and of nothing else."""
    pieces = list(_cut(content))
    pieces[1::2] = map(shorten, pieces[1::2])
    return "".join(pieces)


@lru_cache(maxsize=32)
def _cut(content: str) -> tuple[str, ...]:
    """The Markdown in pieces: every second one is the address of a link, without its escapes."""
    links = links_of(content)
    lengths = sorted({len(link) for link in links}, reverse=True)
    pieces = []
    copied = 0
    for run in ADDRESS.finditer(content) if links else ():
        for start, end, address in _addresses(run, links, lengths):
            pieces += [content[copied:start], address]
            copied = end
    return (*pieces, content[copied:])


def _addresses(
    run: "re.Match[str]", links: Set[str], lengths: Sequence[int]
) -> Iterator[tuple[int, int, str]]:
    """Each with its place in the content, the longest that begins there.

    One walk, however many stand in a row: only what is as long as some link is looked up.
    """
    text, places = _unescaped(run)
    at = 0
    while begin := BEGINNING.search(text, at):
        start = begin.start()
        ends = (start + length for length in lengths if start + length < len(places))
        found = (end for end in ends if text[start:end] in links and _may_end(run, places[end]))
        if not (at := next(found, 0)):
            return  # in code, or part of something else
        yield places[start], places[at], text[start:at]


def _may_end(run: "re.Match[str]", place: int) -> bool:
    return place == run.end() or run.string[place] in ENDINGS


def _unescaped(run: "re.Match[str]") -> tuple[str, list[int]]:
    """With the place in the content where each character comes from, and where the run ends."""
    parts = [(unescapeAll(part[0]), run.start() + part.start()) for part in PART.finditer(run[0])]
    places = [place for characters, place in parts for _ in characters]
    return "".join(characters for characters, _ in parts), [*places, run.end()]


def clicked(broadcast: Broadcast) -> dict[str, Any] | None:
    """Clicks by link, and who was signed in; None when its links are not shortened."""
    went_out = broadcast.shorten_links and broadcast.activated_at
    if not went_out or not (shortener := get_shortener()):
        return None
    reference = reference_of(broadcast)
    return {
        "links": shortener.clicks(reference),
        "people": shortener.people(reference, LISTED),
        "needs": shortener.needs,
    }
