from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Case, Count, F, IntegerField, OuterRef, QuerySet, Subquery, When
from django.db.models.functions import Coalesce, Greatest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.contrib.filters.admin import AllValuesCheckboxFilter, ChoicesRadioFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from connections.models import Connection, ConnectionStatus, Node
from connections.services import disconnect_by_operator
from jobs.pages import Question, ReadOnlyAdmin, ask, confirmed, some_of, to_the_second


def alive_since() -> datetime:
    return timezone.now() - timedelta(seconds=settings.SSE_CLIENT_TIMEOUT)


# A registry may write no heartbeat into the rows: while a stream is open, its node's is its own.
HEARTBEAT = Case(
    When(
        status=ConnectionStatus.ACTIVE,
        then=Greatest(
            "last_heartbeat",
            Coalesce(
                Subquery(
                    Node.objects.filter(name=OuterRef("node"), stopped_at=None).values(
                        "last_heartbeat"
                    )
                ),
                "last_heartbeat",
            ),
        ),
    ),
    default=F("last_heartbeat"),
)


@admin.register(Connection)
class ConnectionAdmin(ReadOnlyAdmin):
    list_display = (
        "user",
        "status_label",
        "node",
        "address",
        "connected",
        "heartbeat",
        "channel_list",
    )
    list_filter = (("status", ChoicesRadioFilter), ("node", AllValuesCheckboxFilter))
    list_select_related = ("user",)
    search_fields = ("user__username__startswith", "address", "api_key")
    search_help_text = _("Username, address or API key")
    ordering = ("status", "-connected_at")  # ACTIVE sorts before INACTIVE
    show_full_result_count = False
    list_per_page = 50
    actions = ("disconnect_selected",)
    actions_row = ("disconnect_one",)
    actions_detail = ("disconnect_one",)
    fields = (
        "user",
        "status",
        "node",
        "address",
        "user_agent",
        "api_key",
        "connected_at",
        "heartbeat",
        "last_activity",
        "disconnected_at",
        "reason",
        "channel_list",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Connection]:
        queryset: QuerySet[Connection] = super().get_queryset(request)
        return queryset.annotate(heartbeat_at=HEARTBEAT)

    def has_disconnect_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("connections.change_connection")

    @display(description=_("status"), ordering="status", label={ConnectionStatus.ACTIVE: "success"})
    def status_label(self, connection: Connection) -> tuple[str, str]:
        return connection.status, connection.get_status_display()

    @display(description=_("connected"), ordering="connected_at")
    def connected(self, connection: Connection) -> str:
        return to_the_second(connection.connected_at)

    @display(description=_("last heartbeat"), ordering="heartbeat_at")
    def heartbeat(self, connection: Any) -> str:
        return to_the_second(connection.heartbeat_at)

    @display(description=_("channels"))
    def channel_list(self, connection: Connection) -> str:
        return some_of(connection.channels, 3)

    @action(
        description=_("Disconnect"),
        url_path="disconnect",
        icon="link_off",
        permissions=["disconnect"],
        variant=ActionVariant.DANGER,
    )
    def disconnect_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._disconnect(request, [get_object_or_404(Connection, pk=object_id)])

    @admin.action(description=_("Disconnect selected"), permissions=["disconnect"])
    def disconnect_selected(
        self, request: HttpRequest, queryset: QuerySet[Connection]
    ) -> HttpResponse:
        return self._disconnect(request, list(queryset.select_related("user")))

    def _disconnect(self, request: HttpRequest, chosen: list[Connection]) -> HttpResponse:
        active = [c for c in chosen if c.status == ConnectionStatus.ACTIVE]
        if not active:
            messages.info(request, _("Already disconnected: nothing to do."))
        elif not confirmed(request):
            return ask(self, request, self._question(active))
        else:
            for connection in active:
                disconnect_by_operator(connection)
                self.log_change(request, connection, str(_("Disconnected")))
            text = ngettext("%(count)s stream ended.", "%(count)s streams ended.", len(active))
            messages.success(request, text % {"count": len(active)})
        return redirect("admin:connections_connection_changelist")

    def _question(self, active: list[Connection]) -> Question:
        return Question(
            title=_("Disconnect?"),
            text=_("These streams end now, and their clients do not come back by themselves."),
            facts=[
                (_("Streams"), len(active)),
                (_("People"), some_of(sorted({c.user.username for c in active}))),
            ],
            submit=_("Disconnect"),
            back=reverse("admin:connections_connection_changelist"),
            danger=True,
        )


STREAMS = Coalesce(
    Subquery(
        Connection.objects.active()
        .filter(node=OuterRef("name"))
        .order_by()
        .values("node")
        .annotate(count=Count("*"))
        .values("count")
    ),
    0,
    output_field=IntegerField(),
)


LIVES = {"living": _("Living"), "dead": _("Dead"), "stopped": _("Stopped")}


def life_of(node: Node) -> str:
    if node.stopped_at:
        return "stopped"
    return "living" if node.last_heartbeat >= alive_since() else "dead"


@admin.register(Node)
class NodeAdmin(ReadOnlyAdmin):
    list_display = ("name", "life", "streams", "started_at", "last_heartbeat", "stopped_at")
    fields = ("name", "life_in_words", "streams", "started_at", "last_heartbeat", "stopped_at")
    search_fields = ("name",)
    ordering = ("-last_heartbeat",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        queryset: QuerySet[Node] = super().get_queryset(request)
        return queryset.annotate(active_streams=STREAMS)

    @display(description=_("life"), label={"living": "success", "dead": "danger"})
    def life(self, node: Node) -> tuple[str, Any]:
        return life_of(node), LIVES[life_of(node)]

    @display(description=_("life"))
    def life_in_words(self, node: Node) -> Any:
        """For the page of one: labels are for lists."""
        return LIVES[life_of(node)]

    @display(description=_("streams"), ordering="active_streams")
    def streams(self, node: Any) -> SafeString:
        url = reverse("admin:connections_connection_changelist")
        return format_html(
            '<a class="text-link" href="{}?node={}&status__exact=ACTIVE">{}</a>',
            url,
            node.name,
            node.active_streams,
        )
