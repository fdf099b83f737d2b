import re
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from domains.blog.comments import CommentsClosed, comment, moderate
from domains.blog.models import Comment, CommentStatus, Post
from domains.blog.services import edit
from tests.domains.blog.conftest import draft, published

pytestmark = pytest.mark.django_db

WORDS = {"name": "Ann", "email": "ann@example.org", "content": "Well <said>.\n\nAnd true."}


def send(client: Client, post: Post, **fields: Any) -> Any:
    return client.post(post.get_absolute_url(), WORDS | fields)


def approve(*comments: Comment) -> None:
    moderate(Comment.objects.filter(pk__in=[c.pk for c in comments]), CommentStatus.APPROVED)


def page(client: Client, post: Post) -> str:
    return str(client.get(post.get_absolute_url()).content.decode())


def test_a_comment_waits_for_a_moderator_and_its_address_is_never_shown(client: Client) -> None:
    post = published()
    answer = send(client, post)
    assert (answer.status_code, answer["Location"]) == (302, "/blog/first-light#comments")
    made = Comment.objects.get()
    assert (made.status, made.author_email) == (CommentStatus.PENDING, "ann@example.org")
    assert "when a moderator has seen it" in page(client, post)
    assert "And true" not in page(client, post)
    approve(made)
    shown = page(client, post)
    assert "<p>Well &lt;said&gt;.</p>" in shown
    assert "Ann" in shown
    assert "ann@example.org" not in shown


@pytest.mark.parametrize("status", [CommentStatus.SPAM, CommentStatus.TRASH])
def test_what_is_put_aside_disappears(client: Client, status: CommentStatus) -> None:
    post = published()
    made = comment(post, name="Ann", content="Buy this")
    approve(made)
    assert moderate(Comment.objects.all(), status) == 1
    assert moderate(Comment.objects.all(), status) == 0
    assert "Buy this" not in page(client, post)


def test_who_fills_in_what_nobody_sees_is_spam_and_is_not_told(client: Client) -> None:
    answer = send(client, published(), website="https://pills.example")
    assert answer.status_code == 302
    assert Comment.objects.get().status == CommentStatus.SPAM


def test_an_address_has_its_number_of_comments_an_hour(client: Client, settings: Settings) -> None:
    settings.BLOG_COMMENTS_PER_HOUR = 3
    post = published()
    assert [send(client, post).status_code for _ in range(5)] == [302, 302, 302, 429, 429]
    assert "Try again in an hour" in str(send(client, post).content)
    assert Comment.objects.count() == 3
    assert client.post(post.get_absolute_url(), WORDS, REMOTE_ADDR="10.1.1.1").status_code == 302


def test_too_many_without_a_word_are_refused_as_any_other(
    client: Client, settings: Settings
) -> None:
    settings.BLOG_COMMENTS_PER_HOUR = 1
    address = published().get_absolute_url()
    assert [client.post(address).status_code for _ in range(2)] == [400, 429]


@pytest.mark.parametrize(
    ("other", "status"), [("2001:db8:0:1::2", 429), ("2001:db8:0:2::1", 302), ("nonsense", 302)]
)
def test_all_addresses_of_one_connection_count_as_one(
    client: Client, settings: Settings, other: str, status: int
) -> None:
    settings.BLOG_COMMENTS_PER_HOUR = 1
    where = published().get_absolute_url()
    assert client.post(where, WORDS, REMOTE_ADDR="2001:db8:0:1::1").status_code == 302
    assert client.post(where, WORDS, REMOTE_ADDR=other).status_code == status


@pytest.mark.parametrize(("proxies", "statuses"), [(1, [302, 302]), (0, [302, 429])])
def test_behind_a_proxy_it_is_the_readers_address_that_counts(
    client: Client, settings: Settings, proxies: int, statuses: list[int]
) -> None:
    settings.BLOG_COMMENTS_PER_HOUR = 1
    settings.TRUSTED_PROXIES = proxies
    post = published()
    found = [
        client.post(
            post.get_absolute_url(), WORDS, headers={"X-Forwarded-For": f"1.1.1.1, {address}"}
        ).status_code
        for address in ("10.0.0.1", "10.0.0.2")
    ]
    assert found == statuses


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"name": ""}, "required"),
        ({"content": " "}, "required"),
        ({"content": "x" * 5_001}, "at most 5000"),
        ({"email": "nobody"}, "valid email"),
        ({"name": "x" * 101}, "at most 100"),
    ],
)
def test_what_cannot_be_kept_is_said_beside_what_was_written(
    client: Client, wrong: dict[str, str], why: str
) -> None:
    answer = send(client, published(), **wrong)
    assert answer.status_code == 400
    assert why in answer.content.decode()
    assert not Comment.objects.exists()
    if "content" not in wrong:
        assert "And true." in answer.content.decode()


def test_a_form_of_another_site_is_refused() -> None:
    client = Client(enforce_csrf_checks=True)
    assert send(client, published()).status_code == 403


def test_an_answer_stands_below_its_thread(client: Client) -> None:
    post, other = published(), published("Other")
    first = comment(post, name="Ann", content="First")
    elsewhere = comment(other, name="Ann", content="Elsewhere")
    approve(first, elsewhere)
    form = client.get(f"{post.get_absolute_url()}?answer={first.pk}").content.decode()
    assert "Answer to Ann" in form
    assert f'name="parent" value="{first.pk}"' in form
    send(client, post, parent=first.pk)
    reply = Comment.objects.latest("pk")
    assert reply.parent == first
    approve(reply)
    send(client, post, parent=reply.pk)
    assert Comment.objects.latest("pk").parent == first, "threads are one level deep"
    shown = page(client, post)
    assert re.search(rf'blog-reply" id="comment-{reply.pk}"', shown)
    for nothing in (elsewhere.pk, 999, "", "x", "٣", "9" * 30):
        assert (
            "Answer to"
            not in client.get(f"{post.get_absolute_url()}?answer={nothing}").content.decode()
        )
    send(client, post, parent=elsewhere.pk)
    assert Comment.objects.latest("pk").parent is None


def test_a_post_may_take_none(client: Client) -> None:
    post = published()
    edit(post, comments_open=False)
    assert "takes no more comments" in page(client, post)
    assert send(client, post).status_code == 403
    with pytest.raises(CommentsClosed):
        comment(draft("Draft"), name="Ann", content="Early")
    assert not Comment.objects.exists()


def test_every_answer_is_on_some_page_below_its_thread(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domains.blog.views.COMMENTS", 4)
    post = published()
    first = comment(post, name="Ann", content="First.")
    second = comment(post, name="Bea", content="Second.")
    hidden = comment(post, name="Cid", content="Hidden.")
    answers = [
        comment(post, name="Dan", content=f"Answer {n}.", parent=parent)
        for n, parent in enumerate([first, second, first, first, first, hidden])
    ]
    approve(first, second, *answers)

    def said(number: int) -> list[str]:
        shown = client.get(post.get_absolute_url(), {"comments": number}).content.decode()
        assert f"Page {number} of 2" in shown
        assert ("To Ann, on the page before:" in shown) is (number == 2)
        return re.findall(r"<p>((?:First|Second|Hidden|Answer \d)\.)</p>", shown)

    assert said(1) == ["First.", "Answer 0.", "Answer 2.", "Answer 3."]
    assert said(2) == ["Answer 4.", "Second.", "Answer 1."]


def test_moderating_many_tells_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domains.blog.comments.BATCH", 2)
    post = published()
    for n in range(5):
        comment(post, name="Ann", content=str(n))
    told: list[list[str]] = []

    def tell(batch: list[Comment]) -> None:
        told.append([one.content for one in batch])

    waiting = Comment.objects.pending().order_by("-pk")
    assert moderate(waiting, CommentStatus.APPROVED, tell) == 5
    assert told == [["0", "1"], ["2", "3"], ["4"]]
