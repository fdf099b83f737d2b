"""What the pages of characters and of guilds share."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import ChoicesRadioFilter
from unfold.decorators import action, display

from domains.warcraft import services
from domains.warcraft.battlenet import account_of
from domains.warcraft.models import Region, Status, Tracked, TrackedQuerySet
from domains.warcraft.sync import no_credentials
from jobs.execution import JobBusy
from jobs.pages import Question, ask, confirmed, digits, some_of, to_the_second

STATUS_LABELS = {
    Status.NEW: "info",
    Status.OK: "success",
    Status.FAILING: "danger",
    Status.GONE: "warning",
}
BAD = (Status.FAILING, Status.GONE)
SHOWN_FAILURES = 20
SHORT = 60  # letters of an error in a list


class TrackedAdmin(ModelAdmin):
    list_filter: tuple[Any, ...] = (
        ("status", ChoicesRadioFilter),
        ("region", ChoicesRadioFilter),
        "faction",
    )
    search_fields: tuple[str, ...] = ("name__icontains", "realm_slug__istartswith")
    search_help_text = _("Name, or the beginning of the realm's slug")
    show_full_result_count = False
    list_per_page = 50
    actions = ("refresh_selected",)
    identity = ("name", "realm", "region")
    state = ("status_now", "synced", "next_one", "failures", "last_error")

    def get_urls(self) -> list[URLPattern]:
        noun = self.model.noun
        page, numbers = self.progress_page, self.progress_numbers
        own = [
            path("refresh/", self._guarded(page), name=f"warcraft_{noun}_refreshed"),
            path("refresh/numbers/", self._guarded(numbers), name=f"warcraft_{noun}_numbers"),
        ]
        return [*own, *super().get_urls()]

    def _guarded(self, view: Any) -> Any:
        return self.admin_site.admin_view(require_GET(view))

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method == "GET" and not any(account_of(region) for region in Region.values):
            messages.warning(request, no_credentials())
        answer: HttpResponse = super().changelist_view(request, extra_context)
        return answer

    def save_model(self, request: HttpRequest, obj: Tracked, form: Any, change: Any) -> None:
        if change:
            services.readdress(obj)
        else:
            super().save_model(request, obj, form, change)
            noun = obj._meta.verbose_name
            text = _("The %(noun)s is asked for at the next run; Refresh asks at once.")
            messages.info(request, text % {"noun": noun})

    @display(description=_("status"), ordering="status", label=STATUS_LABELS)
    def status_label(self, row: Tracked) -> tuple[str, str]:
        return row.status, row.get_status_display()

    @display(description=_("status"))
    def status_now(self, row: Tracked) -> str:
        return row.get_status_display()

    @display(description=_("synced"), ordering="synced_at")
    def synced(self, row: Tracked) -> str:
        return to_the_second(row.synced_at)

    @display(description=_("next try"), ordering="next_try_at")
    def next_one(self, row: Tracked) -> Any:
        return _("asked for") if row.is_asked else to_the_second(row.next_try_at)

    @display(description=_("error"))
    def short_error(self, row: Tracked) -> str:
        return row.last_error[:SHORT] + ("…" if len(row.last_error) > SHORT else "")

    @display(description=_("realm"), ordering="realm")
    def where(self, row: Tracked) -> str:
        return f"{row.realm} ({row.region.upper()})"

    # Refresh

    def has_refresh_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm(f"warcraft.change_{self.model.noun}")

    @action(description=_("Refresh"), url_path="refresh-one", icon="sync", permissions=["refresh"])
    def refresh_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(self.model, pk=object_id)
        back = reverse(f"admin:warcraft_{self.model.noun}_change", args=[row.pk])
        return self._refresh(request, self.model.objects.filter(pk=row.pk), back)

    @admin.action(description=_("Refresh selected"), permissions=["refresh"])
    def refresh_selected(self, request: HttpRequest, queryset: Any) -> HttpResponse:
        return self._refresh(request, queryset, self._list())

    def _refresh(self, request: HttpRequest, rows: TrackedQuerySet, back: str) -> HttpResponse:
        count = rows.count()
        if not confirmed(request):
            question = Question(
                title=_("Refresh?"),
                text=_("Battle.net is asked for all of it, changed or not, before what is due."),
                facts=[(_("How many"), digits(count)), (_("Which"), some_of(rows))],
                warning="" if account_of(Region.US) else no_credentials(),
                submit=_("Refresh"),
                back=back,
            )
            return ask(self, request, question)
        # By id: what an operator sees filtered by its status would change under the update.
        try:
            asked, moment = services.refresh(self.model.objects.filter(pk__in=rows.values("pk")))
        except JobBusy as error:
            messages.error(request, str(error))
            return redirect(back)
        for row in rows[:100]:
            self.log_change(request, row, str(_("Refresh")))
        text = ngettext("%(count)s is asked for.", "%(count)s are asked for.", asked)
        messages.success(request, text % {"count": digits(asked)})
        return redirect(f"{self._url('refreshed')}?{urlencode({'asked': moment.isoformat()})}")

    def progress_page(self, request: HttpRequest) -> HttpResponse:
        """How far a refresh is; without its moment, all that is asked for now."""
        context = self.admin_site.each_context(request) | {
            "title": _("Refresh"),
            "opts": self.model._meta,
            "back": self._list(),
        }
        return self._progress(request, "page", context)

    def progress_numbers(self, request: HttpRequest) -> HttpResponse:
        """What the open page asks for while somebody looks."""
        return self._progress(request, "progress", {})

    def _progress(
        self, request: HttpRequest, template: str, context: dict[str, Any]
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        moment = _moment(request)
        rows = self.model.objects.all()
        rows = rows.filter(asked_at=moment) if moment else rows.filter(is_asked=True)
        numbers, percent = self._numbers(rows, moment)
        query = f"?{urlencode({'asked': moment.isoformat()})}" if moment else ""
        context |= {
            "live": f"{self._url('numbers')}{query}",
            "percent": percent,
            "numbers": numbers,
            "asked": to_the_second(moment) if moment else "",
            "failures": rows.filter(is_asked=False, status__in=BAD)[:SHOWN_FAILURES],
            "page_of": f"admin:warcraft_{self.model.noun}_change",
            "without": "" if account_of(Region.US) else no_credentials(),
        }
        return TemplateResponse(request, f"admin/warcraft/refresh/{template}.html", context)

    def _numbers(
        self, rows: QuerySet[Any], moment: datetime | None
    ) -> tuple[list[tuple[Any, str, str, bool]], int | None]:
        """Label, count, where they are, whether it is bad; and how many in a hundred are done.

        None where there is nothing to do.
        """
        waiting = rows.filter(is_asked=True).count()
        states = dict(_counts(rows.filter(is_asked=False)))
        total = waiting + sum(states.values())
        found = [
            (_("Asked for"), digits(total), self._where(moment), False),
            (_("Waiting"), digits(waiting), self._where(moment, is_asked__exact=1), False),
        ]
        for status in (Status.OK, *BAD):
            count = states.get(status, 0)
            where = self._where(moment, status__exact=status.value, is_asked__exact=0)
            found.append((status.label, digits(count), where, status in BAD and count > 0))
        return found, 100 * (total - waiting) // total if total else None

    def _where(self, moment: datetime | None, **query: Any) -> str:
        of_refresh = {"asked_at__exact": moment.isoformat()} if moment else {}
        return f"{self._list()}?{urlencode(of_refresh | query)}"

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        if lookup in ("asked_at__exact", "is_asked__exact"):
            return True
        return bool(super().lookup_allowed(lookup, value, request))

    def _list(self) -> str:
        return self._url("changelist")

    def _url(self, name: str) -> str:
        return reverse(f"admin:warcraft_{self.model.noun}_{name}")


def _moment(request: HttpRequest) -> datetime | None:
    """That of a refresh; what is none is not looked for."""
    try:
        moment = parse_datetime(request.GET.get("asked", ""))
    except ValueError:
        return None
    return moment if moment and moment.tzinfo else None


def _counts(rows: QuerySet[Any]) -> Iterator[tuple[str, int]]:
    yield from rows.order_by().values_list("status").annotate(Count("pk"))
