from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display

from domains.pantry import shopping
from domains.pantry.admin.goods import link
from domains.pantry.admin.kitchen import number
from domains.pantry.models import Entry, ShoppingList
from domains.pantry.services import InvalidTransition
from jobs.pages import Question, ask, confirmed, digits, tell_refused


class EntryInline(TabularInline):
    model = Entry
    fields = ("variant", "quantity", "purchased_at")
    readonly_fields = ("purchased_at",)
    autocomplete_fields = ("variant",)
    extra = 0
    hide_title = True


@admin.register(ShoppingList)
class ShoppingListAdmin(ModelAdmin):
    list_display = ("name", "left", "created_at", "go")
    search_fields = ("name",)
    inlines = (EntryInline,)
    actions_detail = ("shop", "fill_one", "buy_rest", "clear_one")

    class Media:
        css = {"all": ("pantry/kitchen.css",)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[ShoppingList]:
        queryset: QuerySet[ShoppingList] = super().get_queryset(request)
        return queryset.annotate(left=Count("entries", filter=Q(entries__purchased_at=None)))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.buy))
        return [path("<int:pk>/buy/", view, name="pantry_shoppinglist_buy"), *super().get_urls()]

    @display(description=_("to be bought"), ordering="left")
    def left(self, row: Any) -> str:
        return digits(row.left)

    @display(description=_("in the shop"))
    def go(self, row: ShoppingList) -> SafeString:
        return link(_shop_url(row), str(_("Go shopping")))

    def has_shop_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perms(["pantry.view_shoppinglist", "pantry.view_entry"])

    def has_fill_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("pantry.add_entry")

    def has_clear_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("pantry.delete_entry")

    def has_buy_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("pantry.add_piece")

    @action(description=_("Go shopping"), url_path="shop", permissions=["shop"])
    def shop(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The list as it is used in a shop, on a phone."""
        row = get_object_or_404(ShoppingList, pk=object_id)
        entries = row.entries.select_related("variant__item", "variant__size")
        context = self.admin_site.each_context(request) | {
            "title": row.name,
            "opts": self.model._meta,
            "list": row,
            "open": entries.filter(purchased_at=None),
            "bought": entries.filter(purchased_at__isnull=False).order_by("-purchased_at"),
            "may_buy": self.has_buy_permission(request),
        }
        return TemplateResponse(request, "admin/pantry/shoppinglist/shop.html", context)

    def buy(self, request: HttpRequest, pk: int) -> HttpResponse:
        """One entry was put in the basket: from here on it is stock."""
        if not self.has_buy_permission(request):
            raise PermissionDenied
        row = get_object_or_404(ShoppingList, pk=pk)
        entry_id, count = request.POST.get("entry", ""), request.POST.get("count", "")
        entries = row.entries.select_related("variant__item")
        entry = get_object_or_404(entries, pk=number(entry_id))
        try:
            shopping.buy(entry, number(count) if count else None)
        except InvalidTransition as error:
            messages.error(request, str(error))
        else:
            self.log_change(request, row, str(_("Bought: %(entry)s") % {"entry": entry}))
        return redirect(_shop_url(row))

    @action(description=_("Fill with what is low"), url_path="fill", permissions=["fill"])
    def fill_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(ShoppingList, pk=object_id)
        question = Question(
            title=_("Put on the list what is low?"),
            text=_("Each variant below its minimum, up to its maximum; what stands on it stays."),
            submit=_("Fill"),
            back=_page_of(row),
        )
        if not confirmed(request):
            return ask(self, request, question)
        self._tell(request, row, _("Filled"), shopping.fill(row))
        return redirect(_page_of(row))

    @action(description=_("All bought"), url_path="buy-all", permissions=["buy"])
    def buy_rest(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(ShoppingList, pk=object_id)
        question = Question(
            title=_("Is all of it bought?"),
            text=_("What is left on the list becomes stock, without a place and an expiry date."),
            submit=_("All bought"),
            back=_page_of(row),
        )
        if not confirmed(request):
            return ask(self, request, question)
        bought, refused = shopping.buy_all(row)
        tell_refused(request, refused)
        self._tell(request, row, _("All bought"), bought)
        return redirect(_page_of(row))

    @action(description=_("Clear what is bought"), url_path="clear", permissions=["clear"])
    def clear_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(ShoppingList, pk=object_id)
        question = Question(
            title=_("Clear what is bought?"),
            text=_("It leaves the list; the pieces stay in stock."),
            submit=_("Clear"),
            back=_page_of(row),
        )
        if not confirmed(request):
            return ask(self, request, question)
        self._tell(request, row, _("Cleared"), shopping.clear_bought(row))
        return redirect(_page_of(row))

    def _tell(self, request: HttpRequest, row: ShoppingList, noted: Any, count: int) -> None:
        self.log_change(request, row, str(noted))
        text = ngettext("%(what)s: %(count)s entry.", "%(what)s: %(count)s entries.", count)
        messages.success(request, text % {"what": noted, "count": digits(count)})


def _page_of(row: ShoppingList) -> str:
    return reverse("admin:pantry_shoppinglist_change", args=[row.pk])


def _shop_url(row: ShoppingList) -> str:
    return reverse("admin:pantry_shoppinglist_shop", args=[row.pk])
