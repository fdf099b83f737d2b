from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesRadioFilter, RadioFilter
from unfold.decorators import display

import operations.audit.admin
import operations.debezium.admin  # noqa: F401 (it registers its own)
from jobs.pages import ReadOnlyAdmin, span, to_the_second
from operations.debezium.board import page_of
from operations.keys.admin import ApiKeyAdmin
from operations.models import OF_CONNECTORS, OF_JOBS, Alert, AlertQuerySet, Kind

__all__ = ["PAGES", "AlertAdmin", "ApiKeyAdmin"]

KIND_LABELS = {
    Kind.OVERDUE: "danger",
    Kind.FAILING: "danger",
    Kind.BACKLOG: "warning",
    Kind.ENDPOINT: "danger",
    Kind.CONNECTOR: "danger",
    Kind.CONNECT: "danger",
    Kind.WAL: "warning",
}


def runs_of(job: str) -> str:
    return reverse("admin:jobs_run_changelist") + f"?job__name__exact={job}"


PAGES: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(OF_JOBS, runs_of),
    **dict.fromkeys(OF_CONNECTORS, page_of),
}
"""By kind, the address of a subject's page; who raises alerts of other kinds adds theirs."""


class StateFilter(RadioFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("open", _("Open")), ("resolved", _("Resolved"))]

    def queryset(self, request: HttpRequest, queryset: AlertQuerySet) -> QuerySet[Alert]:
        if self.value() == "open":
            return queryset.open()
        return queryset.resolved() if self.value() == "resolved" else queryset


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    list_display = ("state", "kind_label", "about", "message", "raised", "resolved", "lasted")
    list_display_links = ("message",)
    list_filter = (StateFilter, ("kind", ChoicesRadioFilter))
    search_fields = ("subject", "message")
    search_help_text = _("Subject or words of the message")
    show_full_result_count = False
    list_per_page = 50
    fields = ("state_in_words", "kind", "about", "message", "raised", "resolved", "lasted")

    @display(description=_("state"), label={"open": "danger", "resolved": "success"})
    def state(self, alert: Alert) -> tuple[str, Any]:
        return "resolved" if alert.resolved_at else "open", self.state_in_words(alert)

    @display(description=_("state"))
    def state_in_words(self, alert: Alert) -> Any:
        """For the page of one: labels are for lists."""
        return _("Resolved") if alert.resolved_at else _("Open")

    @display(description=_("kind"), ordering="kind", label=KIND_LABELS)
    def kind_label(self, alert: Alert) -> tuple[str, str]:
        return alert.kind, alert.get_kind_display()

    @display(description=_("about"), ordering="subject")
    def about(self, alert: Alert) -> str:
        if alert.kind not in PAGES:
            return alert.subject
        url = PAGES[alert.kind](alert.subject)
        return format_html('<a class="text-link" href="{}">{}</a>', url, alert.subject)

    @display(description=_("raised"), ordering="raised_at")
    def raised(self, alert: Alert) -> str:
        return to_the_second(alert.raised_at)

    @display(description=_("resolved"), ordering="resolved_at")
    def resolved(self, alert: Alert) -> str:
        return to_the_second(alert.resolved_at)

    @display(description=_("lasted"))
    def lasted(self, alert: Alert) -> str:
        return span(alert.resolved_at - alert.raised_at) if alert.resolved_at else "–"
