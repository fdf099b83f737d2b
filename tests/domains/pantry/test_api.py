from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from drf_spectacular.generators import SchemaGenerator

from domains.pantry.models import Entry, Item, Location, Piece, ShoppingList, Variant
from domains.pantry.services import today
from tests.domains.pantry.conftest import NewVariant, day, piece_of
from tests.factories import UserFactory, operator

pytestmark = pytest.mark.django_db

API = "/api/foodfolio"
MODELS = (
    *("category", "location", "company", "itemtype", "size", "warehouse", "item", "variant"),
    *("piece", "shoppinglist", "entry"),
)


@pytest.fixture
def cook(client: Client) -> User:
    user = operator(
        *(f"pantry.{verb}_{m}" for m in MODELS for verb in ("view", "add", "change", "delete"))
    )
    client.force_login(user)
    return user


def post(client: Client, path: str, **data: Any) -> Any:
    return client.post(f"{API}/{path}", data, content_type="application/json")


@pytest.mark.usefixtures("cook")
def test_a_kitchen_is_set_up_and_used(client: Client) -> None:
    kitchen = post(client, "locations", name="Kitchen").json()
    fridge = post(client, "locations", name="Fridge", parent=kitchen["id"]).json()
    assert fridge["path"] == "Kitchen › Fridge"
    food = post(client, "categories", name="Food").json()
    size = post(client, "sizes", value="1.000", unit="l").json()
    item = post(client, "items", name="Milk", category=food["id"]).json()
    assert item["slug"] == "milk"
    made = post(
        client,
        "variants",
        item=item["id"],
        name="Carton",
        size=size["id"],
        barcode="4000000000006",
        min_sku=2,
        max_sku=6,
    )
    assert made.status_code == 201, made.content
    assert (made.json()["stock"], made.json()["level"]) == (0, "EMPTY")
    away = post(
        client,
        f"variants/{made.json()['id']}/stock-up",
        count=3,
        expires_on=str(day(3)),
        location=fridge["id"],
    )
    assert away.status_code == 201, away.content
    assert [piece["days_left"] for piece in away.json()] == [3, 3, 3]
    taken = post(client, f"variants/{made.json()['id']}/take").json()
    assert taken["consumed_at"]
    shown = client.get(f"{API}/variants/barcode/4000000000006").json()
    assert (shown["stock"], shown["level"], shown["item_name"]) == (2, "", "Milk")
    expiring = client.get(f"{API}/details/expiring").json()
    assert expiring["count"] == 2
    within = client.get(f"{API}/details?location={kitchen['id']}&in_stock=true").json()
    assert within["count"] == 2


@pytest.mark.usefixtures("cook")
def test_a_barcode_that_nothing_has_is_not_found_in_words(client: Client) -> None:
    answer = client.get(f"{API}/variants/barcode/404")
    assert answer.status_code == 404
    assert "Nothing has the barcode 404" in answer.json()["message"]


@pytest.mark.usefixtures("cook")
def test_trees_are_shown_whole_and_refuse_cycles(
    client: Client, django_assert_max_num_queries: Any
) -> None:
    kitchen = Location.objects.create(name="Kitchen")
    fridge = Location.objects.create(name="Fridge", parent=kitchen)
    answer = client.patch(
        f"{API}/locations/{kitchen.pk}", {"parent": fridge.pk}, content_type="application/json"
    )
    assert answer.status_code == 400
    assert answer.json()["fields"]["parent"] == [
        "It cannot be within itself, nor within what is in it."
    ]
    with django_assert_max_num_queries(6):
        tree = client.get(f"{API}/locations/tree").json()
    assert [(b["name"], [c["name"] for c in b["children"]]) for b in tree] == [
        ("Kitchen", ["Fridge"])
    ]


@pytest.mark.usefixtures("cook")
def test_what_is_wrong_is_said(client: Client, new_variant: NewVariant) -> None:
    milk = new_variant(barcode="1")
    wrong: dict[str, dict[str, Any]] = {
        "variants": {"item": milk.item_id, "name": "x", "min_sku": 3, "max_sku": 2},
        "details": {"variant": milk.pk, "expires_on": "soon"},
        "shoppinglist-entries": {"list": 1, "variant": milk.pk, "quantity": 0},
        "items": {"name": ""},
    }
    for path, data in wrong.items():
        answer = post(client, path, **data)
        assert answer.status_code == 400, path
        assert answer.json()["fields"], path
    double = post(client, "variants", item=milk.item_id, name="x", barcode="1")
    assert double.status_code == 400
    assert "barcode" in double.json()["fields"]
    assert post(client, f"variants/{milk.pk}/stock-up", count=501).status_code == 400


@pytest.mark.usefixtures("cook")
def test_a_step_that_cannot_be_is_a_conflict(client: Client, new_variant: NewVariant) -> None:
    milk = new_variant()
    piece = piece_of(milk, days=4)
    steps = ["open", "freeze", "thaw", "consume", "put-back"]
    for step in steps:
        answer = post(client, f"details/{piece.pk}/{step}")
        assert answer.status_code == 200, (step, answer.content)
    for step in ("thaw", "put-back", "open"):
        answer = post(client, f"details/{piece.pk}/{step}")
        assert (answer.status_code, answer.json()["code"]) == (409, "invalid_transition"), step
    assert post(client, f"details/{piece.pk}/consume", wasted=True).json()["wasted"]
    assert post(client, f"details/{piece.pk}/move", location=None).status_code == 409
    assert post(client, f"variants/{milk.pk}/take").status_code == 409
    assert post(client, "details/999/open").status_code == 404


@pytest.mark.usefixtures("cook")
def test_what_is_low_is_listed_and_bought(client: Client, new_variant: NewVariant) -> None:
    rice = new_variant("Rice", min_sku=2, max_sku=5)
    new_variant("Salt", stock=1, min_sku=1)
    low = client.get(f"{API}/variants?low_stock=true").json()
    assert [row["id"] for row in low["results"]] == [rice.pk]
    listed = post(client, "shoppinglists", name="Groceries").json()
    url = f"shoppinglists/{listed['id']}"
    assert post(client, f"{url}/generate-low-stock").json() == {"count": 1}
    assert client.get(f"{API}/{url}").json()["open"] == 1
    entry = Entry.objects.get()
    bought = post(client, f"shoppinglist-entries/{entry.pk}/purchase", count=3, price="2.50")
    assert bought.status_code == 201, bought.content
    assert len(bought.json()) == 3
    assert post(client, f"shoppinglist-entries/{entry.pk}/purchase").status_code == 409
    assert post(client, f"{url}/purchase-all").json() == {"count": 0, "refused": []}
    assert post(client, f"{url}/clear-purchased").json() == {"count": 1}


@pytest.mark.usefixtures("cook")
def test_a_list_asks_for_no_more_than_can_be_put_away(
    client: Client, new_variant: NewVariant
) -> None:
    groceries = ShoppingList.objects.create(name="Groceries")
    wanted = {"list": groceries.pk, "variant": new_variant("Rice").pk}
    answer = post(client, "shoppinglist-entries", **wanted, quantity=501)
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["quantity"])
    Entry.objects.create(list=groceries, variant_id=wanted["variant"], quantity=600)
    answer = post(client, f"shoppinglists/{groceries.pk}/purchase-all").json()
    refused = ["600 × Rice, 1 l: Put away 1 to 500 pieces at once."]
    assert answer == {"count": 0, "refused": refused}


@pytest.mark.usefixtures("cook")
def test_a_change_leaves_what_the_job_wrote(client: Client, new_variant: NewVariant) -> None:
    milk = new_variant(min_sku=1)
    Variant.objects.update(announced="EMPTY")
    answer = client.patch(
        f"{API}/variants/{milk.pk}", {"min_sku": 4}, content_type="application/json"
    )
    assert answer.json()["min_sku"] == 4
    milk.refresh_from_db()
    assert milk.announced == "EMPTY"


LISTS = (
    *("categories", "locations", "companies", "types", "sizes", "warehouses", "items"),
    *("variants", "details", "details/expired", "shoppinglists", "shoppinglist-entries"),
)


@pytest.mark.usefixtures("cook")
@pytest.mark.parametrize("path", LISTS)
def test_a_list_costs_a_fixed_number_of_queries(
    client: Client, new_variant: NewVariant, path: str
) -> None:
    counts = []
    for size in (2, 8):
        for number in range(size):
            variant = new_variant(f"Milk {size} {number}")
            Location.objects.create(name=f"{size} {number}")
            piece_of(variant, days=-1)
            one = ShoppingList.objects.create(name="x")
            Entry.objects.create(list=one, variant=variant)
        with CaptureQueriesContext(connection) as queries:
            assert client.get(f"{API}/{path}").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


def operations() -> list[tuple[str, str]]:
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    return [(m, p) for p, methods in paths.items() if p.startswith(API) for m in methods]


def test_who_may_not_makes_no_call(client: Client) -> None:
    staff, plain = operator(), UserFactory.create()
    assert len(operations()) > 60
    for user, status in ((None, 401), (plain, 403), (staff, 403)):
        if user:
            client.force_login(user)
        for method, path in operations():
            address = path.replace("{id}", "1").replace("{code}", "1")
            answer = getattr(client, method)(address, content_type="application/json")
            assert answer.status_code == status, (method, path)


def test_who_may_only_look_changes_nothing(client: Client, new_variant: NewVariant) -> None:
    piece_of(new_variant())
    client.force_login(operator(*(f"pantry.view_{model}" for model in MODELS)))
    for method, path in operations():
        address = path.replace("{id}", "1").replace("{code}", "1")
        answer = getattr(client, method)(address, content_type="application/json")
        allowed = answer.status_code in (200, 404)
        assert allowed if method == "get" else answer.status_code == 403, (method, path)
    assert Piece.objects.in_stock(today()).count() == Item.objects.count() == 1
