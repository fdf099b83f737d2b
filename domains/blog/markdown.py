"""Markdown of posts: sanitised HTML to show, plain text to sum up."""

import html
import math
import re
from functools import lru_cache

import nh3
from django.conf import settings
from markdown_it import MarkdownIt

EXCERPT = 200  # characters
WORDS_A_MINUTE = 200
# Finding bare links takes time by the square of a run without spaces: no address is so long.
ENDLESS = re.compile(r"\S{3000}")
NO_SENTENCES = frozenset({"h1", "h2", "h3", "h4", "h5", "h6", "pre", "table"})
TAGS = nh3.ALLOWED_TAGS - {"map", "area"}

_plain = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
_linking = MarkdownIt("commonmark", {"html": False, "linkify": True}).enable(
    ["linkify", "table", "strikethrough"]
)


@lru_cache(maxsize=256)
def render(content: str) -> str:
    """Sanitised HTML. Pictures come from this site alone: others would tell who reads here."""
    parser = _plain if ENDLESS.search(content) else _linking
    return nh3.clean(
        parser.render(content),
        tags=TAGS,
        link_rel="noopener noreferrer",
        url_schemes={"http", "https", "mailto"},
        set_tag_attribute_values={"img": {"loading": "lazy"}},
        attribute_filter=_own_pictures,
    )


def _own_pictures(tag: str, attribute: str, value: str) -> str | None:
    is_foreign = (tag, attribute) == ("img", "src") and not value.startswith(settings.MEDIA_URL)
    return None if is_foreign else value


def text_of(content: str, without: frozenset[str] = frozenset()) -> str:
    """Its words in one line, without any mark-up, and without what stands in some of it."""
    bare = nh3.clean(render(content), tags=set(), attributes={}, clean_content_tags=set(without))
    return " ".join(html.unescape(bare).split())


def excerpt_of(content: str) -> str:
    """The first EXCERPT characters of its sentences, to the end of a word where there is one."""
    text = text_of(content, NO_SENTENCES) or text_of(content)
    if len(text) <= EXCERPT:
        return text
    cut = text[: EXCERPT - 1]
    words = cut.rpartition(" ")[0]
    return (words if len(words) > EXCERPT // 2 else cut).rstrip(" ,;:") + "…"


def minutes_to_read(content: str) -> int:
    return max(1, math.ceil(len(text_of(content).split()) / WORDS_A_MINUTE))
