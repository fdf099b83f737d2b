"""What the jobs of the pantry do, seen from outside: pieces are put away, and all are told."""

from datetime import timedelta
from typing import Any

import pytest

from domains.pantry.services import today
from tests.everywhere import Everywhere

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

PANTRY = "/api/foodfolio"


def variant(site: Everywhere, name: str, **fields: Any) -> int:
    item = site.request("POST", f"{PANTRY}/items", {"name": name})
    made = site.request("POST", f"{PANTRY}/variants", {"item": item["id"], "name": name, **fields})
    return int(made["id"])


def put_away(site: Everywhere, variant: int, days: int | None = None, count: int = 1) -> Any:
    """Pieces that are good for so many days yet."""
    fields = {"expires_on": None if days is None else str(today() + timedelta(days=days))}
    return site.request("POST", f"{PANTRY}/variants/{variant}/stock-up", fields | {"count": count})


def test_of_what_expired_and_of_what_soon_will_all_are_told_once(site: Everywhere) -> None:
    milk = variant(site, "Milk")
    over, last_day, in_a_week, later = (
        put_away(site, milk, days=days)[0]["id"] for days in (-1, 0, 7, 8)
    )
    with (
        site.watch("foodfolio.detail.expired") as expired,
        site.watch("foodfolio.detail.expiring.soon") as soon,
    ):
        site.run_job("ITEM_EXPIRATION")
        site.run_job("ITEM_EXPIRATION")
    assert [one["data"]["detail_id"] for one in expired] == [over]
    days_left = {one["data"]["detail_id"]: one["data"]["days_left"] for one in soon}
    assert days_left == {last_day: 0, in_a_week: 7}
    fresh = site.request("GET", f"{PANTRY}/details/{later}")
    assert (fresh["freshness"], fresh["days_left"]) == ("", 8)


def test_of_what_ran_low_or_out_all_are_told_once(site: Everywhere) -> None:
    used_up, low, enough = (
        variant(site, name, min_sku=2, max_sku=9) for name in ("Rice", "Flour", "Salt")
    )
    for one, count in ((used_up, 1), (low, 2), (enough, 2)):
        put_away(site, one, count=count)
    for one in (used_up, low):
        site.request("POST", f"{PANTRY}/variants/{one}/take")
    with (
        site.watch("foodfolio.variant.stock.empty") as empty,
        site.watch("foodfolio.variant.stock.low") as scarce,
    ):
        site.run_job("STOCK_LEVEL")
        site.run_job("STOCK_LEVEL")
    assert [one["data"]["variant_id"] for one in empty] == [used_up]
    (told,) = (one["data"] for one in scarce)
    assert (told["variant_id"], told["current_stock"], told["min_sku"]) == (low, 1, 2)
    short = site.request("GET", f"{PANTRY}/variants?low_stock=true")["results"]
    assert {one["id"] for one in short} == {used_up, low}
