"""Scheduled posts whose moments nobody saw."""

from collections.abc import Callable
from datetime import timedelta

BATCH = 1_000


def due_posts(count: int) -> None:
    """Their moments lie up to a day back."""
    from django.utils import timezone

    from domains.blog.models import Post

    now = timezone.now()
    for start in range(0, count, BATCH):
        Post.objects.bulk_create(
            Post(
                title=f"Post {number}",
                slug=f"filled-{number}",
                content="A *post* of the benchmark. " * 100,
                summary="A post of the benchmark.",
                published_at=now - timedelta(seconds=1 + number % 86_400),
            )
            for number in range(start, min(start + BATCH, count))
        )


FILL: dict[str, Callable[[int], None]] = {"POST_PUBLISHER": due_posts}
