from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import (
    AutocompleteSelectFilter,
    ChoicesCheckboxFilter,
    RadioFilter,
)
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from broadcasts.models import Receipt, ReceiptStatus
from jobs.pages import ReadOnlyAdmin, named, to_the_second

FOUND_PEOPLE = 1_000  # a search that finds more people is too wide to be of use
STAGES = {
    "delivered": _("Delivered"),
    "undelivered": _("Not delivered"),
    "seen": _("Seen"),
    "read": _("Read"),
    "unread": _("Not read"),
    "acknowledged": _("Acknowledged"),
    "unacknowledged": _("Not acknowledged"),
    "dismissed": _("Dismissed"),
}
LABELS = {
    ReceiptStatus.DELIVERED: "info",
    ReceiptStatus.SEEN: "primary",
    ReceiptStatus.READ: "success",
    ReceiptStatus.SUPERSEDED: "warning",
    ReceiptStatus.FAILED: "danger",
}


def stamp(field: str, label: Any) -> Any:
    @display(description=label)
    def shown(self: "ReceiptAdmin", receipt: Receipt) -> str:
        return to_the_second(getattr(receipt, field))

    return shown


class StageFilter(RadioFilter):
    title = _("stage")
    parameter_name = "stage"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(STAGES.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Receipt]) -> QuerySet[Receipt]:
        stage = self.value()
        if stage not in STAGES:
            return queryset
        field = f"{stage.removeprefix('un')}_at"
        return queryset.filter(**{f"{field}__isnull": stage.startswith("un")})


@admin.register(Receipt)
class ReceiptAdmin(ReadOnlyAdmin):
    list_display = (
        "user",
        "broadcast",
        "status_label",
        "delivered",
        "seen",
        "read",
        "acknowledged",
        "dismissed",
    )
    list_filter = (
        StageFilter,
        ("status", ChoicesCheckboxFilter),
        ("broadcast", AutocompleteSelectFilter),
    )
    search_fields = ("user__username",)
    search_help_text = _("Username, from its beginning")
    ordering = ("-id",)
    delivered = stamp("delivered_at", _("delivered"))
    seen = stamp("seen_at", _("seen"))
    read = stamp("read_at", _("read"))
    acknowledged = stamp("acknowledged_at", _("acknowledged"))
    dismissed = stamp("dismissed_at", _("dismissed"))
    sortable_by = ()
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    person = named("user", _("user"))
    readonly_fields = ("person",)
    fields = (
        "person",
        "broadcast",
        "status",
        "created_at",
        "delivered_at",
        "seen_at",
        "read_at",
        "acknowledged_at",
        "dismissed_at",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Receipt]:
        queryset: QuerySet[Receipt] = super().get_queryset(request)
        # `targets` alone can have 100,000 names a row.
        return queryset.select_related("user", "broadcast").defer(
            "broadcast__targets", "broadcast__content", "broadcast__last_error"
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Receipt], search_term: str
    ) -> tuple[QuerySet[Receipt], bool]:
        """The people first, then their receipts by index: no scan of 100,000 joined rows."""
        if not search_term.strip():
            return queryset, False
        people = User.objects.filter(username__istartswith=search_term.strip())
        ids = list(people.order_by().values_list("pk", flat=True)[:FOUND_PEOPLE])
        return queryset.filter(user_id__in=ids), False

    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet[Receipt], per_page: int, *args: Any
    ) -> "Paginator[Receipt]":
        """Count the receipts of one broadcast (its numbers are proven here), never all of them."""
        narrow = "broadcast__id__exact" in request.GET or request.GET.get("q")
        kind: type[Paginator[Receipt]] = Paginator if narrow else InfinitePaginator
        return kind(queryset, per_page, *args)

    @display(description=_("status"), ordering="status", label=LABELS)
    def status_label(self, receipt: Receipt) -> tuple[str, str]:
        return receipt.status, receipt.get_status_display()
