import pytest
from pytest_django import Settings

from domains.blog.markdown import EXCERPT, excerpt_of, minutes_to_read, render


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "[x](javascript:alert(1))",
        "![x](javascript:alert(1))",
        "<img src=/media/x onerror=alert(1)>",
        '[x](/ "a\\" onclick=alert(1)")',
        "<iframe src=https://example.org></iframe>",
    ],
)
def test_nothing_that_runs_comes_through(attack: str) -> None:
    html = render(attack)
    assert "<script" not in html
    assert "<iframe" not in html
    assert 'href="javascript' not in html
    assert "<img src=/media" not in html
    assert " onclick" not in html.replace("&quot; onclick", "")


def test_pictures_of_this_site_are_shown_and_those_of_others_are_not(settings: Settings) -> None:
    html = render("![sun](/media/blog/sun.png) ![eye](https://example.org/eye.png)")
    assert '<img src="/media/blog/sun.png" alt="sun" loading="lazy">' in html
    assert "example.org" not in html
    assert 'alt="eye"' in html


def test_what_people_write_is_marked_up() -> None:
    html = render("# Head\n\n| a | b |\n|-|-|\n| 1 | 2 |\n\n~~old~~ https://example.org/x")
    assert "<h1>Head</h1>" in html
    assert "<td>1</td>" in html
    assert "<s>old</s>" in html
    assert '<a href="https://example.org/x" rel="noopener noreferrer">' in html


def test_an_excerpt_is_text_of_at_most_200_characters_that_ends_with_a_word() -> None:
    text = excerpt_of("# Head\n\n    code\n\nSea & sky, " + "**waves** and wind, " * 30)
    assert text.startswith("Sea & sky, waves and wind, waves")
    assert text.endswith(("waves…", "and…", "wind…"))
    assert len(text) <= EXCERPT


def test_an_excerpt_of_a_script_without_blanks_is_cut_where_it_must_be() -> None:
    assert excerpt_of("海" * 300) == "海" * (EXCERPT - 1) + "…"
    assert excerpt_of("short") == "short"
    assert excerpt_of("# Only a head") == "Only a head"


@pytest.mark.parametrize(("words", "minutes"), [(0, 1), (200, 1), (201, 2), (1_000, 5)])
def test_reading_takes_a_minute_for_200_words(words: int, minutes: int) -> None:
    assert minutes_to_read("word " * words) == minutes
