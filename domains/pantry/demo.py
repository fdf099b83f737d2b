"""A kitchen for a first look; its dates lie around today."""

import json
from datetime import timedelta
from typing import Any, TypeVar

from django.conf import settings
from django.db import transaction

from domains.pantry.models import (
    Category,
    Company,
    Item,
    ItemType,
    Location,
    Node,
    Piece,
    Size,
    Variant,
    Warehouse,
)
from domains.pantry.models.trees import SEPARATOR
from domains.pantry.services import today
from domains.pantry.shopping import current_list, fill

N = TypeVar("N", bound=Node)


@transaction.atomic
def create() -> bool:
    """Make what is missing; False when anything is in the pantry already."""
    if Variant.objects.exists():
        return False
    with (settings.BASE_DIR / "fixtures" / "demo-pantry.json").open("rb") as file:
        demo = json.load(file)
    for path in demo["places"]:
        node(Location, path)
    for entry in demo["variants"]:
        variant(entry)
    fill(current_list())
    return True


def node(model: type[N], path: str) -> N:
    """The last one of the path, with those above it."""
    found: Any = None
    for name in path.split(SEPARATOR):
        found, _is_new = model._default_manager.get_or_create(name=name, parent=found)
    return found  # type: ignore[no-any-return]


def variant(entry: dict[str, Any]) -> None:
    item, _is_new = Item.objects.get_or_create(
        name=entry["item"],
        defaults={
            "category": node(Category, entry["category"]),
            "company": named(Company, entry["company"]),
            "type": named(ItemType, entry["type"]),
        },
    )
    value, unit = entry["size"]
    size, _is_new = Size.objects.get_or_create(value=value, unit=unit)
    made = Variant.objects.create(
        item=item,
        name=entry["name"],
        size=size,
        barcode=entry["barcode"],
        min_sku=entry["min"],
        max_sku=entry["max"],
        is_normally_frozen=entry.get("frozen", False),
    )
    Piece.objects.bulk_create(piece(made, entry, fields) for fields in entry["pieces"])


def piece(of: Variant, entry: dict[str, Any], fields: dict[str, Any]) -> Piece:
    on = today()
    return Piece(
        variant=of,
        location=node(Location, fields["place"]),
        warehouse=named(Warehouse, entry["shop"]),
        price=entry["price"],
        has_deposit=entry.get("deposit", False),
        purchased_on=on - timedelta(days=fields.get("frozen", 3)),
        expires_on=on + timedelta(days=fields["days"]) if "days" in fields else None,
        frozen_on=on - timedelta(days=fields["frozen"]) if "frozen" in fields else None,
        opened_on=on if fields.get("opened") else None,
    )


def named(model: type[Any], name: str | None) -> Any:
    return model.objects.get_or_create(name=name)[0] if name else None
