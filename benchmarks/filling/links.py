"""What the jobs of links have to work on."""

from collections.abc import Callable
from datetime import timedelta

from django.utils import timezone

from domains.links.models import ALPHABET, Click, Link, Name

BATCH = 5_000


def expired_links(count: int) -> None:
    ended = timezone.now() - timedelta(minutes=1)
    for start in range(0, count, BATCH):
        links = Link.objects.bulk_create(
            Link(original_url="https://example.org", short_code=code(n), expires_at=ended)
            for n in range(start, min(start + BATCH, count))
        )
        Name.objects.bulk_create(Name(name=link.short_code, link=link) for link in links)


def old_clicks(count: int) -> None:
    """Half as many beside them that are to stay."""
    link = Link.objects.create(original_url="https://example.org", short_code=code(0))
    now = timezone.now()
    for start in range(0, count + count // 2, BATCH):
        Click.objects.bulk_create(
            Click(
                link=link,
                clicked_at=now - timedelta(days=100 if n < count else 1, milliseconds=-n),
                address="203.0.113.0",
                country="GB",
                device="desktop",
                browser="Chrome",
                is_bot=False,
            )
            for n in range(start, min(start + BATCH, count + count // 2))
        )


def code(number: int) -> str:
    base = len(ALPHABET)
    return "".join(ALPHABET[number // base**place % base] for place in range(6))


FILL: dict[str, Callable[[int], None]] = {
    "LINK_EXPIRATION": expired_links,
    "LINK_CLICK_CLEANUP": old_clicks,
}
