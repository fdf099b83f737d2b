from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RadioFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
)

from jobs import clock
from jobs.pages import Question, ask, confirmed, digits, to_the_second
from operations.keys import services
from operations.keys.api import having
from operations.keys.charts import CLASSES, chart, sparkline
from operations.keys.figures import DAYS, days_of
from operations.keys.models import ApiKey, ApiKeyQuerySet, ApiKeyUsage, State
from operations.keys.scopes import Scope
from operations.keys.services import (
    InvalidTransition,
    check_may_give,
    check_may_hold,
    may_hold,
)

STATE_LABELS = {State.ACTIVE: "success", State.EXPIRED: "warning", State.DISABLED: "danger"}
OVERLAPS = {0: _("None: it ends now"), 1: _("1 hour"), 24: _("24 hours"), 24 * 7: _("7 days")}
LIMITS = {
    "limit_minute": "API_KEY_LIMIT_MINUTE",
    "limit_hour": "API_KEY_LIMIT_HOUR",
    "limit_day": "API_KEY_LIMIT_DAY",
}


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    scopes = forms.MultipleChoiceField(
        label=_("Scopes"),
        choices=Scope.choices,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=_("Any one that opens an address will do."),
    )

    class Meta:
        model = ApiKey
        fields = ["name", "description", "owner", "scopes", "expires_at", *LIMITS]
        widgets = {"description": UnfoldAdminTextareaWidget({"rows": 3})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, setting in LIMITS.items():
            if name in self.fields:
                usual = {"limit": digits(getattr(settings, setting)), "name": setting}
                text = _("Empty: %(limit)s (%(name)s). 0: no limit.")
                self.fields[name].help_text = text % usual

    def clean_expires_at(self) -> Any:
        at = self.cleaned_data["expires_at"]
        if at and "expires_at" in self.changed_data and at <= clock.now():
            raise forms.ValidationError(_("This is over: choose a moment to come."))
        return at


class RotationForm(forms.Form):
    hours = forms.TypedChoiceField(
        label=_("The old secret works for"),
        choices=list(OVERLAPS.items()),
        coerce=int,
        widget=UnfoldAdminSelectWidget,
    )


class StateFilter(RadioFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(State.choices)

    def queryset(self, request: HttpRequest, queryset: ApiKeyQuerySet) -> QuerySet[ApiKey]:
        state = self.value()
        return queryset.in_state(state, clock.now()) if state in State.values else queryset


class ScopeFilter(RadioFilter):
    title = _("scope")
    parameter_name = "scope"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(scope, scope) for scope in Scope.values]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        return having(queryset, self.value()) if self.value() in Scope.values else queryset


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    form = ApiKeyForm
    list_display = (
        "name",
        "key_id",
        "owner",
        "scopes_shown",
        "state_label",
        "last_used",
        "requests",
        "last_days",
    )
    list_filter = (StateFilter, ScopeFilter)
    list_select_related = ("owner",)
    search_fields = ("name", "description", "key_id", "owner__username")
    search_help_text = _("Name, key, owner or words of the description")
    show_full_result_count = False
    list_per_page = 50
    autocomplete_fields = ("owner",)
    actions = ("disable_selected",)
    actions_detail = ("rotate_one", "disable_one", "enable_one")
    readonly_fields = (
        "key_id",
        "owner_shown",
        "state_shown",
        "reason",
        "made",
        "last_used",
        "old_secret",
        "answers",
    )

    def get_fieldsets(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        limits = (_("Limits"), {"fields": tuple(LIMITS)})
        if obj is None:
            # Others than a superuser make keys of their own only.
            owner = ("owner",) if _is_superuser(request) else ()
            fields = ("name", "description", *owner, "scopes", "expires_at")
            return ((None, {"fields": fields}), limits)
        how = ("key_id", "owner_shown", "state_shown", "reason", "made", "last_used", "old_secret")
        return (
            (None, {"fields": ("name", "description", "scopes", "expires_at")}),
            limits,
            (_("How it does"), {"fields": how}),
            (_("The last %(days)s days") % {"days": DAYS}, {"fields": ("answers",)}),
        )

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().get_changeform_initial_data(request), "owner": request.user.pk}

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist: ChangeList = super().get_changelist_instance(request)
        days, now = days_of(changelist.result_list), clock.now()
        for key in changelist.result_list:
            key.days, key.now = days[key.pk], now
        return changelist

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: Any) -> None:
        if change:
            check_may_give(request.user, obj.owner_id, obj.scopes, form.initial["scopes"])
            services.edit(obj, **{name: getattr(obj, name) for name in form.changed_data})
            return
        if obj.owner_id is None:
            obj.owner = User.objects.get(pk=request.user.pk)
        check_may_hold(request.user, obj.owner_id)
        fields = {name: form.cleaned_data[name] for name in ("description", "expires_at", *LIMITS)}
        made, written = services.make(obj.owner, obj.name, obj.scopes, **fields)
        obj.pk, obj.key_id = made.pk, made.key_id
        request.written = written  # type: ignore[attr-defined]  # for the page after it

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._show(request, obj, request.written)  # type: ignore[attr-defined]

    def delete_model(self, request: HttpRequest, obj: ApiKey) -> None:
        services.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            services.delete(key)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What the page before a deletion names; nobody may delete usage by itself."""
        days = ApiKeyUsage.objects.filter(key__in=objs).count()
        counts = {_("API keys"): len(objs), _("days of usage"): days}
        return [str(key) for key in objs], counts, set(), []

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        key = ApiKey.objects.filter(pk=object_id).first()
        useless = {"disable" if key and not key.enabled else "enable"}
        if key and not may_hold(request.user, key.owner_id):
            useless.add("rotate")
        offered = super().get_actions_detail(request, object_id)
        return [button for button in offered if button.path not in useless]

    @display(description=_("scopes"))
    def scopes_shown(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @display(description=_("state"), label=STATE_LABELS)
    def state_label(self, key: Any) -> tuple[str, Any]:
        state = key.state(key.now)
        return state, state.label

    @display(description=_("state"))
    def state_shown(self, key: ApiKey) -> Any:
        return key.state(clock.now()).label

    @display(description=_("owner"))
    def owner_shown(self, key: ApiKey) -> str:
        return str(key.owner)

    @display(description=_("last used"), ordering="last_used_at")
    def last_used(self, key: ApiKey) -> str:
        return to_the_second(key.last_used_at)

    @display(description=_("made"))
    def made(self, key: ApiKey) -> str:
        return to_the_second(key.created_at)

    @display(description=_("old secret works until"))
    def old_secret(self, key: ApiKey) -> str:
        return to_the_second(key.old_until)

    @display(description=_("requests"))
    def requests(self, key: ApiKey) -> str:
        return digits(key.total)

    @display(description=_("30 days"))
    def last_days(self, key: Any) -> SafeString:
        return sparkline(key.days)

    @display(description=_("answers"))
    def answers(self, key: ApiKey) -> SafeString:
        days = days_of([key])[key.pk]
        names = {"succeeded": _("Succeeded"), "failed_4xx": "4xx", "failed_5xx": "5xx"}
        context = {
            "numbers": [(_("Requests"), digits(key.total))]
            + [(names[name], digits(getattr(key, name))) for name in CLASSES],
            "legend": [(look, names[name]) for name, look in CLASSES.items()],
            "chart": chart(days) if any(day.total for day in days) else "",
            "ends": (days[0].day, days[-1].day),
            "days": [day for day in reversed(days) if day.total],
        }
        return render_to_string("admin/operations/apikey/usage.html", context)

    def has_steer_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("operations.change_apikey")

    @action(description=_("Rotate the secret"), url_path="rotate", permissions=["steer"])
    def rotate_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = get_object_or_404(ApiKey, pk=object_id)
        if not may_hold(request.user, key.owner_id):
            raise PermissionDenied
        form = RotationForm(request.POST if confirmed(request) else None, initial={"hours": 24})
        if not confirmed(request) or not form.is_valid():
            question = Question(
                title=_("Rotate the secret of %(key)s?") % {"key": key},
                text=_("You see the new one once; until it is everywhere the old one may work on."),
                submit=_("Rotate"),
                back=_page_of(key),
                form=form,
            )
            return ask(self, request, question)
        written = services.rotate(key, timedelta(hours=form.cleaned_data["hours"]))
        self.log_change(request, key, str(_("Rotated")))
        return self._show(request, key, written)

    @action(
        description=_("Disable"),
        url_path="disable",
        permissions=["steer"],
        variant=ActionVariant.DANGER,
    )
    def disable_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = _("Its next request is refused, in every process, and its streams end.")
        return self._steer(request, object_id, _disable(request), _("Disable"), text)

    @action(description=_("Enable"), url_path="enable", permissions=["steer"])
    def enable_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        text = _("Whoever has its secret may use it again.")
        return self._steer(request, object_id, services.enable, _("Enable"), text)

    def _steer(
        self,
        request: HttpRequest,
        object_id: str,
        steer: Callable[[ApiKey], None],
        verb: Any,
        text: Any,
    ) -> HttpResponse:
        key = get_object_or_404(ApiKey, pk=object_id)
        if not confirmed(request):
            title = _("%(verb)s %(key)s?") % {"verb": verb, "key": key}
            question = Question(title=title, text=text, submit=verb, back=_page_of(key))
            return ask(self, request, question)
        self._do(request, key, steer, verb)
        return redirect(_page_of(key))

    @admin.action(description=_("Disable selected"), permissions=["steer"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            self._do(request, key, _disable(request), _("Disable"))

    def _do(
        self, request: HttpRequest, key: ApiKey, steer: Callable[[ApiKey], None], verb: Any
    ) -> None:
        try:
            steer(key)
        except InvalidTransition as error:
            messages.warning(request, str(error))
        else:
            self.log_change(request, key, str(verb))
            state = key.state(clock.now()).label
            messages.success(request, f"{key}: {state}")

    def _show(self, request: HttpRequest, key: ApiKey, written: str) -> HttpResponse:
        """The only page that ever has the secret."""
        context = self.admin_site.each_context(request) | {
            "title": _("The secret of %(key)s") % {"key": key},
            "opts": self.model._meta,
            "written": written,
            "back": _page_of(key) if self.has_view_permission(request) else reverse("admin:index"),
        }
        return TemplateResponse(request, "admin/operations/apikey/secret.html", context)


def _disable(request: HttpRequest) -> Callable[[ApiKey], None]:
    return lambda key: services.disable(key, f"by {request.user.get_username()}")


def _is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))


def _page_of(key: ApiKey) -> str:
    return reverse("admin:operations_apikey_change", args=[key.pk])
