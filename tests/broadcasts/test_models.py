"""The database states the rules: what no service may write, no other door may write either."""

from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import IntegrityError, connection
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from broadcasts.models import Address, Broadcast, Product, Receipt, Status
from broadcasts.services import send
from tests.databases import prefer_indexes
from tests.factories import ActiveFactory, DraftFactory, ProductFactory, UserFactory

pytestmark = pytest.mark.django_db

NOW = timezone.now()  # when the tests were collected
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"scheduled_at": NOW, "expires_at": NOW}, "broadcasts_expiry_after_schedule"),
        ({"force_logoff": True}, "broadcasts_logoff_is_fire_and_forget"),
        ({"status": Status.SCHEDULED}, "broadcasts_scheduled_has_moment"),
        ({"status": Status.ACTIVE}, "broadcasts_active_has_moment"),
        ({"status": Status.SENT}, "broadcasts_active_has_moment"),
    ],
)
def test_a_rule_holds_whoever_writes(fields: dict[str, Any], rule: str) -> None:
    broadcast = DraftFactory.create()
    with pytest.raises(IntegrityError, match=rule):
        Broadcast.objects.filter(pk=broadcast.pk).update(**fields)


def test_a_person_has_one_receipt_of_a_broadcast() -> None:
    fields = {"broadcast": DraftFactory.create(), "user": UserFactory.create()}
    Receipt.objects.create(**fields)
    with pytest.raises(IntegrityError):
        Receipt.objects.create(**fields)


def test_a_broadcast_addresses_a_channel_once() -> None:
    broadcast = DraftFactory.create()
    Address.objects.create(broadcast=broadcast, channel="all")
    with pytest.raises(IntegrityError):
        Address.objects.create(broadcast=broadcast, channel="all")


def test_an_external_id_is_there_once_and_none_is_no_id() -> None:
    DraftFactory.create(external_id=None)
    DraftFactory.create(external_id=None)
    first, second = DraftFactory.create(external_id="GHSA-1"), DraftFactory.create()
    with pytest.raises(IntegrityError):
        Broadcast.objects.filter(pk=second.pk).update(external_id=first.external_id)


def test_what_is_due_has_come_and_is_not_paused() -> None:
    past, ahead, paused = (DraftFactory.create() for _ in range(3))
    moments = {past: (NOW, None), ahead: (NOW + DAY, None), paused: (NOW, NOW + DAY)}
    for broadcast, (moment, pause) in moments.items():
        Broadcast.objects.filter(pk=broadcast.pk).update(
            status=Status.SCHEDULED, scheduled_at=moment, next_attempt_at=pause
        )
    assert list(Broadcast.objects.due(NOW)) == [past]
    assert set(Broadcast.objects.due(NOW + DAY)) == {past, ahead, paused}


def test_what_is_visible_is_active_and_not_past_its_expiry() -> None:
    UserFactory.create()
    DraftFactory.create()
    send(DraftFactory.create(), NOW + DAY)
    forever, until = ActiveFactory.create(), ActiveFactory.create(expires_at=NOW + DAY)
    assert set(Broadcast.objects.visible(NOW)) == {forever, until}
    assert set(Broadcast.objects.visible(NOW + DAY)) == {forever}


def test_targets_are_counted_without_being_fetched(django_assert_num_queries: Any) -> None:
    users = User.objects.bulk_create(User(username=f"p-{n}") for n in range(7))
    DraftFactory.create(audience="SELECTED", targets=[str(user.pk) for user in users])
    with django_assert_num_queries(1):
        broadcast: Any = Broadcast.objects.with_target_count().get()
        assert broadcast.target_count == 7
    assert "targets" in broadcast.get_deferred_fields()


def test_a_product_is_found_by_its_natural_key() -> None:
    product = ProductFactory.create(slug="tea")
    assert Product.objects.get_by_natural_key("tea") == product
    assert product.natural_key() == ("tea",)


def test_the_sender_may_go_and_the_broadcast_stays() -> None:
    sender = UserFactory.create(username="ann")
    broadcast = ActiveFactory.create(sender=sender)
    sender.delete()
    broadcast.refresh_from_db()
    assert (broadcast.sender, broadcast.sender_name) == (None, "ann")


@pytest.mark.parametrize(
    ("question", "index"),
    [
        (Broadcast.objects.due(NOW).filter(next_attempt_at=None), "broadcasts_due"),
        (Broadcast.objects.in_progress(), "broadcasts_in_progress"),
    ],
)
def test_a_polling_loop_reads_no_whole_table(question: Any, index: str) -> None:
    for status, number in {"CANCELLED": 1_000, "SCHEDULED": 50, "IN_PROGRESS": 5}.items():
        rows = [Broadcast(title="A", status=status, scheduled_at=NOW + DAY) for _ in range(number)]
        Broadcast.objects.bulk_create(rows)
    prefer_indexes(Broadcast)
    if connection.vendor == "postgresql":
        assert index in question.explain()
    else:  # SQLite cannot know that a parameter meets the condition of a partial index
        assert "SEARCH" in question.explain()


def test_processes_of_the_version_before_can_write_beside_this_one() -> None:
    before = MigrationLoader(None).project_state(("broadcasts", "0002_receipt_indexes"))
    for (app, name), model in before.models.items():
        if app == "broadcasts":
            fields = apps.get_model(app, name)._meta.concrete_fields
            added = [field for field in fields if field.name not in model.fields]
            assert all(field.null or field.has_db_default() for field in added), name
