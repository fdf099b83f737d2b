"""The links in a broadcast, shortened when it is sent, by what `LINK_SHORTENER` names."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Protocol

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.module_loading import import_string
from markdown_it.common.utils import unescapeAll

from broadcasts.markdown import links_of, normalise
from broadcasts.models import Broadcast

ADDRESS = re.compile(r"https?://[^\s<>\"`]+", re.IGNORECASE)
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


def shortened(content: str, shorten: Callable[[str], str]) -> str:
    """The Markdown with other addresses: of what its readers see as links, and of nothing else."""
    links = links_of(content)

    def replace(found: "re.Match[str]") -> str:
        text = found[0]
        for end in range(len(text), 0, -1):
            if end < len(text) and text[end] not in ENDINGS:
                continue
            address = unescapeAll(text[:end])
            if normalise(address) in links:
                return shorten(address) + ADDRESS.sub(replace, text[end:])
        return text  # in code, or part of something else

    return ADDRESS.sub(replace, content) if links else content


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
