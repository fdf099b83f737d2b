"""`/api/foodfolio`: what is in the pantry, what is missing, what is to be bought."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import django_filters
from django.db.models import Count, Model, Q, QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import ModelViewSet

from domains.pantry import services, shopping
from domains.pantry.models import (
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
from domains.pantry.serializers import (
    BranchSerializer,
    CompanySerializer,
    ConsumeSerializer,
    EntryCountSerializer,
    EntrySerializer,
    ItemSerializer,
    ItemTypeSerializer,
    LocationSerializer,
    MoveSerializer,
    NewPiecesSerializer,
    PantryCategorySerializer,
    PieceSerializer,
    PurchaseAllSerializer,
    PurchasedAllSerializer,
    PurchaseSerializer,
    ShoppingListSerializer,
    SizeSerializer,
    VariantSerializer,
    WarehouseSerializer,
)
from domains.pantry.services import today

M = TypeVar("M", bound=Model)
METHODS = ["get", "post", "patch", "delete"]


def needs(model: str, **more: str) -> dict[str, str]:
    """Django's own permissions of the model; `more` names verbs and what each of them takes."""
    of = {
        "list": "view",
        "retrieve": "view",
        "create": "add",
        "partial_update": "change",
        "destroy": "delete",
    }
    return {name: f"pantry.{verb}_{model}" for name, verb in (of | more).items()}


def given(serializer: type[BaseSerializer[Any]], request: Request) -> dict[str, Any]:
    """What was sent, checked."""
    sent = serializer(data=request.data)
    sent.is_valid(raise_exception=True)
    return cast(dict[str, Any], sent.validated_data)


class Words(django_filters.CharFilter):
    """Each word must be in one of the fields."""

    def __init__(self, *fields: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fields = fields

    def filter(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        for word in (value or "").split()[:10]:
            found = Q()
            for field in self.fields:
                found |= Q(**{f"{field}__icontains": word})
            rows = rows.filter(found)
        return rows


class Rows(ModelViewSet[M]):
    lookup_value_converter = "int"
    http_method_names = METHODS


class NameFilter(django_filters.FilterSet):
    search = Words("name", help_text="Words of the name.")


class Tree(Rows[M]):
    filterset_class = NameFilter
    ordering_fields = ["id", "name"]

    def get_serializer_context(self) -> dict[str, Any]:
        context = dict(super().get_serializer_context())
        if getattr(self, "action", "") == "list":
            context["paths"] = self.get_queryset().model.paths()  # type: ignore[attr-defined]
        return context

    @extend_schema(responses=BranchSerializer(many=True), filters=False)
    @action(detail=False, pagination_class=None)
    def tree(self, request: Request) -> Response:
        """All of them, each with what is below it."""
        rows = list(self.get_queryset())
        branches = {row.pk: {"id": row.pk, "name": str(row), "children": []} for row in rows}
        roots: list[Any] = []
        for row in rows:
            parent = branches.get(row.parent_id)  # type: ignore[attr-defined]
            siblings = cast(list[Any], parent["children"]) if parent else roots
            siblings.append(branches[row.pk])
        return Response(roots)


@extend_schema(tags=["foodfolio"])
class CategoryViewSet(Tree[Category]):
    queryset = Category.objects.all()
    serializer_class = PantryCategorySerializer
    needs = needs("category", tree="view")


@extend_schema(tags=["foodfolio"])
class LocationViewSet(Tree[Location]):
    queryset = Location.objects.all()
    serializer_class = LocationSerializer
    needs = needs("location", tree="view")


@extend_schema(tags=["foodfolio"])
class CompanyViewSet(Rows[Company]):
    queryset = Company.objects.all()
    serializer_class = CompanySerializer
    filterset_class = NameFilter
    needs = needs("company")


@extend_schema(tags=["foodfolio"])
class TypeViewSet(Rows[ItemType]):
    queryset = ItemType.objects.all()
    serializer_class = ItemTypeSerializer
    filterset_class = NameFilter
    needs = needs("itemtype")


@extend_schema(tags=["foodfolio"])
class SizeViewSet(Rows[Size]):
    queryset = Size.objects.all()
    serializer_class = SizeSerializer
    needs = needs("size")


@extend_schema(tags=["foodfolio"])
class WarehouseViewSet(Rows[Warehouse]):
    queryset = Warehouse.objects.all()
    serializer_class = WarehouseSerializer
    filterset_class = NameFilter
    needs = needs("warehouse")


class ItemFilter(django_filters.FilterSet):
    search = Words("name", "company__name", help_text="Words of the name or of the company.")
    category = django_filters.NumberFilter(
        method="in_category", help_text="This category and all below it."
    )
    company = django_filters.NumberFilter()
    type = django_filters.NumberFilter()

    def in_category(self, rows: QuerySet[Item], _name: str, value: int) -> QuerySet[Item]:
        return rows.filter(category__in=Category.within(int(value)))


@extend_schema(tags=["foodfolio"])
class ItemViewSet(Rows[Item]):
    queryset = Item.objects.all()
    serializer_class = ItemSerializer
    filterset_class = ItemFilter
    ordering_fields = ["id", "name", "created_at"]
    needs = needs("item")


class VariantFilter(django_filters.FilterSet):
    item = django_filters.NumberFilter()
    barcode = django_filters.CharFilter()
    search = Words("item__name", "name", "barcode", help_text="Words of name, or a barcode.")
    level = django_filters.ChoiceFilter(choices=[c for c in Level.choices if c[0]])
    low_stock = django_filters.BooleanFilter(method="short", help_text="Below the minimum.")
    overstocked = django_filters.BooleanFilter(method="over", help_text="Above the maximum.")

    def short(self, rows: Any, _name: str, value: bool) -> Any:
        return rows.short(today()) if value else rows

    def over(self, rows: Any, _name: str, value: bool) -> Any:
        return rows.overstocked(today()) if value else rows


@extend_schema(tags=["foodfolio"])
class VariantViewSet(Rows[Variant]):
    """What is bought and counted."""

    queryset = Variant.objects.select_related("item")
    serializer_class = VariantSerializer
    filterset_class = VariantFilter
    ordering_fields = ["id", "name", "min_sku", "created_at"]
    needs = needs("variant", barcode="view") | {
        "stock_up": "pantry.add_piece",
        "take": "pantry.change_piece",
        "open": "pantry.change_piece",
    }

    def get_queryset(self) -> Any:
        return Variant.objects.select_related("item").with_stock(today())

    @extend_schema(responses=VariantSerializer)
    @action(detail=False, url_path="barcode/<str:code>", filterset_class=None)
    def barcode(self, request: Request, code: str) -> Response:
        """The variant of this barcode, with its stock."""
        found = self.get_queryset().filter(barcode=code).first()
        if found is None:
            raise NotFound(
                _("Nothing has the barcode %(code)s. Add a variant with it.") % {"code": code}
            )
        return Response(self.get_serializer(found).data)

    @extend_schema(request=NewPiecesSerializer, responses={201: PieceSerializer(many=True)})
    @action(detail=True, methods=["post"], url_path="stock-up", pagination_class=None)
    def stock_up(self, request: Request, pk: int) -> Response:
        """Put so many new pieces away."""
        fields = given(NewPiecesSerializer, request)
        pieces = services.stock_up(self.get_object(), **fields)
        return Response(PieceSerializer(pieces, many=True).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses=PieceSerializer)
    @action(detail=True, methods=["post"])
    def take(self, request: Request, pk: int) -> Response:
        """Use up the piece that should go first: an open one, then what expires first."""
        return Response(PieceSerializer(services.take(self.get_object())).data)

    @extend_schema(request=None, responses=PieceSerializer)
    @action(detail=True, methods=["post"])
    def open(self, request: Request, pk: int) -> Response:
        """Open the piece in stock that should go first."""
        return Response(PieceSerializer(services.open_one(self.get_object())).data)


class PieceFilter(django_filters.FilterSet):
    variant = django_filters.NumberFilter()
    item = django_filters.NumberFilter("variant__item")
    location = django_filters.NumberFilter(
        method="in_place", help_text="This place and all within it."
    )
    warehouse = django_filters.NumberFilter()
    deposit = django_filters.BooleanFilter("has_deposit")
    in_stock = django_filters.BooleanFilter(method="stocked", help_text="Only what is in stock.")
    consumed = django_filters.BooleanFilter("consumed_at", lookup_expr="isnull", exclude=True)
    freshness = django_filters.ChoiceFilter(
        method="of_freshness", choices=[c for c in Freshness.choices if c[0]]
    )
    expires_before = django_filters.DateFilter("expires_on", lookup_expr="lt")

    def in_place(self, rows: Any, _name: str, value: int) -> Any:
        return rows.filter(location__in=Location.within(int(value)))

    def stocked(self, rows: Any, _name: str, value: bool) -> Any:
        return rows.in_stock(today()) if value else rows

    def of_freshness(self, rows: Any, _name: str, value: str) -> Any:
        return rows.expired(today()) if value == Freshness.EXPIRED else rows.expiring(today())


@extend_schema(tags=["foodfolio"])
class PieceViewSet(Rows[Piece]):
    """Each piece by itself."""

    queryset = Piece.objects.all()
    serializer_class = PieceSerializer
    filterset_class = PieceFilter
    ordering_fields = ["id", "expires_on", "purchased_on", "created_at"]
    needs = needs(
        "piece",
        expiring="view",
        expired="view",
        open="change",
        consume="change",
        put_back="change",
        freeze="change",
        thaw="change",
        move="change",
    )

    def perform_create(self, serializer: BaseSerializer[Piece]) -> None:
        fields = dict(cast(dict[str, Any], serializer.validated_data))
        [serializer.instance] = services.stock_up(fields.pop("variant"), **fields)

    def perform_update(self, serializer: BaseSerializer[Piece]) -> None:
        services.recover([serializer.save().variant_id])

    @extend_schema(responses=PieceSerializer(many=True))
    @action(detail=False)
    def expiring(self, request: Request) -> Response:
        """What expires today or within seven days, first what expires first."""
        return self._page(Piece.objects.expiring(today()))

    @extend_schema(responses=PieceSerializer(many=True))
    @action(detail=False)
    def expired(self, request: Request) -> Response:
        """What has expired and is still here."""
        return self._page(Piece.objects.expired(today()))

    def _page(self, pieces: QuerySet[Piece]) -> Response:
        page = self.paginate_queryset(self.filter_queryset(pieces.order_by("expires_on")))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(request=None, responses=PieceSerializer)
    @action(detail=True, methods=["post"])
    def open(self, request: Request, pk: int) -> Response:
        """Open it: it is no stock any more."""
        return self._do(services.open_piece)

    @extend_schema(request=ConsumeSerializer, responses=PieceSerializer)
    @action(detail=True, methods=["post"])
    def consume(self, request: Request, pk: int) -> Response:
        """It is used up, or was thrown away."""
        fields = given(ConsumeSerializer, request)
        return self._do(lambda piece: services.consume(piece, **fields))

    @extend_schema(request=None, responses=PieceSerializer)
    @action(detail=True, methods=["post"], url_path="put-back")
    def put_back(self, request: Request, pk: int) -> Response:
        """It was marked as used up by mistake."""
        return self._do(services.put_back)

    @extend_schema(request=None, responses=PieceSerializer)
    @action(detail=True, methods=["post"])
    def freeze(self, request: Request, pk: int) -> Response:
        """Freeze it: it does not expire meanwhile."""
        return self._do(services.freeze)

    @extend_schema(request=None, responses=PieceSerializer)
    @action(detail=True, methods=["post"])
    def thaw(self, request: Request, pk: int) -> Response:
        """Thaw it: it has as many days left as when it was frozen."""
        return self._do(services.thaw)

    @extend_schema(request=MoveSerializer, responses=PieceSerializer)
    @action(detail=True, methods=["post"])
    def move(self, request: Request, pk: int) -> Response:
        """Put it into another place, or with `null` into none."""
        to = given(MoveSerializer, request)["location"]
        piece = self.get_object()
        if not services.move(Piece.objects.filter(pk=piece.pk), to):
            raise services.InvalidTransition(_("It is used up."))
        piece.refresh_from_db()
        return Response(self.get_serializer(piece).data)

    def _do(self, verb: Callable[[Piece], None]) -> Response:
        piece = self.get_object()
        verb(piece)
        return Response(self.get_serializer(piece).data)


@extend_schema(tags=["foodfolio"])
class ShoppingListViewSet(Rows[ShoppingList]):
    queryset = ShoppingList.objects.all()
    serializer_class = ShoppingListSerializer
    ordering_fields = ["id", "name", "created_at"]
    needs = needs("shoppinglist") | {
        "generate_low_stock": "pantry.add_entry",
        "purchase_all": "pantry.add_piece",
        "clear_purchased": "pantry.delete_entry",
    }

    def get_queryset(self) -> QuerySet[ShoppingList]:
        unbought = Count("entries", filter=Q(entries__purchased_at=None))
        return ShoppingList.objects.annotate(open=unbought).order_by("-pk")

    @extend_schema(request=None, responses=EntryCountSerializer)
    @action(detail=True, methods=["post"], url_path="generate-low-stock")
    def generate_low_stock(self, request: Request, pk: int) -> Response:
        """Put on it what is below its minimum, up to the maximum; how many entries are new."""
        return Response({"count": shopping.fill(self.get_object())})

    @extend_schema(request=PurchaseAllSerializer, responses=PurchasedAllSerializer)
    @action(detail=True, methods=["post"], url_path="purchase-all")
    def purchase_all(self, request: Request, pk: int) -> Response:
        """All that is left on it becomes stock; how many entries, and why others do not."""
        fields = given(PurchaseAllSerializer, request)
        count, refused = shopping.buy_all(self.get_object(), **fields)
        return Response({"count": count, "refused": refused})

    @extend_schema(request=None, responses=EntryCountSerializer)
    @action(detail=True, methods=["post"], url_path="clear-purchased")
    def clear_purchased(self, request: Request, pk: int) -> Response:
        """Take off it what was bought; how many entries."""
        return Response({"count": shopping.clear_bought(self.get_object())})


class EntryFilter(django_filters.FilterSet):
    list = django_filters.NumberFilter()
    variant = django_filters.NumberFilter()
    purchased = django_filters.BooleanFilter("purchased_at", lookup_expr="isnull", exclude=True)


@extend_schema(tags=["foodfolio"])
class EntryViewSet(Rows[Entry]):
    """What is to be bought."""

    queryset = Entry.objects.select_related("variant__item")
    serializer_class = EntrySerializer
    filterset_class = EntryFilter
    needs = needs("entry") | {"purchase": "pantry.add_piece"}

    @extend_schema(request=PurchaseSerializer, responses={201: PieceSerializer(many=True)})
    @action(detail=True, methods=["post"], pagination_class=None)
    def purchase(self, request: Request, pk: int) -> Response:
        """It was bought, and becomes stock."""
        pieces = shopping.buy(self.get_object(), **given(PurchaseSerializer, request))
        return Response(PieceSerializer(pieces, many=True).data, status=status.HTTP_201_CREATED)
