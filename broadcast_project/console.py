"""The way around the console, and what an operator sees first."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django_q.models import Schedule

from broadcasts import approval_rules
from broadcasts.admin.broadcasts import STATUS_LABELS
from broadcasts.admin.page import percent
from broadcasts.admin.rules import awaiting_approval as rules_awaiting_approval
from broadcasts.models import Approval, Broadcast, Series, Status
from broadcasts.receipts import statistics_of
from connections.models import Connection
from domains.blog.models import Comment
from jobs.models import Run, RunStatus
from jobs.pages import digits
from operations.models import Alert
from outbox.admin import health
from outbox.models import DeadLetter

LATE = timedelta(minutes=2)  # by which a schedule may be late before qcluster seems down
ALERTS = 10  # that the overview names

SIDEBAR = [
    (
        _("Broadcasts"),
        [
            ("broadcasts.broadcast", _("Broadcasts"), "campaign"),
            ("broadcasts.series", _("Series"), "event_repeat"),
            ("broadcasts.rule", _("Rules"), "bolt"),
            ("broadcasts.template", _("Templates"), "article"),
            ("broadcasts.receipt", _("Receipts"), "mark_email_read"),
            ("broadcasts.product", _("Products"), "inventory_2"),
            ("broadcasts.approvalstep", _("Approvals"), "approval"),
        ],
    ),
    (
        _("Streams"),
        [
            ("connections.connection", _("Connections"), "cable"),
            ("connections.node", _("Nodes"), "dns"),
        ],
    ),
    (
        _("Outbox"),
        [
            ("outbox.event", _("Events"), "outbox"),
            ("outbox.deadletter", _("Dead letters"), "report"),
            ("outbox.consumeroffset", _("Consumer offsets"), "bookmark"),
        ],
    ),
    (
        _("Deliveries"),
        [
            ("deliveries.endpoint", _("Endpoints"), "webhook"),
            ("deliveries.delivery", _("Deliveries"), "outgoing_mail"),
            ("deliveries.retry", _("Retries"), "replay"),
        ],
    ),
    (_("Links"), [("links.link", _("Links"), "link")]),
    (
        _("Blog"),
        [
            ("blog.post", _("Posts"), "newspaper"),
            ("blog.comment", _("Comments"), "forum"),
            ("blog.media", _("Pictures"), "image"),
            ("blog.category", _("Categories"), "account_tree"),
            ("blog.tag", _("Tags"), "sell"),
        ],
    ),
    (
        _("Warcraft"),
        [
            ("warcraft.character", _("Characters"), "swords"),
            ("warcraft.guild", _("Guilds"), "shield"),
            ("warcraft.guildmember", _("Members"), "groups"),
            ("warcraft.rosterchange", _("Roster changes"), "swap_horiz"),
        ],
    ),
    (
        _("Pantry"),
        [
            ("pantry.kitchen", _("Kitchen"), "kitchen"),
            ("pantry.shoppinglist", _("Shopping lists"), "shopping_cart"),
            ("pantry.item", _("Items"), "grocery"),
            ("pantry.variant", _("Variants"), "barcode"),
            ("pantry.piece", _("Pieces"), "inventory"),
            ("pantry.location", _("Places"), "shelves"),
            ("pantry.category", _("Categories"), "category"),
            ("pantry.company", _("Companies"), "factory"),
            ("pantry.itemtype", _("Types"), "label"),
            ("pantry.size", _("Sizes"), "straighten"),
            ("pantry.warehouse", _("Shops"), "store"),
        ],
    ),
    (
        _("Twitch"),
        [
            ("twitch.stream", _("Streams"), "live_tv"),
            ("twitch.message", _("Messages"), "chat"),
            ("twitch.command", _("Commands"), "smart_toy"),
            ("twitch.viewer", _("Viewers"), "groups"),
            ("twitch.channelviewer", _("Viewers of channels"), "group_work"),
            ("twitch.clip", _("Clips"), "movie"),
        ],
    ),
    (
        _("Jobs"),
        [
            ("jobs.job", _("Jobs"), "monitor_heart"),
            ("jobs.run", _("Runs"), "history"),
            ("operations.alert", _("Alerts"), "notification_important"),
            ("operations.connector", _("Connectors"), "conversion_path"),
            ("django_q.schedule", _("Schedules"), "schedule"),
            ("django_q.failure", _("Failed tasks"), "error"),
            ("django_q.ormq", _("Queue"), "queue"),
        ],
    ),
    (
        _("People"),
        [
            ("auth.user", _("Users"), "person"),
            ("broadcasts.preference", _("Preferences"), "bedtime"),
            ("broadcasts.digest", _("Digests"), "mail"),
            ("auth.group", _("Groups"), "group"),
            ("operations.apikey", _("API keys"), "key"),
            ("operations.auditentry", _("Audit"), "policy"),
        ],
    ),
]

BADGES: dict[str, Callable[[], int]] = {  # of what waits for an operator
    "broadcasts.broadcast": lambda: awaiting_approval(),
    "broadcasts.series": lambda: series_awaiting_approval(),
    "broadcasts.rule": rules_awaiting_approval,
    "outbox.deadletter": lambda: DeadLetter.objects.count(),
    "blog.comment": lambda: Comment.objects.pending().count(),
    "operations.alert": lambda: Alert.objects.open().count(),
}


def stylesheet(request: HttpRequest) -> str:
    return static("console/console.css")


def script(request: HttpRequest) -> str:
    return static("console/names.js")


def icon(request: HttpRequest) -> str:
    return static("broadcast/icon.svg")


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar: only what this person may see."""
    first = {"title": _("Overview"), "icon": "dashboard", "link": reverse("admin:index")}
    groups: list[dict[str, Any]] = [{"items": [first]}]
    for title, entries in SIDEBAR:
        items = [_item(request, *entry) for entry in entries if _may_view(request, entry[0])]
        groups.append({"title": title, "separator": True, "items": items})
    return groups


def _item(request: HttpRequest, model: str, title: Any, icon: str) -> dict[str, Any]:
    item = {"title": title, "icon": icon, "link": url_of(model)}
    if model in BADGES and (count := BADGES[model]()):
        item["badge"] = str(count)
    return item


def _may_view(request: HttpRequest, model: str) -> bool:
    app, name = model.split(".")
    user = request.user
    return user.has_perm(f"{app}.view_{name}") or user.has_perm(f"{app}.change_{name}")


def url_of(model: str, query: str = "") -> str:
    return reverse(f"admin:{model.replace('.', '_')}_changelist") + query


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Each part only for who may see its rows."""
    now = timezone.now()
    context["may_compose"] = request.user.has_perm("broadcasts.add_broadcast")
    context["cards"] = []
    if _may_view(request, "broadcasts.broadcast"):
        context["cards"] += broadcast_cards()
        context["latest"] = latest()
        context["has_broadcasts"] = bool(context["latest"])
    if _may_view(request, "connections.connection"):
        context["cards"].append(people_card())
    if _may_view(request, "outbox.event"):
        context["health"] = health()
        context["cards"] += outbox_cards(context["health"])
    if _may_view(request, "django_q.schedule"):
        late = Schedule.objects.exclude(repeats=0).filter(next_run__lt=now - LATE)
        context["late_jobs"] = late.count()
    if _may_view(request, "jobs.run"):
        failed = Run.objects.filter(status=RunStatus.FAILED, slot__gt=now - timedelta(days=1))
        context["failed_runs"] = failed.count()
    if _may_view(request, "operations.alert"):
        context["alerts"] = Alert.objects.open()[:ALERTS]
    return context


def card(label: Any, value: int, url: str, *, note: Any = "", bad: bool = False) -> dict[str, Any]:
    return {"label": label, "value": digits(value), "url": url, "note": note, "bad": bad}


def broadcast_cards() -> list[dict[str, Any]]:
    shown = {
        Status.ACTIVE: _("Active"),
        Status.SCHEDULED: _("Scheduled"),
        Status.FAILED: _("Failed"),
    }
    counts = Broadcast.objects.aggregate(
        **{status.value: Count("pk", filter=Q(status=status)) for status in shown}
    )
    cards = [
        card(
            label,
            counts[status],
            url_of("broadcasts.broadcast", f"?status__exact={status}"),
            bad=status == Status.FAILED and counts[status] > 0,
        )
        for status, label in shown.items()
    ]
    if approval_rules.enabled():
        waiting = f"?status__exact={Status.DRAFT}&approval__exact={Approval.REQUESTED}"
        url = url_of("broadcasts.broadcast", waiting)
        cards.append(card(_("Waiting for approval"), awaiting_approval(), url))
    return cards


def awaiting_approval() -> int:
    """Not asked of the database where no rule asks for approvals."""
    return Broadcast.objects.awaiting_approval().count() if approval_rules.enabled() else 0


def series_awaiting_approval() -> int:
    return Series.objects.awaiting_approval().count() if approval_rules.enabled() else 0


def people_card() -> dict[str, Any]:
    active = Connection.objects.active().aggregate(
        people=Count("user", distinct=True), streams=Count("pk")
    )
    url = url_of("connections.connection", "?status__exact=ACTIVE")
    note = ngettext("%(count)s stream", "%(count)s streams", active["streams"])
    note %= {"count": digits(active["streams"])}
    return card(_("People connected"), active["people"], url, note=note)


def outbox_cards(state: dict[str, Any]) -> list[dict[str, Any]]:
    waits = _("oldest waits %(span)s") % {"span": state["oldest"]} if state["oldest"] else ""
    letters = DeadLetter.objects.count()
    return [
        card(
            _("Events waiting"),
            state["depth"],
            url_of("outbox.event", "?state=pending"),
            note=waits,
            bad=state["stuck"],
        ),
        card(_("Dead letters"), letters, url_of("outbox.deadletter"), bad=letters > 0),
    ]


def latest(limit: int = 10) -> list[dict[str, Any]]:
    rows = list(Broadcast.objects.defer("content", "targets", "last_error")[:limit])
    counted = statistics_of(rows)
    return [
        {
            "broadcast": row,
            "variant": STATUS_LABELS[Status(row.status)],
            "targeted": "–" if row.targeted is None else digits(row.targeted),
            "delivered": digits(counted[row.pk].delivered),
            "read": digits(counted[row.pk].read),
            "delivery_rate": percent(counted[row.pk].delivery_rate),
            "read_rate": percent(counted[row.pk].read_rate),
            "url": reverse("admin:broadcasts_broadcast_change", args=[row.pk]),
        }
        for row in rows
    ]
