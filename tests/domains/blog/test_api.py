from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks

from domains.blog import pictures
from domains.blog.models import Category, Comment, Media, Post, Tag
from tests.domains.blog.conftest import HOUR, draft, image, published, scheduled, told, upload
from tests.factories import operator

pytestmark = pytest.mark.django_db

API = "/api/blog"
MODELS = ("post", "category", "tag", "comment", "media")
EVERYTHING = [f"blog.{verb}_{m}" for verb in ("view", "add", "change", "delete") for m in MODELS]


@pytest.fixture
def boss(client: Client) -> User:
    user = operator(*EVERYTHING)
    client.force_login(user)
    return user


def post(client: Client, address: str, **data: Any) -> Any:
    return client.post(f"{API}/{address}", data, content_type="application/json")


def patch(client: Client, address: str, **data: Any) -> Any:
    return client.patch(f"{API}/{address}", data, content_type="application/json")


def found(client: Client, address: str) -> list[Any]:
    answer = client.get(f"{API}/{address}")
    assert answer.status_code == 200, answer.content
    return list(answer.json()["results"])


def test_a_post_is_made_shown_changed_published_withdrawn_and_deleted(
    client: Client, boss: User
) -> None:
    Category.objects.create(name="Sea", slug="sea")
    Tag.objects.create(name="Blue", slug="blue")
    made = post(client, "posts", title="Waves", content="*Blue*", categories=["sea"], tags=["blue"])
    assert made.status_code == 201, made.content
    body = made.json()
    assert (body["slug"], body["status"], body["author"]) == ("waves", "DRAFT", boss.username)
    assert (body["html"], body["categories"], body["tags"]) == (
        "<p><em>Blue</em></p>\n",
        ["sea"],
        ["blue"],
    )
    one = f"posts/{body['id']}"
    changed = patch(client, one, meta_title="For engines", tags=[], status="PUBLISHED").json()
    assert (changed["meta_title"], changed["tags"], changed["status"]) == (
        "For engines",
        [],
        "DRAFT",
    )
    assert post(client, f"{one}/publish").json()["status"] == "PUBLISHED"
    assert post(client, f"{one}/publish").status_code == 409
    assert post(client, f"{one}/withdraw").json()["published_at"] is None
    assert client.delete(f"{API}/{one}").status_code == 204
    assert client.get(f"{API}/{one}").status_code == 404
    assert LogEntry.objects.count() == 5
    assert len(told()) == 2


@pytest.mark.usefixtures("boss")
def test_deleting_what_is_published_is_told(client: Client) -> None:
    assert client.delete(f"{API}/posts/{published().pk}").status_code == 204
    assert len(told("blog.post.withdrawn")) == 1


@pytest.mark.usefixtures("boss")
@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("title", "", "blank"),
        ("title", "x" * 201, "200"),
        ("content", "x" * 200_001, "200000"),
        ("slug", "a b", "slug"),
        ("slug", "taken", "already exists"),
        ("published_at", "soon", "format"),
        ("categories", ["none"], "none"),
        ("featured_image", 7, "7"),
        ("canonical_url", "nowhere", "URL"),
    ],
)
def test_what_cannot_be_is_refused_with_the_field_and_why(
    client: Client, field: str, value: Any, why: str
) -> None:
    draft("Taken")
    answer = post(client, "posts", **{"title": "Waves", field: value})
    assert answer.status_code == 400
    assert why in str(answer.json()["fields"][field])


@pytest.mark.usefixtures("boss")
def test_what_is_published_cannot_go_out_later(client: Client) -> None:
    one = published()
    answer = patch(client, f"posts/{one.pk}", published_at=(timezone.now() + HOUR).isoformat())
    assert answer.status_code == 400
    assert "withdraw it first" in answer.json()["message"]
    assert patch(client, f"posts/{one.pk}", published_at=None).status_code == 400


@pytest.mark.usefixtures("boss")
def test_posts_are_found_by_state_place_and_words(client: Client) -> None:
    world = Category.objects.create(name="World", slug="world")
    sea = Category.objects.create(name="Sea", slug="sea", parent=world)
    blue = Tag.objects.create(name="Blue", slug="blue")
    draft("One")
    scheduled("Two", tags=[blue])
    published("Three", categories=[sea, world], content="Whales and words", featured=True)

    def titles(query: str) -> list[str]:
        return sorted(row["title"] for row in found(client, f"posts?{query}"))

    assert titles("state=draft") == ["One"]
    assert titles("state=scheduled") == ["Two"]
    assert titles("state=published") == ["Three"]
    assert titles("category=world") == titles("category=sea") == ["Three"]
    assert titles("category=none") == []
    assert titles("tag=blue") == ["Two"]
    assert titles("featured=true") == ["Three"]
    assert titles("search=whale words") == ["Three"]
    assert "content" not in found(client, "posts")[0]
    assert client.get(f"{API}/posts?state=odd").status_code == 400


@pytest.mark.usefixtures("boss")
@pytest.mark.parametrize("address", ["posts", "categories", "tags", "comments", "media"])
def test_a_list_costs_the_same_however_many_there_are(client: Client, address: str) -> None:
    def more(name: str) -> None:
        category = Category.objects.create(
            name=name, slug=name, parent=Category.objects.order_by("pk").last()
        )
        tag = Tag.objects.create(name=name, slug=name)
        one = published(name, categories=[category], tags=[tag])
        Comment.objects.create(post=one, author_name="Ann", content="Yes")
        pictures.add(None, upload())

    def cost() -> int:
        with CaptureQueriesContext(connection) as statements:
            assert found(client, address)
        return len(statements)

    more("a")
    more("b")
    first = cost()
    for name in "cdef":
        more(name)
    assert cost() == first <= 8


@pytest.mark.usefixtures("boss")
def test_categories_are_a_tree(client: Client) -> None:
    world = post(client, "categories", name="World", slug="world").json()
    sea = post(client, "categories", name="Sea", slug="sea", parent="world").json()
    assert sea["parent"] == "world"
    answer = patch(client, f"categories/{world['id']}", parent="sea")
    assert answer.status_code == 400
    assert "cannot lie in itself" in answer.json()["fields"]["parent"][0]
    assert patch(client, f"categories/{sea['id']}", parent=None).json()["parent"] is None
    assert post(client, "categories", name="Sea", slug="sea").status_code == 400


@pytest.mark.usefixtures("boss")
def test_comments_are_moderated_many_at_once(client: Client) -> None:
    one = published()
    ids = [
        Comment.objects.create(post=one, author_name="Ann", author_email="a@b.example").pk
        for _ in range(3)
    ]
    answer = post(client, "comments/moderate", ids=ids, status="APPROVED")
    assert answer.json() == {"changed": 3}
    assert post(client, "comments/moderate", ids=ids, status="APPROVED").json() == {"changed": 0}
    assert LogEntry.objects.count() == 3
    shown = found(client, f"comments?post={one.pk}&status=APPROVED")
    assert {row["author_email"] for row in shown} == {"a@b.example"}
    assert post(client, "comments/moderate", ids=[], status="SPAM").status_code == 400
    assert post(client, "comments/moderate", ids=ids, status="odd").status_code == 400
    assert post(client, "comments").status_code == 405
    assert client.delete(f"{API}/comments/{ids[0]}").status_code == 204


@pytest.mark.usefixtures("boss")
def test_a_picture_is_uploaded_described_and_deleted(
    client: Client, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    made = client.post(f"{API}/media", {"file": upload(), "alt": "The sun"})
    assert made.status_code == 201, made.content
    body = made.json()
    assert body["markdown"] == f"![The sun]({body['url']})"
    assert set(body["thumbnails"]) == {"150", "300", "600"}
    for address in (body["url"], *body["thumbnails"].values()):
        assert client.get(address).status_code == 200
    assert patch(client, f"media/{body['id']}", alt="Sun", width=7).json()["width"] == 800
    with django_capture_on_commit_callbacks(execute=True):
        assert client.delete(f"{API}/media/{body['id']}").status_code == 204
    assert client.get(body["url"]).status_code == 404


@pytest.mark.usefixtures("boss")
def test_what_is_no_picture_is_refused(client: Client) -> None:
    for file in (upload(b"MZ", "sun.png"), upload(b""), upload(image()[:99])):
        assert client.post(f"{API}/media", {"file": file}).status_code == 400
    assert client.post(f"{API}/media", {}).status_code == 400
    assert post(client, "media", file="x").status_code == 415
    assert not Media.objects.exists()


@pytest.mark.parametrize("model", MODELS)
def test_who_may_only_look_changes_nothing(client: Client, model: str) -> None:
    plural = {"post": "posts", "category": "categories", "tag": "tags", "comment": "comments"}
    address = f"{API}/{plural.get(model, model)}"
    client.force_login(operator(f"blog.view_{model}"))
    assert client.get(address).status_code == 200
    draft("Mine")
    pk = Post.objects.get().pk
    calls: list[tuple[Any, str]] = [
        (client.post, address),
        (client.patch, f"{address}/{pk}"),
        (client.delete, f"{address}/{pk}"),
    ]
    calls += [(client.post, f"{address}/{pk}/{verb}") for verb in ("publish", "withdraw")]
    calls += [(client.post, f"{address}/moderate")]
    for send, where in calls:
        assert send(where, content_type="application/json").status_code in (403, 404, 405), where
    others = set(EVERYTHING) - {f"blog.view_{model}"}
    client.force_login(operator(*others))
    assert client.get(address).status_code == 403
