"""The verbs of a broadcast. Each transition is one guarded UPDATE and its event, together.

Guards make every race have one winner: whoever's UPDATE finds the status it expects. A preparation
that finishes late cannot undo a cancel, and two processes cannot both send.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.models import AbstractUser, User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Case, F, Value, When
from django.utils import timezone
from django.utils.translation import gettext as _

from broadcasts import approval_rules
from broadcasts.contents import forget
from broadcasts.directory import (
    Person,
    UserServiceUnavailable,
    channel_of,
    existing_user_ids,
    get_directory,
    name_of,
)
from broadcasts.messages import message_of
from broadcasts.models import (
    Address,
    Approval,
    Audience,
    Broadcast,
    BroadcastQuerySet,
    Composition,
    JSONLength,
    Receipt,
    ReceiptStatus,
    Rule,
    Series,
    Status,
)
from broadcasts.shortening import find_links, shorten_links
from jobs import clock, tracing
from jobs.acting import acting_as, changes, did
from jobs.correlation import correlated, correlation_id, inherited_id
from jobs.progress import advance, expect, track
from jobs.transitions import InvalidTransition as InvalidTransition
from jobs.wake import notify
from outbox.models import Event
from outbox.services import build_event, emit, emit_all

logger = logging.getLogger(__name__)

BROADCASTS = "broadcasts"  # the channel that wakes their clock
CHUNK = 1_000  # recipients an event
RECEIPTS = 10_000  # a transaction of a preparation: some tenths of a second
TOGETHER = 100  # broadcasts that are activated in one transaction
FIRE_AND_FORGET_SECONDS = 30
DIRECTORY_PAUSE = 5  # seconds before a directory that was down is asked again
UNREAD = [
    ReceiptStatus.PENDING,
    ReceiptStatus.DELIVERED,
    ReceiptStatus.SEEN,
    ReceiptStatus.FAILED,
]


class ApprovalNeeded(InvalidTransition):
    """A second person must approve it first (HTTP 409)."""

    def __init__(self, reasons: Sequence[str], text: str = "") -> None:
        text = text or _("It needs an approval before it can be sent: %(reasons)s Ask for one.")
        super().__init__(text % {"reasons": " ".join(reasons)})


class ChangedMeanwhile(Exception):
    """Somebody else saved another version than the one that was seen (HTTP 412)."""

    def __init__(self, changed: Broadcast | Rule | Series) -> None:
        editor = changed.edited_by
        text = _(
            "%(person)s changed it meanwhile, it is now version %(version)s. Read it again, then"
            " decide."
        )
        name = name_of(editor) if editor else _("Somebody else")
        super().__init__(text % {"person": name, "version": changed.version})


def compose(sender: AbstractUser | None, **fields: Any) -> Broadcast:
    """A valid draft, saved. Raises `ValidationError` with one message a field."""
    broadcast = draft(sender, **fields)
    validate(broadcast)
    broadcast.save()
    return broadcast


def draft(sender: AbstractUser | None, **fields: Any) -> Broadcast:
    """Neither checked nor saved."""
    broadcast = Broadcast(sender=cast("User | None", sender), **fields)
    if sender and not broadcast.sender_name:
        broadcast.sender_name = name_of(sender)
    return broadcast


def validate(composed: Composition) -> None:
    """The rules of the row, and that every target exists."""
    composed.full_clean()
    refuse_unknown(get_directory().unknown(composed.audience, composed.targets))


def refuse_unknown(unknown: Sequence[str]) -> None:
    if unknown:
        names = ", ".join(unknown[:10]) + (", …" if len(unknown) > 10 else "")
        message = _("%(count)s unknown: %(names)s. Remove them or create them first.")
        raise ValidationError({"targets": message % {"count": len(unknown), "names": names}})


def compose_and_send(sender: AbstractUser | None, **fields: Any) -> Broadcast:
    """`compose` and `send` for who wants both or nothing: what cannot be sent is not kept."""
    broadcast = compose(sender, **fields)
    try:
        return send(broadcast)
    except (ValidationError, ApprovalNeeded):
        broadcast.delete()
        raise


@dataclass(frozen=True)
class Preview:
    count: int
    people: list[Person]


def preview(audience: str, targets: Sequence[str], search: str = "") -> Preview:
    """How many people an audience has, and some of them. Raises `ValidationError`."""
    Broadcast(audience=audience, targets=targets).clean()
    directory = get_directory()
    refuse_unknown(directory.unknown(audience, targets))
    people = directory.sample(audience, targets, search)
    return Preview(directory.count(audience, targets), people)


def edit(
    broadcast: Broadcast,
    *,
    editor: AbstractUser | None = None,
    version: int | None = None,
    **fields: Any,
) -> Broadcast:
    """Change a draft. That makes a new version, and an approval of what it said before void.

    `version` is what the editor saw, if that is not what `broadcast` was read as. Raises
    `ChangedMeanwhile`, and has then written nothing.
    """
    seen = broadcast.version if version is None else version
    for name, value in fields.items():
        setattr(broadcast, name, value)
    validate(broadcast)
    with transaction.atomic():
        _transition(broadcast, [Status.DRAFT], Status.DRAFT)
        stored = Broadcast.objects.get(pk=broadcast.pk)  # held by the transition
        if stored.version != seen:
            raise ChangedMeanwhile(stored)
        if _says_the_same(stored, broadcast):  # who saved it to send it has changed nothing
            kept = (stored.version, stored.approval, stored.edited_by)
        else:
            kept = (seen + 1, Approval.NONE, cast("User | None", editor))
            did("broadcast.edited", broadcast, changes=changes(stored, broadcast))
        broadcast.version, broadcast.approval, broadcast.edited_by = kept
        broadcast.save()
    return broadcast


def _says_the_same(stored: Broadcast, broadcast: Broadcast) -> bool:
    written = [field.attname for field in Broadcast._meta.concrete_fields if field.editable]
    return all(_meant(getattr(stored, n)) == _meant(getattr(broadcast, n)) for n in written)


def _meant(value: Any) -> Any:
    """Without what a form does not keep: the order of targets, and parts of a second."""
    if isinstance(value, list):
        return sorted(value)
    return value.replace(microsecond=0) if isinstance(value, datetime) else value


def duplicate(broadcast: Broadcast, sender: AbstractUser | None) -> Broadcast:
    """A new draft with the same words and audience, without its moments."""
    same = {field.name: getattr(broadcast, field.name) for field in Composition._meta.get_fields()}
    return compose(sender, **same)


def send(
    broadcast: Broadcast,
    at: datetime | None = None,
    *,
    allow_empty: bool = False,
    version: int | None = None,
) -> Broadcast:
    """Send a draft now, or at its moment; a moment already past means now.

    A large selected audience is prepared by the relay's process, in chunks; everything else is
    out when this returns. Raises `InvalidTransition` (`ApprovalNeeded` when a second person has to
    agree), `ChangedMeanwhile` when it is not the `version` that was seen, and `ValidationError`
    when nobody would get it now (unless `allow_empty`).
    """
    now = clock.now()
    moment = at or broadcast.scheduled_at or now
    if broadcast.expires_at and broadcast.expires_at <= max(moment, now):
        if moment > now:
            raise ValidationError({"expires_at": _("The expiry must lie after the moment.")})
        with transaction.atomic():
            _finish(broadcast, [Status.DRAFT], Status.EXPIRED, "broadcast.expired")
            did("broadcast.sent", broadcast, outcome=str(Status.EXPIRED))
        return broadcast
    if moment <= now and not allow_empty:
        _refuse_empty(broadcast)
    reasons = approval_rules.reasons(broadcast)
    find_links(broadcast)
    with transaction.atomic():
        _refuse_unapproved(broadcast, reasons, version)
        schedule(broadcast, moment, later=moment > now)
        with acting_as(None):
            shorten_links(broadcast)
        if moment > now:
            did("broadcast.scheduled", broadcast, at=moment)
        else:
            did("broadcast.sent", broadcast)
    if moment <= now:
        activate(broadcast, only_small=True)
    return broadcast


def schedule(broadcast: Broadcast, moment: datetime, *, later: bool = True) -> None:
    """Let a draft wait for its moment. With `later`, the clock is woken to sleep until then.

    It asks for no approval: `send` does.
    """
    with transaction.atomic(savepoint=False):
        _transition(
            broadcast,
            [Status.DRAFT],
            Status.SCHEDULED,
            scheduled_at=moment,
            caused_by=inherited_id(),
            traceparent=tracing.traceparent(),
        )
        broadcast.refresh_from_db()  # another operator may have edited it since it was read here
        _emit(broadcast, "broadcast.scheduled", {"scheduled_at": moment.isoformat()})
        if later:
            notify(BROADCASTS)


def _refuse_unapproved(broadcast: Broadcast, reasons: Sequence[str], version: int | None) -> None:
    """The one gate of every draft on its way out, in the transaction that sends it.

    Its row is held: an approval that is withdrawn at the same moment comes before or too late.
    """
    if version is None and not approval_rules.enabled():
        return
    rows = Broadcast.objects.filter(pk=broadcast.pk, status=Status.DRAFT)
    draft = rows.select_for_update(of=("self",)).defer("content", "targets").first()
    if draft is None:
        return  # the transition says why it cannot be sent
    if draft.version != (broadcast.version if version is None else version):
        raise ChangedMeanwhile(draft)  # the reasons are those of what it said before
    if reasons and draft.approval != Approval.APPROVED:
        raise ApprovalNeeded(reasons)


def _refuse_empty(broadcast: Broadcast) -> None:
    count, targets = get_directory().count, broadcast.targets
    try:  # of a hundred thousand, the first are enough to know
        people = count(broadcast.audience, targets[:CHUNK]) or count(broadcast.audience, targets)
    except UserServiceUnavailable:
        return  # it waits as SCHEDULED until the directory answers
    if not people:
        raise ValidationError(
            {"targets": _("Nobody belongs to this audience: choose another, or schedule it.")}
        )


def activate(broadcast: Broadcast, *, only_small: bool = False) -> None:
    """Publish a scheduled broadcast whose moment has come; what prevents it is recorded.

    With `only_small` a selected audience of more than one chunk is left IN_PROGRESS for the relay.
    """
    with _on_behalf(broadcast, "activate"):
        _try_to_activate(broadcast, only_small=only_small)


@contextmanager
def _on_behalf(broadcast: Broadcast, doing: str) -> Iterator[None]:
    """What the clock does belongs to who sent it, as if they had waited for it."""
    with (
        correlated(broadcast.caused_by or correlation_id()),
        tracing.span(doing, parent=broadcast.traceparent, broadcast__id=broadcast.pk),
    ):
        yield


def _try_to_activate(broadcast: Broadcast, *, only_small: bool) -> None:
    try:
        _activate(broadcast, only_small=only_small)
    except UserServiceUnavailable as error:
        _record_failure(broadcast, error, counts=False)
    except InvalidTransition:
        logger.debug("Broadcast %s went another way meanwhile", broadcast.pk)
        _show_outcome(broadcast)
    except Exception as error:  # recorded on its row: one broadcast must not stop the batch
        logger.exception("Broadcast %s could not be activated", broadcast.pk)
        _record_failure(broadcast, error, counts=True)


def _activate(broadcast: Broadcast, *, only_small: bool) -> None:
    if _is_past(broadcast):
        waiting = [Status.SCHEDULED, Status.IN_PROGRESS]
        _finish(broadcast, waiting, Status.EXPIRED, "broadcast.expired")
    elif broadcast.audience != Audience.SELECTED:
        targeted = get_directory().count(broadcast.audience, broadcast.targets)
        _publish(broadcast, [Status.SCHEDULED], targeted)
    else:
        if broadcast.status == Status.SCHEDULED:
            with transaction.atomic():
                _transition(broadcast, [Status.SCHEDULED], Status.IN_PROGRESS)
                _emit(broadcast, "broadcast.preparing", {})
        if only_small and len(broadcast.targets) > CHUNK:
            return
        if _prepare(broadcast):
            _publish(broadcast, [Status.IN_PROGRESS], broadcast.receipts.count())


def _is_past(broadcast: Broadcast) -> bool:
    return bool(broadcast.expires_at and broadcast.expires_at <= clock.now())


def _prepare(broadcast: Broadcast) -> bool:
    """Write the receipts of a selected audience in chunks, from where it stood.

    True when all are written; False when somebody else goes on with it, or cancelled it.
    """
    while broadcast.progress < len(broadcast.targets):
        start = broadcast.progress
        chunk = broadcast.targets[start : start + RECEIPTS]
        with transaction.atomic():
            mine = Broadcast.objects.in_progress().filter(pk=broadcast.pk, progress=start)
            if not mine.update(progress=start + len(chunk)):
                return False
            Receipt.objects.create_for(broadcast.pk, existing_user_ids(chunk))
        broadcast.progress = start + len(chunk)
    return True


def _publish(broadcast: Broadcast, allowed: Sequence[str], targeted: int) -> None:
    if _is_past(broadcast):  # while it was prepared
        return _finish(broadcast, allowed, Status.EXPIRED, "broadcast.expired")
    changes = _publication(broadcast, clock.now(), targeted)
    with transaction.atomic():
        _transition(broadcast, allowed, changes.pop("status"), **changes)
        _address([broadcast])
        for event in _announcement(broadcast):  # its chunks, one at a time in memory
            emit_all([event])
    return None


def _publication(broadcast: Broadcast, now: datetime, targeted: int) -> dict[str, Any]:
    """What publishing changes in its row."""
    changes: dict[str, Any] = {
        "status": Status.ACTIVE,
        "activated_at": now,
        "targeted": targeted,
        "last_error": "",
    }
    if broadcast.fire_and_forget:
        changes["status"] = Status.SENT
        changes["expires_at"] = now + timedelta(seconds=FIRE_AND_FORGET_SECONDS)
    if broadcast.audience == Audience.SELECTED:
        changes["progress"] = len(broadcast.targets)
    return changes


def _address(broadcasts: Iterable[Broadcast]) -> None:
    """The channels of those whose readers are not named."""
    addresses = [
        Address(broadcast=broadcast, channel=channel)
        for broadcast in broadcasts
        if broadcast.audience != Audience.SELECTED
        for channel in _channels(broadcast)
    ]
    Address.objects.bulk_create(addresses, ignore_conflicts=True, batch_size=CHUNK)


def _announcement(broadcast: Broadcast) -> Iterator[Event]:
    event = "broadcast.sent" if broadcast.fire_and_forget else "broadcast.activated"
    return _addressed(broadcast, event, message_of(broadcast))


def cancel(broadcast: Broadcast, reason: str = "") -> Broadcast:
    """End it before its time: nobody gets it any more, and it leaves the screens."""
    allowed = [Status.DRAFT, Status.SCHEDULED, Status.IN_PROGRESS, Status.ACTIVE, Status.FAILED]
    kept = reason[:500]
    with transaction.atomic():
        _finish(broadcast, allowed, Status.CANCELLED, "broadcast.cancelled", cancel_reason=kept)
        did("broadcast.cancelled", broadcast, reason=kept)
    return broadcast


def expire(broadcast: Broadcast) -> Broadcast:
    """End it because its expiry has passed."""
    allowed = [Status.SCHEDULED, Status.IN_PROGRESS, Status.ACTIVE]
    _finish(broadcast, allowed, Status.EXPIRED, "broadcast.expired")
    return broadcast


def retry(broadcast: Broadcast) -> Broadcast:
    """Try a failed preparation again from where it stood."""
    if broadcast.status == Status.FAILED and broadcast.activated_at:
        raise InvalidTransition(
            _("Its event is parked: redrive it in the dead letters, that puts it right.")
        )
    back = Status.IN_PROGRESS if broadcast.progress else Status.SCHEDULED
    with transaction.atomic():
        _transition(
            broadcast, [Status.FAILED], back, attempts=0, next_attempt_at=None, last_error=""
        )
        _emit(broadcast, "broadcast.retried", {})
        did("broadcast.retried", broadcast)
        notify(BROADCASTS)
    return broadcast


def activate_due(*, only_small: bool = False) -> int:
    """Everything that is due, the most urgent first; how many were looked at.

    With `only_small` a large selected audience is left IN_PROGRESS, so that no other has to wait.
    """
    pks = _ids(_most_urgent_first(Broadcast.objects.due(clock.now())))
    expect(len(pks))
    for start in range(0, len(pks), TOGETHER):
        left = together = pks[start : start + TOGETHER]
        try:
            left = _activate_together(together)
        except Exception:  # that of one: each alone, so that it does not stop the others
            logger.exception("%s broadcasts could not be activated together", len(left))
        _activate_each(left, Broadcast.objects.due, only_small=only_small)
        advance(len(together))
    return len(pks)


def resume() -> int:
    """Everything that was left in preparation, the most urgent first; how many were looked at."""
    pks = _ids(_most_urgent_first(Broadcast.objects.resumable(clock.now())))
    _activate_each(track(pks), Broadcast.objects.resumable, only_small=False)
    return len(pks)


def _most_urgent_first(waiting: BroadcastQuerySet) -> BroadcastQuerySet:
    return waiting.order_by("-priority", "scheduled_at", "pk")


def _ids(broadcasts: BroadcastQuerySet) -> list[int]:
    return list(broadcasts.values_list("pk", flat=True))


def _activate_each(
    pks: Iterable[int], waiting: Callable[[datetime], BroadcastQuerySet], *, only_small: bool
) -> None:
    """One at a time, fresh: targets may be many, and others work on the same rows."""
    for pk in pks:
        if broadcast := waiting(clock.now()).filter(pk=pk).first():
            activate(broadcast, only_small=only_small)


def _activate_together(pks: list[int]) -> list[int]:
    """Publish in one transaction what nothing is known against; those that are left.

    Processes share the work: what another holds locked is passed over, and not among the rest.
    """
    now = clock.now()
    due = Broadcast.objects.due(now).filter(pk__in=pks)
    targeted = _targeted(due.exclude(expires_at__lte=now))
    left = _ids(_most_urgent_first(due.exclude(pk__in=targeted)))
    if targeted:
        with transaction.atomic():
            now = clock.now()  # the directory may have taken long: what is over by now is ended
            mine = due.exclude(expires_at__lte=now).filter(pk__in=targeted)
            mine = _most_urgent_first(mine).select_for_update(skip_locked=True)
            _publish_together(list(mine), targeted, now)
    return left


def _targeted(broadcasts: BroadcastQuerySet) -> dict[int, int]:
    """How many people each has, by its id; without those of which that takes care to find out.

    Asked before the transaction: the directory may be a service far away.
    """
    count = cache(get_directory().count)
    sized = broadcasts.annotate(size=JSONLength("targets"))
    small = sized.exclude(audience=Audience.SELECTED, size__gt=CHUNK)
    targeted = {}
    for pk, audience, targets in small.values_list("pk", "audience", "targets"):
        with suppress(Exception):  # it is raised again, and recorded, when that one is alone
            selected = audience == Audience.SELECTED
            targeted[pk] = 0 if selected else count(audience, tuple(targets))
    return targeted


def _publish_together(
    broadcasts: list[Broadcast], targeted: Mapping[int, int], now: datetime
) -> None:
    """In the caller's transaction, which holds their rows."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    events: list[Event] = []
    for broadcast in broadcasts:
        with _on_behalf(broadcast, "activate"):
            people = targeted[broadcast.pk]
            if broadcast.audience == Audience.SELECTED:
                Receipt.objects.create_for(broadcast.pk, existing_user_ids(broadcast.targets))
                people = broadcast.receipts.count()
                events.append(_event(broadcast, "broadcast.preparing", {}))
            changes = _publication(broadcast, now, people)
            for name, value in changes.items():
                setattr(broadcast, name, value)
            alike.setdefault(tuple(changes.items()), []).append(broadcast.pk)
            events += _announcement(broadcast)
    for same, pks in alike.items():
        rows = Broadcast.objects.filter(pk__in=pks, status=Status.SCHEDULED)
        rows.update(**dict(same), updated_at=timezone.now())
    _address(broadcasts)
    emit_all(events)


def expire_overdue() -> int:
    """Everything past its expiry; how many were ended."""
    ended = 0
    for broadcast in _overdue():
        try:
            with _on_behalf(broadcast, "expire"):
                expire(broadcast)
            ended += 1
        except InvalidTransition:
            logger.info("Broadcast %s was ended by somebody else", broadcast.pk)
        except Exception:  # one that cannot be ended must not keep the others
            logger.exception("Broadcast %s could not be expired", broadcast.pk)
    return ended


def _overdue() -> Iterator[Broadcast]:
    """A few at a time in memory: what they say, and to whom, may be long."""
    pks = _ids(Broadcast.objects.overdue(clock.now()))
    expect(len(pks))
    for start in range(0, len(pks), TOGETHER):
        for broadcast in Broadcast.objects.filter(pk__in=pks[start : start + TOGETHER]):
            yield broadcast
            advance()


def mark_failed(broadcast_id: int, error: str) -> None:
    """Its event was parked: it reached nobody. In the caller's transaction."""
    published = Broadcast.objects.filter(pk=broadcast_id, status__in=[Status.ACTIVE, Status.SENT])
    changes = {"status": Status.FAILED, "last_error": error, "updated_at": timezone.now()}
    if not published.update(**changes):
        return
    # A key of its own: behind the parked event of the broadcast's key nothing is published.
    data = {"broadcast_id": broadcast_id, "error": error}
    emit("broadcast.failed", key=f"broadcast-{broadcast_id}-failed", data=data)
    Receipt.objects.filter(broadcast_id=broadcast_id, status=ReceiptStatus.PENDING).update(
        status=ReceiptStatus.FAILED
    )


def mark_redriven(broadcast_id: int) -> None:
    """Its event goes out again: put right what `mark_failed` marked."""
    failed = Broadcast.objects.filter(pk=broadcast_id, status=Status.FAILED)
    before = Case(When(fire_and_forget=True, then=Value(Status.SENT)), default=Value(Status.ACTIVE))
    if not failed.update(status=before, last_error="", updated_at=timezone.now()):
        return  # cancelled meanwhile: its receipts stay as they are
    Receipt.objects.filter(broadcast_id=broadcast_id, status=ReceiptStatus.FAILED).update(
        status=ReceiptStatus.PENDING
    )


def renew(event: Event) -> None:
    """What is in no inbox goes out again: to who is connected then. In the caller's transaction."""
    until = clock.now() + timedelta(seconds=FIRE_AND_FORGET_SECONDS)
    row = Broadcast.objects.filter(pk=event.data["broadcast_id"], status=Status.SENT)
    if row.update(expires_at=until, finished_at=None):
        data = event.data | {"expires_at": until.isoformat()}
        Event.objects.filter(pk=event.pk).update(data=data)


def settle_passed() -> int:
    """What was sent to who was connected is over: the others missed it. How many broadcasts."""
    passed = list(Broadcast.objects.passed(clock.now()).values_list("pk", flat=True))
    for pk in track(passed):
        row = Broadcast.objects.filter(pk=pk, status=Status.SENT, finished_at=None)
        with transaction.atomic():
            if row.update(finished_at=F("expires_at")):
                missed = Receipt.objects.filter(broadcast_id=pk, status=ReceiptStatus.PENDING)
                missed.update(status=ReceiptStatus.SUPERSEDED)
    return len(passed)


def _finish(
    broadcast: Broadcast, allowed: Sequence[str], status: Status, event: str, **changes: Any
) -> None:
    with transaction.atomic():
        was = _transition(broadcast, allowed, status, finished_at=clock.now(), **changes)
        # Whoever read it before somebody else sent it must take it off the screens all the same.
        broadcast.refresh_from_db()
        broadcast.receipts.filter(status__in=UNREAD).update(status=ReceiptStatus.SUPERSEDED)
        data = {"broadcast_id": broadcast.pk, "reason": status.value}
        if was in (Status.ACTIVE, Status.FAILED) and broadcast.activated_at:
            _emit_addressed(broadcast, event, data)
        else:
            _emit(broadcast, event, data)
        transaction.on_commit(
            partial(forget, *(t.content for t in broadcast.texts.values())), robust=True
        )


def _transition(
    broadcast: Broadcast, allowed: Sequence[str], status: Status, **changes: Any
) -> str:
    """Move the row if it stands in one of `allowed`; the status that it had."""
    row = Broadcast.objects.filter(pk=broadcast.pk)
    changes |= {"status": status, "updated_at": timezone.now()}
    with transaction.atomic(savepoint=False):
        was = row.select_for_update().values_list("status", flat=True).first()
        moved = row.filter(status__in=allowed).update(**changes)
        if status == Status.IN_PROGRESS or broadcast.expires_at:
            notify(BROADCASTS)
    if not moved:
        raise InvalidTransition(
            _("This broadcast is %(status)s; it cannot become %(wanted)s.")
            % {"status": Status(was).label if was else _("deleted"), "wanted": status.label}
        )
    for name, value in changes.items():
        setattr(broadcast, name, value)
    return str(was)


def _record_failure(broadcast: Broadcast, error: Exception, *, counts: bool) -> None:
    """Try again later; FAILED after the allowed attempts, of which an outage `counts` as none."""
    row = Broadcast.objects.filter(
        pk=broadcast.pk, status__in=[Status.SCHEDULED, Status.IN_PROGRESS]
    )
    attempts = (row.values_list("attempts", flat=True).first() or 0) + counts
    pause = min(2**attempts, 60) if counts else DIRECTORY_PAUSE
    changes: dict[str, Any] = {
        "attempts": attempts,
        "last_error": str(error) or type(error).__name__,
        "next_attempt_at": clock.now() + timedelta(seconds=pause),
        "updated_at": timezone.now(),
    }
    final = counts and attempts >= settings.BROADCAST_MAX_ATTEMPTS
    with transaction.atomic():
        if final:
            changes["status"] = Status.FAILED
        if row.update(**changes) and final:
            _emit(broadcast, "broadcast.failed", {"error": changes["last_error"]})
    _show_outcome(broadcast)


def _show_outcome(broadcast: Broadcast) -> None:
    """Let the instance say what became of its row, unless that is gone."""
    fields = ("status", "attempts", "last_error", "next_attempt_at", "activated_at", "targeted")
    for row in Broadcast.objects.filter(pk=broadcast.pk).values(*fields):
        for name in fields:
            setattr(broadcast, name, row[name])


def _channels(broadcast: Broadcast) -> list[str]:
    if broadcast.audience == Audience.ALL:
        return ["all"]
    return [channel_of(broadcast.audience, target) for target in broadcast.targets]


def _channel_chunks(broadcast: Broadcast) -> Iterator[list[str]]:
    """The channels that it addresses, at most CHUNK at a time; people by who has a receipt."""
    if broadcast.audience != Audience.SELECTED:
        yield from _chunks(_channels(broadcast))
        return
    people = broadcast.receipts.order_by("user_id").values_list("user_id", flat=True)
    yield from _chunks(f"user-{pk}" for pk in people.iterator(chunk_size=CHUNK))


def _chunks(items: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _emit(broadcast: Broadcast, event: str, data: dict[str, Any]) -> None:
    emit_all([_event(broadcast, event, data)])


def _emit_addressed(broadcast: Broadcast, event: str, data: dict[str, Any]) -> None:
    for one in _addressed(broadcast, event, data):
        emit_all([one])


def _addressed(broadcast: Broadcast, event: str, data: dict[str, Any]) -> Iterator[Event]:
    """One event for at most CHUNK channels, so that the writes do not grow with the audience."""
    part = 0
    for channels in _channel_chunks(broadcast):
        yield _event(broadcast, event, data, channels, part)
        part += 1
    if not part:  # nobody is left of its audience; what happened is still told
        yield _event(broadcast, event, data)


def _event(
    broadcast: Broadcast,
    event: str,
    data: dict[str, Any],
    channels: Sequence[str] = (),
    part: int = 0,
) -> Event:
    data = {"broadcast_id": broadcast.pk} | data
    key = f"broadcast-{broadcast.pk}"
    return build_event(event, key, data, channels, broadcast.priority, part)
