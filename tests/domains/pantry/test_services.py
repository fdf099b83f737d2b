import pytest

from domains.pantry.models import Entry, Location, Piece, ShoppingList, Variant
from domains.pantry.services import (
    InvalidTransition,
    consume,
    freeze,
    move,
    open_one,
    open_piece,
    put_back,
    stock_up,
    take,
    thaw,
    today,
)
from domains.pantry.shopping import buy, buy_all, clear_bought, current_list, fill, put_on
from tests.domains.pantry.conftest import NewVariant, day, in_days, piece_of
from tests.racing import race

pytestmark = pytest.mark.django_db


def test_pieces_are_put_away_many_at_once(new_variant: NewVariant) -> None:
    peas = new_variant("Peas", is_normally_frozen=True)
    pieces = stock_up(peas, 250, expires_on=day(30))
    assert len(pieces) == Piece.objects.in_stock(today()).count() == 250
    assert {piece.frozen_on for piece in pieces} == {today()}
    for count in (0, 501):
        with pytest.raises(InvalidTransition, match="1 to 500"):
            stock_up(peas, count)


def test_each_step_happens_once(new_variant: NewVariant) -> None:
    piece = piece_of(new_variant(), days=3)
    for verb, said in ((open_piece, "open"), (freeze, "frozen"), (consume, "used up")):
        verb(piece)
        with pytest.raises(InvalidTransition, match=f"is {said}"):
            verb(piece)
    for verb in (open_piece, freeze):
        with pytest.raises(InvalidTransition, match="used up already"):
            verb(piece)
    put_back(piece)
    assert piece.consumed_at is None
    with pytest.raises(InvalidTransition, match="still here"):
        put_back(piece)


def test_what_was_thrown_away_is_told_from_what_was_used(new_variant: NewVariant) -> None:
    milk = new_variant()
    consume(piece_of(milk, days=-1), wasted=True)
    consume(piece_of(milk))
    assert Piece.objects.filter(wasted=True).count() == 1
    assert not Piece.objects.here().exists()


def test_what_was_frozen_has_as_many_days_left_when_it_is_thawed(new_variant: NewVariant) -> None:
    piece = piece_of(new_variant("Bread"), days=3)
    freeze(piece)
    with in_days(100):
        assert not Piece.objects.expired(today()).exists()
        assert Piece.objects.in_stock(today()).exists()
        thaw(piece)
        assert piece.expires_on == day(3)
        with pytest.raises(InvalidTransition, match="not frozen"):
            thaw(piece)


def test_what_has_expired_is_not_frozen(new_variant: NewVariant) -> None:
    with pytest.raises(InvalidTransition, match="expired"):
        freeze(piece_of(new_variant(), days=-1))


def test_what_should_go_first_is_taken_first(new_variant: NewVariant) -> None:
    milk = new_variant()
    keeps = piece_of(milk)
    frozen = piece_of(milk, days=1)
    freeze(frozen)
    later, sooner = piece_of(milk, days=5), piece_of(milk, days=2)
    opened = piece_of(milk, days=9)
    open_piece(opened)
    assert [take(milk) for _ in range(5)] == [opened, sooner, later, keeps, frozen]
    with pytest.raises(InvalidTransition, match="None of Milk, 1 l is here"):
        take(milk)


def test_what_is_opened_is_in_stock_and_the_first_to_expire(new_variant: NewVariant) -> None:
    milk = new_variant()
    piece_of(milk, days=-2)
    later, sooner = piece_of(milk, days=5), piece_of(milk, days=2)
    assert [open_one(milk) for _ in range(2)] == [sooner, later]
    with pytest.raises(InvalidTransition):
        open_one(milk)


@pytest.mark.django_db(transaction=True)
def test_two_people_never_take_the_same_piece(new_variant: NewVariant) -> None:
    milk = new_variant(stock=9)
    outcomes = race(*[lambda: take(milk).pk] * 6)
    assert len(set(outcomes)) == 6, outcomes
    assert Piece.objects.here().count() == 3


def test_what_is_gone_is_not_moved(new_variant: NewVariant) -> None:
    new_variant(stock=2)
    consume(Piece.objects.latest("pk"))
    fridge = Location.objects.create(name="Fridge")
    assert move(Piece.objects.all(), fridge) == 1


def test_a_shopping_list_is_made_of_what_is_low(new_variant: NewVariant) -> None:
    new_variant("Salt", stock=1, min_sku=1)
    milk = new_variant("Milk", stock=1, min_sku=2, max_sku=6)
    rice = new_variant("Rice", min_sku=2)
    groceries = current_list()
    assert fill(groceries) == 2
    wanted = dict(groceries.entries.values_list("variant", "quantity"))
    assert wanted == {milk.pk: 5, rice.pk: 2}
    assert fill(groceries) == 0
    assert current_list() == groceries


def test_a_shopping_list_takes_all_that_is_low(new_variant: NewVariant) -> None:
    item = new_variant().item
    Variant.objects.bulk_create(
        Variant(item=item, name=f"v{number}", min_sku=1) for number in range(2_500)
    )
    assert fill(current_list()) == 2_500


def test_what_stands_on_the_list_can_be_put_away_at_once(new_variant: NewVariant) -> None:
    new_variant("Rice", min_sku=600)
    groceries = current_list()
    fill(groceries)
    assert buy_all(groceries) == (1, [])
    assert Piece.objects.count() == 500
    assert fill(groceries) == 1
    assert groceries.entries.open().get().quantity == 100


def test_what_is_bought_becomes_stock_once(new_variant: NewVariant) -> None:
    rice = new_variant("Rice", min_sku=2)
    groceries = current_list()
    fill(groceries)
    entry = groceries.entries.get()
    assert len(buy(entry, expires_on=day(90))) == 2
    with pytest.raises(InvalidTransition, match="bought already"):
        buy(entry)
    assert Piece.objects.in_stock(today()).filter(variant=rice).count() == 2
    assert clear_bought(groceries) == 1
    assert not groceries.entries.exists()


@pytest.mark.django_db(transaction=True)
def test_two_people_with_one_list_buy_each_thing_once(new_variant: NewVariant) -> None:
    for name in ("Rice", "Beans", "Oats"):
        new_variant(name, min_sku=2)
    groceries = current_list()
    fill(groceries)
    outcomes = race(*[lambda: buy_all(groceries)] * 3)
    assert sum(bought for bought, _ in outcomes) == 3
    assert [refused for _, refused in outcomes] == [[]] * 3
    assert Piece.objects.count() == 6


def test_what_stands_on_the_list_gets_another_quantity(new_variant: NewVariant) -> None:
    rice = new_variant("Rice")
    groceries = ShoppingList.objects.create(name="Party")
    put_on(groceries, rice)
    put_on(groceries, rice, 4)
    assert Entry.objects.get().quantity == 4
    with pytest.raises(InvalidTransition):
        put_on(groceries, rice, 0)
    assert put_on(groceries, rice, 501).quantity == Entry.objects.get().quantity == 500


def test_what_of_a_list_cannot_be_bought_is_told(new_variant: NewVariant) -> None:
    groceries = current_list()
    for name, quantity in (("Beans", 1), ("Rice", 600)):
        Entry.objects.create(list=groceries, variant=new_variant(name), quantity=quantity)
    refused = ["600 × Rice, 1 l: Put away 1 to 500 pieces at once."]
    assert buy_all(groceries) == (1, refused)
    assert groceries.entries.open().get().quantity == 600
