"""The latest posts for feed readers, and all of them for search engines."""

import re
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.sitemaps import Sitemap
from django.contrib.syndication.views import Feed
from django.db.models import Max, Model, QuerySet
from django.urls import reverse
from django.utils.feedgenerator import Atom1Feed
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from domains.blog.models import Category, Post, Tag

LATEST = 20
NO_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # pasted from elsewhere


class LatestPosts(Feed):  # type: ignore[type-arg]
    """RSS 2.0."""

    title = _("Blog")
    description = _("The latest posts.")

    def link(self) -> str:
        return f"{settings.SITE_URL}{reverse('blog')}"

    def items(self) -> QuerySet[Post]:
        return (
            Post.objects.published()
            .select_related("author")
            .prefetch_related("categories", "tags")[:LATEST]
        )

    def item_title(self, item: Post) -> SafeString:
        return SafeString(_plain(item.title))  # the generator escapes it

    def item_description(self, item: Post) -> str:
        return _plain(item.html)

    def item_link(self, item: Post) -> str:
        return f"{settings.SITE_URL}{item.get_absolute_url()}"

    def item_guid(self, item: Post) -> str:
        """The same for ever, whatever becomes of its address."""
        return f"{settings.SITE_URL}/blog#post-{item.pk}"

    item_guid_is_permalink = False

    def item_author_name(self, item: Post) -> str:
        if not item.author:
            return ""
        return _plain(item.author.get_full_name() or item.author.username)

    def item_pubdate(self, item: Post) -> datetime | None:
        return item.published_at

    def item_updateddate(self, item: Post) -> datetime:
        return item.updated_at

    def item_categories(self, item: Post) -> list[str]:
        return [_plain(str(row)) for row in (*item.categories.all(), *item.tags.all())]


def _plain(text: str) -> str:
    """Without what no XML may hold: one such character would take the whole feed away."""
    return NO_XML.sub("", text)


class LatestPostsAtom(LatestPosts):
    feed_type = Atom1Feed
    subtitle = LatestPosts.description


class OfThisSite(Sitemap):  # type: ignore[type-arg]
    """Addresses by SITE_URL, whatever host was asked."""

    limit = 5_000

    def get_domain(self, site: Any = None) -> str:
        return urlsplit(settings.SITE_URL).netloc

    def get_protocol(self, protocol: str | None = None) -> str:
        return urlsplit(settings.SITE_URL).scheme


class PostSitemap(OfThisSite):
    def items(self) -> QuerySet[Post]:
        own = Post.objects.published().filter(canonical_url="")
        return own.only("slug", "updated_at").order_by("pk")

    def lastmod(self, item: Post) -> datetime:
        return item.updated_at

    def get_latest_lastmod(self) -> datetime | None:
        """For the index: Django itself reads every post for it."""
        latest: datetime | None = self.items().aggregate(latest=Max("updated_at"))["latest"]
        return latest


class FilingSitemap(OfThisSite):
    """The pages of categories and tags that hold something."""

    def items(self) -> list[Model]:
        shown = Post.objects.published()
        categories = Category.objects.filter(posts__in=shown).distinct().order_by("pk")
        tags = Tag.objects.filter(posts__in=shown).distinct().order_by("pk")
        return [*categories, *tags]


class HomeSitemap(OfThisSite):
    def items(self) -> list[str]:
        return ["blog"]

    def location(self, item: str) -> str:
        return reverse(item)


SITEMAPS = {"pages": HomeSitemap, "posts": PostSitemap, "topics": FilingSitemap}
