from domains.pantry.models.goods import Company, Item, ItemType, Level, Size, Variant, Warehouse
from domains.pantry.models.pieces import (
    MOST_PIECES,
    SOON,
    Freshness,
    Kitchen,
    Piece,
    PieceQuerySet,
)
from domains.pantry.models.shopping import Entry, EntryQuerySet, ShoppingList
from domains.pantry.models.trees import Category, Location, Node

__all__ = [
    "MOST_PIECES",
    "SOON",
    "Category",
    "Company",
    "Entry",
    "EntryQuerySet",
    "Freshness",
    "Item",
    "ItemType",
    "Kitchen",
    "Level",
    "Location",
    "Node",
    "Piece",
    "PieceQuerySet",
    "ShoppingList",
    "Size",
    "Variant",
    "Warehouse",
]
