from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from domains.pantry import demo
from domains.pantry.models import (
    Category,
    Company,
    Entry,
    Item,
    ItemType,
    Kitchen,
    Location,
    Piece,
    ShoppingList,
    Size,
    Variant,
    Warehouse,
)
from domains.pantry.services import consume, stock_up, today
from domains.pantry.shopping import current_list
from tests.domains.pantry.conftest import NewVariant, day, piece_of
from tests.factories import operator
from tests.test_admin_pages import PAIR

pytestmark = pytest.mark.django_db

KITCHEN, DO = "admin:pantry_kitchen_changelist", "admin:pantry_kitchen_do"
MODELS = (Category, Company, Item, ItemType, Location, Piece, ShoppingList, Size, Variant)
COOK = (
    "pantry.view_kitchen",
    "pantry.view_piece",
    "pantry.change_piece",
    "pantry.add_piece",
    "pantry.add_entry",
    "pantry.view_entry",
    "pantry.view_shoppinglist",
)


@pytest.fixture
def boss(client: Client) -> User:
    user = User.objects.create_superuser("boss", password="x")
    client.force_login(user)
    return user


@pytest.fixture
def cook(client: Client) -> User:
    user = operator(*COOK)
    client.force_login(user)
    return user


def do(client: Client, verb: str, thing: Any, **more: Any) -> str:
    fields = {"verb": verb, "id": thing.pk} | more
    answer = client.post(reverse(DO), fields, follow=True)
    assert answer.status_code == 200
    return str(answer.content.decode())


@pytest.mark.usefixtures("boss")
@pytest.mark.parametrize("model", [*MODELS, Warehouse, Kitchen])
def test_the_pages_of_the_demo_open(client: Client, model: Any) -> None:
    assert demo.create()
    name = f"admin:pantry_{model._meta.model_name}"
    thing = model.objects.first()
    pages = [f"{name}_changelist", f"{name}_add"][: 1 if model is Kitchen else 2]
    addresses = [reverse(page) for page in pages]
    for address in [*addresses, reverse(f"{name}_change", args=[thing.pk])]:
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert not PAIR.findall(answer.content.decode()), address


def test_the_demo_is_made_once() -> None:
    assert demo.create()
    pieces = Piece.objects.count()
    assert not demo.create()
    assert Piece.objects.count() == pieces


@pytest.mark.usefixtures("cook")
def test_the_kitchen_shows_what_has_to_be_eaten_and_what_is_missing(client: Client) -> None:
    demo.create()
    page = client.get(reverse(KITCHEN)).content.decode()
    for text in ("2 days ago", "today", "2 days left", "Kitchen › Fridge › Door", "0 of 2"):
        assert text in page, text


@pytest.mark.usefixtures("cook")
def test_a_kitchen_without_anything_says_what_to_do(client: Client) -> None:
    assert "The pantry is empty" in client.get(reverse(KITCHEN)).content.decode()


@pytest.mark.usefixtures("cook")
def test_the_kitchen_costs_a_fixed_number_of_queries(
    client: Client, new_variant: NewVariant
) -> None:
    counts = []
    for size in (3, 12):
        for number in range(size):
            milk = new_variant(f"Milk {size} {number}", min_sku=9)
            piece_of(milk, days=-1)
            piece_of(milk, days=2)
        with CaptureQueriesContext(connection) as queries:
            assert "Milk" in client.get(reverse(KITCHEN), {"q": "milk"}).content.decode()
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.usefixtures("cook")
def test_what_has_many_pieces_hides_those_of_nothing_else(
    client: Client, new_variant: NewVariant
) -> None:
    piece_of(new_variant("Milk, oat"))  # which keeps: it comes last
    stock_up(new_variant("Milk"), 301, expires_on=day(1))
    answer = client.get(reverse(KITCHEN), {"q": "milk"})
    page, found = answer.content.decode(), answer.context["found"]
    assert {str(row["variant"]): len(row["pieces"]) for row in found} == {
        "Milk, 1 l": 30,
        "Milk, oat, 1 l": 1,
    }
    assert "301 pieces here" in page
    assert "and 271 more" in page
    for row in found:
        many = client.get(row["url"]).context["cl"].result_count
        assert many == row["here"]
    assert not [button for button in page.split("<button")[1:] if 'value="take" disabled' in button]


@pytest.mark.usefixtures("cook")
def test_what_is_scanned_is_found_and_put_away(client: Client, new_variant: NewVariant) -> None:
    fridge = Location.objects.create(name="Fridge")
    milk = new_variant(barcode="4000000000006")
    page = client.get(reverse(KITCHEN), {"q": "4000000000006"}).content.decode()
    assert "0 pieces in stock" in page
    said = do(client, "put-away", milk, count=2, expires_on=str(day(5)), location=fridge.pk)
    assert "2 pieces of Milk, 1 l put away." in said
    assert Piece.objects.in_stock(today()).filter(location=fridge).count() == 2
    assert "Enter a whole number" in do(client, "put-away", milk, count="many")
    assert "nor has this barcode" in client.get(reverse(KITCHEN), {"q": "<404>"}).content.decode()


@pytest.mark.usefixtures("cook")
def test_what_is_used_up_can_be_put_back(client: Client, new_variant: NewVariant) -> None:
    piece = piece_of(new_variant(), days=1)
    assert "Just used up" in do(client, "waste", piece)
    piece.refresh_from_db()
    assert piece.wasted
    assert "is used up already" in do(client, "use", piece)
    do(client, "put-back", piece)
    piece.refresh_from_db()
    assert piece.consumed_at is None
    assert LogEntry.objects.filter(object_id=piece.pk).count() == 2


@pytest.mark.usefixtures("cook")
def test_one_is_taken_opened_frozen_and_put_on_the_list(
    client: Client, new_variant: NewVariant
) -> None:
    milk = new_variant(stock=3, min_sku=5)
    do(client, "take", milk)
    do(client, "open-one", milk)
    assert Piece.objects.in_stock(today()).count() == 1
    piece = Piece.objects.in_stock(today()).get()
    for verb in ("freeze", "thaw", "open"):
        do(client, verb, piece)
    assert "On the list: 5 × Milk" in do(client, "shop", milk)
    assert Entry.objects.get().quantity == 5


@pytest.mark.usefixtures("boss")
def test_a_list_asks_for_no_more_than_can_be_put_away(
    client: Client, new_variant: NewVariant
) -> None:
    rice, groceries = new_variant("Rice", min_sku=600), current_list()
    assert "On the list: 500 × Rice" in do(client, "shop", rice)
    url = reverse("admin:pantry_shoppinglist_change", args=[groceries.pk])
    row = {"entries-0-id": groceries.entries.get().pk, "entries-0-list": groceries.pk}
    counts = {"entries-TOTAL_FORMS": 1, "entries-INITIAL_FORMS": 1}
    form = row | counts | {"name": "Groceries", "entries-0-variant": rice.pk}
    answer = client.post(url, form | {"entries-0-quantity": 501})
    assert "less than or equal to 500" in answer.content.decode()
    assert client.post(url, form | {"entries-0-quantity": 499}).status_code == 302
    Entry.objects.update(quantity=600)
    url = reverse("admin:pantry_shoppinglist_buy_rest", args=[groceries.pk])
    page = client.post(url, {"confirmed": 1}, follow=True).content.decode()
    assert "600 × Rice, 1 l: Put away 1 to 500 pieces at once." in page


def test_who_may_not_does_nothing_in_the_kitchen(client: Client, new_variant: NewVariant) -> None:
    milk = new_variant(stock=1)
    client.force_login(operator("pantry.view_kitchen"))
    assert client.get(reverse(KITCHEN)).status_code == 200
    piece = Piece.objects.get()
    for verb, thing in (("use", piece), ("take", milk), ("put-away", milk), ("shop", milk)):
        answer = client.post(reverse(DO), {"verb": verb, "id": thing.pk, "count": 1})
        assert answer.status_code == 403, verb
    client.force_login(operator("pantry.change_piece"))
    assert client.get(reverse(KITCHEN)).status_code == 403
    assert Piece.objects.in_stock(today()).count() == 1


@pytest.mark.usefixtures("cook")
@pytest.mark.parametrize("pk", ["", "0", "x", "9" * 30])
def test_what_is_not_there_is_not_found(client: Client, pk: str) -> None:
    assert client.post(reverse(DO), {"verb": "use", "id": pk}).status_code == 404


@pytest.mark.usefixtures("boss")
def test_several_pieces_are_added_at_once(client: Client, new_variant: NewVariant) -> None:
    milk = new_variant()
    fields = {"variant": milk.pk, "count": 3, "expires_on": str(day(4))}
    answer = client.post(reverse("admin:pantry_piece_add"), fields)
    assert answer.status_code == 302
    assert Piece.objects.filter(variant=milk, expires_on=day(4)).count() == 3


@pytest.mark.usefixtures("boss")
def test_a_saved_form_leaves_what_happened_meanwhile(
    client: Client, new_variant: NewVariant
) -> None:
    piece = piece_of(new_variant(), days=2)
    Piece.objects.update(announced="SOON")
    fields = {"variant": piece.variant_id, "expires_on": str(day(2)), "price": "2.00"}
    assert (
        client.post(reverse("admin:pantry_piece_change", args=[piece.pk]), fields).status_code
        == 302
    )
    piece.refresh_from_db()
    assert (str(piece.price), piece.announced) == ("2.00", "SOON")


@pytest.mark.usefixtures("boss")
def test_many_are_moved_and_those_that_cannot_be_are_named(
    client: Client, new_variant: NewVariant
) -> None:
    milk = new_variant(stock=2)
    cellar = Location.objects.create(name="Cellar")
    url = reverse("admin:pantry_piece_changelist")
    chosen = {"_selected_action": list(Piece.objects.values_list("pk", flat=True))}
    asked = client.post(url, chosen | {"action": "move_selected"})
    assert "Where to?" in asked.content.decode()
    client.post(url, chosen | {"action": "move_selected", "confirmed": 1, "location": cellar.pk})
    assert Piece.objects.filter(location=cellar).count() == 2
    answer = client.post(url, chosen | {"action": "use_selected"}, follow=True)
    assert "2 pieces: Used up." in answer.content.decode()
    answer = client.post(url, chosen | {"action": "open_selected"}, follow=True)
    assert f"{milk} #" in answer.content.decode()


@pytest.mark.usefixtures("boss")
@pytest.mark.parametrize(
    ("state", "count"),
    [
        *(("here", 5), ("stock", 3), ("open", 1), ("frozen", 1), ("SOON", 1), ("EXPIRED", 1)),
        *(("used", 1), ("wasted", 0), ("nonsense", 6), ("", 6)),
    ],
)
def test_pieces_are_found_by_state(
    client: Client, new_variant: NewVariant, state: str, count: int
) -> None:
    milk = new_variant()
    piece_of(milk)
    piece_of(milk, opened_on=today())
    piece_of(milk, days=-9, frozen_on=day(-20))
    piece_of(milk, days=1)
    piece_of(milk, days=-1)
    consume(piece_of(milk))
    answer = client.get(reverse("admin:pantry_piece_changelist"), {"state": state})
    assert len(answer.context["cl"].result_list) == count


@pytest.mark.usefixtures("boss")
def test_a_list_is_filled_bought_and_cleared(client: Client, new_variant: NewVariant) -> None:
    rice = new_variant("Rice", min_sku=2)
    beans = new_variant("Beans", min_sku=1)
    groceries = current_list()

    def step(name: str) -> str:
        url = reverse(f"admin:pantry_shoppinglist_{name}", args=[groceries.pk])
        assert client.get(url).status_code == 200
        return str(client.post(url, {"confirmed": 1}, follow=True).content.decode())

    assert "2 entries" in step("fill_one")
    shop = reverse("admin:pantry_shoppinglist_shop", args=[groceries.pk])
    assert "2 things to buy" in client.get(shop).content.decode()
    buy = reverse("admin:pantry_shoppinglist_buy", args=[groceries.pk])
    entry = groceries.entries.get(variant=rice)
    for count in ("0", "501", "-1", "9" * 5_000, "three"):
        page = client.post(buy, {"entry": entry.pk, "count": count}, follow=True).content.decode()
        assert "Put away 1 to 500 pieces at once" in page
    assert client.post(buy, {"entry": "9" * 5_000}).status_code == 404
    for said in ("1 thing to buy", "was bought already"):
        page = client.post(buy, {"entry": entry.pk, "count": 3}, follow=True).content.decode()
        assert said in page
    assert "1 entry" in step("buy_rest")
    assert "Nothing is left to buy" in client.get(shop).content.decode()
    assert "2 entries" in step("clear_one")
    counts = {v: Piece.objects.filter(variant=v).count() for v in (rice, beans)}
    assert counts == {rice: 3, beans: 1}


@pytest.mark.parametrize(
    ("name", "call", "permission"),
    [
        ("fill_one", "generate-low-stock", "pantry.add_entry"),
        ("buy_rest", "purchase-all", "pantry.add_piece"),
        ("clear_one", "clear-purchased", "pantry.delete_entry"),
    ],
)
def test_a_list_asks_at_both_doors_for_the_same_permission(
    client: Client, name: str, call: str, permission: str
) -> None:
    pk = current_list().pk
    page = reverse(f"admin:pantry_shoppinglist_{name}", args=[pk])
    looks = ("pantry.view_shoppinglist", "pantry.view_entry")
    for more, allowed in (("pantry.change_shoppinglist", False), (permission, True)):
        client.force_login(operator(*looks, more))
        assert (client.get(page).status_code == 200) is allowed
        assert (client.post(page, {"confirmed": 1}).status_code == 302) is allowed
        answer = client.post(f"/api/foodfolio/shoppinglists/{pk}/{call}", {}, "application/json")
        assert answer.status_code == (200 if allowed else 403)


def test_who_may_not_buy_only_reads_the_list(client: Client, new_variant: NewVariant) -> None:
    Entry.objects.create(list=current_list(), variant=new_variant())
    client.force_login(operator("pantry.view_shoppinglist", "pantry.view_entry"))
    pk = ShoppingList.objects.get().pk
    page = client.get(reverse("admin:pantry_shoppinglist_shop", args=[pk]))
    assert "Got it" not in page.content.decode()
    buy = reverse("admin:pantry_shoppinglist_buy", args=[pk])
    assert client.post(buy, {"entry": 1}).status_code == 403
    assert client.get(buy).status_code == 405


@pytest.mark.usefixtures("boss")
@pytest.mark.parametrize(
    ("page", "query", "count"),
    [
        ("piece", "place={fridge}", 5),
        ("piece", "place=0", 0),
        ("piece", "place=x", 20),
        ("piece", "variant__id__exact={milk}&state=stock", 1),
        ("variant", "within={food}", 7),
        ("variant", "item__id__exact={item}", 1),
        ("variant", "stock=short", 3),
        ("variant", "stock=LOW", 2),
        ("variant", "stock=EMPTY", 1),
        ("variant", "stock=over", 1),
        ("item", "within={food}", 6),
    ],
)
def test_lists_are_filtered(client: Client, page: str, query: str, count: int) -> None:
    demo.create()
    milk = Variant.objects.get(item__name="Milk")
    ids = {
        "fridge": Location.objects.get(name="Fridge").pk,
        "food": Category.objects.get(name="Food").pk,
        "milk": milk.pk,
        "item": milk.item_id,
    }
    answer = client.get(reverse(f"admin:pantry_{page}_changelist") + "?" + query.format(**ids))
    assert answer.status_code == 200, answer
    assert len(answer.context["cl"].result_list) == count
