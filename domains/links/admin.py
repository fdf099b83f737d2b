from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RadioFilter
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextareaWidget

from domains.links import services
from domains.links.codes import TYPES, qr_code
from domains.links.models import Device, Link, LinkQuerySet, State
from domains.links.statistics import Day, Share, Statistics, statistics_of
from jobs import clock
from jobs.pages import digits, tell_refused, to_the_second

STATE_LABELS = {State.ACTIVE: "success", State.EXPIRED: "warning", State.INACTIVE: "danger"}
RANGES = {7: _("7 days"), 30: _("30 days"), 90: _("90 days"), 365: _("A year")}
WIDTH, HEIGHT = 720, 96  # of the chart, which is stretched to the width that there is
LATEST = 20  # single clicks and readers on the page
SHOWN_HOST = 40


class LinkForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Link
        fields = [
            "original_url",
            "custom_alias",
            "title",
            "description",
            "expires_at",
            "is_active",
            "reference",
        ]
        widgets = {"description": UnfoldAdminTextareaWidget({"rows": 3})}

    def _get_validation_exclusions(self) -> set[str]:
        """As `services.edit`: what stays as it is."""
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        if self.instance._state.adding:
            return excluded
        return excluded | (self.fields.keys() - set(self.changed_data))

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if {"expires_at", "is_active"} & set(self.changed_data):
            active = bool(cleaned.get("is_active"))
            asked = Link(expires_at=cleaned.get("expires_at"), is_active=active)
            try:
                services.refuse_past(asked)
            except ValidationError as error:
                self.add_error(None, error)
        return cleaned


class StateFilter(RadioFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return State.choices

    def queryset(self, request: HttpRequest, queryset: LinkQuerySet) -> LinkQuerySet:
        return queryset.in_state(self.value(), clock.now()) if self.value() else queryset


@admin.register(Link)
class LinkAdmin(ModelAdmin):
    form = LinkForm
    list_display = (
        "short",
        "title",
        "leads_to",
        "state_label",
        "clicks",
        "bot_count",
        "ends",
        "reference",
    )
    list_filter = (StateFilter,)
    list_per_page = 50
    search_fields = ("short_code", "custom_alias", "title", "original_url", "reference")
    search_help_text = _("Code, alias, title, reference, or where it leads to")
    show_full_result_count = False
    warn_unsaved_form = True
    actions = ("activate_selected", "deactivate_selected")
    actions_detail = ("stats_one",)
    actions_row = ("stats_one",)
    readonly_fields = ("address", "code", "clicks", "bot_count", "made")

    def get_fieldsets(self, request: HttpRequest, obj: Link | None = None) -> Any:
        what = ("original_url", "custom_alias", "title", "description", "expires_at")
        fields = (None, {"fields": (*what, "is_active", "reference")})
        if obj is None:
            return (fields,)
        shown = ("address", "code", "clicks", "bot_count", "made")
        return ((_("Share it"), {"fields": shown}), fields)

    def save_model(self, request: HttpRequest, obj: Link, form: Any, change: Any) -> None:
        if change:
            services.edit(obj, **{name: getattr(obj, name) for name in form.changed_data})
        else:
            obj.created_by = request.user  # type: ignore[assignment]
            services.save_new(obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What the page before a deletion names; all clicks of a link are too many."""
        clicks = sum(link.click_count for link in objs)
        counts = {_("links"): len(objs), _("clicks"): digits(clicks)}
        return [str(link) for link in objs], counts, set(), []

    def delete_model(self, request: HttpRequest, obj: Link) -> None:
        services.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Link]) -> None:
        for link in queryset:
            services.delete(link)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_GET(self.qr))
        return [path("<int:pk>/qr.<str:kind>", view, name="links_link_qr"), *super().get_urls()]

    @display(description=_("short link"), ordering="short_code")
    def short(self, link: Link) -> str:
        return f"/s/{link.name}"

    @display(description=_("leads to"), ordering="original_url")
    def leads_to(self, link: Link) -> SafeString:
        host = urlsplit(link.original_url).hostname or link.original_url
        text = host[:SHOWN_HOST] + ("…" if len(host) > SHOWN_HOST else "")
        return format_html('<span title="{}">{}</span>', link.original_url, text)

    @display(description=_("state"), label=STATE_LABELS)
    def state_label(self, link: Link) -> tuple[str, str]:
        state = link.state(timezone.now())
        return state, str(state.label)

    @display(description=_("clicks"), ordering="click_count")
    def clicks(self, link: Link) -> SafeString:
        return _anchor(stats_url(link), digits(link.click_count))

    @display(description=_("expires"), ordering="expires_at")
    def ends(self, link: Link) -> str:
        return to_the_second(link.expires_at)

    @display(description=_("made"))
    def made(self, link: Link) -> str:
        by = f" · {link.created_by}" if link.created_by else ""
        return f"{to_the_second(link.created_at)}{by}"

    @display(description=_("short link"))
    def address(self, link: Link) -> SafeString:
        return _anchor(link.short_url, link.short_url)

    @display(description=_("QR code"))
    def code(self, link: Link) -> SafeString:
        urls = {kind: reverse("admin:links_link_qr", args=[link.pk, kind]) for kind in TYPES}
        return format_html(
            '<img class="console-code" src="{}" alt="{}" width="160" height="160"> {}',
            urls["svg"],
            _("QR code of %(url)s") % {"url": link.short_url},
            format_html_join(
                " · ",
                '<a class="text-link" href="{}" download="{}.{}">{}</a>',
                [(url, link.name, kind, kind.upper()) for kind, url in urls.items()],
            ),
        )

    def qr(self, request: HttpRequest, pk: int, kind: str) -> HttpResponse:
        link = self._seen_by(request, pk)
        if kind not in TYPES:
            raise Http404(kind)
        return HttpResponse(qr_code(link, kind), content_type=TYPES[kind])

    @action(description=_("Statistics"), url_path="stats", icon="bar_chart")
    def stats_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        link = self._seen_by(request, object_id)
        asked = request.GET.get("days", "")
        days = int(asked) if asked.isdecimal() and int(asked) in RANGES else 30
        until = timezone.localdate()
        found = statistics_of(link, until - timedelta(days=days - 1), until)
        context = self.admin_site.each_context(request) | {
            "title": _("Statistics of %(link)s") % {"link": link},
            "opts": self.model._meta,
            "link": link,
            "zone": timezone.get_current_timezone_name(),
            "ranges": [
                (label, f"{stats_url(link)}?days={count}", count == days)
                for count, label in RANGES.items()
            ],
            "numbers": numbers(found),
            "found": found,
            "chart": chart(found.days),
            "ends": [day_of(found.days[0].day), day_of(found.days[-1].day)],
            "rows": [
                (day_of(day.day), digits(day.clicks), digits(day.bots))
                for day in reversed(found.days)
                if day.clicks or day.bots
            ],
            "tables": list(tables(found)),
            "latest": link.clicks.all()[:LATEST],
            "readers": link.readers.select_related("user").order_by("-last_at", "-id")[:LATEST],
        }
        return TemplateResponse(request, "admin/links/link/stats.html", context)

    def _seen_by(self, request: HttpRequest, pk: int | str) -> Link:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return get_object_or_404(Link, pk=pk)

    @admin.action(description=_("Activate selected"), permissions=["change"])
    def activate_selected(self, request: HttpRequest, queryset: QuerySet[Link]) -> None:
        self._steer_all(request, queryset, services.activate, _("Activate"))

    @admin.action(description=_("Deactivate selected"), permissions=["change"])
    def deactivate_selected(self, request: HttpRequest, queryset: QuerySet[Link]) -> None:
        self._steer_all(request, queryset, services.deactivate, _("Deactivate"))

    def _steer_all(
        self,
        request: HttpRequest,
        queryset: QuerySet[Link],
        steer: Callable[[Link], None],
        verb: Any,
    ) -> None:
        done = 0
        refused: list[str] = []
        for link in queryset:
            try:
                steer(link)
            except ValidationError as error:
                refused.append(f"{link}: {' '.join(error.messages)}")
            else:
                done += 1
                self.log_change(request, link, str(verb))
        tell_refused(request, refused)
        if done:
            text = ngettext("%(count)s link changed.", "%(count)s links changed.", done)
            messages.success(request, text % {"count": digits(done)})


def stats_url(link: Link) -> str:
    return reverse("admin:links_link_stats_one", args=[link.pk])


def numbers(found: Statistics) -> list[tuple[Any, str, Any]]:
    """Label, number, and what stands below it."""
    return [
        (_("Clicks"), digits(found.total), ""),
        (_("Today"), digits(found.today), ""),
        (_("Last 7 days"), digits(found.last_7_days), ""),
        (_("Last 30 days"), digits(found.last_30_days), ""),
        (_("Signed-in people"), digits(found.readers), ""),
        (_("Visits of bots"), digits(found.bots), _("not among the clicks")),
    ]


def tables(found: Statistics) -> Any:
    yield _("Country"), shares_of(found.countries)
    names = dict(Device.choices)
    yield _("Device"), shares_of(found.devices, lambda value: str(names.get(value, value)))
    yield _("Browser"), shares_of(found.browsers)
    yield _("Came from"), shares_of(found.referrers, lambda value: value or str(_("Not told")))


def shares_of(
    shares: list[Share], name: Callable[[str], str] = str
) -> list[tuple[str, str, str, int]]:
    """Of each value its name, its clicks, and their share as text and as the width of a bar."""
    return [
        (name(s.value), digits(s.clicks), f"{s.share:.1%}", round(100 * s.share)) for s in shares
    ]


def day_of(day: date) -> str:
    return date_format(day, "SHORT_DATE_FORMAT")


def chart(days: list[Day]) -> SafeString | str:
    """An SVG of one bar a day, from nothing at its foot to the most; empty without a click."""
    most = max(day.clicks for day in days)
    if not most:
        return ""
    step = WIDTH / len(days)
    gap = min(step / 4, 2)
    bars = [
        (
            f"{n * step + gap / 2:.2f}",
            f"{HEIGHT - height:.2f}",
            f"{step - gap:.2f}",
            f"{height:.2f}",
            f"{day_of(day.day)}: {digits(day.clicks)}",
        )
        for n, day in enumerate(days)
        if day.clicks and (height := max(day.clicks / most * HEIGHT, 2))
    ]
    rects = format_html_join(
        "", '<rect x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>', bars
    )
    return format_html(
        '<svg class="console-chart" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}</svg>',
        WIDTH,
        HEIGHT,
        _("Clicks by day, at most %(count)s") % {"count": digits(most)},
        rects,
    )


def _anchor(url: str, text: str) -> SafeString:
    return format_html('<a class="text-link" href="{}">{}</a>', url, text)
