"""The jobs that the documents name."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from deliveries.models import Attempt, Delivery, Endpoint, Kind, Retry, State, Status
from deliveries.services import retry
from deliveries.tasks import (
    delete_old_notifications,
    delete_old_webhooks,
    schedule_failed_notifications,
    schedule_failed_webhooks,
)
from jobs.registry import periodic_jobs
from tests.deliveries.conftest import NewEndpoint, deliver

pytestmark = pytest.mark.django_db


@pytest.fixture
def webhook(new_endpoint: NewEndpoint) -> Endpoint:
    return new_endpoint()


@pytest.fixture
def discord(new_endpoint: NewEndpoint) -> Endpoint:
    return new_endpoint("/discord", kind=Kind.DISCORD)


def finished(endpoint: Endpoint, status: Status, days: int = 0, **fields: Any) -> Delivery:
    deliver()
    delivery = endpoint.deliveries.latest("pk")
    Delivery.objects.exclude(endpoint=endpoint).delete()
    Delivery.objects.filter(pk=delivery.pk).update(
        status=status,
        next_attempt_at=None,
        completed_at=timezone.now() - timedelta(days=days),
        **fields,
    )
    delivery.refresh_from_db()
    return delivery


@pytest.mark.parametrize(("attempts", "minutes"), [(1, 2), (2, 4)])
def test_failed_webhooks_are_given_2_to_the_attempts_minutes(
    webhook: Endpoint, attempts: int, minutes: int
) -> None:
    delivery = finished(webhook, Status.FAILED, attempts=attempts)
    assert schedule_failed_webhooks() == 1
    delivery.refresh_from_db()
    assert delivery.status == Status.RETRYING
    assert delivery.next_attempt_at
    wait = delivery.next_attempt_at - timezone.now()
    assert timedelta(minutes=minutes - 1) < wait < timedelta(minutes=minutes, seconds=1)


def test_what_has_no_attempts_left_is_dead_and_starves_nobody(
    webhook: Endpoint, settings: Settings
) -> None:
    exhausted = finished(webhook, Status.FAILED, attempts=3)
    other = finished(webhook, Status.FAILED, attempts=1)
    assert schedule_failed_webhooks() == 1
    exhausted.refresh_from_db()
    other.refresh_from_db()
    assert (exhausted.status, other.status) == (Status.DEAD, Status.RETRYING)


def test_a_raised_limit_gives_what_failed_more_attempts(
    webhook: Endpoint, settings: Settings
) -> None:
    finished(webhook, Status.FAILED, attempts=3)
    settings.WEBHOOK_MAX_RETRIES = 5
    assert schedule_failed_webhooks() == 1


def test_each_kind_has_its_own_job_and_limit(
    webhook: Endpoint, discord: Endpoint, settings: Settings
) -> None:
    settings.NOTIFICATION_RETRY_MAX_RETRIES = 2
    message = finished(discord, Status.FAILED, attempts=1)
    assert schedule_failed_webhooks() == 0
    assert schedule_failed_notifications() == 1
    message.refresh_from_db()
    assert message.status == Status.RETRYING
    Delivery.objects.update(status=Status.FAILED, next_attempt_at=None, attempts=2)
    assert schedule_failed_notifications() == 0


def test_finished_webhooks_are_deleted_after_their_retention(webhook: Endpoint) -> None:
    for status in (Status.SUCCESS, Status.FAILED, Status.DEAD):
        old = finished(webhook, status, days=31)
        Attempt.objects.create(
            delivery=old,
            number=1,
            started_at=timezone.now(),
            duration_ms=1,
            url="-",
            request_headers={},
            succeeded=False,
        )
    young = finished(webhook, Status.SUCCESS, days=29)
    deliver()
    waiting = Delivery.objects.latest("pk")
    Delivery.objects.filter(pk=waiting.pk).update(created_at=timezone.now() - timedelta(days=99))
    assert delete_old_webhooks() == 3
    assert set(Delivery.objects.values_list("pk", flat=True)) == {young.pk, waiting.pk}
    assert not Attempt.objects.exists()


@pytest.mark.parametrize("state", [State.PAUSED, State.DISABLED])
def test_what_waited_too_long_at_an_endpoint_that_takes_nothing_is_dead_and_then_deleted(
    webhook: Endpoint, new_endpoint: NewEndpoint, state: State
) -> None:
    other = new_endpoint("/other")
    for days in (31, 29):
        pks = [delivery.pk for delivery in deliver()]
        waits_since = timezone.now() - timedelta(days=days)
        Delivery.objects.filter(pk__in=pks).update(next_attempt_at=waits_since)
    Endpoint.objects.filter(pk=webhook.pk).update(state=state)
    first, second = webhook.deliveries.order_by("pk")
    assert delete_old_webhooks() == 1
    first.refresh_from_db()
    assert (first.status, first.error) == (
        Status.DEAD,
        "Its endpoint was paused or disabled for 30 days.",
    )
    second.refresh_from_db()
    assert second.status == Status.PENDING
    assert other.deliveries.waiting().count() == 2, "they are on their way"
    Delivery.objects.filter(pk=first.pk).update(completed_at=timezone.now() - timedelta(days=31))
    assert delete_old_webhooks() == 1
    assert webhook.deliveries.get() == second


def test_messages_that_wait_are_kept_as_long_as_undelivered_ones(discord: Endpoint) -> None:
    deliver()
    Endpoint.objects.update(state=State.DISABLED)
    for days, ended in ((89, 0), (91, 1)):
        Delivery.objects.update(next_attempt_at=timezone.now() - timedelta(days=days))
        assert delete_old_notifications() == ended
    assert discord.deliveries.get().status == Status.DEAD


def test_retries_are_forgotten_with_their_deliveries(webhook: Endpoint) -> None:
    kept = finished(webhook, Status.DEAD)
    retry(Delivery.objects.filter(pk=kept.pk), "kept", "operator")
    Retry.objects.create(what="young", by="operator")
    Retry.objects.create(what="old", by="operator")
    Retry.objects.exclude(what="young").update(created_at=timezone.now() - timedelta(days=31))
    delete_old_webhooks()
    assert {retry.what for retry in Retry.objects.all()} == {"kept", "young"}


def test_undelivered_messages_are_kept_for_longer_than_delivered_ones(discord: Endpoint) -> None:
    kept = [finished(discord, Status.DEAD, days=89), finished(discord, Status.SUCCESS, days=29)]
    for status, days in ((Status.SUCCESS, 31), (Status.DEAD, 91), (Status.FAILED, 91)):
        finished(discord, status, days=days)
    assert delete_old_webhooks() == 0
    assert delete_old_notifications() == 3
    assert set(Delivery.objects.values_list("pk", flat=True)) == {row.pk for row in kept}


@pytest.mark.parametrize(
    ("name", "every"),
    [
        ("WEBHOOK_RETRY_SCHEDULER", "5m"),
        ("WEBHOOK_CLEANUP", "24h"),
        ("NOTIFICATION_RETRY", "5m"),
        ("NOTIFICATION_CLEANUP", "24h"),
    ],
)
def test_the_jobs_of_the_documents_are_there(name: str, every: str) -> None:
    assert periodic_jobs[name].every == every
