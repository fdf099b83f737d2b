"""What `LINK_SHORTENER` names: short links for others, and who followed them.

Others know a link by its `reference` alone, such as `broadcast-7`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Count, Min, Sum
from django.urls import reverse

from domains.links.models import Link, Reader, own_name
from domains.links.services import create


@dataclass(frozen=True)
class Clicks:
    """Of one link."""

    url: str
    """Where it leads to."""
    short_url: str
    page: str
    """Its statistics in the admin."""
    clicks: int
    people: int
    """Those of them that were signed in."""


@dataclass(frozen=True)
class Person:
    username: str
    first_at: datetime
    clicks: int


@dataclass(frozen=True)
class People:
    count: int
    first: list[Person]


class Shortener:
    needs = "links.view_link"

    def shorten(self, url: str, *, reference: str, title: str = "") -> str:
        """A short address of its own for this reference; again the same one.

        What was made for another reference is resolved first: a text that was copied gets links
        of its own. Raises `ValidationError` for what no link may lead to.
        """
        if name := own_name(url):
            copied = Link.objects.filter(name_set__name=name).exclude(reference="").first()
            if copied is None:
                return url  # somebody's own short link, or none
            url = copied.original_url
        same = Link.objects.filter(reference=reference, original_url=url).first()
        return (same or create(url, reference=reference, title=title)).short_url

    def clicks(self, reference: str) -> list[Clicks]:
        """By link. One query."""
        links: Any = Link.objects.filter(reference=reference).annotate(people=Count("readers"))
        return [
            Clicks(
                link.original_url,
                link.short_url,
                reverse("admin:links_link_stats_one", args=[link.pk]),
                link.click_count,
                link.people,
            )
            for link in links.order_by("id")
        ]

    def people(self, reference: str, limit: int) -> People:
        """Who was signed in, the first ones first. Two queries."""
        readers = Reader.objects.filter(link__reference=reference).order_by()
        count = readers.aggregate(count=Count("user", distinct=True))["count"]
        rows = readers.values_list(f"user__{User.USERNAME_FIELD}")
        first = rows.annotate(first=Min("first_at"), sum=Sum("clicks")).order_by("first")[:limit]
        return People(count, [Person(*row) for row in first])
