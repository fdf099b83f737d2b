from typing import Any

import pytest
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from domains.blog import pictures
from domains.blog.comments import comment, moderate
from domains.blog.models import Category, Comment, CommentStatus, Media, Post, PostStatus, Tag
from tests.domains.blog.conftest import HOUR, draft, published, scheduled, told, upload
from tests.factories import operator

pytestmark = pytest.mark.django_db

ADD = "/admin/blog/post/add/"
LIST = "/admin/blog/post/"
EMPTY = "/admin/blog/comment/empty-trash/"


@pytest.fixture(autouse=True)
def boss(client: Client) -> User:
    user = User.objects.create_superuser("boss", password="x")
    client.force_login(user)
    return user


def page_of(thing: Post | Comment | Category | Media) -> str:
    name = f"admin:blog_{thing._meta.model_name}_change"
    return reverse(name, args=[thing.pk])


def fields(**given: Any) -> dict[str, Any]:
    names = [
        *("title", "content", "slug", "excerpt", "canonical_url", "featured_image", "og_image"),
        *("meta_title", "meta_description", "meta_keywords", "og_title", "og_description"),
        *("published_at_0", "published_at_1"),
    ]
    return dict.fromkeys(names, "") | {"title": "Waves", "comments_open": "on"} | given


def says(answer: Any, text: str) -> bool:
    return text in answer.content.decode()


def test_a_draft_is_written_and_then_published(client: Client, boss: User) -> None:
    sea = Category.objects.create(name="Sea", slug="sea")
    answer = client.post(ADD, fields(content="One\r\n*two*", categories=[sea.pk]), follow=True)
    assert answer.status_code == 200
    post = Post.objects.get()
    assert (post.status, post.author, post.content) == (PostStatus.DRAFT, boss, "One\n*two*")
    assert post.categories.get() == sea
    assert says(client.get(page_of(post)), "Save and publish")
    sent = fields(slug="waves", content="One\n*two*", excerpt="Short", blog_post_publish_now="1")
    answer = client.post(page_of(post), sent, follow=True)
    post.refresh_from_db()
    assert (post.status, post.summary) == (PostStatus.PUBLISHED, "Short")
    assert says(answer, "It is published")
    assert len(told("blog.post.published")) == 1
    assert not says(client.get(page_of(post)), "Save and publish")


def test_a_new_post_is_published_at_once(client: Client) -> None:
    assert says(client.get(ADD), "Save and publish")
    client.post(ADD, fields(blog_post_publish_now="1"))
    assert Post.objects.get().status == PostStatus.PUBLISHED


def test_a_moment_makes_it_scheduled(client: Client) -> None:
    answer = client.post(
        ADD, fields(published_at_0="2099-01-31", published_at_1="09:00"), follow=True
    )
    assert says(answer, "It goes out by itself on 31 Jan 2099")
    assert Post.objects.get().is_scheduled


def test_what_is_wrong_is_said_beside_the_field(client: Client) -> None:
    draft("Waves")
    answer = client.post(ADD, fields(title="", slug="waves"))
    assert says(answer, "This field is required")
    assert says(answer, "already exists")


def test_a_save_writes_only_what_was_changed(client: Client) -> None:
    post = scheduled("Waves", content="Old")
    sent = fields(slug="waves", content="New")
    assert post.published_at
    moment = timezone.localtime(post.published_at)
    sent |= {"published_at_0": f"{moment:%Y-%m-%d}", "published_at_1": f"{moment:%H:%M:%S}"}
    Post.objects.filter(pk=post.pk).update(view_count=5)
    client.post(page_of(post), sent)
    post.refresh_from_db()
    assert (post.content, post.view_count) == ("New", 5)


def test_what_went_out_cannot_be_put_off(client: Client) -> None:
    post = published("Waves")
    sent = fields(slug="waves", published_at_0="2099-01-31", published_at_1="09:00")
    assert says(client.post(page_of(post), sent), "withdraw it first")


def test_markdown_is_previewed_and_sanitised(client: Client) -> None:
    answer = client.post(f"{LIST}preview/", {"content": "*x* <script>"})
    assert answer.json() == {"html": "<p><em>x</em> &lt;script&gt;</p>\n"}
    assert "200000" in client.post(f"{LIST}preview/", {"content": "x" * 200_001}).json()["error"]
    client.force_login(operator("blog.view_post"))
    assert client.post(f"{LIST}preview/", {"content": "x"}).status_code == 403


def test_a_post_is_withdrawn_after_a_question(client: Client) -> None:
    post = published()
    address = reverse("admin:blog_post_withdraw_one", args=[post.pk])
    assert says(client.get(address), "Withdraw First light?")
    assert says(client.post(address, {"confirmed": "yes"}, follow=True), "Withdrawn: 1 post.")
    post.refresh_from_db()
    assert post.status == PostStatus.DRAFT
    assert says(client.post(address, {"confirmed": "yes"}, follow=True), "draft already")
    assert (
        client.get(reverse("admin:blog_post_view_one", args=[post.pk]))["Location"]
        == "/blog/first-light"
    )


def test_one_that_todays_rules_refuse_is_featured_with_the_others(client: Client) -> None:
    one, other = published("One"), published("Other")
    Post.objects.filter(pk=one.pk).update(canonical_url="nowhere")
    chosen = {"action": "feature_selected", "_selected_action": [one.pk, other.pk]}
    assert says(client.post(LIST, chosen, follow=True), "Featured: 2 posts.")


def test_deleting_what_is_published_is_told(client: Client) -> None:
    one, other = published("One"), published("Other")
    client.post(reverse("admin:blog_post_delete", args=[one.pk]), {"post": "yes"})
    chosen = {"action": "delete_selected", "_selected_action": [other.pk], "post": "yes"}
    client.post(LIST, chosen)
    assert not Post.objects.exists()
    assert [event.key for event in told("blog.post.withdrawn")] == [
        f"post-{one.pk}",
        f"post-{other.pk}",
    ]


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ("publish_selected", "Published: 1 post."),
        ("withdraw_selected", "Withdrawn: 1 post."),
        ("feature_selected", "Featured: 2 posts."),
    ],
)
def test_several_are_steered_and_the_result_is_told(client: Client, action: str, text: str) -> None:
    chosen = [draft("One").pk, published("Two").pk]
    answer = client.post(LIST, {"action": action, "_selected_action": chosen}, follow=True)
    assert says(answer, text)


def test_posts_are_found_by_state_and_words(client: Client) -> None:
    alpha = draft("Alpha")
    scheduled("Beta")
    published("Gamma", content="Whales")
    for query, there in {
        "state=draft": "Alpha",
        "state=scheduled": "Beta",
        "state=published": "Gamma",
        "q=whales": "Gamma",
    }.items():
        answer = client.get(f"{LIST}?{query}")
        shown = [name for name in ("Alpha", "Beta", "Gamma") if says(answer, name)]
        assert shown == [there], query
    page = client.get(LIST).content.decode()
    assert page.index(">Alpha") < page.index(">Beta") < page.index(">Gamma")
    of_one = f"/admin/blog/comment/?post__id__exact={alpha.pk}"
    assert of_one in page
    assert client.get(of_one).status_code == 200


@pytest.mark.parametrize("model", ["post", "comment", "media", "category", "tag"])
def test_a_list_costs_the_same_however_many_there_are(client: Client, model: str) -> None:
    def more(name: str) -> None:
        Category.objects.create(name=name, slug=name, parent=Category.objects.order_by("pk").last())
        Tag.objects.create(name=name, slug=name)
        Comment.objects.create(post=published(name), author_name="Ann", content="Yes")
        pictures.add(None, upload())

    def cost() -> int:
        with CaptureQueriesContext(connection) as statements:
            assert client.get(f"/admin/blog/{model}/").status_code == 200
        return len(statements)

    more("a")
    more("b")
    first = cost()
    for name in "cdef":
        more(name)
    assert cost() == first


def test_categories_stand_as_a_tree_and_make_no_ring(client: Client) -> None:
    world = Category.objects.create(name="World", slug="world")
    sea = Category.objects.create(name="A sea", slug="sea", parent=world)
    page = client.get("/admin/blog/category/").content.decode()
    assert page.index(">World<") < page.index(">\u2003\u2003A sea<")
    answer = client.post(page_of(world), {"name": "World", "slug": "world", "parent": sea.pk})
    assert says(answer, "cannot lie in itself")
    client.post(page_of(sea), {"name": "A sea", "slug": "sea", "parent": ""})
    sea.refresh_from_db()
    assert sea.parent is None


def test_comments_are_moderated_one_by_one_and_together(client: Client) -> None:
    post = published()
    one, other = (
        Comment.objects.create(post=post, author_name="Ann", content=f"Word {n}") for n in "12"
    )
    assert says(client.get("/admin/"), "Comments")
    address = reverse("admin:blog_comment_approve_one", args=[one.pk])
    assert says(client.get(address), "Everybody sees it")
    answer = client.post(address, {"confirmed": "yes"}, follow=True)
    assert says(answer, "1 comment is now: Approved.")
    sent = {"action": "spam_selected", "_selected_action": [one.pk, other.pk]}
    answer = client.post("/admin/blog/comment/", sent, follow=True)
    assert says(answer, "2 comments are now: Spam.")
    assert set(Comment.objects.values_list("status", flat=True)) == {CommentStatus.SPAM}
    client.force_login(operator("blog.view_comment"))
    assert client.get(address).status_code == 403


def test_a_picture_is_uploaded_shown_and_deleted(client: Client, boss: User) -> None:
    address = "/admin/blog/media/add/"
    assert says(client.post(address, {"upload": upload(b"MZ"), "alt": ""}), "no picture")
    answer = client.post(address, {"upload": upload(), "alt": "The sun"}, follow=True)
    assert says(answer, "was added successfully")
    media = Media.objects.get()
    assert (media.alt, media.uploaded_by, media.width) == ("The sun", boss, 800)
    assert says(client.get(page_of(media)), f"![The sun]({media.url})")
    client.post(page_of(media), {"alt": "Sun"})
    media.refresh_from_db()
    assert media.alt == "Sun"
    sent = {"action": "delete_selected", "_selected_action": [media.pk], "post": "yes"}
    client.post("/admin/blog/media/", sent)
    assert not Media.objects.exists()


def test_a_moment_that_passed_while_it_was_written_is_told(client: Client) -> None:
    post = draft("Waves", published_at=timezone.now() + HOUR)
    Post.objects.filter(pk=post.pk).update(status=PostStatus.PUBLISHED, published_at=timezone.now())
    sent = fields(slug="waves", published_at_0="2099-01-31", published_at_1="09:00")
    assert says(client.post(page_of(post), sent), "withdraw it first")


def test_emptying_the_trash_deletes_what_is_in_it_with_its_answers_and_nothing_else(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domains.blog.comments.BATCH", 2)
    post = published()
    rows = [comment(post, name=f"N{n}", content="Words") for n in range(5)]
    comment(post, name="Answer", content="To that", parent=rows[0])
    kept = comment(post, name="Kept", content="Words")
    moderate(Comment.objects.filter(pk__in=[row.pk for row in rows]), CommentStatus.TRASH)
    asked = client.post(EMPTY)
    assert says(asked, "deleted for good")
    assert Comment.objects.count() == 7
    assert says(client.post(EMPTY, {"confirmed": "1"}, follow=True), "6 comments are gone.")
    assert Comment.objects.get() == kept
    assert LogEntry.objects.filter(action_flag=DELETION).count() == 5
    assert says(client.post(EMPTY, follow=True), "The trash is empty.")


def test_who_may_not_delete_comments_cannot_empty_the_trash(client: Client) -> None:
    made = comment(published(), name="Ann", content="Words")
    moderate(Comment.objects.all(), CommentStatus.TRASH)
    client.force_login(operator("blog.view_comment", "blog.change_comment"))
    assert not says(client.get("/admin/blog/comment/"), "Empty the trash")
    assert client.post(EMPTY, {"confirmed": "1"}).status_code == 403
    assert Comment.objects.get() == made
