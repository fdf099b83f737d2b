"""Rows that the jobs of the pantry have something to say of."""

from collections.abc import Callable
from datetime import timedelta

from domains.pantry.models import Item, Piece, Variant
from domains.pantry.services import today

BATCH = 5_000


def expired_pieces(count: int) -> None:
    [variant] = _variants(1)
    past = today() - timedelta(days=1)
    rows = (Piece(variant=variant, expires_on=past) for _ in range(count))
    Piece.objects.bulk_create(rows, batch_size=BATCH)


def low_variants(count: int) -> None:
    """Each with one piece of the two that are wanted."""
    Piece.objects.bulk_create((Piece(variant=v) for v in _variants(count)), batch_size=BATCH)


def _variants(count: int) -> list[Variant]:
    item = Item.objects.create(name="Milk")
    rows = (Variant(item=item, name=f"v{number}", min_sku=2) for number in range(count))
    return Variant.objects.bulk_create(rows, batch_size=BATCH)


FILL: dict[str, Callable[[int], None]] = {
    "ITEM_EXPIRATION": expired_pieces,
    "STOCK_LEVEL": low_variants,
}
