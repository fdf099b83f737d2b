"""The verbs of a series. One occurrence of it waits at a time, as a broadcast like any other.

When its moment has come the next one is made, so that the clock of broadcasts sends each on time.
Whoever makes one holds the row of the series: two processes make one.

Where the rules ask for a second person, the series is what is approved, as it is: it waits, paused,
from its start and from each change on. Its occurrences need no approval of their own.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.models import AbstractUser, User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from broadcasts import approval_rules, services
from broadcasts.approvals import record, refuse_own, refuse_silence
from broadcasts.directory import name_of
from broadcasts.models import Approval, Composition, Decision, Series, Skip, Status
from broadcasts.series_models import SeriesQuerySet, State
from jobs import clock
from jobs.acting import acting_as, changes, did
from jobs.progress import track
from outbox.services import emit

logger = logging.getLogger(__name__)

SHOWN = 5  # occurrences that operators see ahead
MOST_AHEAD = 50  # occurrences of which one can be skipped
LATE = timedelta(minutes=1)  # the clock looks more often: then it did not run
STATE = ("paused_at", "ended_at", "next_at", "version", "approval", "edited_by_id")
NEVER = gettext_lazy("It never comes: change when it repeats, its last day or how many go out.")
WAITS = gettext_lazy(
    "It waits for an approval: %(reasons)s A second person approves it, and it starts."
)
PATTERN = [field.name for field in Composition._meta.get_fields()]


def start(sender: AbstractUser | None, **fields: Any) -> Series:
    """Raises `ValidationError` with one message a field."""
    return begin(Series(**fields), sender)


def begin(series: Series, sender: AbstractUser | None) -> Series:
    """`start` for what a form has made."""
    series.sender = cast("User | None", sender)
    if sender:
        series.sender_name = name_of(sender)
    services.validate(series)
    needs_approval = bool(approval_rules.reasons(series))
    with transaction.atomic():
        _say_whether_it_waits(series, needs_approval)
        series.save()
        _plan_or_refuse(series)
        _tell(series, "broadcast.series.started")
        did("series.started", series)
        _ask_if_it_waits(series, sender)
    return series


def change(
    series: Series,
    *,
    editor: AbstractUser | None = None,
    version: int | None = None,
    **fields: Any,
) -> Series:
    """From here on: what has gone out stays, and what lies ahead follows.

    `version` is what the editor saw, if that is not what `series` was read as; raises
    `ChangedMeanwhile`. An approval of what it said before is void.
    """
    seen = series.version if version is None else version
    for name, value in fields.items():
        setattr(series, name, value)
    services.validate(series)
    needs_approval = bool(approval_rules.reasons(series))
    with _held(series, State.RUNNING, State.PAUSED):
        _refuse_other(series, seen)
        stored = Series.objects.get(pk=series.pk)
        did("series.changed", series, changes=changes(stored, series))
        series.version += 1
        series.edited_by = cast("User | None", editor)
        _say_whether_it_waits(series, needs_approval)
        series.save()
        due = _withdraw(series, _("The series was changed."))
        if _make_anew(series, due):
            _plan(series, clock.now())
        else:
            _plan_or_refuse(series)
        _tell(series, "broadcast.series.changed")
        _ask_if_it_waits(series, editor)
    return series


def pause(series: Series) -> Series:
    """Nothing goes out until it is resumed, and what falls into the pause never does."""
    with _held(series, State.RUNNING):
        _withdraw(series, _("The series was paused."))
        _save(series, paused_at=clock.now(), next_at=None)
        _tell(series, "broadcast.series.paused")
        did("series.paused", series)
    return series


def resume(series: Series, person: AbstractUser | None = None) -> Series:
    """Raises `ApprovalNeeded`: from then on, at the latest, it waits for `approve`."""
    reasons, seen = approval_rules.reasons(series), series.version
    with _held(series, State.PAUSED):
        _refuse_other(series, seen)
        if reasons and series.approval != Approval.APPROVED:
            if not series.awaits_approval:
                _save(series, approval=Approval.REQUESTED)
                _ask_if_it_waits(series, person)
                did("series.approval.requested", series)
        else:
            if series.awaits_approval:  # which the rules do not ask for any more
                _save(series, approval=Approval.NONE)
            _go_on(series)
            _tell(series, "broadcast.series.resumed")
            did("series.resumed", series)
    if series.state == State.PAUSED:
        raise services.ApprovalNeeded(reasons, str(WAITS))
    return series


def approve(
    series: Series, person: AbstractUser, comment: str = "", version: int | None = None
) -> Series:
    """A second person starts it. Raises `OwnWork`, and `ChangedMeanwhile` if it is not the
    `version` that was seen."""
    with _decided(series, Decision.APPROVED, person, comment, version):
        refuse_own(series, person)
        _save(series, approval=Approval.APPROVED)
        _go_on(series)
        _tell(series, "broadcast.series.approval.approved", person_name=name_of(person))
        did("series.approval.approved", series, comment=comment)
    return series


def reject(
    series: Series, person: AbstractUser, comment: str, version: int | None = None
) -> Series:
    """It stays paused, and the comment says why; who changes or resumes it asks again."""
    refuse_silence(comment)
    with _decided(series, Decision.REJECTED, person, comment, version):
        _save(series, approval=Approval.REJECTED)
        _tell(series, "broadcast.series.approval.rejected", person_name=name_of(person))
        did("series.approval.rejected", series, comment=comment)
    return series


def skip(series: Series, occurrence: datetime) -> Series:
    """Leave one out. Raises `ValidationError` for what is none of the next."""
    with _held(series, State.RUNNING, State.PAUSED):
        if occurrence not in upcoming(series, MOST_AHEAD):
            text = _("It is none of the next %(count)s: choose one of them.")
            raise ValidationError({"occurrence": text % {"count": MOST_AHEAD}})
        Skip.objects.create(series=series, occurrence=occurrence)
        if series.state == State.RUNNING:
            _withdraw(series, _("The series leaves it out."))
            _plan(series, clock.now())
        _tell(series, "broadcast.series.skipped", occurrence=occurrence.isoformat())
        did("series.skipped", series, occurrence=occurrence)
    return series


def put_back(series: Series, occurrence: datetime) -> Series:
    """What `skip` left out goes out after all. Raises `ValidationError` once it has passed."""
    with _held(series, State.RUNNING, State.PAUSED):
        now = clock.now()
        gone, _rows = series.skips.filter(occurrence=occurrence, occurrence__gt=now).delete()
        if not gone:
            text = _("It is none of those that are left out and lie ahead.")
            raise ValidationError({"occurrence": text})
        if series.state == State.RUNNING:  # it may come before the one that waits
            _withdraw(series, _("Another one goes out before it."))
            _plan(series, now)
        _tell(series, "broadcast.series.restored", occurrence=occurrence.isoformat())
        did("series.restored", series, occurrence=occurrence)
    return series


def left_out(series: Series) -> list[datetime]:
    """What `skip` left out of what lies ahead, as it repeats now."""
    ahead = series.skips.filter(occurrence__gt=clock.now()).order_by("occurrence")
    after = series.recurrence.after
    return [
        moment
        for moment in ahead.values_list("occurrence", flat=True)
        if next(after(moment - datetime.resolution), None) == moment
    ]


def end(series: Series) -> Series:
    """For good; what has gone out stays."""
    with _held(series, State.RUNNING, State.PAUSED):
        _withdraw(series, _("The series was ended."))
        _end(series)
        did("series.ended", series)
    return series


def upcoming(series: Series, limit: int = SHOWN, after: datetime | None = None) -> list[datetime]:
    """The next moments, in UTC, without those that are skipped or over."""
    at = after or clock.now()
    if series.pk is None:
        return list(islice(series.recurrence.after(at), min(limit, series.count or limit)))
    ahead = series.broadcasts.filter(occurrence__gt=at).exclude(status=Status.SCHEDULED)
    gone = {*ahead.values_list("occurrence", flat=True), *_skipped(series, at)}
    moments = (moment for moment in series.recurrence.after(at) if moment not in gone)
    return list(islice(moments, min(limit, _left(series, at, limit))))


def plan_due() -> int:
    """Make the next occurrence of each series whose last one's moment has come; how many."""
    return _advance_each(Series.objects.due(clock.now()))


def catch_up() -> int:
    """See to the series whose moments passed while nothing ran, before any of them goes out.

    At most the latest is sent, within SERIES_GRACE_MINUTES; those before it are cancelled.
    """
    return _advance_each(Series.objects.late(clock.now() - LATE))


def _advance_each(found: SeriesQuerySet) -> int:
    pks = list(found.values_list("pk", flat=True))
    for pk in track(pks):
        try:
            with transaction.atomic():
                # What another process holds, it sees to.
                mine = Series.objects.select_for_update(skip_locked=True)
                if series := mine.filter(pk=pk).first():
                    _advance(series, clock.now())
        except Exception:  # one series must not stop the others
            logger.exception("Series %s could not be planned", pk)
    return len(pks)


def _advance(series: Series, now: datetime) -> None:
    newest = _newest(series, now)
    _drop_missed(series, now, newest)
    if series.state != State.RUNNING or not series.next_at or series.next_at > now:
        return
    if newest and newest >= series.next_at and _left(series, now, 1):
        _make(series, newest)
    _plan(series, now)


def _newest(series: Series, now: datetime) -> datetime | None:
    """The latest occurrence that may still go out; those before it are missed."""
    since = now - timedelta(minutes=settings.SERIES_GRACE_MINUTES)
    skipped = set(_skipped(series, since))
    past = takewhile(lambda moment: moment <= now, series.recurrence.after(since))
    return max((moment for moment in past if moment not in skipped), default=None)


def _drop_missed(series: Series, now: datetime, newest: datetime | None) -> None:
    for broadcast in _waiting(series).filter(occurrence__lte=now):
        if broadcast.occurrence != newest:
            services.cancel(broadcast, _("It could not be sent in time."))


def _go_on(series: Series) -> None:
    series.paused_at = None
    _plan_or_refuse(series)


def _say_whether_it_waits(series: Series, needs_approval: bool) -> None:
    """For a second person, who starts it; it is saved afterwards."""
    series.approval = Approval.REQUESTED if needs_approval else Approval.NONE
    if needs_approval:
        series.paused_at, series.next_at = series.paused_at or clock.now(), None


def _ask_if_it_waits(series: Series, person: AbstractUser | None) -> None:
    if series.awaits_approval:
        record(series, Decision.REQUESTED, person)
        _tell(series, "broadcast.series.approval.requested")


@contextmanager
def _decided(
    series: Series,
    decision: Decision,
    person: AbstractUser,
    comment: str,
    version: int | None,
) -> Iterator[None]:
    """Held while a second person decides about what waits, which is recorded."""
    seen = series.version if version is None else version
    with _held(series, State.PAUSED):
        _refuse_other(series, seen)
        if not series.awaits_approval:
            raise services.InvalidTransition(_("It waits for no approval: resume it."))
        yield
        record(series, decision, person, comment)


def _refuse_other(series: Series, seen: int) -> None:
    """Than the version that was seen; its row is held."""
    if series.version != seen:
        raise services.ChangedMeanwhile(Series.objects.get(pk=series.pk))


def _plan_or_refuse(series: Series) -> None:
    now = clock.now()
    if not upcoming(series, 1, now):
        raise ValidationError({"cron": NEVER})
    if series.state == State.RUNNING:
        _plan(series, now)


def _plan(series: Series, now: datetime) -> None:
    """The next occurrence as a broadcast that waits, in the transaction that holds the series."""
    ahead = upcoming(series, 1, now)
    if not ahead:
        return _end(series)
    _make(series, ahead[0])
    _save(series, next_at=ahead[0], paused_at=None)
    return None


@acting_as(None)
def _make(series: Series, moment: datetime) -> None:
    if series.broadcasts.filter(occurrence=moment).exists():
        return
    broadcast = services.draft(
        series.sender,
        sender_name=series.sender_name,
        series=series,
        occurrence=moment,
        expires_at=moment + series.lifetime if series.lifetime else None,
        **{name: getattr(series, name) for name in PATTERN},
    )
    broadcast.save()
    services.schedule(broadcast, moment)


@acting_as(None)
def _make_anew(series: Series, due: list[datetime]) -> bool:
    """With the new words, what was due and had to wait, for the user service perhaps."""
    newest = _newest(series, clock.now())
    if newest is None or newest not in due or series.state != State.RUNNING:
        return False
    series.broadcasts.filter(occurrence=newest).delete()
    _make(series, newest)
    return True


@acting_as(None)
def _withdraw(series: Series, reason: str) -> list[datetime]:
    """What waits does not go out; of what was not due yet no row stays, so it can be made anew.

    The moments of what was due.
    """
    now = clock.now()
    due = []
    for broadcast in _waiting(series):
        services.cancel(broadcast, reason)
        assert broadcast.occurrence
        if broadcast.occurrence > now:
            broadcast.delete()
        else:
            due.append(broadcast.occurrence)
    return due


def _waiting(series: Series) -> Any:
    """Held until the end of the transaction, so that none of them goes out meanwhile."""
    waiting = series.broadcasts.filter(status=Status.SCHEDULED)
    return waiting.select_for_update().order_by("occurrence")


def _skipped(series: Series, since: datetime) -> Iterator[datetime]:
    return series.skips.filter(occurrence__gt=since).values_list("occurrence", flat=True).iterator()


def _left(series: Series, at: datetime, limit: int) -> int:
    """How many more may go out, at most `limit`."""
    if series.count is None:
        return limit
    waiting = Q(status__in=[Status.SCHEDULED, Status.IN_PROGRESS])
    waiting &= Q(expires_at=None) | Q(expires_at__gt=at)
    went_out = ~Q(activated_at=None) & ~Q(status=Status.CANCELLED)
    made = series.broadcasts.filter(waiting | went_out, occurrence__lte=at)
    return max(0, min(limit, series.count - made.count()))


def _end(series: Series) -> None:
    _save(series, ended_at=clock.now(), next_at=None)
    _tell(series, "broadcast.series.ended")


def _save(series: Series, **changes: Any) -> None:
    for name, value in changes.items():
        setattr(series, name, value)
    Series.objects.filter(pk=series.pk).update(**changes, updated_at=timezone.now())


def _tell(series: Series, event: str, **data: str) -> None:
    emit(event, key=f"series-{series.pk}", data={"series_id": series.pk} | data)


@contextmanager
def _held(series: Series, *allowed: State) -> Iterator[None]:
    """A transaction that holds its row, in one of these states; raises `InvalidTransition`."""
    with transaction.atomic():
        rows = Series.objects.select_for_update().filter(pk=series.pk)
        for name, value in zip(STATE, rows.values_list(*STATE).get(), strict=True):
            setattr(series, name, value)
        if series.state not in allowed:
            labels = " / ".join(str(state.label) for state in allowed)
            text = _("This series is %(state)s; only what is %(allowed)s can do this.")
            raise services.InvalidTransition(
                text % {"state": series.state.label, "allowed": labels}
            )
        yield
