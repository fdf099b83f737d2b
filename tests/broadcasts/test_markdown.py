import time
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broadcasts.markdown import render

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a](java&#115;cript:alert(1))",
    "[a](&#x6A;avascript:alert(1))",
    "[a](java\tscript:alert(1))",
    "[a](data:text/html;base64,PHNjcmlwdD4=)",
    "[a](vbscript:x)",
    "<javascript:alert(1)>",
    '[a](http://x "onmouseover=alert(1)")',
    '[a](http://x" onclick=alert(1) x=")',
    "[r]: javascript:alert(1)\n\n[r]",
    "![x](javascript:alert(1))",
    "<a href=javascript:alert(1)>a</a>",
    "<svg/onload=alert(1)>",
    "<iframe src=//evil></iframe>",
    "<style>*{}</style>",
    "`<script>`",
    "```html onload=x\n<script>\n```",
    "<!-- <script> -->",
    "http://example.org/<script>",
    "| a |\n|---|\n| <script> |",
]
PIECES = st.sampled_from([*HOSTILE, "*", "_", "`", "[", "](", ")", "<", ">", "\n", "&", '"', "a"])


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def links(html: str) -> list[dict[str, str | None]]:
    return [attrs for tag, attrs in Tags(html).found if tag == "a"]


def assert_harmless(html: str) -> None:
    forbidden = {"script", "style", "iframe", "img", "svg", "object", "embed", "form", "input"}
    for tag, attrs in Tags(html).found:
        assert tag not in forbidden
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
        for name in ("href", "src"):
            scheme = (attrs.get(name) or "").partition(":")[0].strip().lower()
            assert scheme not in {"javascript", "data", "vbscript"}
    assert "<script" not in html.lower()


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_hostile_becomes_harmless(text: str) -> None:
    assert_harmless(render(text))


@given(st.lists(PIECES | st.text(max_size=8), max_size=12).map("".join))
@example("<scr<script>ipt>alert(1)</script>")
def test_no_content_becomes_code(text: str) -> None:
    assert_harmless(render(text))


def test_html_is_shown_as_text() -> None:
    assert "&lt;b&gt;bold&lt;/b&gt;" in render("<b>bold</b>")


@pytest.mark.parametrize("text", ["[a](https://example.org)", "https://example.org"])
def test_a_link_opens_apart_and_tells_nobody_where_it_was(text: str) -> None:
    (link,) = links(render(text))
    assert link["href"] == "https://example.org"
    assert link["target"] == "_blank"
    assert link["rel"] == "noopener noreferrer nofollow"


def test_an_image_is_dropped() -> None:
    assert "<img" not in render("![secret](https://example.org/pixel.png)")


def test_what_operators_write_is_rendered() -> None:
    html = render("# T\n\n**b** ~~s~~\n\n- one\n\n| a |\n|---|\n| 1 |\n\n```\ncode\n```")
    for tag in ("h1", "strong", "s", "li", "td", "code"):
        assert f"<{tag}>" in html


def test_a_line_break_is_kept() -> None:
    assert "<br>" in render("one\ntwo")


@pytest.mark.parametrize("piece", [">", "[", "*a", "`", "![", "<", "- ", "((", "&"])
def test_the_longest_content_of_the_worst_kind_is_rendered(piece: str) -> None:
    render((piece * 65_536)[:20_000])


def test_an_endless_word_of_links_costs_no_more_than_other_text() -> None:
    started = time.process_time()
    render("http://a" * 8_000)
    assert time.process_time() - started < 2  # 9 s when each was looked for as a link
