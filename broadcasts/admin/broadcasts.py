import re
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.db.models.fields.json import KT
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST
from unfold.contrib.filters.admin import (
    AllValuesCheckboxFilter,
    ChoicesCheckboxFilter,
    ChoicesRadioFilter,
)
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.views import ChangeList

from broadcasts import services
from broadcasts.admin import approvals as approving
from broadcasts.admin import page
from broadcasts.admin.compose import BroadcastForm, choices_for, no_answer, preview_of, reach_of
from broadcasts.admin.people import PeopleFromFile
from broadcasts.admin.proof import ProofMixin, timeline
from broadcasts.admin.questions import (
    CancelForm,
    SeenForm,
    cancel_question,
    duplicate_question,
    retry_question,
    send_all_question,
    send_question,
    test_question,
)
from broadcasts.admin.templates import choices
from broadcasts.admin.together import ComposingTogether, composing_context
from broadcasts.directory import UserServiceUnavailable, ids_in, name_of
from broadcasts.models import Approval, Audience, Broadcast, BroadcastQuerySet, Status
from broadcasts.receipts import Statistics, statistics_of
from jobs import clock
from jobs.pages import OwnerAdmin, ask, confirmed, digits
from outbox.admin import PRIORITY_LABELS

STATUS_LABELS = {
    Status.DRAFT: "default",
    Status.SCHEDULED: "info",
    Status.IN_PROGRESS: "primary",
    Status.ACTIVE: "success",
    Status.SENT: "success",
    Status.EXPIRED: "default",
    Status.CANCELLED: "warning",
    Status.FAILED: "danger",
}
ON_PAGE = {  # which buttons the page of one broadcast offers
    "send_one": set(),  # beside the fields: there it saves them first
    "test_one": {Status.DRAFT},
    "cancel_one": {Status.SCHEDULED, Status.IN_PROGRESS, Status.ACTIVE, Status.FAILED},
    "remind_one": {Status.ACTIVE},
    "retry_one": {Status.FAILED},
    "duplicate_one": set(Status),
}
PAGE_NUMBER = re.compile(r"[1-9][0-9]{0,5}")  # databases take no offset of any length
HEAVY = ("content", "translations", "targets", "last_error")


class BroadcastChangeList(ChangeList):
    """Without the texts and names that make rows heavy; one query counts for the whole page."""

    def get_queryset(self, *args: Any, **kwargs: Any) -> QuerySet[Broadcast]:
        rows: BroadcastQuerySet = super().get_queryset(*args, **kwargs)
        return rows.with_target_count().annotate(first=KT("targets__0"), second=KT("targets__1"))

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: list[Any] = list(self.result_list)  # type: ignore[has-type]
        counted = statistics_of(rows)
        for broadcast in rows:
            broadcast.counted = counted[broadcast.pk]
        self.result_list = rows


def _is_draft(broadcast: Any) -> bool:
    return not isinstance(broadcast, Broadcast) or broadcast.status == Status.DRAFT


def operator(request: HttpRequest) -> AbstractUser:
    assert isinstance(request.user, AbstractUser)
    return request.user


def whole(queryset: QuerySet[Broadcast]) -> list[Broadcast]:
    """The chosen rows with all their fields, oldest first."""
    chosen = list(queryset.values_list("pk", flat=True))
    return list(Broadcast.objects.filter(pk__in=chosen).order_by("id"))


@admin.register(Broadcast)
class BroadcastAdmin(
    approving.ApprovalViews, ComposingTogether, PeopleFromFile, ProofMixin, OwnerAdmin
):
    form = BroadcastForm
    list_display = (
        "status_label",
        "headline",
        "priority_label",
        "category",
        "moment",
        "delivered",
        "read",
    )
    list_display_links = ("headline",)
    list_filter = (
        ("status", ChoicesCheckboxFilter),
        ("audience", ChoicesRadioFilter),
        ("priority", ChoicesCheckboxFilter),
        ("approval", ChoicesCheckboxFilter),
        ("category", AllValuesCheckboxFilter),
        "scheduled_at",
        "activated_at",
    )
    list_per_page = 25
    show_facets = admin.ShowFacets.ALWAYS
    search_fields = ("title", "content", "reference", "external_id")
    search_help_text = _("Title, content, reference or external id")
    date_hierarchy = "created_at"
    compressed_fields = False
    warn_unsaved_form = True
    radio_fields = {"audience": admin.HORIZONTAL}
    actions = ("send_selected", "cancel_selected", "duplicate_selected")
    actions_detail = (
        "send_one",
        "test_one",
        "retry_one",
        "remind_one",
        "duplicate_one",
        "cancel_one",
    )
    fieldsets = (
        (
            _("Message"),
            {"fields": ("title", "content", ("priority", "category", "reference"))},
        ),
        (_("Languages"), {"fields": ("language", "translations")}),
        (_("Audience"), {"fields": ("audience", "targets")}),
        (_("When"), {"fields": (("scheduled_at", "expires_at"),)}),
        (_("How"), {"fields": (("fire_and_forget", "force_logoff"), "requires_acknowledgement")}),
    )

    # Rows and permissions

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """The links of a broadcast are shortened only where something does it."""
        before = super().get_fieldsets(request, obj)
        if not settings.LINK_SHORTENER:
            return before
        *others, (label, options) = before
        return [*others, (label, options | {"fields": (*options["fields"], "shorten_links")})]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Broadcast]:
        queryset: QuerySet[Broadcast] = super().get_queryset(request)
        return queryset.defer(*HEAVY)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Broadcast | None:
        return (
            Broadcast.objects.select_related("sender", "series", "rule_match__rule")
            .filter(pk__in=ids_in([object_id]))
            .first()
        )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return BroadcastChangeList

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and _is_draft(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and _is_draft(obj)

    def has_send_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("broadcasts.send_broadcast")

    def has_duplicate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(self.has_add_permission(request))

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        status, activated_at = page.state_of(object_id)
        offered = [
            button
            for button in super().get_actions_detail(request, object_id)
            if status in ON_PAGE[button.method.original_function_name]
        ]
        # What failed after it was activated is redriven in the dead letters.
        return [b for b in offered if not (activated_at and b.path == "retry")]

    # List

    @display(description=_("status"), ordering="status", label=STATUS_LABELS)
    def status_label(self, broadcast: Broadcast) -> tuple[str, str]:
        status = broadcast.get_status_display()
        if broadcast.status == Status.DRAFT and broadcast.approval != Approval.NONE:
            status = f"{status} · {broadcast.get_approval_display()}"
        return broadcast.status, status

    @display(description=_("broadcast"), ordering="title", header=True)
    def headline(self, broadcast: Any) -> list[str]:
        if broadcast.audience == Audience.ALL:
            return [broadcast.title, Audience.ALL.label]
        first = [name for name in (broadcast.first, broadcast.second) if name]
        text = page.audience_text(broadcast.audience, first, broadcast.target_count)
        return [broadcast.title, text]

    @display(description=_("priority"), ordering="priority", label=PRIORITY_LABELS)
    def priority_label(self, broadcast: Broadcast) -> tuple[int, str]:
        return broadcast.priority, broadcast.get_priority_display()

    @display(
        description=_("goes out / went out"), ordering=Coalesce("activated_at", "scheduled_at")
    )
    def moment(self, broadcast: Broadcast) -> str:
        moment = broadcast.activated_at or broadcast.scheduled_at
        return date_format(timezone.localtime(moment), "SHORT_DATETIME_FORMAT") if moment else "–"

    @display(description=_("delivered"))
    def delivered(self, broadcast: Any) -> str:
        counted: Statistics = broadcast.counted
        if broadcast.targeted is None:
            return "–"
        share = f"{digits(counted.delivered)} / {digits(counted.targeted)}"
        if broadcast.fire_and_forget:
            share = _("reached %(share)s") % {"share": share}
        return f"{share} · {page.percent(counted.delivery_rate)}"

    @display(description=_("read"))
    def read(self, broadcast: Any) -> str:
        return page.percent(broadcast.counted.read_rate)

    # Compose

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if request.method == "POST" and object_id and self._is_over(request, object_id):
            text = _("Not saved: it is no draft any more. What you typed is kept in this browser.")
            messages.error(request, text)
            return redirect(request.path)
        try:
            response: HttpResponse = super().changeform_view(request, object_id, *args, **kwargs)
        except services.ChangedMeanwhile:  # between the check of the form and the save
            response = super().changeform_view(request, object_id, *args, **kwargs)
        except services.InvalidTransition as error:
            messages.error(request, _("Not saved. %(error)s") % {"error": error})
            return redirect(request.path)
        return response

    def _is_over(self, request: HttpRequest, object_id: str) -> bool:
        """Whether somebody sent or ended it while this person, who may write drafts, wrote."""
        status, _activated_at = page.state_of(object_id)
        return bool(status and status != Status.DRAFT and self.has_change_permission(request))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        broadcast = kwargs.get("obj") or context.get("original")
        if broadcast and broadcast.pk:
            context["approval"] = approving.card(broadcast, operator(request))
        if broadcast and broadcast.pk and not self.has_change_permission(request, broadcast):
            context |= page.context(broadcast) | {"timeline": timeline(broadcast)}
            context["status_variant"] = STATUS_LABELS[broadcast.status]
            context["priority_variant"] = PRIORITY_LABELS[broadcast.priority]
            self.change_form_template = "admin/broadcasts/broadcast/page.html"
        else:
            context["can_send"] = self.has_send_permission(request)
            context["templates"] = choices()
            context |= composing_context(request, context["adminform"].form)
            self.change_form_template = "admin/broadcasts/broadcast/compose.html"
        response: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return response

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            services.edit(obj, editor=operator(request), version=form.version)
            return
        obj.sender = request.user
        obj.sender_name = name_of(obj.sender)
        obj.save()

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._after_save(request, obj)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        return self._after_save(request, obj)

    def _after_save(self, request: HttpRequest, broadcast: Broadcast) -> HttpResponse:
        self.note_saved(request, broadcast)
        url = reverse("admin:broadcasts_broadcast_send_one", args=[broadcast.pk])
        if "_send" in request.POST:
            return redirect(url)
        if "_schedule" in request.POST:
            return redirect(f"{url}?when=scheduled")
        messages.success(request, _("Draft saved."))
        return self._to_page(broadcast)

    # One broadcast

    @action(
        description=_("Send"),
        url_path="send",
        icon="send",
        permissions=["send"],
        variant=ActionVariant.PRIMARY,
    )
    def send_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        broadcast = get_object_or_404(Broadcast, pk__in=ids_in([object_id]))
        later = request.GET.get("when") == "scheduled" and broadcast.scheduled_at is not None
        if broadcast.status != Status.DRAFT:
            messages.error(request, _("Only a draft can be sent. Duplicate it to send it again."))
        elif not confirmed(request):
            instead = self.approval_first(request, broadcast)
            return instead or ask(self, request, send_question(broadcast, later=later))
        else:
            seen = SeenForm(request.POST)
            version = seen.cleaned_data["version"] if seen.is_valid() else 0
            self._send(request, broadcast, later=later, version=version)
        return self._to_page(broadcast)

    @action(
        description=_("Send a test to me"),
        url_path="test",
        icon="science",
        permissions=["send"],
    )
    def test_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        broadcast = get_object_or_404(Broadcast, pk__in=ids_in([object_id]))
        if not confirmed(request):
            return ask(self, request, test_question(broadcast))
        test = services.send(page.test_of(broadcast, operator(request)))
        self.log_addition(request, test, str(_("Test sent to the operator")))
        messages.success(request, _("The test is in your inbox for an hour."))
        return self._to_page(broadcast)

    @action(description=_("Retry"), url_path="retry", icon="replay", permissions=["send"])
    def retry_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        broadcast = get_object_or_404(Broadcast, pk__in=ids_in([object_id]))
        if not confirmed(request):
            return ask(self, request, retry_question(broadcast))
        if self._done(request, broadcast, services.retry):
            self.log_change(request, broadcast, str(_("Retried")))
            messages.success(request, _("It is tried again from where it stood."))
        return self._to_page(broadcast)

    @action(
        description=_("Cancel"),
        url_path="cancel",
        icon="cancel",
        permissions=["send"],
        variant=ActionVariant.DANGER,
    )
    def cancel_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        broadcast = get_object_or_404(Broadcast, pk__in=ids_in([object_id]))
        return self._cancel(request, [broadcast], page.page_url(broadcast))

    @action(
        description=_("Duplicate"),
        url_path="duplicate",
        icon="content_copy",
        permissions=["duplicate"],
    )
    def duplicate_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        broadcast = get_object_or_404(Broadcast, pk__in=ids_in([object_id]))
        if not confirmed(request):
            return ask(self, request, duplicate_question(broadcast))
        copy = self._duplicate(request, broadcast)
        return self._to_page(copy or broadcast)

    # Many

    @admin.action(description=_("Send selected drafts"), permissions=["send"])
    def send_selected(
        self, request: HttpRequest, queryset: QuerySet[Broadcast]
    ) -> HttpResponse | None:
        chosen = whole(queryset)
        if not confirmed(request):
            return ask(self, request, send_all_question(chosen))
        for broadcast in chosen:
            self._send(request, broadcast, later=True)
        return None

    @admin.action(description=_("Cancel selected"), permissions=["send"])
    def cancel_selected(
        self, request: HttpRequest, queryset: QuerySet[Broadcast]
    ) -> HttpResponse | None:
        return self._cancel(request, whole(queryset), page.list_url())

    @admin.action(description=_("Duplicate selected"), permissions=["duplicate"])
    def duplicate_selected(self, request: HttpRequest, queryset: QuerySet[Broadcast]) -> None:
        copies = [copy for b in whole(queryset) if (copy := self._duplicate(request, b))]
        if copies:
            text = ngettext("%(count)s draft made.", "%(count)s drafts made.", len(copies))
            messages.success(request, text % {"count": len(copies)})

    def _send(
        self,
        request: HttpRequest,
        broadcast: Broadcast,
        *,
        later: bool,
        version: int | None = None,
    ) -> None:
        at = None if later else clock.now()
        if not self._done(request, broadcast, lambda b: services.send(b, at, version=version)):
            return
        level, text = page.outcome_of(broadcast)
        self.log_change(request, broadcast, f"{_('Sent')}: {broadcast.get_status_display()}")
        messages.add_message(request, level, f"{broadcast.title}: {text}")

    def _cancel(self, request: HttpRequest, chosen: list[Broadcast], back: str) -> HttpResponse:
        form = CancelForm(request.POST if confirmed(request) else None)
        if not form.is_valid():
            return ask(self, request, cancel_question(chosen, form, back))
        reason = form.cleaned_data["reason"]
        ended = 0
        for broadcast in chosen:
            if self._done(request, broadcast, lambda b: services.cancel(b, reason)):
                self.log_change(request, broadcast, f"{_('Cancelled')}: {reason}")
                ended += 1
        if ended:
            text = ngettext(
                "%(count)s broadcast cancelled.", "%(count)s broadcasts cancelled.", ended
            )
            messages.success(request, text % {"count": ended})
        return redirect(back)

    def _duplicate(self, request: HttpRequest, broadcast: Broadcast) -> Broadcast | None:
        copies: list[Broadcast] = []
        if self._done(
            request, broadcast, lambda b: copies.append(services.duplicate(b, operator(request)))
        ):
            text = str(_("Duplicate of %(id)s")) % {"id": broadcast.pk}
            self.log_addition(request, copies[0], text)
            return copies[0]
        return None

    def _done(
        self, request: HttpRequest, broadcast: Broadcast, verb: Callable[[Broadcast], object]
    ) -> bool:
        """Whether the service did it; why not is a message."""
        try:
            verb(broadcast)
        except (services.InvalidTransition, services.ChangedMeanwhile) as error:
            messages.error(request, f"{broadcast.title}: {error}")
        except ValidationError as error:
            messages.error(request, f"{broadcast.title}: {' '.join(error.messages)}")
        except UserServiceUnavailable as error:
            messages.error(request, f"{broadcast.title}: {no_answer(error)}")
        else:
            return True
        return False

    def _to_page(self, broadcast: Broadcast) -> HttpResponse:
        return redirect(page.page_url(broadcast))

    # What the pages ask for while they are open

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("preview/", view(require_POST(self.preview)), name="broadcasts_broadcast_preview"),
            path("reach/", view(require_POST(self.reach)), name="broadcasts_broadcast_reach"),
            path("choices/", view(require_GET(self.choices)), name="broadcasts_broadcast_choices"),
            path(
                "<int:pk>/numbers/",
                view(require_GET(self.numbers)),
                name="broadcasts_broadcast_numbers",
            ),
        ]
        return own + list(super().get_urls())

    def preview(self, request: HttpRequest) -> HttpResponse:
        self._allow_composing(request)
        return JsonResponse(preview_of(request.POST.get("content", "")))

    def reach(self, request: HttpRequest) -> HttpResponse:
        """By POST although it changes nothing: 100,000 pasted names do not fit an address."""
        self._allow_composing(request)
        return JsonResponse(reach_of(request.POST))

    def choices(self, request: HttpRequest) -> HttpResponse:
        self._allow_composing(request)
        number = request.GET.get("page", "1")
        page_number = int(number) if PAGE_NUMBER.fullmatch(number) else 1
        audience, term = request.GET.get("audience", ""), request.GET.get("term", "")
        return JsonResponse(choices_for(audience, term, page_number))

    def numbers(self, request: HttpRequest, pk: int) -> HttpResponse:
        broadcast = Broadcast.objects.defer(*HEAVY).filter(pk=pk).first()
        if not self.has_view_permission(request, broadcast):
            raise PermissionDenied
        if not broadcast:
            raise Http404
        return JsonResponse(page.numbers_of(broadcast))

    def _allow_composing(self, request: HttpRequest) -> None:
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
