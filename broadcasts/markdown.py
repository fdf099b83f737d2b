"""Markdown to HTML that is safe to show: rendered and sanitised by libraries, never raw."""

import re
from copy import copy
from functools import lru_cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

import nh3
from markdown_it import MarkdownIt

_plain = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(
    ["table", "strikethrough"]
)
_linking = MarkdownIt("commonmark", {"html": False, "linkify": True, "breaks": True}).enable(
    ["linkify", "table", "strikethrough"]
)
# Finding bare links takes time by the square of a run without spaces: no address is so long.
ENDLESS = re.compile(r"\S{3000}")
# Whoever renders in another way, by this code or by a library's version, has another name for it.
RENDERER = blake2b(
    Path(__file__).read_bytes()
    + "".join(version(name) for name in ("markdown-it-py", "linkify-it-py", "nh3")).encode()
).digest()
TAGS = nh3.ALLOWED_TAGS - {"img", "map", "area"}


@lru_cache(maxsize=256)  # a page of an inbox shows what everybody's inbox shows
def render(content: str) -> str:
    """Sanitised HTML; links open apart and pass no referrer on."""
    return nh3.clean(
        _parser_of(content).render(content),
        tags=TAGS,
        link_rel="noopener noreferrer nofollow",
        url_schemes={"http", "https", "mailto"},
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )


def links_of(content: str) -> set[str]:
    """Where its links lead to, as it was written: without escapes, and nothing encoded."""
    parser = copy(_parser_of(content))
    parser.normalizeLink = lambda url: url  # type: ignore[method-assign]
    inline = (child for token in parser.parse(content) for child in token.children or ())
    return {str(child.attrs["href"]) for child in inline if child.type == "link_open"}


def _parser_of(content: str) -> MarkdownIt:
    return _plain if ENDLESS.search(content) else _linking
