"""What there can be: items, their variants, and what they are sorted by."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin, TabularInline
from unfold.contrib.filters.admin import DropdownFilter, RadioFilter, RelatedDropdownFilter
from unfold.decorators import display

from domains.pantry.models import (
    Category,
    Company,
    Item,
    ItemType,
    Level,
    Location,
    Node,
    Size,
    Variant,
    Warehouse,
)
from domains.pantry.services import today
from jobs.pages import digits

LEVEL_LABELS = {"ENOUGH": "success", "LOW": "warning", "EMPTY": "danger"}


def link(url: str, text: Any) -> SafeString:
    return format_html('<a class="text-link" href="{}">{}</a>', url, text)


class TreeFilter(DropdownFilter):
    """A node with all that is below it."""

    model: type[Node]
    field: str

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        paths = sorted(self.model.paths().items(), key=lambda item: item[1])
        return [(str(pk), path) for pk, path in paths]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value() or ""
        if not chosen.isdecimal():
            return queryset
        return queryset.filter(**{f"{self.field}__in": self.model.within(int(chosen))})


class CategoryFilter(TreeFilter):
    title, parameter_name = _("category"), "within"
    model, field = Category, "category"


class ItemCategoryFilter(CategoryFilter):
    field = "item__category"


class PlaceFilter(TreeFilter):
    title, parameter_name = _("place"), "place"
    model, field = Location, "location"


class NodeAdmin(ModelAdmin):
    list_display = ("path", "name")
    list_display_links = ("path",)
    search_fields = ("name",)
    autocomplete_fields = ("parent",)

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist: ChangeList = super().get_changelist_instance(request)
        paths = self.model.paths()
        for node in changelist.result_list:
            node.path = paths[node.pk]
        return changelist

    @display(description=_("path"), ordering="name")
    def path(self, node: Any) -> str:
        return str(node.path)


@admin.register(Category)
class CategoryAdmin(NodeAdmin):
    pass


@admin.register(Location)
class LocationAdmin(NodeAdmin):
    list_display = ("path", "here")

    @display(description=_("pieces"))
    def here(self, place: Location) -> SafeString:
        return link(f"{reverse('admin:pantry_piece_changelist')}?place={place.pk}", _("Show"))


@admin.register(Company, ItemType, Warehouse)
class NamedAdmin(ModelAdmin):
    search_fields = ("name",)


@admin.register(Size)
class SizeAdmin(ModelAdmin):
    search_fields = ("value", "unit")


class VariantInline(TabularInline):
    model = Variant
    fields = ("name", "size", "barcode", "min_sku", "max_sku", "is_normally_frozen")
    extra = 0
    min_num = 1
    show_change_link = True


@admin.register(Item)
class ItemAdmin(ModelAdmin):
    list_display = ("name", "category", "company", "type", "variant_count")
    list_filter = (CategoryFilter, ("type", RelatedDropdownFilter))
    list_select_related = ("category", "company", "type")
    search_fields = ("name", "company__name", "variants__barcode")
    search_help_text = _("Name, company or barcode")
    prepopulated_fields = {"slug": ("name",)}
    autocomplete_fields = ("category", "company", "type")
    inlines = (VariantInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Item]:
        queryset: QuerySet[Item] = super().get_queryset(request)
        return queryset.annotate(variant_count=Count("variants"))

    @display(description=_("variants"), ordering="variant_count")
    def variant_count(self, item: Any) -> SafeString:
        url = f"{reverse('admin:pantry_variant_changelist')}?item__id__exact={item.pk}"
        return link(url, digits(item.variant_count))


class LevelFilter(RadioFilter):
    title = _("stock")
    parameter_name = "stock"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("short", _("Below the minimum")),
            (Level.LOW.value, Level.LOW.label),
            (Level.EMPTY.value, Level.EMPTY.label),
            ("over", _("Above the maximum")),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        match self.value():
            case "short":
                return queryset.short(today())
            case "over":
                return queryset.overstocked(today())
            case Level.LOW | Level.EMPTY:
                return queryset.filter(level=self.value())
        return queryset


@admin.register(Variant)
class VariantAdmin(ModelAdmin):
    list_display = ("__str__", "size", "in_stock", "level_label", "wanted", "barcode")
    list_filter = (LevelFilter, ItemCategoryFilter)
    list_select_related = ("item", "size")
    search_fields = ("item__name", "name", "barcode")
    search_help_text = _("Name or barcode")
    show_full_result_count = False
    autocomplete_fields = ("item", "size")
    readonly_fields = ("in_stock", "level_in_words")
    fieldsets = (
        (None, {"fields": ("item", "name", "size", "barcode")}),
        (_("Stock"), {"fields": ("min_sku", "max_sku", "is_normally_frozen")}),
        (_("Now"), {"fields": ("in_stock", "level_in_words")}),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).with_stock(today())

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fieldsets if obj else self.fieldsets[:2]

    def save_model(self, request: HttpRequest, obj: Variant, form: Any, change: Any) -> None:
        """What the job wrote meanwhile stays."""
        obj.save(update_fields=form.changed_data if change else None)

    @display(description=_("in stock"), ordering="stock")
    def in_stock(self, variant: Any) -> SafeString:
        url = f"{reverse('admin:pantry_piece_changelist')}?variant__id__exact={variant.pk}"
        return link(url + "&state=stock", digits(variant.stock))

    @display(description=_("level"), ordering="level", label=LEVEL_LABELS)
    def level_label(self, variant: Any) -> tuple[str, Any]:
        level = Level(variant.level)
        return level.name, level.label

    @display(description=_("level"))
    def level_in_words(self, variant: Any) -> Any:
        return Level(variant.level).label

    @display(description=_("wanted"), ordering="min_sku")
    def wanted(self, variant: Variant) -> str:
        if variant.max_sku is None:
            return digits(variant.min_sku)
        return f"{digits(variant.min_sku)}–{digits(variant.max_sku)}"
