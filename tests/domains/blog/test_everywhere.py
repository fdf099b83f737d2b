"""What POST_PUBLISHER does, seen from outside: a moment passes unseen, and all are told."""

from datetime import timedelta
from urllib.request import urlopen

import pytest
from django.utils import timezone

from tests.everywhere import Everywhere

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

POSTS = "/api/blog/posts"


def test_a_post_whose_moment_was_missed_is_published_and_all_are_told_once(
    site: Everywhere,
) -> None:
    due = timezone.now() - timedelta(minutes=1)
    moments = {"due": due, "coming": due + timedelta(days=1), "draft": None}
    with site.watch("blog.post.scheduled.published") as seen, site.relay_away():
        for title, at in moments.items():
            moment = at and at.isoformat()
            site.request("POST", POSTS, {"title": title, "content": "x", "published_at": moment})
        site.run_job("POST_PUBLISHER")
        site.run_job("POST_PUBLISHER")
    (published,) = (one["data"] for one in seen)
    assert (published["title"], published["scheduled_at"]) == ("due", due.isoformat())
    states = {one["title"]: one["status"] for one in site.request("GET", POSTS)["results"]}
    assert states == {"due": "PUBLISHED", "coming": "DRAFT", "draft": "DRAFT"}
    with urlopen(f"http://127.0.0.1:{site.port}/blog/feed.rss") as feed:
        assert feed.read().count(b"<item>") == 1, "and who has no account reads it"
