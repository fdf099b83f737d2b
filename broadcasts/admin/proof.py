"""What became of a broadcast: charts, who has not seen it, a reminder, the export."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET
from unfold.admin import ModelAdmin
from unfold.decorators import action

from broadcasts import proof
from broadcasts.admin import page
from broadcasts.directory import UserServiceUnavailable, ids_in
from broadcasts.exports import export
from broadcasts.models import Broadcast, Reminder, Status
from broadcasts.proof import Course, Role
from broadcasts.reminders import AlreadyReminded, count_unseen, remind, unseen
from broadcasts.services import InvalidTransition
from broadcasts.shortening import clicked
from jobs.pages import Question, ask, confirmed, digits, span, to_the_second

STAGES = {
    "delivered": gettext_lazy("Delivered"),
    "seen": gettext_lazy("Seen"),
    "read": gettext_lazy("Read"),
    "acknowledged": gettext_lazy("Acknowledged"),
}
REACHED = gettext_lazy("Reached")
WIDTH, HEIGHT = 720, 64  # of a chart, which is stretched to the width that there is
PAGE = 50


def stages_of(broadcast: Broadcast) -> Mapping[str, Promise]:
    shown = page.stages_of(broadcast)
    labels = {name: label for name, label in STAGES.items() if name in shown}
    return labels | ({"delivered": REACHED} if broadcast.fire_and_forget else {})


def timeline(broadcast: Broadcast) -> list[tuple[str, str, str]]:
    """Label, moment and detail, in the order of time."""
    happened = sorted([*page.timeline(broadcast), *_deliveries(broadcast)], key=lambda one: one[1])
    return [(str(label), to_the_second(at), detail) for label, at, detail in happened]


def _deliveries(broadcast: Broadcast) -> Iterator[tuple[str, datetime, str]]:
    if broadcast.activated_at is None:
        return
    found, publication = proof.deliveries(broadcast), proof.publication(broadcast)
    if publication.first and publication.last:
        count = {"count": digits(publication.published), "all": digits(publication.events)}
        yield (
            _("Published"),
            publication.first,
            _("the first of %(all)s events") % count if (publication.events > 1) else "",
        )
        if publication.events > 1:
            yield _("Published"), publication.last, _("%(count)s of %(all)s events") % count
    if found.first and found.last:
        yield _("First delivery"), found.first, ""
        yield _("Last delivery so far"), found.last, ""
    for reminder in broadcast.reminders.all()[:20]:
        yield _("Reminder"), reminder.created_at, reminder_text(reminder)


def reminder_text(reminder: Reminder) -> str:
    people = people_text(reminder.people)
    if reminder.last_error:
        return _("%(people)s so far; it waits: %(error)s") % {
            "people": people,
            "error": reminder.last_error,
        }
    if reminder.finished_at is None:
        return _("%(people)s so far") % {"people": people}
    return f"{people} · {reminder.sender_name}" if reminder.sender_name else people


def people_text(count: int) -> str:
    text = ngettext("%(count)s person", "%(count)s people", count)
    return text % {"count": digits(count)}


def context(broadcast: Broadcast) -> dict[str, Any]:
    """Of the part of the page that takes a moment to count."""
    found = proof.deliveries(broadcast)
    waits = proof.waits(broadcast, found.count)
    course = proof.course(broadcast)
    roles = proof.roles(broadcast)
    stages = stages_of(broadcast)
    share = found.at_once / found.count if found.count else None
    return {
        "broadcast": broadcast,
        "at": to_the_second(timezone.now()),
        "zone": timezone.get_current_timezone_name(),
        "numbers": [
            (_("Median time to deliver"), span(waits.median) or "–", ""),
            (_("95 of 100 within"), span(waits.p95) or "–", ""),
            (_("Delivered within a minute"), digits(found.at_once), page.percent(share)),
        ],
        "unseen": unseen_text(broadcast),
        "unseen_url": unseen_url(broadcast),
        "export_url": reverse("admin:broadcasts_broadcast_export", args=[broadcast.pk]),
        "receipts": found.count,
        "labels": stages.values(),
        "unit": unit_of(course),
        "charts": [chart(course, name, str(label)) for name, label in stages.items()],
        "ends": [moment_of(course, bar.start) for bar in (course.bars[:1] + course.bars[1:][-1:])],
        "rows": [
            (moment_of(course, bar.start), [digits(bar.counts[name]) for name in stages])
            for bar in course.bars
            if any(bar.counts.values())
        ],
        "roles": roles and [(role.name, shares_of(role, list(stages))) for role in roles],
        "roles_known": roles is not None,
        "clicked": clicked(broadcast),
    }


def unseen_text(broadcast: Broadcast) -> str:
    try:
        return digits(count_unseen(broadcast))
    except UserServiceUnavailable:
        return _("unknown: the directory does not answer")


def unseen_url(broadcast: Broadcast, **query: str) -> str:
    url = reverse("admin:broadcasts_broadcast_unseen", args=[broadcast.pk])
    given = {name: value for name, value in query.items() if value}
    return f"{url}?{urlencode(given)}" if given else url


def unit_of(course: Course) -> str:
    units = {0: _("by hour"), 1: _("by day"), 7: _("by week")}
    return units.get(course.days) or _("by %(weeks)s weeks") % {"weeks": course.days // 7}


def moment_of(course: Course, start: datetime) -> str:
    day = date_format(start, "SHORT_DATE_FORMAT")
    return day if course.days else f"{day} {start:%H:%M}"


def shares_of(role: Role, stages: list[str]) -> list[tuple[str, str, int]]:
    """Of each stage its count, and its share of those to whom it was delivered."""
    whole = role.counts["delivered"]
    shares = [(role.counts[name], role.counts[name] / whole if whole else None) for name in stages]
    return [
        (digits(count), page.percent(share), round(100 * (share or 0))) for count, share in shares
    ]


def chart(course: Course, name: str, label: str) -> dict[str, Any]:
    """An SVG of bars, from nothing at its foot to the most, with what it shows in words."""
    counts = [bar.counts[name] for bar in course.bars]
    most, total = max(counts, default=0), sum(counts)
    if not total:
        return {"label": label, "total": "0", "most": "", "svg": ""}
    peak = moment_of(course, course.bars[counts.index(most)].start)
    text = _("most: %(count)s, %(moment)s") % {"count": digits(most), "moment": peak}
    return {
        "label": label,
        "total": digits(total),
        "most": text,
        "svg": _svg(course, counts, f"{label} {unit_of(course)}, {text}"),
    }


def _svg(course: Course, counts: list[int], text: str) -> SafeString:
    step, most = WIDTH / len(counts), max(counts)
    gap = min(step / 4, 2)
    bars = [
        (
            f"{n * step + gap / 2:.2f}",
            f"{HEIGHT - height:.2f}",
            f"{min(step, WIDTH / 4) - gap:.2f}",
            f"{height:.2f}",
            f"{moment_of(course, course.bars[n].start)}: {digits(count)}",
        )
        for n, count in enumerate(counts)
        if count and (height := max(count / most * HEIGHT, 2))
    ]
    rects = format_html_join(
        "", '<rect x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>', bars
    )
    return format_html(
        '<svg class="console-chart" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}</svg>',
        WIDTH,
        HEIGHT,
        text,
        rects,
    )


def remind_question(broadcast: Broadcast, count: int) -> Question:
    last = broadcast.reminders.first()
    before = f"{to_the_second(last.created_at)} · {reminder_text(last)}" if last else "–"
    return Question(
        title=_("Remind who has not seen it?"),
        text=_(
            "Whoever is connected gets it on screen once more; at the others it waits in the "
            "inbox, marked as a reminder."
        ),
        facts=[
            (_("Broadcast"), broadcast.title),
            (_("Have not seen it"), people_text(count)),
            (_("Last reminder"), before),
        ],
        warning="" if count else _("Everybody has seen it: there is nobody to remind."),
        submit=_("Remind %(people)s") % {"people": people_text(count)},
        back=page.page_url(broadcast),
    )


class ProofMixin(ModelAdmin):
    """Part of the admin of broadcasts."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path(
                f"<int:pk>/{name}/",
                view(require_GET(getattr(self, name))),
                name=f"broadcasts_broadcast_{name}",
            )
            for name in ("proof", "unseen", "export")
        ]
        return own + list(super().get_urls())

    def proof(self, request: HttpRequest, pk: int) -> HttpResponse:
        shown = context(self._seen_by(request, pk))
        followed = shown["clicked"]
        shown["may_open_links"] = followed and request.user.has_perm(followed["needs"])
        return TemplateResponse(request, "admin/broadcasts/broadcast/proof.html", shown)

    def unseen(self, request: HttpRequest, pk: int) -> HttpResponse:
        broadcast = self._seen_by(request, pk)
        search, after = request.GET.get("q", "").strip()[:200], request.GET.get("after", "")[:150]
        shown: dict[str, Any] = self.admin_site.each_context(request) | {
            "title": _("Who has not seen it"),
            "opts": self.model._meta,
            "broadcast": broadcast,
            "search": search,
            "after": after,
            "first_url": unseen_url(broadcast, q=search),
            "may_remind": self.has_send_permission(request) and broadcast.status == Status.ACTIVE,
        }
        try:
            found = unseen(broadcast, search=search, after=after.replace("\0", ""), limit=PAGE)
        except UserServiceUnavailable as error:
            shown["error"] = str(error)
        else:
            shown["people"] = with_deliveries(broadcast, found.people)
            shown["count"] = unseen_text(broadcast)
            if found.after is not None:
                shown["next_url"] = unseen_url(broadcast, q=search, after=found.after)
        return TemplateResponse(request, "admin/broadcasts/broadcast/unseen.html", shown)

    def export(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        return export(request, self._seen_by(request, pk), mark=True)

    @action(
        description=gettext_lazy("Remind"),
        url_path="remind",
        icon="notifications_active",
        permissions=["send"],
    )
    def remind_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        broadcast = get_object_or_404(Broadcast, pk__in=ids_in([object_id]))
        try:
            if not confirmed(request):
                question = remind_question(broadcast, count_unseen(broadcast))
                return ask(self, request, question)
            assert isinstance(request.user, AbstractUser)
            reminder = remind(broadcast, request.user)
        except (AlreadyReminded, InvalidTransition, UserServiceUnavailable) as error:
            messages.error(request, str(error))
        else:
            self.log_change(request, broadcast, f"{_('Reminded')}: {reminder.people}")
            level = messages.WARNING if reminder.last_error else messages.SUCCESS
            messages.add_message(request, level, said_of(reminder))
        return redirect(page.page_url(broadcast))

    def _seen_by(self, request: HttpRequest, pk: int) -> Broadcast:
        broadcast = Broadcast.objects.filter(pk=pk).first()
        if not self.has_view_permission(request, broadcast):
            raise PermissionDenied
        if not broadcast:
            raise Http404
        return broadcast


def said_of(reminder: Reminder) -> str:
    people = people_text(reminder.people)
    if reminder.last_error:
        return _("The reminder waits and goes on by itself: %(error)s") % {
            "error": reminder.last_error
        }
    if reminder.finished_at is None:
        return _("%(people)s reminded; the others follow.") % {"people": people}
    return _("%(people)s reminded.") % {"people": people}


def with_deliveries(broadcast: Broadcast, people: list[Any]) -> list[dict[str, Any]]:
    ids = [person.id for person in people]
    receipts = broadcast.receipts.filter(user_id__in=ids).values_list("user_id", "delivered_at")
    delivered = dict(receipts)
    return [
        {"person": person, "delivered": to_the_second(delivered.get(person.id))}
        for person in people
    ]
