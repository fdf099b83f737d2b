"""Verbs on posts and categories; admin, API, clock and job call them."""

import logging
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import transaction
from django.db.models import Q, Value
from django.db.models.functions import Coalesce, Least
from django.utils.text import slugify
from django.utils.translation import gettext as _

from domains.blog.markdown import excerpt_of, minutes_to_read
from domains.blog.models import Category, FormerSlug, Post, PostStatus, Tag
from jobs import clock
from jobs.acting import did
from jobs.leases import Fenced, fenced
from jobs.progress import advance, expect
from jobs.registry import Outcome
from jobs.transitions import InvalidTransition as InvalidTransition
from jobs.wake import notify
from outbox.services import build_event, emit, emit_all

logger = logging.getLogger(__name__)

BLOG = "blog"  # the channel that wakes the clock
BATCH = 500
LINKED = {"categories", "tags"}
Moment = tuple[datetime, int]
"""Of a post that is due, with its id."""


@transaction.atomic
def compose(author: User | None, **fields: Any) -> Post:
    """A draft; with `published_at` it is scheduled. Raises `ValidationError`."""
    linked = {name: fields.pop(name) for name in LINKED & fields.keys()}
    post = Post(author=author, **fields)
    add(post)
    _link(post, linked)
    return post


@transaction.atomic
def add(post: Post) -> None:
    """One that is filled in already. Raises `ValidationError`."""
    _check(post)
    post.save()
    notify(BLOG)


@transaction.atomic
def edit(post: Post, **fields: Any) -> None:
    """Write these fields alone: what others, and the clock, wrote meanwhile stays.

    Raises `ValidationError`, and `InvalidTransition` when it was published or withdrawn since
    `post` was read and another moment is asked for.
    """
    linked = {name: fields.pop(name) for name in LINKED & fields.keys()}
    row = Post.objects.select_for_update().get(pk=post.pk)
    if "published_at" in fields and row.status != post.status:
        raise InvalidTransition(
            _("It is %(status)s by now: look at it again, then choose its moment.")
            % {"status": row.get_status_display().lower()}
        )
    former = row.slug
    for name, value in fields.items():
        setattr(row, name, value)
    _check(row, fields)
    if row.slug != former:
        FormerSlug.objects.update_or_create(slug=former, defaults={"post": row})
    row.updated_at = clock.now()
    row.save(update_fields=[*fields, "slug", "summary", "reading_time", "updated_at"])
    _link(row, linked)
    notify(BLOG)
    post.refresh_from_db()


def _check(post: Post, given: Collection[str] | None = None) -> None:
    """Derive what is derived, then ask for what the model asks for: of what is given, if not all.

    What lies there from days of other rules stops no change of something else.
    """
    post.slug = post.slug or free_slug(post)
    post.summary = post.excerpt or excerpt_of(post.content)
    post.reading_time = minutes_to_read(post.content)
    try:
        post.full_clean()
    except ValidationError as error:
        if given is None:
            raise
        asked = {*given, NON_FIELD_ERRORS}
        if refused := {name: why for name, why in error.error_dict.items() if name in asked}:
            raise ValidationError(refused) from error


def _link(post: Post, linked: dict[str, Iterable[Category | Tag]]) -> None:
    for name, rows in linked.items():
        getattr(post, name).set(rows)


def free_slug(post: Post) -> str:
    """Of the title, with a number where that is taken, or leads to another post."""
    slug = slugify(post.title, allow_unicode=True)[:190] or "post"
    alike = Post.objects.filter(Q(slug=slug) | Q(slug__startswith=f"{slug}-")).exclude(pk=post.pk)
    taken = set(alike.order_by().values_list("slug", flat=True))
    former = FormerSlug.objects.filter(Q(slug=slug) | Q(slug__startswith=f"{slug}-"))
    taken |= set(former.exclude(post=post.pk).values_list("slug", flat=True))
    number = 2
    free = slug
    while free in taken:
        free, number = f"{slug}-{number}", number + 1
    return free


@transaction.atomic
def publish(post: Post) -> None:
    """By hand: a draft, whatever its moment. Raises `InvalidTransition`."""
    now = Value(clock.now(), Post._meta.get_field("published_at"))
    earliest = Coalesce(Least("published_at", now), now)  # who dates back may
    drafts = Post.objects.filter(pk=post.pk, status=PostStatus.DRAFT)
    if not drafts.update(status=PostStatus.PUBLISHED, published_at=earliest, updated_at=now):
        raise InvalidTransition(_("It is published already."))
    post.refresh_from_db()
    emit("blog.post.published", key_of(post.pk), facts(post))
    did("blog.post.published", post)


@transaction.atomic
def withdraw(post: Post) -> None:
    """From the pages to the drafts; it has no moment any more. Raises `InvalidTransition`."""
    shown = Post.objects.published().filter(pk=post.pk)
    if not shown.update(status=PostStatus.DRAFT, published_at=None, updated_at=clock.now()):
        raise InvalidTransition(_("It is a draft already."))
    post.refresh_from_db()
    emit("blog.post.withdrawn", key_of(post.pk), facts(post))
    did("blog.post.withdrawn", post)


@transaction.atomic
def delete(post: Post) -> None:
    """Who heard that it was published hears that it was taken back."""
    row = Post.objects.select_for_update().filter(pk=post.pk).first()
    if not row:
        return
    if row.status == PostStatus.PUBLISHED:
        emit("blog.post.withdrawn", key_of(row.pk), facts(row) | {"published_at": None})
    row.delete()


def publish_due() -> Outcome:
    """All whose moment has come, the earliest first, however many.

    Processes share the work: what another one, or an editor, holds locked is passed over, and is
    found when the clock looks next. What fails is recorded, and stops no other.
    """
    at = clock.now()
    expect(Post.objects.due(at).count())
    done = 0
    failures: list[str] = []
    after: Moment | None = None
    while batch := _due(at, after):
        done += _publish_batch([pk for _, pk in batch], at, failures)
        advance(len(batch))
        after = batch[-1]
    return Outcome(items=done, failed=len(failures), note="; ".join(failures[:3]))


def _due(at: datetime, after: Moment | None) -> list[Moment]:
    due = Post.objects.due(at).order_by("published_at", "pk")
    if after:
        moment, pk = after
        due = due.filter(Q(published_at__gt=moment) | Q(published_at=moment, pk__gt=pk))
    found = due.values_list("published_at", "pk")[:BATCH]
    return [(moment, pk) for moment, pk in found if moment]


def _publish_batch(pks: Sequence[int], at: datetime, failures: list[str]) -> int:
    try:
        return _publish_together(pks, at)
    except Fenced:
        raise
    except Exception as error:
        if len(pks) == 1:
            logger.exception("Post %s could not be published", pks[0])
            failures.append(f"{key_of(pks[0])}: {error}")
            return 0
    return sum(_publish_batch([pk], at, failures) for pk in pks)  # it is the fault of one


def _publish_together(pks: Sequence[int], at: datetime) -> int:
    """Those that are still due, in one transaction with what tells of them."""
    with fenced():
        due = Post.objects.due(at).filter(pk__in=pks).order_by("published_at", "pk")
        posts = list(due.defer("content").select_for_update(skip_locked=True))
        now = clock.now()
        Post.objects.filter(pk__in=[post.pk for post in posts]).update(
            status=PostStatus.PUBLISHED, updated_at=now
        )
        emit_all(
            [
                build_event(
                    "blog.post.scheduled.published",
                    key_of(post.pk),
                    facts(post)
                    | {"scheduled_at": _iso(post.published_at), "published_at": _iso(now)},
                )
                for post in posts
            ]
        )
    return len(posts)


def key_of(pk: int) -> str:
    return f"post-{pk}"


def facts(post: Post) -> dict[str, Any]:
    """What an event tells of it."""
    return {
        "post_id": post.pk,
        "title": post.title,
        "slug": post.slug,
        "published_at": _iso(post.published_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


@transaction.atomic
def save_category(category: Category, **fields: Any) -> None:
    """Two that are moved into each other at once must not both be: all are locked meanwhile.

    Raises `ValidationError`.
    """
    rows = {row.pk: row for row in Category.objects.order_by("pk").select_for_update()}
    row = rows.get(category.pk, category)
    for name, value in fields.items():
        setattr(row, name, value)
    row.full_clean()
    row.save()
    category.pk = row.pk
    category.refresh_from_db()
