from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.contrib.filters.admin import AllValuesCheckboxFilter, RadioFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.paginator import InfinitePaginator

from jobs.pages import (
    Question,
    ReadOnlyAdmin,
    ask,
    confirmed,
    preformatted,
    pretty,
    some_of,
    span,
    to_the_second,
)
from outbox.backlog import backlog
from outbox.deadletters import NotRedrivable, purge, purge_all, redrive, redrive_all
from outbox.logs import get_log
from outbox.models import ConsumerOffset, DeadLetter, Event, EventQuerySet, Priority

PRIORITY_LABELS = {
    Priority.LOW: "default",
    Priority.NORMAL: "default",
    Priority.HIGH: "warning",
    Priority.URGENT: "danger",
}
STATE_LABELS = {
    "pending": "info",
    "retrying": "warning",
    "published": "success",
    "parked": "danger",
}
STATES = {
    "pending": _("Pending"),
    "retrying": _("Retrying"),
    "published": _("Published"),
    "parked": _("Parked"),
}


def state_of(event: Event) -> str:
    if event.published_at:
        return "published"
    if event.parked_at:
        return "parked"
    return "retrying" if event.attempts else "pending"


def health() -> dict[str, Any]:
    """The backlog as pages show it."""
    now = backlog()
    waits = now.oldest_pending_seconds
    return {
        "depth": now.depth,
        "oldest": "" if waits is None else span(timedelta(seconds=waits)),
        "head": now.position,
        "leader": now.leader,
        "leader_since": now.leader_since,
        "stuck": bool(now.depth and not now.leader),
    }


class StateFilter(RadioFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(STATES.items())

    def queryset(self, request: HttpRequest, queryset: EventQuerySet) -> EventQuerySet:
        of: dict[str | None, Callable[[], EventQuerySet]] = {
            "pending": lambda: queryset.pending().filter(attempts=0),
            "retrying": lambda: queryset.pending().filter(attempts__gt=0),
            "published": lambda: queryset.published(),
            "parked": lambda: queryset.parked(),
        }
        return of.get(self.value(), lambda: queryset)()


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = (
        "type",
        "key",
        "state",
        "priority_label",
        "topic",
        "position",
        "created",
        "published",
        "lag",
    )
    list_filter = (
        StateFilter,
        ("topic", AllValuesCheckboxFilter),
        ("type", AllValuesCheckboxFilter),
    )
    search_fields = ("key__startswith", "event_id")
    search_help_text = _("Key (broadcast-12) or event id")
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = InfinitePaginator
    list_per_page = 50
    list_before_template = "admin/outbox/event/health.html"
    fieldsets = (
        (None, {"fields": ("type", "key", "state_in_words", "priority", "topic", "partition")}),
        (
            _("Life"),
            {
                "fields": (
                    "position",
                    "created",
                    "published",
                    "lag",
                    "attempts",
                    "next_attempt_at",
                    "parked_at",
                    "error",
                )
            },
        ),
        (_("Content"), {"fields": ("addressed", "envelope")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        queryset: QuerySet[Event] = super().get_queryset(request)
        is_list = getattr(request.resolver_match, "url_name", "").endswith("_changelist")
        return queryset.defer("data", "channels", "error") if is_list else queryset

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = (extra_context or {}) | {"health": health()}
        response: HttpResponse = super().changelist_view(request, context)
        return response

    @display(description=_("state"), label=STATE_LABELS)
    def state(self, event: Event) -> tuple[str, Any]:
        return state_of(event), STATES[state_of(event)]

    @display(description=_("state"))
    def state_in_words(self, event: Event) -> Any:
        """For the page of one: labels are for lists."""
        return STATES[state_of(event)]

    @display(description=_("priority"), ordering="priority", label=PRIORITY_LABELS)
    def priority_label(self, event: Event) -> tuple[int, str]:
        return event.priority, event.get_priority_display()

    @display(description=_("created"), ordering="created_at")
    def created(self, event: Event) -> str:
        return to_the_second(event.created_at)

    @display(description=_("published"), ordering="position")
    def published(self, event: Event) -> str:
        return to_the_second(event.published_at)

    @display(description=_("lag"))
    def lag(self, event: Event) -> str:
        return span(event.published_at - event.created_at if event.published_at else None)

    @display(description=_("channels"))
    def addressed(self, event: Event) -> str:
        return some_of(event.channels, 20) or str(_("none: it addresses no stream"))

    @display(description=_("CloudEvents envelope"))
    def envelope(self, event: Event) -> SafeString:
        return pretty(event.envelope())


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    list_display = ("type", "key", "source_label", "short_error", "attempts", "failed")
    list_filter = (
        ("source", AllValuesCheckboxFilter),
        ("topic", AllValuesCheckboxFilter),
        ("type", AllValuesCheckboxFilter),
    )
    search_fields = ("key", "event_id", "error")
    search_help_text = _("Key, event id or words of the error")
    actions = ("redrive_selected", "purge_selected")
    actions_list = ("redrive_everything", "purge_everything")
    actions_detail = ("redrive_one", "purge_one")
    actions_row = ("redrive_one", "purge_one")
    fieldsets = (
        (None, {"fields": ("type", "key", "source_label", "event", "topic", "position")}),
        (_("Failure"), {"fields": ("attempts", "failed_at", "error", "stack_trace")}),
        (_("Content"), {"fields": ("content",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeadLetter]:
        queryset: QuerySet[DeadLetter] = super().get_queryset(request)
        is_list = getattr(request.resolver_match, "url_name", "").endswith("_changelist")
        return queryset.defer("payload", "traceback") if is_list else queryset

    def has_redrive_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("outbox.change_deadletter")

    def has_purge_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("outbox.delete_deadletter")

    @display(description=_("failed in"), ordering="source", label={DeadLetter.RELAY: "warning"})
    def source_label(self, letter: DeadLetter) -> str:
        return letter.source

    @display(description=_("error"))
    def short_error(self, letter: DeadLetter) -> str:
        return letter.error[:120] + ("…" if len(letter.error) > 120 else "")

    @display(description=_("failed"), ordering="failed_at")
    def failed(self, letter: DeadLetter) -> str:
        return to_the_second(letter.failed_at)

    @display(description=_("event"))
    def event(self, letter: DeadLetter) -> str:
        return str(letter.event_id)

    @display(description=_("stack trace"))
    def stack_trace(self, letter: DeadLetter) -> SafeString | str:
        return preformatted(letter.traceback) if letter.traceback else ""

    @display(description=_("payload"))
    def content(self, letter: DeadLetter) -> SafeString:
        return pretty(letter.payload)

    @action(description=_("Redrive"), url_path="redrive", icon="replay", permissions=["redrive"])
    def redrive_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        letter = get_object_or_404(DeadLetter, pk=object_id)
        if not confirmed(request):
            return ask(self, request, self._redrive_question([letter]))
        repr_, pk = str(letter), letter.pk
        try:
            redrive(letter)
        except NotRedrivable as error:
            messages.error(request, str(error))
        except Exception as error:  # noqa: BLE001, RUF100 (a consumer may raise anything)
            messages.error(request, _("It failed again: %(error)s") % {"error": error})
        else:
            letter.pk = pk
            self.log_change(request, letter, str(_("Redriven")))
            messages.success(request, _("%(letter)s goes out again.") % {"letter": repr_})
        return self._to_list()

    @action(
        description=_("Purge"),
        url_path="purge",
        icon="delete",
        permissions=["purge"],
        variant=ActionVariant.DANGER,
    )
    def purge_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        letter = get_object_or_404(DeadLetter, pk=object_id)
        if not confirmed(request):
            return ask(self, request, self._purge_question([letter]))
        self.log_deletions(request, [letter])
        purge(letter)
        messages.success(request, _("Purged: nobody gets that event any more."))
        return self._to_list()

    @action(
        description=_("Redrive all"),
        url_path="redrive-all",
        icon="replay",
        permissions=["redrive"],
    )
    def redrive_everything(self, request: HttpRequest) -> HttpResponse:
        return self.redrive_selected(request, DeadLetter.objects.all())

    @action(
        description=_("Purge all"),
        url_path="purge-all",
        icon="delete",
        permissions=["purge"],
        variant=ActionVariant.DANGER,
    )
    def purge_everything(self, request: HttpRequest) -> HttpResponse:
        return self.purge_selected(request, DeadLetter.objects.all())

    @admin.action(description=_("Redrive selected"), permissions=["redrive"])
    def redrive_selected(
        self, request: HttpRequest, queryset: QuerySet[DeadLetter]
    ) -> HttpResponse:
        letters = list(queryset.order_by("id"))  # in the order in which they happened
        if not letters:
            messages.info(request, _("There is no dead letter."))
            return self._to_list()
        if not confirmed(request):
            return ask(self, request, self._redrive_question(letters))
        names = DeadLetter.objects.in_bulk([letter.pk for letter in letters])
        result = redrive_all(names.values())
        failed = dict(result.failures)
        for pk, letter in names.items():
            if pk not in failed:
                self.log_change(request, letter, str(_("Redriven")))
        if result.succeeded:
            text = ngettext(
                "%(count)s event goes out again.",
                "%(count)s events go out again.",
                result.succeeded,
            )
            messages.success(request, text % {"count": result.succeeded})
        if failed:
            return self._failures(request, [(names[pk], why) for pk, why in failed.items()])
        return self._to_list()

    @admin.action(description=_("Purge selected"), permissions=["purge"])
    def purge_selected(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> HttpResponse:
        letters = list(queryset)
        if not letters:
            messages.info(request, _("There is no dead letter."))
            return self._to_list()
        if not confirmed(request):
            return ask(self, request, self._purge_question(letters))
        self.log_deletions(request, letters)
        count = purge_all(letters)
        text = ngettext("%(count)s event purged.", "%(count)s events purged.", count)
        messages.success(request, text % {"count": count})
        return self._to_list()

    def _redrive_question(self, letters: list[DeadLetter]) -> Question:
        return Question(
            title=_("Redrive?"),
            text=_(
                "Each event returns to where it failed and is tried again from the start. "
                "What the failure marked as failed is put right."
            ),
            facts=[(_("Dead letters"), len(letters)), (_("Which"), some_of(letters))],
            submit=_("Redrive"),
            back=reverse("admin:outbox_deadletter_changelist"),
        )

    def _purge_question(self, letters: list[DeadLetter]) -> Question:
        return Question(
            title=_("Purge for good?"),
            text=_(
                "These events are forgotten for good: nobody gets them. "
                "What waited behind them in their keys flows again."
            ),
            facts=[(_("Dead letters"), len(letters)), (_("Which"), some_of(letters))],
            submit=_("Purge for good"),
            back=reverse("admin:outbox_deadletter_changelist"),
            danger=True,
        )

    def _failures(
        self, request: HttpRequest, failures: list[tuple[DeadLetter, str]]
    ) -> TemplateResponse:
        context = self.admin_site.each_context(request) | {
            "title": _("What could not be redriven"),
            "opts": self.model._meta,
            "failures": failures,
        }
        return TemplateResponse(request, "admin/outbox/deadletter/failures.html", context)

    def _to_list(self) -> HttpResponse:
        return redirect("admin:outbox_deadletter_changelist")


@admin.register(ConsumerOffset)
class ConsumerOffsetAdmin(ReadOnlyAdmin):
    list_display = ("group", "topic", "partition", "offset", "behind")
    list_filter = (("group", AllValuesCheckboxFilter), ("topic", AllValuesCheckboxFilter))
    ordering = ("group", "topic", "partition")

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist: ChangeList = super().get_changelist_instance(request)
        head = get_log().head()
        for row in changelist.result_list:
            row.head = head
        return changelist

    @display(description=_("behind the head by at most"))
    def behind(self, row: Any) -> int:
        distance: int = getattr(row, "head", row.offset) - row.offset
        return max(distance, 0)
