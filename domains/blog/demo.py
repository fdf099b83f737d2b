"""Posts in each state, with comments to moderate and a picture; never in production."""

from datetime import timedelta
from io import BytesIO
from typing import Any

from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.utils import timezone
from PIL import Image, ImageOps

from domains.blog import pictures, services
from domains.blog.comments import comment, moderate
from domains.blog.models import Category, Comment, CommentStatus, Media, Post, Tag

LAST = "how-a-message-travels"  # made last, so that it proves the rest
ALT = "Evening light over the hills"


def create() -> bool:
    """Make what is missing; False when nothing was."""
    if Post.objects.filter(slug=LAST).exists():
        return False
    call_command("loaddata", "demo-blog", verbosity=0)
    author = User.objects.filter(username="admin").first()
    for make in (_draft, _scheduled, _release, _closed, _welcome):
        make(author)
    return True


def _post(author: User | None, slug: str, categories: list[str], tags: list[str], **f: Any) -> Post:
    """There already when something interrupted an earlier attempt."""
    return Post.objects.filter(slug=slug).first() or services.compose(
        author,
        slug=slug,
        categories=Category.objects.filter(slug__in=categories),
        tags=Tag.objects.filter(slug__in=tags),
        **f,
    )


def _published(days: int, *arguments: Any, **fields: Any) -> Post:
    post = _post(*arguments, **fields)
    if post.published_at is None:
        services.publish(post)
        services.edit(post, published_at=timezone.now() - timedelta(days=days))
    return post


def _picture(author: User | None) -> Media:
    """A gradient: nobody's photograph."""
    if found := Media.objects.filter(alt=ALT).first():
        return found
    light = ImageOps.colorize(Image.linear_gradient("L"), "#ffd9a0", "#31407d", mid="#d8738f")
    out = BytesIO()
    light.resize((1600, 900)).save(out, "JPEG")
    return pictures.add(author, SimpleUploadedFile("evening.jpg", out.getvalue()), ALT)


def _draft(author: User | None) -> None:
    _post(
        author,
        "what-we-learned",
        ["behind-the-scenes"],
        ["operations"],
        title="What we learned from a quiet week",
        content="*Notes, not yet in order.*\n\n- alerts that nobody needs\n- runbooks",
    )


def _scheduled(author: User | None) -> None:
    _post(
        author,
        "maintenance-in-three-steps",
        ["news"],
        ["how-to", "operations"],
        title="Maintenance in three steps",
        content="1. Say **when**.\n2. Say **what** will not work.\n3. Say when it is *over*.",
        published_at=timezone.now() + timedelta(days=2),
    )


def _release(author: User | None) -> None:
    _published(
        9,
        author,
        "version-1",
        ["releases"],
        [],
        title="Version 1 is here",
        content="| What | Since |\n|---|---|\n| Series | today |\n| Templates | today |\n\n"
        "Upgrade with `git pull` and `make run`.",
    )


def _closed(author: User | None) -> None:
    _published(
        40,
        author,
        "hello",
        ["news"],
        [],
        title="Hello",
        content="This is where we write. Comments on this one are closed.",
        comments_open=False,
    )


def _welcome(author: User | None) -> None:
    post = _published(
        1,
        author,
        LAST,
        ["behind-the-scenes", "news"],
        ["design"],
        title="How a message travels",
        content=WELCOME,
        featured=True,
        featured_image=_picture(author),
    )
    _talk(post)


def _talk(post: Post) -> None:
    first = comment(post, name="Ruth", email="ruth@example.org", content="How fast is it, really?")
    reply = comment(post, name="Ben", content="A second, here.", parent=first)
    approved = Comment.objects.filter(pk__in=[first.pk, reply.pk])
    moderate(approved, CommentStatus.APPROVED)
    comment(post, name="Kim", email="kim@example.org", content="Does it work on a phone?")
    comment(post, name="Cheap pills", content="Buy now!", is_spam=True)


WELCOME = """\
An operator presses *Send*. A second later it is on every screen. In between lies a short journey.

## It is written once

The message and the word that it is there are written **in one transaction**. Should a process die,
either both are there or neither is.

> Nothing is on its way that was not committed.

## It is read by many

Each process reads the log once, and hands the same bytes to all who listen:

```
log -> hub -> ring -> streams
```

Whoever was away finds it in the inbox.
"""
