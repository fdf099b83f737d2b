"""What EVENT_RETENTION does, seen from outside: by who returns to the stream after a while."""

from datetime import timedelta

import pytest
from django.db.models import F

from outbox.models import Event
from tests.everywhere import OPERATOR, STREAM, Everywhere, running
from tests.sse import Client, basic
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

POSTS, POST = "/api/blog/posts", "blog.post.published"


def published(site: Everywhere, title: str) -> int:
    """The position of what tells of a new post."""
    post = site.request("POST", POSTS, {"title": title, "content": "x"})["id"]
    site.request("POST", f"{POSTS}/{post}/publish")
    told = Event.objects.published().filter(key=f"post-{post}")
    wait_until(told.exists, message=f"{title} is told")
    return int(told.get().position or 0)


def returns(site: Everywhere, position: int, until: str) -> Client:
    """Who has seen everything up to there, until they are told that."""
    login = basic(OPERATOR, OPERATOR)
    client = Client(site.port, path=STREAM, authorization=login, last_id=str(position))
    with running(client):
        wait_until(lambda: client.counts[until], message=f"there is a {until}")
        return client


def test_what_is_older_than_seven_days_is_replayed_no_more(site: Everywhere) -> None:
    seen, old = published(site, "seen"), published(site, "old")
    Event.objects.published().update(published_at=F("published_at") - timedelta(days=7.1))
    young = published(site, "young")
    replayed = returns(site, seen, until=POST)
    assert replayed.of("CONNECTED")[0].data["recovered"]
    assert replayed.of(POST)[0].id == str(old)
    site.run_job("EVENT_RETENTION")
    missed = returns(site, seen, until="RESET")
    assert not missed.of("CONNECTED")[0].data["recovered"]
    kept = returns(site, young - 1, until=POST)
    assert kept.of("CONNECTED")[0].data["recovered"]
    assert kept.of(POST)[0].id == str(young)
    site.run_job("EVENT_RETENTION")
    last, first = site.request("GET", "/api/admin/jobs/EVENT_RETENTION")["runs"]
    assert (first["items"] >= 2, last["items"]) == (True, 0)
