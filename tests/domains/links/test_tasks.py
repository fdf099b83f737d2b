from datetime import datetime, timedelta

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from domains.links.events import EVENTS
from domains.links.models import ALPHABET, Click, Link, Name
from domains.links.tasks import delete_old_clicks, expire_links, overdue
from jobs.registry import periodic_jobs
from outbox.models import Event
from outbox.topics import topic_of
from tests.domains.links.conftest import Follow, link
from tests.factories import operator
from tests.racing import race

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def many(count: int, expires_at: datetime) -> None:
    """Written at once, as a filler of benchmarks does."""
    base = len(ALPHABET)
    codes = ["".join(ALPHABET[n // base**i % base] for i in range(6)) for n in range(count)]
    links = Link.objects.bulk_create(
        Link(original_url="https://example.org", short_code=code, expires_at=expires_at)
        for code in codes
    )
    Name.objects.bulk_create(Name(name=one.short_code, link=one) for one in links)


def expired_events() -> list[Event]:
    return list(Event.objects.filter(type="link.expired").order_by("id"))


def test_the_jobs_run_as_the_documents_say() -> None:
    job = periodic_jobs["LINK_EXPIRATION"]
    assert (job.every, job.enabled) == ("1h", True)
    assert periodic_jobs["LINK_CLICK_CLEANUP"].every == "24h"
    assert set(EVENTS) == {"link.expired"}
    assert topic_of("link.expired", addressed=False) == "link"


def test_a_link_that_was_made_by_the_api_expires_once_and_says_so(
    client: Client, follow: Follow
) -> None:
    client.force_login(operator("links.add_link"))
    end = (timezone.now() + HOUR).replace(microsecond=0)
    body = {"original_url": "https://example.org", "expires_at": end.isoformat()}
    made = client.post("/api/links", body, content_type="application/json").json()
    forever = link()
    assert expire_links() == 0
    with time_machine.travel(end + timedelta(seconds=1)):
        call_command("run_job", "LINK_EXPIRATION")
        assert expire_links() == 0
        assert follow(made["short_code"]).status_code == 410
        assert follow(forever).status_code == 302
    (event,) = expired_events()
    assert event.key == f"link-{made['id']}"
    assert event.data == {
        "link_id": made["id"],
        "short_code": made["short_code"],
        "expires_at": end.isoformat(),
    }
    assert set(Link.objects.values_list("pk", "is_active")) == {
        (made["id"], False),
        (forever.pk, True),
    }


def test_an_inactive_link_expires_without_a_word() -> None:
    made = link(expires_at=timezone.now() + HOUR, is_active=False)
    with time_machine.travel(timezone.now() + 2 * HOUR):
        assert overdue() == 0
        assert expire_links() == 0
    assert not expired_events()
    assert not Link.objects.get(pk=made.pk).is_active


def test_a_link_with_a_new_expiry_is_told_of_again() -> None:
    made = link(expires_at=timezone.now() + HOUR)
    with time_machine.travel(timezone.now() + 2 * HOUR):
        expire_links()
        Link.objects.filter(pk=made.pk).update(is_active=True, expires_at=timezone.now() + HOUR)
    with time_machine.travel(timezone.now() + 4 * HOUR):
        assert expire_links() == 1
    assert len(expired_events()) == 2


def test_more_than_any_page_of_them_expire_in_one_run_of_few_statements() -> None:
    many(2_500, timezone.now() - HOUR)
    assert overdue() == 2_500
    with CaptureQueriesContext(connection) as captured:
        assert expire_links() == 2_500
    assert len(captured) < 70  # some fifty events a statement on SQLite, and 3 batches
    assert not Link.objects.filter(is_active=True).exists()
    assert len({event.key for event in expired_events()}) == len(expired_events()) == 2_500


@pytest.mark.django_db(transaction=True)
def test_two_runs_at_once_tell_of_each_link_once() -> None:
    many(1_500, timezone.now() + HOUR)
    with time_machine.travel(timezone.now() + 2 * HOUR):
        outcomes = race(expire_links, expire_links)
    assert sum(outcomes) == 1_500
    assert len({event.key for event in expired_events()}) == len(expired_events()) == 1_500


def test_single_clicks_are_deleted_after_their_retention() -> None:
    made = link()
    now = timezone.now()
    ages = [0, 89, 91, 400]
    Click.objects.bulk_create(
        Click(link=made, clicked_at=now - timedelta(days=age), device="other", is_bot=False)
        for age in ages
        for _ in range(2_500)
    )
    assert delete_old_clicks() == 5_000
    assert Click.objects.count() == 5_000
    assert not Click.objects.filter(clicked_at__lt=now - timedelta(days=90)).exists()
