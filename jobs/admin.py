from collections.abc import Callable
from datetime import datetime, time
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_time
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST
from unfold.contrib.filters.admin import (
    ChoicesRadioFilter,
    FieldTextFilter,
    RangeDateTimeFilter,
    RelatedDropdownFilter,
)
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from jobs import execution
from jobs.board import STATUS_LABELS, board
from jobs.models import Job, Run, RunStatus
from jobs.pages import (
    Question,
    ReadOnlyAdmin,
    Text,
    ask,
    confirmed,
    preformatted,
    span,
    to_the_second,
)
from jobs.registry import periodic_jobs

Steer = Callable[[str], None]


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """One page of all jobs instead of a list of rows."""

    fields = (
        "name",
        "paused_at",
        "requested_at",
        "last_slot",
        "holder",
        "token",
        "since",
        "until",
        "created_at",
    )

    def has_steer_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("jobs.steer_job")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [path("board/", view(require_GET(self.board)), name="jobs_job_board")]
        for verb in (self.run_now, self.pause, self.resume, self.release):
            name = verb.__name__
            own.append(
                path(f"<str:name>/{name}/", view(require_POST(verb)), name=f"jobs_job_{name}")
            )
        return own + list(super().get_urls())

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = self.admin_site.each_context(request) | {
            "title": _("Jobs"),
            "opts": self.model._meta,
        }
        return self._answer(request, "admin/jobs/job/console.html", context)

    def board(self, request: HttpRequest) -> HttpResponse:
        """What the open page asks for while somebody looks."""
        return self._answer(request, "admin/jobs/job/board.html", {})

    def _answer(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        context |= {"board": board(), "may_steer": self.has_steer_permission(request)}
        return TemplateResponse(request, template, context)

    # Steering

    def run_now(self, request: HttpRequest, name: str) -> HttpResponse:
        done = _(
            "%(job)s is asked for: the first node that is free runs it, within a second or two."
        )
        return self._steer(request, name, execution.run_now, _("Run now"), done)

    def pause(self, request: HttpRequest, name: str) -> HttpResponse:
        done = _("%(job)s is paused: no run begins until it is resumed.")
        return self._steer(request, name, execution.pause, _("Paused"), done)

    def resume(self, request: HttpRequest, name: str) -> HttpResponse:
        return self._steer(
            request, name, execution.resume, _("Resumed"), _("%(job)s runs on time again.")
        )

    def release(self, request: HttpRequest, name: str) -> HttpResponse:
        job = self._steerable(request, name)
        if not confirmed(request):
            return ask(self, request, release_question(job))
        done = _("The lease of %(job)s is free. What its holder still writes is refused.")
        return self._steer(request, name, execution.release, _("Lease released"), done)

    def _steer(
        self, request: HttpRequest, name: str, steer: Steer, noted: str, done: str
    ) -> HttpResponse:
        job = self._steerable(request, name)
        try:
            steer(name)
        except execution.JobBusy as error:
            messages.error(request, str(error))
        else:
            self.log_change(request, job, noted)
            messages.success(request, done % {"job": name})
        return redirect("admin:jobs_job_changelist")

    def _steerable(self, request: HttpRequest, name: str) -> Job:
        if not self.has_steer_permission(request):
            raise PermissionDenied
        job = Job.objects.filter(name=name).first()
        if job is None or name not in periodic_jobs:
            raise Http404
        return job


def release_question(job: Job) -> Question:
    facts: list[tuple[Text, object]] = [
        (_("Job"), job.name),
        (_("Holder"), job.holder or _("nobody")),
        (_("Since"), to_the_second(job.since)),
    ]
    return Question(
        title=_("Release the lease?"),
        text=_(
            "Another node may then run the job at its next slot. The holder is not stopped, but "
            "what it still writes under its lease is refused. Do this when it hangs."
        ),
        facts=facts,
        submit=_("Release"),
        back=reverse("admin:jobs_job_changelist"),
        danger=True,
    )


class BetweenFilter(RangeDateTimeFilter):
    """In the console's time zone, which unfold's own forgets; a date does without a time."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if start := self._moment("from", time.min):
            queryset = queryset.filter(**{f"{self.field_path}__gte": start})
        if end := self._moment("to", time.max):
            queryset = queryset.filter(**{f"{self.field_path}__lte": end})
        return queryset

    def _moment(self, end: str, otherwise: time) -> datetime | None:
        given = self.used_parameters
        try:
            day = parse_date(given.get(f"{self.field_path}_{end}_0") or "")
            at = parse_time(given.get(f"{self.field_path}_{end}_1") or "")
        except ValueError:  # well formed, and no such day or time
            return None
        return timezone.make_aware(datetime.combine(day, at or otherwise)) if day else None


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    list_display = (
        "job",
        "slot_at",
        "status_label",
        "node",
        "duration",
        "items",
        "failed_items",
        "short_error",
    )
    list_filter = (
        ("job", RelatedDropdownFilter),
        ("status", ChoicesRadioFilter),
        ("node", FieldTextFilter),  # nodes carry a process id: too many to choose from
        ("slot", BetweenFilter),
    )
    list_filter_submit = True
    search_fields = ("error", "reason")
    search_help_text = gettext_lazy("Words of the error or of the reason")
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = InfinitePaginator
    list_per_page = 50
    fieldsets = (
        (None, {"fields": ("job", "slot_at", "status", "node", "token")}),
        (gettext_lazy("Life"), {"fields": ("started", "finished", "duration")}),
        (
            gettext_lazy("Outcome"),
            {"fields": ("items", "failed_items", "skipped_items", "reason", "error")},
        ),
        (gettext_lazy("Stack trace"), {"fields": ("stack_trace",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        queryset: QuerySet[Run] = super().get_queryset(request)
        is_list = getattr(request.resolver_match, "url_name", "").endswith("_changelist")
        return queryset.defer("traceback") if is_list else queryset

    @display(description=gettext_lazy("slot"), ordering="slot")
    def slot_at(self, run: Run) -> str:
        return to_the_second(run.slot)

    @display(description=gettext_lazy("status"), ordering="status", label=STATUS_LABELS)
    def status_label(self, run: Run) -> tuple[str, str]:
        return run.status, run.get_status_display()

    @display(description=gettext_lazy("started"), ordering="started_at")
    def started(self, run: Run) -> str:
        return to_the_second(run.started_at)

    @display(description=gettext_lazy("finished"), ordering="finished_at")
    def finished(self, run: Run) -> str:
        return to_the_second(run.finished_at)

    @display(description=gettext_lazy("duration"))
    def duration(self, run: Run) -> str:
        return span(run.duration) or "–"

    @display(description=gettext_lazy("error"))
    def short_error(self, run: Run) -> str:
        text = run.error or run.reason
        return text[:120] + ("…" if len(text) > 120 else "")

    @display(description=gettext_lazy("stack trace"))
    def stack_trace(self, run: Run) -> SafeString | str:
        if run.traceback:
            return preformatted(run.traceback)
        return "–" if run.status == RunStatus.FAILED else _("none: it did not fail")
