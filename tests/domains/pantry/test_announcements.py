"""ITEM_EXPIRATION and STOCK_LEVEL: each change is told, once."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from domains.pantry.events import EVENTS
from domains.pantry.models import Item, Location, Piece, Variant
from domains.pantry.services import consume, freeze, stock_up, take, thaw, today
from domains.pantry.tasks import check_expiry, check_stock
from outbox.models import Event
from tests.domains.pantry.conftest import NewVariant, day, in_days, piece_of
from tests.racing import race
from tests.test_docs import rows

pytestmark = pytest.mark.django_db

EXPIRED, SOON = "foodfolio.detail.expired", "foodfolio.detail.expiring.soon"
EMPTY, LOW = "foodfolio.variant.stock.empty", "foodfolio.variant.stock.low"
MANY = 2_500


def told() -> list[str]:
    """The types of what was told since this was asked last."""
    events = Event.objects.order_by("pk")
    types = list(events.values_list("type", flat=True))
    events.delete()
    return types


def test_a_piece_is_told_of_when_it_will_soon_expire_and_when_it_has(
    new_variant: NewVariant,
) -> None:
    kitchen = Location.objects.create(name="Kitchen")
    fridge = Location.objects.create(name="Fridge", parent=kitchen)
    piece = piece_of(new_variant(), days=9, location=fridge)
    assert (check_expiry(), told()) == (0, [])
    with in_days(2):
        assert check_expiry() == 1
        event = Event.objects.get()
        assert (event.type, event.topic, event.key) == (SOON, "foodfolio", f"detail-{piece.pk}")
        assert event.data == {
            "detail_id": piece.pk,
            "variant_id": piece.variant_id,
            "item_name": "Milk",
            "variant_name": "1 l",
            "location": "Kitchen › Fridge",
            "expiry_date": str(piece.expires_on),
            "days_left": 7,
            "detected_at": timezone.now().isoformat(),
        }
        assert (check_expiry(), told()) == (0, [SOON])
    with in_days(9):
        assert check_expiry() == 0  # its last day
    with in_days(10):
        assert (check_expiry(), told()) == (1, [EXPIRED])
        assert (check_expiry(), told()) == (0, [])


def test_what_nobody_looked_at_in_time_is_told_as_expired_alone(new_variant: NewVariant) -> None:
    piece_of(new_variant(), days=-30)
    check_expiry()
    assert told() == [EXPIRED]


def test_what_is_open_expires_too_but_not_what_is_gone_or_frozen(new_variant: NewVariant) -> None:
    milk = new_variant()
    consume(piece_of(milk, days=-1))
    frozen = piece_of(milk, days=1)
    freeze(frozen)
    piece_of(milk)
    with in_days(30):
        assert (check_expiry(), told()) == (0, [])
        thaw(frozen)
        assert (check_expiry(), told()) == (1, [SOON])


def test_a_date_that_was_put_right_is_told_of_anew(new_variant: NewVariant) -> None:
    piece = piece_of(new_variant(), days=-1)
    check_expiry()
    Piece.objects.update(expires_on=day(100))
    check_expiry()
    assert told() == [EXPIRED]
    Piece.objects.filter(pk=piece.pk).update(expires_on=day(-1))
    check_expiry()
    assert told() == [EXPIRED]


def test_a_variant_is_told_of_when_it_runs_low_and_out(new_variant: NewVariant) -> None:
    milk = new_variant(stock=2, min_sku=2)
    assert (check_stock(), told()) == (0, [])
    take(milk)
    assert check_stock() == 1
    event = Event.objects.get()
    assert (event.type, event.topic, event.key) == (LOW, "foodfolio", f"variant-{milk.pk}")
    assert event.data.pop("detected_at")
    assert event.data == {
        "variant_id": milk.pk,
        "item_id": milk.item_id,
        "item_name": "Milk",
        "variant_name": "1 l",
        "current_stock": 1,
        "min_sku": 2,
    }
    assert (check_stock(), told()) == (0, [LOW])
    take(milk)
    assert (check_stock(), told()) == (1, [EMPTY])
    assert (check_stock(), told()) == (0, [])


def test_what_was_replenished_and_fell_again_is_told_of_again(new_variant: NewVariant) -> None:
    milk = new_variant(min_sku=2)
    check_stock()
    stock_up(milk, 2)
    check_stock()
    take(milk)
    check_stock()
    assert told() == [EMPTY, LOW]


def test_it_is_told_of_again_even_when_no_run_saw_it_replenished(new_variant: NewVariant) -> None:
    milk = new_variant(stock=1, min_sku=2)
    check_stock()
    stock_up(milk, 5)
    for _ in range(5):
        take(milk)
    check_stock()
    assert told() == [LOW, LOW]


def test_stock_that_expires_runs_low_by_itself(new_variant: NewVariant) -> None:
    milk = new_variant()
    piece_of(milk, days=3)
    check_stock()
    with in_days(4):
        check_stock()
    assert told() == [EMPTY]


def many_variants(count: int) -> list[Variant]:
    item = Item.objects.create(name="Milk")
    rows = (Variant(item=item, name=f"v{n}", min_sku=2) for n in range(count))
    return Variant.objects.bulk_create(rows)


def low_stock() -> None:
    Piece.objects.bulk_create(Piece(variant=v) for v in many_variants(MANY))


def old_pieces() -> None:
    [variant] = many_variants(1)
    past = today() - timedelta(days=1)
    Piece.objects.bulk_create(Piece(variant=variant, expires_on=past) for _ in range(MANY))


@pytest.mark.parametrize(
    ("fill", "job", "event"),
    [(low_stock, check_stock, LOW), (old_pieces, check_expiry, EXPIRED)],
)
def test_all_rows_are_told_of_with_a_bounded_number_of_statements(
    fill: Callable[[], None], job: Callable[[], int], event: str
) -> None:
    fill()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert job() == MANY
    assert Event.objects.filter(type=event).count() == MANY
    assert len(queries) < 70  # of which 25 insert a hundred events each
    assert job() == 0


@pytest.mark.django_db(transaction=True)
def test_two_runners_at_once_tell_each_change_once() -> None:
    low_stock()
    Piece.objects.update(expires_on=day(1))
    outcomes = race(check_stock, check_expiry, check_stock, check_expiry)
    assert sum(outcomes) == 2 * MANY, outcomes
    for event in (LOW, SOON):
        keys = Event.objects.filter(type=event).values_list("key", flat=True)
        assert len(keys) == len(set(keys)) == MANY


def test_the_jobs_run_by_name(new_variant: NewVariant, capsys: Any) -> None:
    piece_of(new_variant(min_sku=1), days=-1)
    call_command("run_job", "ITEM_EXPIRATION")
    call_command("run_job", "STOCK_LEVEL")
    assert told() == [EXPIRED, EMPTY]


def test_what_it_declares_is_what_the_documents_describe() -> None:
    described = {name for name in rows("events.md", "Event types") if name.startswith("foodfolio.")}
    assert set(EVENTS) == described == {EXPIRED, SOON, EMPTY, LOW}
