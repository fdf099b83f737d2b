"""What a first look needs: links in every state, and a month of clicks. Never in production."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.core.management import call_command
from django.utils import timezone

from domains.links.clicks import BATCH, Visit, record
from domains.links.models import Link

CLICKED = {"k7m2qp": 900, "w3xn8d": 120, "r5tz9h": 60}  # links of the fixture, and how often
DAYS = 30
BROWSERS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/140.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like"
    " Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Linux; Android 15; SM-X710) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/140.0.0.0 Safari/537.36",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
]
REFERRERS = ["", "https://intranet.example.org/news", "https://www.example.com/", "https://t.co/"]


def create() -> bool:
    """Make what is missing; False when nothing was."""
    if Link.objects.filter(short_code__in=CLICKED).exists():
        return False
    call_command("loaddata", "demo-links", verbosity=0)
    visits = sorted(_visits(timezone.now()), key=lambda visit: visit.at)
    for start in range(0, len(visits), BATCH):
        record(visits[start : start + BATCH])
    return True


def _visits(now: datetime) -> Iterator[Visit]:
    chance = random.Random(1)  # noqa: S311
    people = list(User.objects.filter(username__startswith="user-").order_by("pk")[:5])
    for code, count in CLICKED.items():
        link = Link.objects.get(short_code=code)
        for _ in range(count):
            yield Visit(
                link.pk,
                now - timedelta(days=DAYS * chance.random() ** 2),  # more of late
                f"203.0.113.{chance.randrange(256)}",
                chance.choices(BROWSERS, [40, 30, 15, 8, 7])[0],
                chance.choices(REFERRERS, [40, 30, 20, 10])[0],
                chance.choice(people).pk if people and chance.random() < 0.02 else None,
            )
