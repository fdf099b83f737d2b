"""What the page of one broadcast shows, and what it asks for while the numbers move."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import AbstractUser
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from broadcasts.admin.languages import name_of
from broadcasts.directory import UserServiceUnavailable, get_directory, ids_in
from broadcasts.markdown import render
from broadcasts.models import Audience, Broadcast, Composition, Status
from broadcasts.receipts import Statistics, statistics
from broadcasts.services import compose
from jobs.pages import digits, some_of, to_the_second

MOVING = {Status.SCHEDULED, Status.IN_PROGRESS, Status.ACTIVE, Status.SENT}
STAGES = {
    "delivered": gettext_lazy("Delivered"),
    "seen": gettext_lazy("Seen"),
    "read": gettext_lazy("Read"),
    "acknowledged": gettext_lazy("Acknowledged"),
    "dismissed": gettext_lazy("Dismissed"),
}
PLURAL = {
    Audience.ROLE: gettext_lazy("Roles"),
    Audience.PRODUCT: gettext_lazy("Products"),
}


def page_url(broadcast: Broadcast) -> str:
    return reverse("admin:broadcasts_broadcast_change", args=[broadcast.pk])


def list_url() -> str:
    return reverse("admin:broadcasts_broadcast_changelist")


def state_of(pk: str | int) -> tuple[str, datetime | None]:
    found = Broadcast.objects.filter(pk__in=ids_in([str(pk)]))
    return found.values_list("status", "activated_at").first() or ("", None)


def context(broadcast: Broadcast) -> dict[str, Any]:
    return {
        "broadcast": broadcast,
        "audience": audience_of(broadcast, 20),
        "others": [
            (name_of(text.language), text, render(text.content))
            for text in list(broadcast.texts.values())[1:]
        ],
        "numbers": numbers_of(broadcast),
        "total": digits(len(broadcast.targets)),
        "timeline": [(a, to_the_second(at), b) for a, at, b in timeline(broadcast)],
        "zone": timezone.get_current_timezone_name(),
        "receipts_url": receipts_url(broadcast),
        "events_url": by_key("outbox_event", broadcast),
        "dead_letters_url": by_key("outbox_deadletter", broadcast),
        "parked": broadcast.status == Status.FAILED and broadcast.activated_at,
        "title": broadcast.title,
    }


def audience_of(broadcast: Composition, limit: int) -> str:
    """The audience in words, with the first of its targets; people are only counted."""
    if broadcast.audience == Audience.ALL:
        return str(Audience.ALL.label)
    return audience_text(broadcast.audience, broadcast.targets[:limit], len(broadcast.targets))


def audience_text(audience: str, first: list[str], count: int) -> str:
    if audience == Audience.SELECTED:
        return _("%(count)s selected people") % {"count": digits(count)}
    names = ", ".join(first)
    if more := count - len(first):
        names = _("%(names)s and %(more)s more") % {"names": names, "more": more}
    return f"{PLURAL[Audience(audience)]}: {names}"


def numbers_of(broadcast: Broadcast) -> dict[str, Any]:
    """Ready to be shown: counts in digits, rates between 0 and 100."""
    counted = statistics(broadcast)
    return {
        "status": broadcast.status,
        "moving": broadcast.status in MOVING and not broadcast.finished_at,
        "targeted": digits(counted.targeted) if broadcast.targeted is not None else "–",
        "progress": digits(broadcast.progress),
        "progress_count": broadcast.progress,
        "stages": [stage_of(name, counted, broadcast) for name in stages_of(broadcast)],
    }


def stages_of(broadcast: Broadcast) -> list[str]:
    if broadcast.fire_and_forget:  # it is in no inbox, where people read
        return ["delivered", "seen"]
    asks = broadcast.requires_acknowledgement
    return [name for name in STAGES if asks or name != "acknowledged"]


def stage_of(name: str, counted: Statistics, broadcast: Broadcast) -> dict[str, Any]:
    count: int = getattr(counted, name)
    rate = min(count / counted.targeted, 1.0) if counted.targeted else None
    is_reach = broadcast.fire_and_forget and name == "delivered"
    return {
        "name": name,
        "label": _("Reached") if is_reach else str(STAGES[name]),
        "count": digits(count),
        "rate": percent(rate),
        "width": round(100 * (rate or 0), 1),
        "url": f"{receipts_url(broadcast)}&stage={name}",
    }


def percent(rate: float | None) -> str:
    """Whole percents, but neither 0 nor 100 unless it is so."""
    if rate is None:
        return "–"
    if 0 < rate < 0.01:
        return "<1%"
    return ">99%" if 0.99 < rate < 1 else f"{rate:.0%}"


def receipts_url(broadcast: Broadcast) -> str:
    url = reverse("admin:broadcasts_receipt_changelist")
    return f"{url}?broadcast__id__exact={broadcast.pk}"


def by_key(model: str, broadcast: Broadcast) -> str:
    return f"{reverse(f'admin:{model}_changelist')}?key=broadcast-{broadcast.pk}"


def timeline(broadcast: Broadcast) -> Iterator[tuple[str | Promise, datetime, str]]:
    """Label, moment and detail of what has happened and of what is going to."""
    yield _("Composed"), broadcast.created_at, broadcast.sender_name
    if broadcast.scheduled_at:
        yield _("Scheduled for"), broadcast.scheduled_at, ""
    if broadcast.next_attempt_at and broadcast.status in (Status.SCHEDULED, Status.IN_PROGRESS):
        detail = _("after %(count)s failed attempts") % {"count": broadcast.attempts}
        yield _("Next attempt"), broadcast.next_attempt_at, detail
    if broadcast.activated_at:
        yield _("Went out"), broadcast.activated_at, ""
    if broadcast.finished_at:
        passed = broadcast.status == Status.SENT
        label = _("Passed") if passed else broadcast.get_status_display()
        yield label, broadcast.finished_at, broadcast.cancel_reason
    elif broadcast.expires_at:
        yield _("Expires"), broadcast.expires_at, ""


def outcome_of(broadcast: Broadcast) -> tuple[int, str]:
    """What became of it right after sending, in words, with the level of the message."""
    if broadcast.status == Status.SCHEDULED and broadcast.last_error:
        text = _("It waits and is tried again by itself: %(error)s")
        return messages.WARNING, text % {"error": broadcast.last_error}
    outcomes = {
        Status.SCHEDULED: (messages.SUCCESS, _("It is scheduled.")),
        Status.IN_PROGRESS: (messages.SUCCESS, _("Its recipients are being prepared.")),
        Status.EXPIRED: (messages.WARNING, _("It had expired and was not sent.")),
        Status.FAILED: (messages.ERROR, broadcast.last_error),
    }
    return outcomes.get(Status(broadcast.status), (messages.SUCCESS, _("It is on its way.")))


def reach(broadcast: Broadcast) -> tuple[str, str]:
    """How many people and some of them; the first says so when the directory is silent."""
    directory = get_directory()
    try:
        count = directory.count(broadcast.audience, broadcast.targets)
        people = directory.sample(broadcast.audience, broadcast.targets, limit=8)
    except UserServiceUnavailable as error:
        return _("unknown: the directory does not answer (%(error)s)") % {"error": error}, ""
    return digits(count), some_of([person.username for person in people])


def test_of(broadcast: Broadcast, user: AbstractUser) -> Broadcast:
    """The same words to one person only, for an hour, and without signing them out."""
    return compose(
        user,
        title=f"[{_('Test')}] {broadcast.title}"[:200],
        content=broadcast.content,
        language=broadcast.language,
        translations=broadcast.translations,
        category=broadcast.category,
        priority=broadcast.priority,
        reference=broadcast.reference,
        audience=Audience.SELECTED,
        targets=[str(user.pk)],
        expires_at=timezone.now() + timedelta(hours=1),
        is_test=True,
    )
