"""What the API tells of the pantry, and takes."""

from copy import copy
from datetime import date
from typing import Any, TypeVar, cast

from django.db.models import Model
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from domains.pantry.models import (
    MOST_PIECES,
    Category,
    Company,
    Entry,
    Freshness,
    Item,
    ItemType,
    Level,
    Location,
    Piece,
    ShoppingList,
    Size,
    Variant,
    Warehouse,
)
from domains.pantry.services import today

M = TypeVar("M", bound=Model)


class Checked(serializers.ModelSerializer[M]):
    """What the models say against it is a 400 with the same words as in the admin."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        row = copy(self.instance) if self.instance else cast(Any, self).Meta.model()
        for name, value in attrs.items():
            setattr(row, name, value)
        row.full_clean()
        return attrs

    def update(self, instance: M, validated_data: dict[str, Any]) -> M:
        """These fields alone: what jobs and other people wrote meanwhile stays."""
        for name, value in validated_data.items():
            setattr(instance, name, value)
        instance.save(update_fields=list(validated_data))
        return instance


class NodeSerializer(Checked[M]):
    path = serializers.SerializerMethodField(help_text="`Kitchen › Fridge`.")

    def get_path(self, node: Any) -> str:
        paths: dict[int, str] = self.context.get("paths") or type(node).paths()
        return paths[node.pk]


class PantryCategorySerializer(NodeSerializer[Category]):
    class Meta:
        model = Category
        fields = ["id", "name", "parent", "path"]


class LocationSerializer(NodeSerializer[Location]):
    class Meta:
        model = Location
        fields = ["id", "name", "parent", "path"]


class BranchSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    children = serializers.ListField(
        child=serializers.DictField(), help_text="Of the same shape, to any depth."
    )


class CompanySerializer(Checked[Company]):
    class Meta:
        model = Company
        fields = ["id", "name"]


class ItemTypeSerializer(Checked[ItemType]):
    class Meta:
        model = ItemType
        fields = ["id", "name"]


class SizeSerializer(Checked[Size]):
    class Meta:
        model = Size
        fields = ["id", "value", "unit"]


class WarehouseSerializer(Checked[Warehouse]):
    class Meta:
        model = Warehouse
        fields = ["id", "name"]


class ItemSerializer(Checked[Item]):
    class Meta:
        model = Item
        fields = ["id", "name", "slug", "category", "company", "type", "created_at"]


class VariantSerializer(Checked[Variant]):
    item_name = serializers.CharField(source="item.name", read_only=True)
    stock = serializers.SerializerMethodField(
        help_text="Pieces that are neither opened nor consumed nor expired."
    )
    level = serializers.SerializerMethodField(help_text="Empty when there is enough.")

    class Meta:
        model = Variant
        fields = [
            "id",
            "item",
            "item_name",
            "name",
            "size",
            "barcode",
            "min_sku",
            "max_sku",
            "is_normally_frozen",
            "stock",
            "level",
            "created_at",
        ]

    def to_representation(self, instance: Any) -> dict[str, Any]:
        if not hasattr(instance, "stock") or self.context["request"].method == "PATCH":
            instance = Variant.objects.with_stock(today()).get(pk=instance.pk)
        return super().to_representation(instance)

    def get_stock(self, variant: Any) -> int:
        return int(variant.stock)

    @extend_schema_field(serializers.ChoiceField(Level.choices))
    def get_level(self, variant: Any) -> str:
        return str(variant.level)


class PieceFields(Checked[Piece]):
    """What is said of a piece when it is put away."""

    class Meta:
        model = Piece
        fields = [
            "location",
            "warehouse",
            "article_number",
            "price",
            "has_deposit",
            "purchased_on",
            "expires_on",
        ]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return attrs  # no row yet


class NewPiecesSerializer(PieceFields):
    count = serializers.IntegerField(min_value=1, max_value=MOST_PIECES, default=1)
    frozen_on = serializers.DateField(required=False, allow_null=True)

    class Meta(PieceFields.Meta):
        fields = ["count", "frozen_on", *PieceFields.Meta.fields]


class PieceSerializer(Checked[Piece]):
    freshness = serializers.SerializerMethodField(help_text="Empty when it is fresh.")
    days_left = serializers.SerializerMethodField(
        help_text="Below 0: it has expired. null: it does not expire, or is frozen."
    )

    class Meta:
        model = Piece
        fields = [
            "id",
            "variant",
            *PieceFields.Meta.fields,
            "frozen_on",
            "opened_on",
            "consumed_at",
            "wasted",
            "freshness",
            "days_left",
            "created_at",
        ]
        read_only_fields = ["opened_on", "consumed_at", "wasted"]

    @extend_schema_field(serializers.ChoiceField(Freshness.choices))
    def get_freshness(self, piece: Piece) -> str:
        return str(piece.freshness_on(self._today).value)

    def get_days_left(self, piece: Piece) -> int | None:
        if piece.expires_on is None or piece.frozen_on or piece.consumed_at:
            return None
        return (piece.expires_on - self._today).days

    @property
    def _today(self) -> date:
        """Asked once for a list."""
        context = cast(dict[str, Any], self.context)
        found: date = context.get("today") or context.setdefault("today", today())
        return found


class ConsumeSerializer(serializers.Serializer[Any]):
    wasted = serializers.BooleanField(default=False, help_text="It was thrown away.")


class MoveSerializer(serializers.Serializer[Any]):
    location = serializers.PrimaryKeyRelatedField(queryset=Location.objects.all(), allow_null=True)


class EntrySerializer(Checked[Entry]):
    variant_name = serializers.CharField(source="variant.__str__", read_only=True)

    class Meta:
        model = Entry
        fields = ["id", "list", "variant", "variant_name", "quantity", "purchased_at"]
        read_only_fields = ["purchased_at"]


class PurchaseSerializer(PieceFields):
    count = serializers.IntegerField(
        min_value=1, max_value=MOST_PIECES, required=False, help_text="Else as many as wanted."
    )

    class Meta(PieceFields.Meta):
        fields = ["count", *PieceFields.Meta.fields]


class PurchaseAllSerializer(PieceFields):
    class Meta(PieceFields.Meta):
        fields = ["location", "warehouse", "purchased_on"]


class EntryCountSerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField()


class PurchasedAllSerializer(EntryCountSerializer):
    refused = serializers.ListField(
        child=serializers.CharField(), help_text="Entries that stay on the list, each with why."
    )


class ShoppingListSerializer(Checked[ShoppingList]):
    open = serializers.IntegerField(read_only=True, help_text="Entries that are yet to be bought.")

    class Meta:
        model = ShoppingList
        fields = ["id", "name", "created_at", "open"]
