"""The audit: to look at, to search, to take along."""

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from jobs.pages import ReadOnlyAdmin, to_the_second
from operations.audit.exports import TYPES, export
from operations.audit.models import AuditEntry, AuditEntryQuerySet, Door

MOST = 500  # that a filter offers
GONE = (".deleted", ".purged", ".redriven")
DOOR_LABELS = {
    Door.ADMIN: "info",
    Door.API: "success",
    Door.PAGE: "default",
    Door.STREAM: "default",
    Door.COMMAND: "warning",
    Door.JOB: "warning",
}


class KnownFilter(DropdownFilter):
    """What there is of a column."""

    column: str

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        known = self.known(AuditEntry.objects.all()).order_by(self.column)
        return [
            (name, name) for name in known.values_list(self.column, flat=True).distinct()[:MOST]
        ]

    def known(self, entries: AuditEntryQuerySet) -> QuerySet[AuditEntry]:
        return entries

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[AuditEntry]
    ) -> QuerySet[AuditEntry]:
        return queryset.filter(**{self.column: self.value()}) if self.value() else queryset


class ActionFilter(KnownFilter):
    title = _("action")
    parameter_name = "action_is"  # `action` is what a list posts
    column = "action"


class PersonFilter(KnownFilter):
    title = _("person")
    parameter_name = column = "person"

    def known(self, entries: AuditEntryQuerySet) -> QuerySet[AuditEntry]:
        """Not what anybody may type who cannot sign in."""
        return entries.exclude(user_id=None, door__in=[Door.PAGE, Door.ADMIN, Door.API])


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("when", "action", "about", "who", "door_label", "address", "in_short")
    list_display_links = ("when", "action")
    list_filter = (ActionFilter, PersonFilter, ("door", ChoicesDropdownFilter))
    list_filter_submit = True
    date_hierarchy = "at"
    search_fields = (
        "person__istartswith",
        "subject__icontains",
        "address__startswith",
        "correlation_id__exact",
    )
    search_help_text = _("Person, subject, address or correlation id")
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = InfinitePaginator
    list_per_page = 50
    sortable_by = ()
    list_before_template = "admin/operations/auditentry/export.html"
    fieldsets = (
        (None, {"fields": ("when", "action", "about", "kind")}),
        (_("What"), {"fields": ("differences",)}),
        (_("Who"), {"fields": ("who", "account", "door", "via", "address", "correlation")}),
    )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_safe(self.export))
        name = "operations_auditentry_export"
        return [path("export/<slug:kind>/", view, name=name), *super().get_urls()]

    def export(self, request: HttpRequest, kind: str) -> HttpResponseBase:
        """What the list with the same query shows, all of it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if kind not in TYPES:
            raise Http404(kind)
        return export(request, self.get_changelist_instance(request).queryset, kind)

    @display(description=_("when"))
    def when(self, entry: AuditEntry) -> str:
        return to_the_second(entry.at)

    @display(description=_("subject"))
    def about(self, entry: AuditEntry) -> str:
        url, name = page_of(entry), entry.subject or entry.subject_id or "–"
        return format_html('<a class="text-link" href="{}">{}</a>', url, name) if url else name

    @display(description=_("kind"))
    def kind(self, entry: AuditEntry) -> str:
        return f"{entry.subject_type} {entry.subject_id}".strip() or "–"

    @display(description=_("person"))
    def who(self, entry: AuditEntry) -> str:
        name = entry.person or "–"
        return f"{name} ({entry.via})" if entry.via else name

    @display(description=_("account"))
    def account(self, entry: AuditEntry) -> str:
        """Names change hands, numbers do not."""
        if entry.user_id is None:
            return "–"
        url = reverse("admin:auth_user_change", args=[entry.user_id])
        return format_html('<a class="text-link" href="{}">{}</a>', url, entry.user_id)

    @display(description=_("door"), label=DOOR_LABELS)
    def door_label(self, entry: AuditEntry) -> tuple[str, str]:
        return entry.door, entry.get_door_display()

    @display(description=_("correlation id"))
    def correlation(self, entry: AuditEntry) -> str:
        if not entry.correlation_id:
            return "–"
        url = f"{reverse('admin:operations_auditentry_changelist')}?q={entry.correlation_id}"
        return format_html('<a class="text-link" href="{}">{}</a>', url, entry.correlation_id)

    @display(description=_("detail"))
    def in_short(self, entry: AuditEntry) -> str:
        changes = entry.detail.get("changes")
        if isinstance(changes, dict):
            return ", ".join(changes)[:100]
        return ", ".join(f"{name}: {text(value)}" for name, value in facts_of(entry))[:100] or "–"

    @display(description=_("detail"))
    def differences(self, entry: AuditEntry) -> SafeString | str:
        changes = entry.detail.get("changes") or {}
        rows = [(name, text(old), text(new)) for name, (old, new) in changes.items()]
        facts = [(name, text(value)) for name, value in facts_of(entry)]
        context = {"changes": rows, "facts": facts}
        if not rows and not facts:
            return "–"
        return render_to_string("admin/operations/auditentry/detail.html", context)


def page_of(entry: AuditEntry) -> str:
    """Of its subject, where that has one and was not deleted by what was done."""
    if not entry.subject_type or entry.action.endswith(GONE):
        return ""
    try:
        model = apps.get_model(entry.subject_type)
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
        return reverse(name, args=[entry.subject_id])
    except (LookupError, NoReverseMatch):  # of an app, or an admin, that is no more
        return ""


def facts_of(entry: AuditEntry) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in entry.detail.items() if name != "changes")


def text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(text, value))
    return "–" if value in (None, "") else str(value)
