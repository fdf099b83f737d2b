"""Posts go out at their moment, all of them, once each."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from domains.blog import services
from domains.blog.models import Category, Post, PostStatus
from domains.blog.services import edit, publish_due
from domains.blog.tasks import PostClock, publish_scheduled_posts
from jobs.clock import LONGEST_SLEEP
from jobs.models import Run
from jobs.registry import periodic_jobs
from outbox.models import Event
from outbox.services import build_event as build
from tests.conftest import Spawn
from tests.domains.blog.conftest import HOUR, draft, due, published, scheduled, told
from tests.live import database_of
from tests.processes import Environment
from tests.racing import race
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db

SCHEDULED = "blog.post.scheduled.published"
GENEROUS = timedelta(seconds=30)  # a benchmark says how late it really is


def test_the_job_of_the_documents_is_there() -> None:
    assert periodic_jobs["POST_PUBLISHER"].every == "5m"


def test_a_post_goes_out_at_its_moment_and_not_before() -> None:
    post = scheduled()
    assert post.published_at
    with time_machine.travel(post.published_at - timedelta(milliseconds=1), tick=False):
        assert publish_scheduled_posts().items == 0
    with time_machine.travel(post.published_at, tick=False):
        assert publish_scheduled_posts().items == 1
        assert publish_scheduled_posts().items == 0
    moment = post.published_at
    post.refresh_from_db()
    assert (post.status, post.published_at) == (PostStatus.PUBLISHED, moment)
    assert len(told(SCHEDULED)) == 1


def test_a_draft_without_a_moment_waits_for_its_author() -> None:
    draft()
    assert publish_due().items == 0


def test_all_go_out_however_many_with_a_bounded_number_of_statements() -> None:
    due(2_500)
    with CaptureQueriesContext(
        connection,
    ) as statements:
        assert publish_scheduled_posts().items == 2_500
    assert not Post.objects.exclude(status=PostStatus.PUBLISHED).exists()
    events = Event.objects.filter(type=SCHEDULED)
    assert events.values("key").distinct().count() == events.count() == 2_500
    batches = 2_500 / services.BATCH
    assert len(statements) < 17 * batches


def test_what_was_edited_meanwhile_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    (post,) = due(1)
    find = services._due

    def find_then_edit(*arguments: Any) -> Any:
        found = find(*arguments)
        Post.objects.filter(pk=post.pk).update(title="Corrected", view_count=3)
        return found

    monkeypatch.setattr(services, "_due", find_then_edit)
    publish_due()
    post.refresh_from_db()
    assert (post.title, post.view_count, post.status) == ("Corrected", 3, PostStatus.PUBLISHED)
    assert told()[0].data["title"] == "Corrected"


def test_what_was_put_off_meanwhile_stays_a_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    (post,) = due(1)
    find = services._due

    def find_then_put_off(*arguments: Any) -> Any:
        found = find(*arguments)
        edit(post, published_at=timezone.now() + HOUR)
        return found

    monkeypatch.setattr(services, "_due", find_then_put_off)
    assert publish_due().items == 0
    assert not told()


def test_one_that_fails_is_recorded_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    posts = due(12)

    def build_event(kind: str, key: str, data: Any) -> Event:
        if key == f"post-{posts[4].pk}":
            raise ValueError("no ink")
        return build(kind, key, data)

    monkeypatch.setattr(services, "build_event", build_event)
    call_command("run_job", "POST_PUBLISHER")
    run = Run.objects.get()
    assert (run.items, run.failed_items) == (11, 1)
    assert run.reason == f"post-{posts[4].pk}: no ink"
    assert Post.objects.get(status=PostStatus.DRAFT) == posts[4]
    assert len(told(SCHEDULED)) == 11


@pytest.mark.django_db(transaction=True)
def test_two_that_run_at_once_publish_each_once() -> None:
    due(1_200)
    outcomes = race(publish_due, publish_due, publish_due)
    publish_due()  # what one held locked, all others passed over
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert not Post.objects.exclude(status=PostStatus.PUBLISHED).exists()
    keys = [event.key for event in told(SCHEDULED)]
    assert len(keys) == len(set(keys)) == 1_200


@pytest.mark.django_db(transaction=True)
def test_by_hand_and_by_the_clock_at_once_is_told_once() -> None:
    for number in range(8):
        post = draft(f"Post {number}")
        Post.objects.filter(pk=post.pk).update(published_at=timezone.now())
        race(partial(services.publish, post), publish_due)
        publish_due()
        assert len([event for event in told() if event.key == f"post-{post.pk}"]) == 1


@pytest.mark.django_db(transaction=True)
def test_two_categories_that_are_moved_into_each_other_at_once_make_no_ring() -> None:
    for number in range(8):
        one, other = (Category.objects.create(name=n, slug=f"{n}{number}") for n in "ab")
        race(
            partial(services.save_category, one, parent=other),
            partial(services.save_category, other, parent=one),
        )
        one.refresh_from_db()
        other.refresh_from_db()
        assert (one.parent is None) != (other.parent is None)


def test_the_clock_sleeps_until_the_next_moment() -> None:
    assert PostClock().step() == LONGEST_SLEEP
    post = scheduled()
    published("Other")
    assert post.published_at
    with time_machine.travel(post.published_at - timedelta(seconds=1), tick=False):
        assert PostClock().step() == pytest.approx(1, abs=0.01)
    with time_machine.travel(post.published_at, tick=False):
        assert PostClock().step() == LONGEST_SLEEP
    assert len(told(SCHEDULED)) == 1


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_two_relays_publish_a_post_on_time_and_once(
    spawn: Spawn, live_database: Environment
) -> None:
    relays = [spawn(["relay"], live_database) for _ in range(2)]
    for relay in relays:
        wait_until(lambda relay=relay: "POST_CLOCK started" in relay.output())  # type: ignore[misc]
    with database_of(live_database):
        moment = timezone.now() + timedelta(seconds=3)
        post = draft(published_at=moment)
        event = wait_until(lambda: Event.objects.published().filter(type=SCHEDULED).first())
        assert event
        late = datetime.fromisoformat(event.data["published_at"]) - moment
        print(f"{late.total_seconds() * 1000:.0f} ms late")
        assert timedelta() <= late < GENEROUS
        post.refresh_from_db()
        assert post.status == PostStatus.PUBLISHED
        assert len(told()) == 1
