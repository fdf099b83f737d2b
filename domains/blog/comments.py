"""What readers say: written by anybody, seen when a moderator approved it."""

from collections.abc import Callable

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from domains.blog.models import Comment, CommentQuerySet, CommentStatus, Post, PostStatus
from jobs.acting import did
from jobs.throttle import times

HOUR = 3_600
BATCH = 500

Tell = Callable[[list[Comment]], object]


class CommentsClosed(Exception):
    """The post takes no comments; the message says so."""


class TooManyComments(Exception):
    """This address has written enough for an hour."""


def comment(
    post: Post,
    *,
    name: str,
    content: str,
    email: str = "",
    parent: Comment | None = None,
    is_spam: bool = False,
) -> Comment:
    """One that waits for a moderator, or is spam at once.

    Raises `CommentsClosed` and `ValidationError`.
    """
    if post.status != PostStatus.PUBLISHED or not post.comments_open:
        raise CommentsClosed(_("This post takes no comments."))
    made = Comment(
        post=post,
        parent=(parent.parent or parent) if parent else None,
        author_name=name,
        author_email=email,
        content=content,
        status=CommentStatus.SPAM if is_spam else CommentStatus.PENDING,
    )
    made.full_clean()
    made.save()
    return made


def moderate(
    comments: CommentQuerySet, status: CommentStatus, tell: Tell = lambda batch: None
) -> int:
    """How many were of another status before. `tell` what changes, a batch each."""
    others = Comment.objects.filter(pk__in=comments.values("pk")).exclude(status=status)
    done = 0
    while changed := _moderate_batch(others, status, tell):
        done += changed
    return done


@transaction.atomic
def _moderate_batch(others: CommentQuerySet, status: CommentStatus, tell: Tell) -> int:
    batch = list(others.select_for_update().order_by("pk")[:BATCH])
    if not batch:
        return 0
    for one in batch:
        did("blog.comment.moderated", one, changes={"status": [one.status, status.value]})
    tell(batch)
    return Comment.objects.filter(pk__in=[row.pk for row in batch]).update(status=status)


def empty_trash(tell: Tell) -> int:
    """How many were deleted for good, with the answers to them. `tell` what goes, a batch each."""
    done = 0
    while batch := list(Comment.objects.trashed().order_by("pk")[:BATCH]):
        chosen = Comment.objects.trashed().filter(pk__in=[row.pk for row in batch])
        with transaction.atomic():
            tell(batch)
            deleted = chosen.delete()[1]
        done += deleted.get(Comment._meta.label, 0)
    return done


def admit(address: str) -> None:
    """Raises `TooManyComments` above BLOG_COMMENTS_PER_HOUR of this address."""
    if times("blog-comments", address, HOUR) > settings.BLOG_COMMENTS_PER_HOUR:
        raise TooManyComments(_("Too many comments came from your address. Try again in an hour."))
