from datetime import timedelta
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from domains.blog import counting, pictures
from domains.blog.comments import comment, moderate
from domains.blog.counting import Views
from domains.blog.models import Category, Comment, CommentStatus, Post, Tag
from domains.blog.services import edit
from tests.domains.blog.conftest import draft, published, scheduled, upload
from tests.factories import UserFactory, operator

pytestmark = pytest.mark.django_db

ATOM = {"a": "http://www.w3.org/2005/Atom"}
MAP = {"s": "http://www.sitemaps.org/schemas/sitemap/0.9"}


@pytest.fixture(autouse=True)
def site(settings: Settings) -> None:
    settings.SITE_URL = "https://blog.example"


def text(answer: Any) -> str:
    return str(answer.content.decode())


def said(post: Post, words: str = "Well said.", **fields: Any) -> Comment:
    made = comment(post, **{"name": "Ann", "content": words} | fields)
    moderate(Comment.objects.filter(pk=made.pk), CommentStatus.APPROVED)
    return made


def test_only_what_is_published_is_shown(client: Client) -> None:
    published("Out")
    for hidden in (draft("Draft"), scheduled("Later")):
        assert client.get(hidden.get_absolute_url()).status_code == 404
    page = text(client.get("/blog"))
    assert "Out" in page
    assert "Draft" not in page
    assert "Later" not in page
    assert client.get("/blog/none").status_code == 404


def test_an_empty_blog_says_so(client: Client) -> None:
    assert "Nothing yet" in text(client.get("/blog"))


def test_who_may_see_drafts_sees_them_as_they_will_be(client: Client) -> None:
    client.force_login(operator("blog.view_post"))
    page = text(client.get(draft().get_absolute_url()))
    assert "Nobody else sees this yet" in page
    assert '<meta name="robots" content="noindex">' in page
    assert "Write a comment" not in page
    assert client.post(draft("Other").get_absolute_url(), {"name": "A"}).status_code == 400


def test_featured_posts_stand_first_on_the_first_page_alone(client: Client) -> None:
    published("Old", featured=True)
    published("New")
    page = text(client.get("/blog"))
    assert page.index("Old") < page.index("New")


def test_a_page_says_what_it_is_to_search_engines_and_who_shares_it(client: Client) -> None:
    post = published("Sea & sky", content="Waves.", featured_image=pictures.add(None, upload()))
    page = text(client.get(post.get_absolute_url()))
    for line in (
        '<link rel="canonical" href="https://blog.example/blog/sea-sky">',
        '<meta name="description" content="Waves.">',
        '<meta property="og:type" content="article">',
        '<meta property="og:title" content="Sea &amp; sky">',
        '<meta property="og:url" content="https://blog.example/blog/sea-sky">',
        '<meta property="og:image" content="https://blog.example/media/blog/',
        '<meta property="og:image:width" content="800">',
    ):
        assert line in page, line
    edit(
        post,
        meta_title="For engines",
        meta_description="A description",
        meta_keywords="sea, sky",
        og_title="For friends",
        canonical_url="https://elsewhere.example/sea",
    )
    page = text(client.get(post.get_absolute_url()))
    assert "<title>\n" in page
    assert "For engines ·" in page
    assert '<link rel="canonical" href="https://elsewhere.example/sea">' in page
    assert '<meta property="og:title" content="For friends">' in page
    assert '<meta name="keywords" content="sea, sky">' in page


def test_no_script_runs_on_its_pages(client: Client) -> None:
    post = published("<script>x</script>", content="<script>alert(1)</script>")
    said(post, "<img src=x onerror=alert(1)>", name="<b>Ann</b>")
    for address in ("/blog", post.get_absolute_url()):
        answer = client.get(address)
        assert "default-src 'none'" in answer["Content-Security-Policy"]
        assert "<script" not in text(answer)
        assert "<img src=x" not in text(answer)
        assert "<b>Ann" not in text(answer)


def test_a_category_shows_what_lies_within_it(client: Client) -> None:
    world = Category.objects.create(name="World", slug="world", description="All of it")
    sea = Category.objects.create(name="Sea", slug="sea", parent=world)
    published("Waves", categories=[sea, world])
    published("Other")
    page = text(client.get("/blog/category/world"))
    assert page.count(">Waves<") == 1
    assert "Other" not in page
    assert '<meta name="description" content="All of it">' in page
    assert 'href="/blog/category/world" dir="auto">World' in text(client.get("/blog/category/sea"))
    assert client.get("/blog/category/none").status_code == 404


def test_tags_and_months_have_pages(client: Client) -> None:
    tag = Tag.objects.create(name="Blau", slug="blau")
    post = published("Waves", tags=[tag])
    old = published("Old")
    edit(old, published_at=timezone.now() - timedelta(days=70))
    page = text(client.get("/blog/tag/blau"))
    assert "Waves" in page
    assert "Old" not in page
    assert post.published_at
    month = f"/blog/{timezone.localtime(post.published_at):%Y/}{post.published_at.month}"
    assert month in text(client.get("/blog"))
    page = text(client.get(month))
    assert "Waves" in page
    assert "Old" not in page
    for wrong in (
        "/blog/2026/13",
        "/blog/0/1",
        "/blog/99999/1",
        f"/blog/{10**30}/1",
        "/blog/tag/none",
        "/blog/%00",
        "/blog/tag/%00",
    ):
        assert client.get(wrong).status_code == 404, wrong


def test_slugs_of_any_script_are_addresses(client: Client) -> None:
    post = published("海と空")
    assert client.get(post.get_absolute_url()).status_code == 200


@pytest.mark.parametrize("address", ["/blog", "/blog/feed.rss", "/blog/feed.atom"])
def test_a_list_costs_the_same_however_many_there_are(client: Client, address: str) -> None:
    tag = Tag.objects.create(name="Blau", slug="blau")
    category = Category.objects.create(name="Sea", slug="sea")

    def cost() -> int:
        with CaptureQueriesContext(connection) as statements:
            assert client.get(address).status_code == 200
        return len(statements)

    published("One", tags=[tag], categories=[category])
    first = cost()
    for number in range(8):
        published(f"More {number}", tags=[tag], categories=[category])
    assert cost() <= first <= 8


def test_a_post_costs_the_same_however_much_is_said(client: Client) -> None:
    post = published()

    def cost() -> int:
        with CaptureQueriesContext(connection) as statements:
            client.get(post.get_absolute_url())
        return len(statements)

    first = said(post)
    said(post, parent=first)
    before = cost()
    for _ in range(5):
        said(post, parent=said(post))
    assert cost() == before <= 7


def test_lists_have_pages(client: Client) -> None:
    for number in range(12):
        published(f"Post {number:02}")
    assert text(client.get("/blog")).count("blog-card-text") == 10
    page = text(client.get("/blog?page=2"))
    assert page.count("blog-card-text") == 2
    assert '<link rel="canonical" href="https://blog.example/blog?page=2">' in page
    for odd in ("x", "-1", "999"):
        assert client.get(f"/blog?page={odd}").status_code == 200


def test_rss_holds_the_latest_posts_whole(client: Client) -> None:
    tag = Tag.objects.create(name="Blau", slug="blau")
    published("Sea & sky", content="**Waves**", tags=[tag])
    draft("Hidden")
    answer = client.get("/blog/feed.rss")
    assert answer["Content-Type"].startswith("application/rss+xml")
    (item,) = ET.fromstring(answer.content).iterfind("channel/item")
    assert item.findtext("title") == "Sea & sky"
    assert item.findtext("link") == "https://blog.example/blog/sea-sky"
    assert item.findtext("description") == "<p><strong>Waves</strong></p>\n"
    assert item.findtext("category") == "Blau"
    assert item.findtext("pubDate")


def test_atom_does_too(client: Client) -> None:
    post = published("Sea & sky")
    feed = ET.fromstring(client.get("/blog/feed.atom").content)
    (entry,) = feed.iterfind("a:entry", ATOM)
    assert entry.findtext("a:title", namespaces=ATOM) == "Sea & sky"
    assert entry.findtext("a:id", namespaces=ATOM) == f"https://blog.example/blog#post-{post.pk}"


def test_the_sitemap_leads_to_all_that_is_published(client: Client) -> None:
    sea = Category.objects.create(name="Sea", slug="sea")
    Category.objects.create(name="Empty", slug="empty")
    published("Out", categories=[sea])
    published("Copy", canonical_url="https://elsewhere.example/")
    draft("Hidden")
    index = ET.fromstring(client.get("/sitemap.xml").content)
    sections = [str(row.text) for row in index.iterfind("s:sitemap/s:loc", MAP)]
    found = []
    for section in sections:
        page = ET.fromstring(client.get(section.replace("http://testserver", "")).content)
        found += [row.text for row in page.iterfind("s:url/s:loc", MAP)]
    assert found == [
        "https://blog.example/blog",
        "https://blog.example/blog/out",
        "https://blog.example/blog/category/sea",
    ]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize("month", ["1/1", "9999/12"])
def test_the_first_and_the_last_month_there_is_are_pages(
    client: Client, settings: Settings, zone: str, month: str
) -> None:
    settings.TIME_ZONE = zone
    assert client.get(f"/blog/{month}").status_code in (200, 404)


@pytest.mark.parametrize("feed", ["rss", "atom"])
def test_a_character_that_no_xml_may_hold_takes_no_feed_away(client: Client, feed: str) -> None:
    tag = Tag.objects.create(name="Bl\x0bau", slug="blau")
    post = published("Sea\x0c", content="Waves\x0b and\x01 wind", tags=[tag])
    Post.objects.filter(pk=post.pk).update(author=UserFactory.create(first_name="An\x08n"))
    answer = client.get(f"/blog/feed.{feed}")
    assert answer.status_code == 200
    assert b"Waves and wind" in answer.content
    ET.fromstring(answer.content)


def test_the_index_of_the_sitemap_reads_no_post(client: Client) -> None:
    post = published("Out")
    with CaptureQueriesContext(connection) as statements:
        page = client.get("/sitemap.xml")
    assert f"<lastmod>{post.updated_at:%Y-%m-%d}" in text(page)
    assert not [row for row in statements if '"blog_post"."slug"' in row["sql"]]


def test_views_are_counted_without_a_write_each(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = published("One"), published("Other")
    views = Views()
    monkeypatch.setattr("domains.blog.views.views", views)
    with CaptureQueriesContext(connection) as statements:
        for _ in range(3):
            client.get(one.get_absolute_url())
    assert not [row for row in statements if row["sql"].startswith("UPDATE")]
    views.written -= 60
    client.get(other.get_absolute_url())
    one.refresh_from_db()
    other.refresh_from_db()
    assert (one.view_count, other.view_count) == (3, 1)


def test_an_address_that_a_post_had_leads_to_the_one_that_it_has(client: Client) -> None:
    post = published("First")
    for slug in ("second", "third"):
        edit(post, slug=slug)
    for old in ("first", "second"):
        answer = client.get(f"/blog/{old}")
        assert (answer.status_code, answer["Location"]) == (301, "/blog/third")
    edit(post, slug="first")  # back again
    assert client.get("/blog/first").status_code == 200
    assert client.get("/blog/third")["Location"] == "/blog/first"


def test_an_old_address_belongs_to_the_post_that_takes_it(client: Client) -> None:
    edit(published("First"), slug="moved")
    assert published("First").slug == "first-2"  # what is made of a title takes no address away
    taken = published("Mine", slug="first")
    assert text(client.get("/blog/first")).count("Mine")
    edit(taken, slug="elsewhere")
    assert client.get("/blog/first")["Location"] == "/blog/elsewhere"


def test_an_old_address_of_a_draft_says_nothing_of_it(client: Client) -> None:
    edit(draft("Secret"), slug="plan")
    assert client.get("/blog/secret").status_code == 404


def test_who_reads_a_post_does_not_pay_for_what_is_locked(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    post, views, write = published(), Views(), counting.write
    monkeypatch.setattr("domains.blog.views.views", views)

    def locked(counted: Any) -> None:
        raise OperationalError("deadlock detected")

    monkeypatch.setattr(counting, "write", locked)
    views.written -= 60
    assert client.get(post.get_absolute_url()).status_code == 200
    client.head(post.get_absolute_url())  # nobody reads that
    monkeypatch.setattr(counting, "write", write)
    views.written -= 60
    client.get(post.get_absolute_url())
    post.refresh_from_db()
    assert post.view_count == 2
