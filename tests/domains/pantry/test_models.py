from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from domains.pantry.models import SOON, Category, Freshness, Item, Level, Location, Piece, Variant
from domains.pantry.services import consume, freeze, open_piece, today
from tests.domains.pantry.conftest import NewVariant, piece_of
from tests.racing import race

pytestmark = pytest.mark.django_db


def stock_of(variant: Variant) -> Any:
    row: Any = Variant.objects.with_stock(today()).get(pk=variant.pk)
    return row.stock, row.level


def test_stock_is_what_is_neither_opened_nor_consumed_nor_expired(new_variant: NewVariant) -> None:
    milk = new_variant()
    piece_of(milk)
    piece_of(milk, days=0)
    frozen = piece_of(milk, days=1)
    freeze(frozen)
    Piece.objects.filter(pk=frozen.pk).update(expires_on=today() - timedelta(days=300))
    open_piece(piece_of(milk))
    consume(piece_of(milk))
    piece_of(milk, days=-1)
    assert stock_of(milk) == (3, Level.ENOUGH)
    assert Piece.objects.in_stock(today()).count() == 3


@pytest.mark.parametrize(
    ("stock", "level"), [(0, Level.EMPTY), (1, Level.LOW), (2, Level.ENOUGH), (3, Level.ENOUGH)]
)
def test_below_its_minimum_a_variant_is_low_and_without_a_piece_empty(
    new_variant: NewVariant, stock: int, level: Level
) -> None:
    assert stock_of(new_variant(stock=stock, min_sku=2)) == (stock, level)


def test_what_nobody_wants_any_of_is_empty_but_never_short(new_variant: NewVariant) -> None:
    spice = new_variant("Saffron", min_sku=0)
    rice = new_variant("Rice", min_sku=1)
    assert stock_of(spice) == (0, Level.EMPTY)
    assert list(Variant.objects.short(today())) == [rice]


def test_above_its_maximum_a_variant_is_overstocked(new_variant: NewVariant) -> None:
    new_variant("Rice", stock=3, max_sku=3)
    beans = new_variant("Beans", stock=4, max_sku=3)
    assert list(Variant.objects.overstocked(today())) == [beans]


@pytest.mark.parametrize(
    ("days", "freshness"),
    [
        (None, Freshness.FRESH),
        (-1, Freshness.EXPIRED),
        (0, Freshness.SOON),
        (7, Freshness.SOON),
        (8, Freshness.FRESH),
    ],
)
def test_rows_and_queries_agree_on_what_is_fresh(
    new_variant: NewVariant, days: int | None, freshness: Freshness
) -> None:
    piece = piece_of(new_variant(), days)
    assert SOON.days == 7
    assert piece.freshness_on(today()) == freshness
    assert Piece.objects.expired(today()).exists() == (freshness == Freshness.EXPIRED)
    assert Piece.objects.expiring(today()).exists() == (freshness == Freshness.SOON)


def test_nothing_can_be_within_itself() -> None:
    kitchen = Location.objects.create(name="Kitchen")
    fridge = Location.objects.create(name="Fridge", parent=kitchen)
    door = Location.objects.create(name="Door", parent=fridge)
    for parent in (kitchen, fridge, door):
        kitchen.parent = parent
        with pytest.raises(ValidationError, match="within itself"):
            kitchen.full_clean()
        with pytest.raises(ValidationError, match="within itself"):
            kitchen.save()


@pytest.mark.django_db(transaction=True)
def test_two_moves_at_once_make_no_cycle() -> None:
    for _ in range(8):
        Category.objects.all().update(parent=None)
        Category.objects.all().delete()
        one, other = (Category.objects.create(name=name) for name in ("one", "other"))
        one.parent, other.parent = other, one
        outcomes = race(one.save, other.save)
        assert [type(outcome) for outcome in outcomes if outcome] == [ValidationError]
        assert Category.objects.filter(parent=None).count() == 1


def test_a_tree_names_its_paths_and_what_is_below_by_one_query(
    django_assert_num_queries: Any,
) -> None:
    kitchen = Location.objects.create(name="Kitchen")
    fridge = Location.objects.create(name="Fridge", parent=kitchen)
    door = Location.objects.create(name="Door", parent=fridge)
    cellar = Location.objects.create(name="Cellar")
    with django_assert_num_queries(1):
        assert Location.paths()[door.pk] == "Kitchen › Fridge › Door"
    with django_assert_num_queries(1):
        assert Location.within(kitchen.pk) == {kitchen.pk, fridge.pk, door.pk}
    assert Location.within(cellar.pk) == {cellar.pk}


def test_siblings_and_roots_have_names_of_their_own() -> None:
    kitchen = Location.objects.create(name="Kitchen")
    Location.objects.create(name="Shelf", parent=kitchen)
    for wrong in (Location(name="Kitchen"), Location(name="Shelf", parent=kitchen)):
        with pytest.raises(ValidationError, match="of this name already"):
            wrong.full_clean()
    Location(name="Kitchen", parent=kitchen).full_clean()


def test_items_of_one_name_have_slugs_of_their_own() -> None:
    slugs = [Item.objects.create(name="Öl & Essig").slug for _ in range(3)]
    assert slugs == ["ol-essig", "ol-essig-2", "ol-essig-3"]
    assert Item.objects.create(name="油").slug == "item"


def test_a_barcode_is_of_one_variant_and_many_have_none(new_variant: NewVariant) -> None:
    new_variant(barcode="4006381333931")
    new_variant("Rice", barcode="")
    new_variant("Beans", barcode="")
    with transaction.atomic(), pytest.raises(IntegrityError):
        new_variant("Oats", barcode="4006381333931")


def test_a_maximum_below_the_minimum_is_refused_in_words(new_variant: NewVariant) -> None:
    variant = new_variant()
    variant.min_sku, variant.max_sku = 3, 2
    with pytest.raises(ValidationError, match="The maximum is at least the minimum"):
        variant.full_clean()
