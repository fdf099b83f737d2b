import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import AllValuesCheckboxFilter, ChoicesRadioFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from deliveries import services
from deliveries.figures import Figures, Progress, figures_of, progress_of
from deliveries.models import (
    UNDELIVERED,
    Delivery,
    Endpoint,
    Kind,
    Retry,
    State,
    Status,
)
from deliveries.requests import build_request
from deliveries.services import InvalidTransition
from jobs.pages import (
    Question,
    ReadOnlyAdmin,
    ask,
    confirmed,
    digits,
    preformatted,
    pretty,
    some_of,
    to_the_second,
)
from outbox.patterns import check_patterns

NOT_ACTIVE = _("It is not active: what is sent waits until it is enabled.")
STATE_LABELS = {State.ACTIVE: "success", State.PAUSED: "warning", State.DISABLED: "danger"}
CIRCUIT_LABELS = {"closed": "success", "half-open": "warning", "open": "danger"}
USELESS: dict[str, set[str]] = {  # buttons, by kind and by state
    Kind.DISCORD: {"reveal", "rotate"},
    State.ACTIVE: {"enable"},
    State.PAUSED: {"pause"},
    State.DISABLED: {"pause", "disable"},
}
CIRCUITS = {"closed": _("Closed"), "half-open": _("Half-open"), "open": _("Open")}
STATUS_LABELS = {
    Status.PENDING: "info",
    Status.RETRYING: "warning",
    Status.SUCCESS: "success",
    Status.FAILED: "danger",
    Status.DEAD: "danger",
}


class PatternsField(forms.CharField):
    """Event types in one line, between commas or blanks; a list in the row."""

    widget = UnfoldAdminTextInputWidget

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [word for word in re.split(r"[,\s]+", value or "") if word]

    def validate(self, value: Any) -> None:
        check_patterns(value)

    def run_validators(self, value: Any) -> None:
        pass  # those of a text


class EndpointForm(forms.ModelForm):  # type: ignore[type-arg]
    patterns = PatternsField(
        label=_("Events"),
        help_text=_("Event types or their beginnings: broadcast.*, link.expired; * is all."),
    )

    class Meta:
        model = Endpoint
        fields = ["name", "kind", "url", "patterns", "description", "rate"]
        widgets = {"description": UnfoldAdminTextareaWidget({"rows": 3})}


class RangeForm(forms.Form):
    since = forms.SplitDateTimeField(label=_("Made since"), widget=UnfoldAdminSplitDateTimeWidget)
    until = forms.SplitDateTimeField(
        label=_("And before"), widget=UnfoldAdminSplitDateTimeWidget, required=False
    )
    delivered = forms.BooleanField(
        label=_("Also what was delivered"),
        required=False,
        help_text=_("The receiver gets it again under the same id."),
    )

    def chosen(self, endpoint: Endpoint) -> Any:
        rows = endpoint.deliveries.filter(created_at__gte=self.cleaned_data["since"])
        if until := self.cleaned_data["until"]:
            rows = rows.filter(created_at__lt=until)
        return rows if self.cleaned_data["delivered"] else rows.filter(status__in=UNDELIVERED)

    @property
    def range(self) -> str:
        since, until = self.cleaned_data["since"], self.cleaned_data["until"]
        return f"{to_the_second(since)} – {to_the_second(until) if until else _('now')}"


@admin.register(Endpoint)
class EndpointAdmin(ModelAdmin):
    form = EndpointForm
    list_display = (
        "name",
        "kind",
        "state_label",
        "circuit",
        "success_rate",
        "waiting",
        "wanted",
    )
    list_filter = (("kind", ChoicesRadioFilter), ("state", ChoicesRadioFilter))
    search_fields = ("name", "description")
    search_help_text = _("Name or words of the description")
    actions = ("pause_selected", "enable_selected")
    actions_detail = (
        "test_one",
        "retry_range",
        "pause_one",
        "enable_one",
        "disable_one",
        "reveal_one",
        "rotate_one",
    )
    readonly_fields = (
        "state",
        "reason",
        "circuit_now",
        "failing",
        "held",
        "success_rate",
        "waiting",
        "secret",
        "host",
    )

    def get_fieldsets(self, request: HttpRequest, obj: Endpoint | None = None) -> Any:
        # Who has Discord's address may post there: only who may change it sees it.
        url = "url" if obj is None or self.has_change_permission(request, obj) else "host"
        what = (None, {"fields": ("name", "kind", url, "patterns", "description", "rate")})
        if obj is None:
            return (what,)
        how = ["state", "reason", "circuit_now", "failing", "held", "success_rate", "waiting"]
        signs = obj.kind == Kind.WEBHOOK and self.has_change_permission(request, obj)
        signing = [(_("Signing"), {"fields": ["secret"]})] if signs else []
        return (what, (_("How it does"), {"fields": how}), *signing)

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist: ChangeList = super().get_changelist_instance(request)
        figures = figures_of(changelist.result_list)
        for endpoint in changelist.result_list:
            endpoint.figures = figures[endpoint.pk]
        return changelist

    def save_model(self, request: HttpRequest, obj: Endpoint, form: Any, change: Any) -> None:
        if change:
            services.edit(obj, **{name: getattr(obj, name) for name in form.changed_data})
        else:
            super().save_model(request, obj, form, change)
            if obj.kind == Kind.WEBHOOK:
                messages.info(request, _("Its secret signs what it is sent: reveal it below."))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What the page before a deletion names; all deliveries of an endpoint are too many."""
        deliveries = Delivery.objects.filter(endpoint__in=objs).count()
        counts = {_("endpoints"): len(objs), _("deliveries"): deliveries}
        return [str(endpoint) for endpoint in objs], counts, set(), []

    def delete_model(self, request: HttpRequest, obj: Endpoint) -> None:
        services.delete_endpoint(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        for endpoint in queryset:
            services.delete_endpoint(endpoint)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        found = Endpoint.objects.filter(pk=object_id).values_list("kind", "state")
        kind, state = found.first() or ("", "")
        useless = USELESS.get(kind, set()) | USELESS.get(state, set())
        offered = super().get_actions_detail(request, object_id)
        return [button for button in offered if button.path not in useless]

    @display(description=_("state"), ordering="state", label=STATE_LABELS)
    def state_label(self, endpoint: Endpoint) -> tuple[str, str]:
        return endpoint.state, endpoint.get_state_display()

    @display(description=_("circuit"), ordering="failures", label=CIRCUIT_LABELS)
    def circuit(self, endpoint: Endpoint) -> tuple[str, Any]:
        circuit = endpoint.circuit(timezone.now())
        return circuit, CIRCUITS[circuit]

    @display(description=_("circuit"))
    def circuit_now(self, endpoint: Endpoint) -> Any:
        return CIRCUITS[endpoint.circuit(timezone.now())]

    @display(description=_("delivered in 24 h"))
    def success_rate(self, endpoint: Endpoint) -> str:
        figures = _figures(endpoint)
        if figures.success_rate is None:
            return "–"
        finished = figures.delivered + figures.undelivered
        return f"{figures.success_rate:.1%} ({digits(figures.delivered)}/{digits(finished)})"

    @display(description=_("waiting"))
    def waiting(self, endpoint: Endpoint) -> SafeString:
        query = f"?endpoint__id__exact={endpoint.pk}&next_attempt_at__isnull=False"
        url = reverse("admin:deliveries_delivery_changelist") + query
        return _link(url, digits(_figures(endpoint).waiting))

    @display(description=_("events"))
    def wanted(self, endpoint: Endpoint) -> str:
        return some_of(endpoint.patterns, 4)

    @display(description=_("failing since"))
    def failing(self, endpoint: Endpoint) -> str:
        return to_the_second(endpoint.failing_since)

    @display(description=_("not before"))
    def held(self, endpoint: Endpoint) -> str:
        return to_the_second(endpoint.not_before)

    @display(description=_("secret"))
    def secret(self, endpoint: Endpoint) -> str:
        return endpoint.hint

    @display(description=_("host"))
    def host(self, endpoint: Endpoint) -> str:
        return httpx.URL(endpoint.url).host

    def has_steer_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("deliveries.change_endpoint")

    @action(description=_("Send a test event"), url_path="test", permissions=["steer"])
    def test_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        endpoint = get_object_or_404(Endpoint, pk=object_id)
        question = Question(
            title=_("Send a test event?"),
            text=_("It goes to this endpoint alone, whatever events it wants."),
            warning="" if endpoint.state == State.ACTIVE else NOT_ACTIVE,
            submit=_("Send"),
            back=_page_of(endpoint),
        )
        if not confirmed(request):
            return ask(self, request, question)
        delivery = services.send_test(endpoint)
        self.log_change(request, endpoint, str(_("Test event sent")))
        return redirect("admin:deliveries_delivery_change", delivery.pk)

    @action(description=_("Pause"), url_path="pause", permissions=["steer"])
    def pause_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = _("Its events are collected, and wait until it is enabled again.")
        return self._steer(request, object_id, services.pause, _("Pause"), text)

    @action(description=_("Enable"), url_path="enable", permissions=["steer"])
    def enable_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = _("What waits goes out, and its circuit starts anew.")
        return self._steer(request, object_id, services.enable, _("Enable"), text)

    @action(
        description=_("Disable"),
        url_path="disable",
        permissions=["steer"],
        variant=ActionVariant.DANGER,
    )
    def disable_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def disable(endpoint: Endpoint) -> None:
            services.disable(endpoint, f"by {request.user.get_username()}")

        text = _("What happens meanwhile never reaches it. What waits stays.")
        return self._steer(request, object_id, disable, _("Disable"), text)

    @action(description=_("Reveal the secret"), url_path="reveal", permissions=["steer"])
    def reveal_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        endpoint = get_object_or_404(Endpoint, pk=object_id)
        if not confirmed(request):
            question = Question(
                title=_("Reveal the secret of %(endpoint)s?") % {"endpoint": endpoint},
                text=_("The history notes who saw it."),
                submit=_("Reveal"),
                back=_page_of(endpoint),
            )
            return ask(self, request, question)
        self.log_change(request, endpoint, str(_("Secret revealed")))
        context = self.admin_site.each_context(request) | {
            "title": _("Secrets of %(endpoint)s") % {"endpoint": endpoint},
            "opts": self.model._meta,
            "shown": list(_secrets(endpoint)),
            "back": _page_of(endpoint),
        }
        return TemplateResponse(request, "admin/deliveries/endpoint/secrets.html", context)

    @action(description=_("Rotate the secret"), url_path="rotate", permissions=["steer"])
    def rotate_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = _(
            "Both sign until WEBHOOK_SECRET_OVERLAP has passed: reveal the new one, and tell the "
            "receiver."
        )
        return self._steer(request, object_id, services.rotate_secret, _("Rotate"), text)

    def _steer(
        self,
        request: HttpRequest,
        object_id: str,
        steer: Callable[[Endpoint], object],
        verb: Any,
        text: Any,
    ) -> HttpResponse:
        endpoint = get_object_or_404(Endpoint, pk=object_id)
        if not confirmed(request):
            title = _("%(verb)s %(endpoint)s?") % {"verb": verb, "endpoint": endpoint}
            question = Question(title=title, text=text, submit=verb, back=_page_of(endpoint))
            return ask(self, request, question)
        try:
            steer(endpoint)
        except InvalidTransition as error:
            messages.error(request, str(error))
        else:
            self.log_change(request, endpoint, str(verb))
            messages.success(request, _("Done: %(verb)s.") % {"verb": verb})
        return redirect(_page_of(endpoint))

    @admin.action(description=_("Pause selected"), permissions=["steer"])
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        self._steer_all(request, queryset, services.pause, _("Pause"))

    @admin.action(description=_("Enable selected"), permissions=["steer"])
    def enable_selected(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        self._steer_all(request, queryset, services.enable, _("Enable"))

    def _steer_all(
        self,
        request: HttpRequest,
        queryset: QuerySet[Endpoint],
        steer: Callable[[Endpoint], None],
        verb: Any,
    ) -> None:
        for endpoint in queryset:
            try:
                steer(endpoint)
            except InvalidTransition as error:
                messages.warning(request, str(error))
            else:
                self.log_change(request, endpoint, str(verb))
                messages.success(request, f"{endpoint}: {endpoint.get_state_display()}")

    @action(description=_("Retry a time range"), url_path="retry", permissions=["steer"])
    def retry_range(self, request: HttpRequest, object_id: str) -> HttpResponse:
        endpoint = get_object_or_404(Endpoint, pk=object_id)
        form = RangeForm(request.POST if confirmed(request) else None)
        if not confirmed(request) or not form.is_valid():
            question = Question(
                title=_("Retry a time range?"),
                text=_("What was made in it and is finished goes out once more, under its old id."),
                warning="" if endpoint.state == State.ACTIVE else NOT_ACTIVE,
                submit=_("Retry"),
                back=_page_of(endpoint),
                form=form,
            )
            return ask(self, request, question)
        who = request.user.get_username()
        retried = services.retry(form.chosen(endpoint), f"{endpoint}: {form.range}", who)
        noted = _("%(count)s retried") % {"count": digits(retried.count)}
        self.log_change(request, endpoint, str(noted))
        _tell(request, retried.count)
        return redirect(_page_of_retry(request, retried) if retried.count else _page_of(endpoint))


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = (
        "type",
        "key",
        "to",
        "status_label",
        "attempts",
        "made",
        "next_one",
        "completed",
        "short_error",
    )
    list_filter = (
        ("status", ChoicesRadioFilter),
        "endpoint",
        ("endpoint__kind", ChoicesRadioFilter),
        ("type", AllValuesCheckboxFilter),
    )
    list_select_related = ("endpoint",)
    search_fields = ("key__startswith", "event_id")
    search_help_text = _("Key (broadcast-12) or event id")
    show_full_result_count = False
    show_facets = admin.ShowFacets.ALWAYS
    list_per_page = 50
    actions = ("retry_selected",)
    actions_detail = ("retry_one",)
    actions_row = ("retry_one",)
    fieldsets = (
        (None, {"fields": ("type", "key", "event_id", "to", "status", "error")}),
        (_("Life"), {"fields": ("attempts", "made", "next_one", "claimed_by", "completed")}),
        (_("Attempts"), {"fields": ("each_attempt",)}),
        (_("Content"), {"fields": ("sent",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        queryset: QuerySet[Delivery] = super().get_queryset(request)
        is_list = getattr(request.resolver_match, "url_name", "").endswith("_changelist")
        return queryset.defer("body") if is_list else queryset

    def has_retry_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("deliveries.change_delivery")

    @display(description=_("endpoint"), ordering="endpoint__name")
    def to(self, delivery: Delivery) -> SafeString:
        return _link(_page_of(delivery.endpoint), str(delivery.endpoint))

    @display(description=_("status"), ordering="status", label=STATUS_LABELS)
    def status_label(self, delivery: Delivery) -> tuple[str, str]:
        return delivery.status, delivery.get_status_display()

    @display(description=_("made"), ordering="created_at")
    def made(self, delivery: Delivery) -> str:
        return to_the_second(delivery.created_at)

    @display(description=_("next attempt"), ordering="next_attempt_at")
    def next_one(self, delivery: Delivery) -> Any:
        return _("now") if delivery.claimed_by else to_the_second(delivery.next_attempt_at)

    @display(description=_("completed"), ordering="completed_at")
    def completed(self, delivery: Delivery) -> str:
        return to_the_second(delivery.completed_at)

    @display(description=_("error"))
    def short_error(self, delivery: Delivery) -> str:
        return delivery.error[:80] + ("…" if len(delivery.error) > 80 else "")

    @display(description=_("request and response"))
    def each_attempt(self, delivery: Delivery) -> SafeString:
        attempts = delivery.attempt_set.all()
        context = {"attempts": attempts, "host": httpx.URL(delivery.endpoint.url).host}
        return render_to_string("admin/deliveries/delivery/attempts.html", context)

    @display(description=_("request body"))
    def sent(self, delivery: Delivery) -> SafeString:
        request = build_request(delivery.endpoint, delivery, timezone.now())
        return pretty(json.loads(request.body))

    @action(description=_("Retry"), url_path="retry", icon="replay", permissions=["retry"])
    def retry_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.retry_selected(request, Delivery.objects.filter(pk=object_id))

    @admin.action(description=_("Retry selected"), permissions=["retry"])
    def retry_selected(self, request: HttpRequest, queryset: Any) -> HttpResponse:
        back = reverse("admin:deliveries_delivery_changelist")
        if not confirmed(request):
            question = Question(
                title=_("Retry?"),
                text=_("What is finished goes out once more, under its old id."),
                facts=[(_("Deliveries"), queryset.count()), (_("Which"), some_of(queryset))],
                submit=_("Retry"),
                back=back,
            )
            return ask(self, request, question)
        rows = list(queryset.filter(next_attempt_at=None).defer("body")[:1_000])
        what = some_of(rows, 3)
        retried = services.retry(queryset, what, request.user.get_username())
        for row in rows:
            self.log_change(request, row, str(_("Retried")))
        _tell(request, retried.count)
        return redirect(_page_of_retry(request, retried) if retried.count else back)


@admin.register(Retry)
class RetryAdmin(ReadOnlyAdmin):
    """What was sent once more together, and how far it is."""

    list_display = ("what", "by", "made", "total", "done", "undelivered")
    search_fields = ("what", "by")
    search_help_text = _("What was retried, or by whom")
    show_full_result_count = False
    list_per_page = 50

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_GET(self.progress))
        own = path("<int:pk>/progress/", view, name="deliveries_retry_progress")
        return [own, *super().get_urls()]

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist: ChangeList = super().get_changelist_instance(request)
        progress = progress_of(changelist.result_list)
        for retry in changelist.result_list:
            retry.progress = progress[retry.pk]
        return changelist

    @display(description=_("made"), ordering="created_at")
    def made(self, retry: Retry) -> str:
        return to_the_second(retry.created_at)

    @display(description=_("deliveries"), ordering="count")
    def total(self, retry: Retry) -> SafeString:
        return _link(_deliveries_of(retry), digits(retry.count))

    @display(description=_("done"))
    def done(self, retry: Any) -> str:
        return f"{retry.progress.percent} %"

    @display(description=_("undelivered"))
    def undelivered(self, retry: Any) -> SafeString:
        url = _deliveries_of(retry, "&status__in=FAILED,DEAD")
        return _link(url, digits(retry.progress.undelivered))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = self.admin_site.each_context(request) | {
            "title": _("Retry"),
            "opts": self.model._meta,
        }
        return self._answer(request, object_id, "page", context)

    def progress(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What the open page asks for while somebody looks."""
        return self._answer(request, pk, "progress", {})

    def _answer(
        self, request: HttpRequest, pk: str | int, template: str, context: dict[str, Any]
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        retry = get_object_or_404(Retry, pk=pk)
        progress = progress_of([retry])[retry.pk]
        context |= {
            "retry": retry,
            "made": to_the_second(retry.created_at),
            "progress": progress,
            "numbers": list(_numbers(retry, progress)),
        }
        return TemplateResponse(request, f"admin/deliveries/retry/{template}.html", context)


def _numbers(retry: Retry, progress: Progress) -> Iterator[tuple[Any, str, str, bool]]:
    """For the page of a retry: label, count, where they are, whether it is bad."""
    of_retry = partial(_deliveries_of, retry)
    yield _("Retried"), digits(retry.count), of_retry(), False
    waiting = of_retry("&next_attempt_at__isnull=False")
    yield _("Waiting"), digits(progress.waiting), waiting, False
    delivered = of_retry(f"&status__exact={Status.SUCCESS}")
    yield _("Delivered"), digits(progress.delivered), delivered, False
    undelivered = of_retry("&status__in=FAILED,DEAD")
    yield _("Undelivered"), digits(progress.undelivered), undelivered, progress.undelivered > 0
    if progress.elsewhere:
        yield _("Retried again or deleted"), digits(progress.elsewhere), "", False


def _deliveries_of(retry: Retry, query: str = "") -> str:
    return reverse("admin:deliveries_delivery_changelist") + f"?retry__id__exact={retry.pk}{query}"


def _page_of_retry(request: HttpRequest, retry: Retry) -> str:
    if request.user.has_perm("deliveries.view_retry"):
        return reverse("admin:deliveries_retry_change", args=[retry.pk])
    return _deliveries_of(retry)


def _secrets(endpoint: Endpoint) -> Iterator[tuple[Any, SafeString]]:
    """All that sign now; first the one that receivers should use."""
    current, *old = services.show_secrets(endpoint)
    yield _("Current"), preformatted(current)
    for value in old:
        yield _("Rotated out, still signs"), preformatted(value)


def _figures(endpoint: Any) -> Figures:
    """As the list has counted them for all its rows."""
    figures: Figures = getattr(endpoint, "figures", None) or figures_of([endpoint])[endpoint.pk]
    return figures


def _link(url: str, text: str) -> SafeString:
    return format_html('<a class="text-link" href="{}">{}</a>', url, text)


def _page_of(endpoint: Endpoint) -> str:
    return reverse("admin:deliveries_endpoint_change", args=[endpoint.pk])


def _tell(request: HttpRequest, count: int) -> None:
    text = ngettext("%(count)s delivery goes out.", "%(count)s deliveries go out.", count)
    messages.success(request, text % {"count": digits(count)})
