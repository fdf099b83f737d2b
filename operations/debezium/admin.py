from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from jobs.execution import JobBusy, run_now
from jobs.pages import ReadOnlyAdmin, preformatted, to_the_second
from operations.debezium import services, steering
from operations.debezium.board import board, changes_url, label_of, size
from operations.debezium.client import ConnectError
from operations.debezium.models import Connector, ConnectorChange

HEALTH = "admin:operations_connector_changelist"


@admin.register(Connector)
class ConnectorAdmin(ReadOnlyAdmin):
    """One page of the health of all connectors instead of a list of rows."""

    fieldsets = (
        (None, {"fields": ("name", "state_in_words", "problem_in_words", "worker_id", "seen")}),
        (gettext_lazy("Tasks"), {"fields": ("tasks_in_full",)}),
        (gettext_lazy("Stack trace of the connector"), {"fields": ("stack_trace",)}),
        (
            gettext_lazy("Restarts"),
            {"fields": ("restarts", "restarts_total", "restarted", "not_before", "mendable")},
        ),
        (
            gettext_lazy("Replication slot"),
            {"fields": ("slot", "slot_active", "retained", "lag", "slot_note")},
        ),
        (gettext_lazy("About it"), {"fields": ("class_name", "database", "declared", "changes")}),
    )

    def has_steer_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("operations.steer_connector")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        name = "operations_connector"
        own = [
            path("board/", view(require_GET(self.board)), name=f"{name}_board"),
            path("check/", view(require_POST(self.check_now)), name=f"{name}_check"),
        ]
        for verb in (self.restart, self.pause, self.resume):
            called = verb.__name__
            route = f"<int:pk>/{called}/"
            own.append(path(route, view(require_POST(verb)), name=f"{name}_{called}"))
        return own + list(super().get_urls())

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = self.admin_site.each_context(request) | {
            "title": _("Connectors"),
            "opts": self.model._meta,
        }
        return self._answer(request, "admin/operations/connector/health.html", context)

    def board(self, request: HttpRequest) -> HttpResponse:
        """What the open page asks for while somebody looks."""
        return self._answer(request, "admin/operations/connector/board.html", {})

    def _answer(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        context |= {
            "board": board(),
            "may_steer": self.has_steer_permission(request),
            "may_check": request.user.has_perm("jobs.steer_job"),
        }
        return TemplateResponse(request, template, context)

    # Steering

    def check_now(self, request: HttpRequest) -> HttpResponse:
        if not request.user.has_perm("jobs.steer_job"):
            raise PermissionDenied
        try:
            run_now(services.JOB)
        except JobBusy as error:
            messages.error(request, str(error))
        else:
            messages.success(request, _("A check is asked for: a qcluster runs it in a moment."))
        return redirect(HEALTH)

    def restart(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._steer(request, pk, steering.restart, _("Restarted"))

    def pause(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._steer(request, pk, steering.pause, _("Paused"))

    def resume(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._steer(request, pk, steering.resume, _("Resumed"))

    def _steer(
        self, request: HttpRequest, pk: int, steer: Callable[[str, str], None], noted: str
    ) -> HttpResponse:
        if not self.has_steer_permission(request):
            raise PermissionDenied
        connector = get_object_or_404(Connector, pk=pk)
        try:
            steer(connector.name, request.user.get_username())
        except (ConnectError, steering.InvalidTransition) as error:
            messages.error(request, f"{connector}: {error}")
            return redirect(HEALTH)
        self.log_change(request, connector, noted)
        values = {"connector": connector, "done": noted}
        try:
            values["state"] = label_of(steering.watch(connector.name))[0]
        except ConnectError:
            text = _("%(connector)s – %(done)s. Its state is not known yet.")
        else:
            text = _("%(connector)s – %(done)s. Kafka Connect says now: %(state)s.")
        messages.success(request, text % values)
        return redirect(HEALTH)

    # One

    @display(description=gettext_lazy("state"))
    def state_in_words(self, connector: Connector) -> str:
        since = to_the_second(connector.since)
        return _("%(state)s since %(since)s") % {"state": label_of(connector)[0], "since": since}

    @display(description=gettext_lazy("problem"))
    def problem_in_words(self, connector: Connector) -> SafeString | str:
        if not connector.problem:
            return _("none")
        since = to_the_second(connector.problem_since)
        alerts = (
            reverse("admin:operations_alert_changelist") + f"?q={services.subject_of(connector)}"
        )
        return format_html(
            '<span class="console-bad">{}</span> ({}) · <a class="text-link" href="{}">{}</a>',
            connector.problem,
            _("since %(time)s") % {"time": since},
            alerts,
            _("Alerts"),
        )

    @display(description=gettext_lazy("last seen"))
    def seen(self, connector: Connector) -> str:
        return to_the_second(connector.seen_at)

    @display(description=gettext_lazy("tasks"))
    def tasks_in_full(self, connector: Connector) -> SafeString | str:
        rows = [
            (
                _("Task %(number)s: %(state)s since %(since)s on %(worker)s")
                % {
                    "number": task.number,
                    "state": label_of(task)[0],
                    "since": to_the_second(task.since),
                    "worker": task.worker_id or "–",
                },
                preformatted(task.trace) if task.trace else "",
            )
            for task in connector.tasks.all()
        ]
        return format_html_join("", "<div>{}</div>{}", rows) or _("none")

    @display(description=gettext_lazy("stack trace"))
    def stack_trace(self, connector: Connector) -> SafeString | str:
        return preformatted(connector.trace) if connector.trace else _("none")

    @display(description=gettext_lazy("last restart"))
    def restarted(self, connector: Connector) -> str:
        return to_the_second(connector.restarted_at)

    @display(description=gettext_lazy("not restarted before"))
    def not_before(self, connector: Connector) -> str:
        return to_the_second(connector.next_restart_at)

    @display(description=gettext_lazy("WAL kept"))
    def retained(self, connector: Connector) -> str:
        return size(connector.slot_retained)

    @display(description=gettext_lazy("lag"))
    def lag(self, connector: Connector) -> str:
        return size(connector.slot_lag)

    @display(description=gettext_lazy("history"))
    def changes(self, connector: Connector) -> SafeString:
        url = changes_url(connector)
        return format_html('<a class="text-link" href="{}">{}</a>', url, _("All changes"))


@admin.register(ConnectorChange)
class ConnectorChangeAdmin(ReadOnlyAdmin):
    list_display = ("at_exactly", "connector", "task", "what", "by")
    list_display_links = ("what",)
    list_select_related = ("connector",)
    list_filter = (("connector", RelatedDropdownFilter),)
    list_filter_submit = True
    search_fields = ("what", "by", "connector__name")
    search_help_text = gettext_lazy("Connector, person, or words of the change")
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = InfinitePaginator
    list_per_page = 50
    fields = ("at_exactly", "connector", "task", "what", "by", "stack_trace")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ConnectorChange]:
        queryset: QuerySet[ConnectorChange] = super().get_queryset(request)
        is_list = getattr(request.resolver_match, "url_name", "").endswith("_changelist")
        return queryset.defer("trace") if is_list else queryset

    @display(description=gettext_lazy("at"), ordering="at")
    def at_exactly(self, change: ConnectorChange) -> str:
        return to_the_second(change.at)

    @display(description=gettext_lazy("stack trace"))
    def stack_trace(self, change: ConnectorChange) -> SafeString | str:
        return preformatted(change.trace) if change.trace else _("none")
