from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import pytest
import time_machine

from domains.pantry.models import Item, Piece, Variant
from domains.pantry.services import stock_up, today

NewVariant = Callable[..., Variant]


@pytest.fixture
def new_variant() -> NewVariant:
    """`new_variant("Milk", stock=2, min_sku=3)`: of an item of its own."""

    def make(name: str = "Milk", stock: int = 0, **fields: Any) -> Variant:
        variant = Variant.objects.create(item=Item.objects.create(name=name), name="1 l", **fields)
        if stock:
            stock_up(variant, stock)
        return variant

    return make


def piece_of(variant: Variant, days: int | None = None, **fields: Any) -> Piece:
    """A piece that expires in so many days, or never."""
    until = None if days is None else today() + timedelta(days=days)
    return stock_up(variant, 1, expires_on=until, **fields)[0]


def in_days(days: int) -> "time_machine.travel":
    return time_machine.travel(datetime.now().astimezone() + timedelta(days=days), tick=False)


def day(days: int) -> date:
    return today() + timedelta(days=days)
