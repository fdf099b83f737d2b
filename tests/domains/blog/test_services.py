from datetime import timedelta

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from domains.blog import services
from domains.blog.events import EVENTS
from domains.blog.models import Category, Post, PostStatus, Tag, Tree
from domains.blog.services import InvalidTransition, edit, publish, save_category, withdraw
from tests.domains.blog.conftest import HOUR, draft, published, scheduled, told

pytestmark = pytest.mark.django_db


def test_a_draft_gets_slug_excerpt_and_reading_time() -> None:
    post = draft("Öl & Wasser: 100 %", content="**Bold** words. " * 150)
    assert (post.slug, post.reading_time, post.status) == ("öl-wasser-100", 2, PostStatus.DRAFT)
    assert post.summary.startswith("Bold words. Bold words.")
    assert len(post.summary) <= 200
    assert not told()


def test_an_excerpt_of_ones_own_wins() -> None:
    post = draft(excerpt="In short.")
    assert post.summary == "In short."
    edit(post, content="Other words.")
    assert post.summary == "In short."
    edit(post, excerpt="")
    assert post.summary == "Other words."


def test_equal_titles_get_slugs_of_their_own() -> None:
    slugs = [draft("Again").slug for _ in range(3)]
    assert slugs == ["again", "again-2", "again-3"]
    assert draft("!!!").slug == "post"
    with pytest.raises(ValidationError, match="already exists"):
        draft("Other", slug="again")


def test_a_slug_that_is_emptied_is_made_anew() -> None:
    post = draft("Again", slug="by-hand")
    edit(post, slug="")
    assert post.slug == "again"
    edit(post, slug="")
    assert post.slug == "again"


def test_a_post_without_a_title_is_refused() -> None:
    with pytest.raises(ValidationError):
        draft("")
    assert not Post.objects.exists()


def test_a_draft_is_published_by_hand_and_told_once() -> None:
    post = draft()
    publish(post)
    assert post.status == PostStatus.PUBLISHED
    assert post.published_at
    with pytest.raises(InvalidTransition, match="published already"):
        publish(post)
    (event,) = told()
    assert (event.type, event.topic, event.key) == (
        "blog.post.published",
        "blog",
        f"post-{post.pk}",
    )
    assert event.data == {
        "post_id": post.pk,
        "title": "First light",
        "slug": "first-light",
        "published_at": post.published_at.isoformat(),
    }


def test_a_scheduled_post_that_is_published_by_hand_went_out_now() -> None:
    post = scheduled()
    publish(post)
    assert post.published_at
    assert post.published_at <= timezone.now()


def test_who_dates_back_may() -> None:
    post = draft()
    moment = timezone.now() - 99 * HOUR
    Post.objects.filter(pk=post.pk).update(published_at=moment)
    publish(post)
    assert post.published_at == moment


def test_a_published_post_is_withdrawn_and_comes_back() -> None:
    post = published()
    withdraw(post)
    assert (post.status, post.published_at) == (PostStatus.DRAFT, None)
    with pytest.raises(InvalidTransition, match="draft already"):
        withdraw(post)
    publish(post)
    assert [event.type for event in told()] == [
        "blog.post.published",
        "blog.post.withdrawn",
        "blog.post.published",
    ]


def test_a_published_post_that_is_deleted_is_told_as_withdrawn_and_a_draft_is_not() -> None:
    post = published()
    mine = Post.objects.get(pk=post.pk)
    services.delete(post)
    services.delete(mine)  # it is gone already
    services.delete(scheduled("Never seen"))
    assert not Post.objects.exists()
    (event,) = told("blog.post.withdrawn")
    assert event.key == f"post-{mine.pk}"
    assert event.data == {
        "post_id": mine.pk,
        "title": "First light",
        "slug": "first-light",
        "published_at": None,
    }


def test_who_publishes_or_withdraws_a_post_changes_it() -> None:
    days_ago = timezone.now() - 99 * HOUR
    post = draft()
    waits = scheduled("Later")
    Post.objects.update(updated_at=days_ago)
    publish(post)
    assert post.published_at
    assert post.updated_at >= post.published_at
    Post.objects.filter(pk=post.pk).update(updated_at=days_ago)
    withdraw(post)
    assert post.updated_at > days_ago
    Post.objects.filter(pk=waits.pk).update(published_at=days_ago + HOUR)
    services.publish_due()
    waits.refresh_from_db()
    assert waits.published_at == days_ago + HOUR < waits.updated_at


def test_an_edit_writes_what_it_changes_and_nothing_else() -> None:
    post = draft()
    mine = Post.objects.get(pk=post.pk)
    publish(post)
    Post.objects.filter(pk=post.pk).update(view_count=7)
    edit(mine, content="Better words.")
    assert (mine.status, mine.view_count) == (PostStatus.PUBLISHED, 7)
    assert mine.html == "<p>Better words.</p>\n"


def test_what_nobody_gave_and_todays_rules_refuse_stops_no_other_change() -> None:
    post = published()
    tomorrow = timezone.now() + 24 * HOUR  # by a clock that is fast
    Post.objects.update(canonical_url="nowhere", slug="a b", published_at=tomorrow)
    edit(post, featured=True)
    assert (post.featured, post.canonical_url, post.slug) == (True, "nowhere", "a b")
    with pytest.raises(ValidationError) as refused:
        edit(post, slug="c d", title="Better")
    assert list(refused.value.error_dict) == ["slug"]


def test_another_moment_for_what_went_out_meanwhile_is_refused() -> None:
    post = scheduled()
    mine = Post.objects.get(pk=post.pk)
    publish(post)
    with pytest.raises(InvalidTransition, match="published by now"):
        edit(mine, published_at=timezone.now() + HOUR)


def test_a_published_post_has_a_moment_that_has_been() -> None:
    post = published()
    for moment in (None, timezone.now() + HOUR):
        with pytest.raises(ValidationError):
            edit(post, published_at=moment)
    with pytest.raises(IntegrityError), transaction.atomic():
        Post.objects.filter(pk=post.pk).update(published_at=None)
    edit(post, published_at=timezone.now() - timedelta(days=400))


def test_categories_and_tags_are_linked_and_replaced() -> None:
    sea, sky = (Category.objects.create(name=name, slug=name) for name in ("sea", "sky"))
    tag = Tag.objects.create(name="Blue", slug="blue")
    post = draft(categories=[sea, sky], tags=[tag])
    edit(post, categories=[sky])
    assert (post.categories.get(), post.tags.get()) == (sky, tag)


def test_a_category_cannot_lie_in_itself_nor_in_one_within_it() -> None:
    top = Category.objects.create(name="top", slug="top")
    middle = Category.objects.create(name="middle", slug="middle", parent=top)
    low = Category.objects.create(name="low", slug="low", parent=middle)
    for parent in (top, middle, low):
        with pytest.raises(ValidationError, match="cannot lie in itself"):
            save_category(top, parent=parent)
    with pytest.raises(IntegrityError), transaction.atomic():
        Category.objects.filter(pk=top.pk).update(parent=top)
    save_category(low, parent=None)
    tree = Tree(Category.objects.all())
    assert tree.within(top.pk) == {top.pk, middle.pk}
    assert tree.above(middle) == [top]
    assert [(depth, row.name) for depth, row in tree.walk()] == [
        (0, "low"),
        (0, "top"),
        (1, "middle"),
    ]


def test_what_goes_out_at_its_moment_is_told_with_that_moment() -> None:
    post = scheduled()
    assert post.published_at
    with time_machine.travel(post.published_at + timedelta(seconds=3), tick=False):
        assert services.publish_due().items == 1
    (event,) = told()
    assert event.type == "blog.post.scheduled.published"
    assert event.data == {
        "post_id": post.pk,
        "title": "First light",
        "slug": "first-light",
        "scheduled_at": post.published_at.isoformat(),
        "published_at": (post.published_at + timedelta(seconds=3)).isoformat(),
    }


def test_every_type_is_declared() -> None:
    post = published()
    withdraw(post)
    edit(post, published_at=timezone.now())
    services.publish_due()
    assert {event.type for event in told()} == set(EVENTS)
