"""The page of all jobs, in words: what the operators' console shows and refreshes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from jobs.console import JobState, WorkerState, all_workers, overview
from jobs.models import RunStatus
from jobs.pages import digits, span, to_the_second
from jobs.registry import periodic_jobs

STATES: dict[str, tuple[Promise, str]] = {
    "running": (gettext_lazy("Running"), "info"),
    "overdue": (gettext_lazy("Overdue"), "danger"),
    "failing": (gettext_lazy("Failing"), "danger"),
    "paused": (gettext_lazy("Paused"), "warning"),
    "disabled": (gettext_lazy("Disabled"), "default"),
    "waiting": (gettext_lazy("Waiting"), "success"),
}
STATUS_LABELS = {
    RunStatus.RUNNING: "info",
    RunStatus.SUCCEEDED: "success",
    RunStatus.FAILED: "danger",
    RunStatus.LOST: "danger",
    RunStatus.MISSED: "warning",
}
WIDTH, HEIGHT = 96, 24  # of a sparkline, in pixels
MINUTE, HOUR, DAY = 60, 3_600, 86_400


@dataclass(frozen=True)
class Row:
    """A job with everything about it that takes words."""

    state: JobState
    now: datetime

    @property
    def every(self) -> str:
        is_cron = " " in self.state.every
        return self.state.every if is_cron else _("every %(span)s") % {"span": self.state.every}

    @property
    def label(self) -> Promise:
        return STATES[self.state.state][0]

    @property
    def variant(self) -> str:
        return STATES[self.state.state][1]

    @property
    def detail(self) -> str:
        """What the state alone does not say."""
        job = self.state
        if job.state == "running" and job.running_since:
            return _("for %(span)s") % {"span": distance(self.now - job.running_since)}
        if job.state == "paused" and job.paused_at:
            return _("for %(span)s") % {"span": distance(self.now - job.paused_at)}
        if job.state == "overdue" and job.overdue:
            return _("by %(span)s") % {"span": distance(job.overdue)}
        if job.state == "disabled":
            needs = periodic_jobs[job.name].needs
            if needs and not getattr(settings, needs):
                return _("until %(variable)s is set") % {"variable": needs}
            return _("by %(variable)s") % {"variable": f"{job.name}_ENABLED"}
        return ""

    @property
    def also(self) -> list[tuple[Promise, str]]:
        """What is true beside the state: a paused job may have failed, a running one be late."""
        job = self.state
        failing = job.last_status == RunStatus.FAILED
        facts = {"paused": bool(job.paused_at), "failing": failing, "overdue": bool(job.overdue)}
        return [STATES[name] for name, true in facts.items() if true and name != job.state]

    @property
    def last_status(self) -> tuple[str, str] | None:
        if not self.state.last_status:
            return None
        status = RunStatus(self.state.last_status)
        return str(status.label), STATUS_LABELS[status]

    @property
    def last_run(self) -> str:
        if not self.state.last_run_at:
            return _("never")
        return _("%(span)s ago") % {"span": distance(self.now - self.state.last_run_at)}

    @property
    def last_run_exactly(self) -> str:
        return to_the_second(self.state.last_run_at)

    @property
    def last_duration(self) -> str:
        return span(timedelta(seconds=self.state.durations[-1])) if self.state.durations else ""

    @property
    def items(self) -> str:
        return items(self.state.items)

    @property
    def items_so_far(self) -> str:
        return items(self.state.items_so_far) if self.state.items_so_far else ""

    @property
    def next_run(self) -> str:
        due = self.state.next_run_at
        if due is None:
            return "–"
        if self.state.requested_at:
            return _("asked for %(span)s ago") % {"span": distance(self.now - due)}
        if due > self.now:
            return _("in %(span)s") % {"span": distance(due - self.now)}
        return _("due for %(span)s") % {"span": distance(self.now - due)}

    @property
    def next_run_exactly(self) -> str:
        return to_the_second(self.state.next_run_at)

    @property
    def lease(self) -> str:
        """Since when, or that the holder lets the lease run out."""
        if self.state.running_since:
            since = timezone.localtime(self.state.running_since)
            return _("since %(time)s") % {"time": f"{since:%H:%M:%S}"}
        return _("ran out") if self.state.holder else ""

    @property
    def running_since_exactly(self) -> str:
        return to_the_second(self.state.running_since)

    @property
    def paused_exactly(self) -> str:
        return to_the_second(self.state.paused_at)

    @property
    def error_rate(self) -> str:
        rate = self.state.error_rate
        return "–" if rate is None else f"{100 * rate:.0f} %"

    @property
    def in_a_row(self) -> str:
        count = self.state.failures_in_a_row
        return ngettext("%(count)s in a row", "%(count)s in a row", count) % {"count": count}

    @property
    def backlog(self) -> str:
        return "–" if self.state.backlog is None else digits(self.state.backlog)

    @property
    def sparkline(self) -> SafeString:
        return sparkline(self.state.durations)

    @property
    def runs_url(self) -> str:
        return runs_url(self.state.name)

    @property
    def failed_url(self) -> str:
        return runs_url(self.state.name, status=RunStatus.FAILED)


@dataclass(frozen=True)
class WorkerRow:
    """A worker in words."""

    state: WorkerState
    now: datetime

    @property
    def is_bad(self) -> bool:
        return bool(self.state.standing and self.state.standing.leader == "")

    @property
    def leader(self) -> str:
        standing = self.state.standing
        if standing is None:
            return "–"
        names = {None: _("each relay process"), "": _("nobody")}
        return names.get(standing.leader) or standing.leader or ""

    @property
    def since(self) -> str:
        since = self._since
        return _("leads for %(span)s") % {"span": distance(self.now - since)} if since else ""

    @property
    def since_exactly(self) -> str:
        return to_the_second(self._since)

    @property
    def pending(self) -> str:
        return digits(self.state.standing.pending) if self.state.standing else "–"

    @property
    def _since(self) -> datetime | None:
        return self.state.standing.since if self.state.standing else None


@dataclass(frozen=True)
class Board:
    rows: Sequence[Row]
    workers: Sequence[WorkerRow]

    @property
    def counts(self) -> list[tuple[Promise, int, bool]]:
        """Of each state its label, how many jobs are in it, and whether that is bad."""
        states = [row.state.state for row in self.rows]
        return [
            (label, states.count(name), variant == "danger" and name in states)
            for name, (label, variant) in STATES.items()
            if name != "disabled" or "disabled" in states
        ]


def board() -> Board:
    now = timezone.now()
    jobs = [Row(state, now) for state in overview()]
    return Board(jobs, [WorkerRow(state, now) for state in all_workers()])


def runs_url(name: str, status: str = "") -> str:
    query = {"job__name__exact": name} | ({"status__exact": status} if status else {})
    return f"{reverse('admin:jobs_run_changelist')}?{urlencode(query)}"


def items(count: int | None) -> str:
    if count is None:
        return ""
    return ngettext("%(count)s item", "%(count)s items", count) % {"count": digits(count)}


def distance(length: timedelta) -> str:
    """Whole units: a page that counts seconds must not flicker with their tenths."""
    seconds = max(int(length.total_seconds()), 0)
    if seconds < 2 * MINUTE:
        return f"{seconds} s"
    if seconds < 2 * HOUR:
        return f"{seconds // MINUTE} min"
    return f"{seconds // HOUR} h" if seconds < 2 * DAY else f"{seconds // DAY} d"


def sparkline(durations: Sequence[float]) -> SafeString:
    """An SVG of the last durations, oldest left; from nothing at its foot to the longest."""
    if len(durations) < 2:
        return SafeString("")
    longest = max(durations) or 1
    step = (WIDTH - 4) / (len(durations) - 1)
    points = [
        (2 + n * step, HEIGHT - 2 - seconds / longest * (HEIGHT - 4))
        for n, seconds in enumerate(durations)
    ]
    text = _("Durations of the last %(count)s runs: %(least)s to %(most)s") % {
        "count": len(durations),
        "least": span(timedelta(seconds=min(durations))),
        "most": span(timedelta(seconds=max(durations))),
    }
    x, y = points[-1]
    return format_html(
        '<svg class="console-spark" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" '
        'aria-label="{2}"><title>{2}</title><polyline points="{3}"/>'
        '<circle cx="{4}" cy="{5}" r="2"/></svg>',
        WIDTH,
        HEIGHT,
        text,
        " ".join(f"{x:.1f},{y:.1f}" for x, y in points),
        f"{x:.1f}",
        f"{y:.1f}",
    )
