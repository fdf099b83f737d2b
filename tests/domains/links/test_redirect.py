from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from domains.links import services
from domains.links.clicks import Collector
from domains.links.models import Click, Link, Name
from domains.links.targets import find
from tests.domains.links.conftest import Follow, link

pytestmark = pytest.mark.django_db


def test_a_code_and_its_alias_lead_there_in_any_case(follow: Follow) -> None:
    made = link(custom_alias="Summer-Party")
    for name in (made.short_code, made.short_code.upper(), "summer-party", "SUMMER-party"):
        answer = follow(name)
        assert (answer.status_code, answer["Location"]) == (302, "https://example.org/page")
        assert answer["Cache-Control"] == "private, no-store"


def test_an_unknown_name_is_404(follow: Follow) -> None:
    assert follow("nothing").status_code == 404
    assert "Nothing is here" in follow("nothing").content.decode()


def test_only_get_and_head_are_allowed_and_head_is_no_click(
    client: Client, collector: Collector
) -> None:
    made = link()
    assert client.post(f"/s/{made.short_code}").status_code == 405
    assert client.head(f"/s/{made.short_code}").status_code == 302
    assert not collector.waiting


def test_an_inactive_link_answers_410_and_says_so(follow: Follow, collector: Collector) -> None:
    made = link(is_active=False)
    answer = follow(made)
    assert answer.status_code == 410
    assert "This link has ended" in answer.content.decode()
    assert not collector.waiting


def test_a_link_is_refused_the_moment_it_expires_whether_the_job_ran_or_not(
    follow: Follow,
) -> None:
    end = timezone.now() + timedelta(hours=1)
    made = link(expires_at=end)
    with time_machine.travel(end - timedelta(milliseconds=1), tick=False):
        assert follow(made).status_code == 302
    with time_machine.travel(end, tick=False):
        assert follow(made).status_code == 410
    made.refresh_from_db()
    assert made.is_active


def test_a_click_from_the_cache_costs_no_statement_and_never_a_write(follow: Follow) -> None:
    made = link()
    with CaptureQueriesContext(connection) as first:
        follow(made)
    with CaptureQueriesContext(connection) as second:
        follow(made)
    assert (len(first), len(second)) == (1, 0)
    assert not Click.objects.exists()


def test_a_click_of_somebody_signed_in_reads_who_it_is_and_writes_nothing(
    client: Client, follow: Follow
) -> None:
    made = link()
    client.force_login(User.objects.create_user("reader"))
    follow(made)
    with CaptureQueriesContext(connection) as captured:
        follow(made)
    assert len(captured) == 2
    assert all(query["sql"].startswith("SELECT") for query in captured)


def test_a_change_is_followed_at_once(
    follow: Follow, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    made = link(custom_alias="news")
    follow("news")
    with django_capture_on_commit_callbacks(execute=True):
        services.edit(made, original_url="https://example.org/other")
    assert follow("news")["Location"] == "https://example.org/other"
    with django_capture_on_commit_callbacks(execute=True):
        services.deactivate(made)
    assert follow("news").status_code == 410
    with django_capture_on_commit_callbacks(execute=True):
        services.activate(made)
    assert follow("news").status_code == 302
    with django_capture_on_commit_callbacks(execute=True):
        services.edit(made, custom_alias="olds")
    assert (follow("news").status_code, follow("olds").status_code) == (404, 302)
    with django_capture_on_commit_callbacks(execute=True):
        services.delete(made)
    assert follow("olds").status_code == 404


def test_what_was_read_before_a_change_never_stays_after_it(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slow reader puts what it read into the cache when the change is there already."""
    made = link()
    add = cache.add

    def change_first(*arguments: Any) -> bool:
        with django_capture_on_commit_callbacks(execute=True):
            services.deactivate(made)
        return bool(add(*arguments))

    monkeypatch.setattr(cache, "add", change_first)
    find(made.short_code)
    found = find(made.short_code)
    assert found
    assert not found.is_active


def test_a_change_of_what_was_read_long_ago_brings_nothing_old_back(
    follow: Follow, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    made = link()
    old = Link.objects.get(pk=made.pk)
    services.edit(made, original_url="https://example.org/other")
    with django_capture_on_commit_callbacks(execute=True):
        services.edit(old, title="A title")
    assert follow(made)["Location"] == "https://example.org/other"


def test_without_a_cache_the_rows_are_asked(follow: Follow, settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    made = link()
    assert [follow(made).status_code for _ in range(2)] == [302, 302]


def test_a_name_that_is_made_up_takes_no_place_in_the_cache(follow: Follow) -> None:
    follow("made-up")
    assert cache.get("link:made-up") is None


def test_the_table_knows_each_name_once() -> None:
    made = link(custom_alias="one")
    assert set(Name.objects.values_list("name", flat=True)) == {made.short_code, "one"}
    assert Link.objects.get() == made
