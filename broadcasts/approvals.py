"""A second person's word about a draft: asked for, discussed, given, refused, taken back.

Each step but a comment is one guarded UPDATE of the version that the person saw, its row of history
and its event, together: of two who decide at once one wins, and what was edited meanwhile is not
approved unread.
"""

from collections.abc import Sequence
from typing import Any, cast

from django.contrib.auth.models import AbstractUser, User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from broadcasts.directory import name_of
from broadcasts.models import Approval, ApprovalStep, Broadcast, Decision, Series, Status
from broadcasts.services import ChangedMeanwhile, InvalidTransition
from jobs.acting import did
from outbox.services import emit

OPEN = [Approval.NONE, Approval.REJECTED]


class OwnWork(Exception):
    """Who wrote, changed or submitted it does not approve it (HTTP 403)."""


def request(
    broadcast: Broadcast, person: AbstractUser, comment: str = "", version: int | None = None
) -> Broadcast:
    """Ask for an approval of what the draft says now."""
    with transaction.atomic():
        _move(broadcast, OPEN, Approval.REQUESTED, version)
        record(broadcast, Decision.REQUESTED, person, comment)
        _tell(broadcast, "broadcast.approval.requested", person)
        did("broadcast.approval.requested", broadcast, comment=comment)
    return broadcast


def approve(
    broadcast: Broadcast, person: AbstractUser, comment: str = "", version: int | None = None
) -> Broadcast:
    """It may be sent as it is. Raises `OwnWork`."""
    with transaction.atomic():
        _move(broadcast, [Approval.REQUESTED], Approval.APPROVED, version)
        refuse_own(broadcast, person)
        record(broadcast, Decision.APPROVED, person, comment)
        _tell(broadcast, "broadcast.approval.approved", person)
        did("broadcast.approval.approved", broadcast, comment=comment)
    return broadcast


def reject(
    broadcast: Broadcast, person: AbstractUser, comment: str, version: int | None = None
) -> Broadcast:
    """It may not be sent as it is; the comment says why."""
    refuse_silence(comment)
    with transaction.atomic():
        _move(broadcast, [Approval.REQUESTED], Approval.REJECTED, version)
        record(broadcast, Decision.REJECTED, person, comment)
        _tell(broadcast, "broadcast.approval.rejected", person)
        did("broadcast.approval.rejected", broadcast, comment=comment)
    return broadcast


def withdraw(
    broadcast: Broadcast, person: AbstractUser, comment: str = "", version: int | None = None
) -> Broadcast:
    """Take back a request or an approval, until it is sent."""
    with transaction.atomic():
        _move(broadcast, [Approval.REQUESTED, Approval.APPROVED], Approval.NONE, version)
        record(broadcast, Decision.WITHDRAWN, person, comment)
        _tell(broadcast, "broadcast.approval.withdrawn", person)
        did("broadcast.approval.withdrawn", broadcast, comment=comment)
    return broadcast


def comment(subject: Broadcast | Series, person: AbstractUser, comment: str) -> ApprovalStep:
    refuse_silence(comment)
    with transaction.atomic():
        step = record(subject, Decision.COMMENTED, person, comment)
        did("approval.commented", subject, comment=comment)
    return step


def takes_part(person: AbstractUser) -> bool:
    """Whether they may comment, and take back: who writes drafts, and who approves them."""
    permissions = ("broadcasts.change_broadcast", "broadcasts.approve_broadcast")
    return any(person.has_perm(permission) for permission in permissions)


def is_own(subject: Broadcast | Series, person: AbstractUser) -> bool:
    """Whether the person composed it, changed it last, or asked for approval of this version."""
    if person.pk in (subject.sender_id, subject.edited_by_id):
        return True
    asked = subject.approval_steps.filter(
        version=subject.version, decision=Decision.REQUESTED, person_id=person.pk
    )
    return asked.exists()


def _move(
    broadcast: Broadcast, allowed: Sequence[str], becomes: Approval, version: int | None
) -> None:
    seen = broadcast.version if version is None else version
    rows = Broadcast.objects.filter(pk=broadcast.pk)
    drafts = rows.filter(status=Status.DRAFT, version=seen, approval__in=allowed)
    moved = drafts.update(approval=becomes, updated_at=timezone.now())
    current = rows.select_related("edited_by").defer("content", "targets").first()
    if current is None:
        raise InvalidTransition(_("This broadcast was deleted."))
    if not moved and current.status == Status.DRAFT and current.version != seen:
        raise ChangedMeanwhile(current)
    if not moved:
        raise InvalidTransition(_refusal(current, becomes))
    for name in ("status", "approval", "version", "edited_by_id", "updated_at"):
        setattr(broadcast, name, getattr(current, name))


def _refusal(broadcast: Broadcast, becomes: Approval) -> str:
    if broadcast.status != Status.DRAFT:
        text = _("This broadcast is %(status)s; only a draft is approved or rejected.")
        return text % {"status": broadcast.get_status_display()}
    if becomes in (Approval.APPROVED, Approval.REJECTED) and broadcast.approval in OPEN:
        return _("Nobody has asked for an approval of what it says now. Ask for it first.")
    last = broadcast.approval_steps.exclude(decision=Decision.COMMENTED).first()
    text = _("Its approval stands at “%(standing)s” already (%(person)s).")
    return text % {
        "standing": broadcast.get_approval_display(),
        "person": last.person_name if last else "–",
    }


def refuse_own(subject: Broadcast | Series, person: AbstractUser) -> None:
    if is_own(subject, person):
        raise OwnWork(
            _(
                "You composed it, changed it last or asked for the approval: a second person must"
                " approve it."
            )
        )


def refuse_silence(comment: str) -> None:
    if not comment.strip():
        raise ValidationError({"comment": _("Say why, in a sentence.")})


def record(
    subject: Broadcast | Series,
    decision: Decision,
    person: AbstractUser | None,
    comment: str = "",
) -> ApprovalStep:
    """A row of the history, of this version; raises `ValidationError` for too long a comment."""
    step = ApprovalStep(
        broadcast=subject if isinstance(subject, Broadcast) else None,
        series=subject if isinstance(subject, Series) else None,
        version=subject.version,
        decision=decision,
        person=cast("User | None", person),
        person_name=name_of(person) if person else "–",
        comment=comment.strip(),
    )
    step.full_clean(exclude=["broadcast", "series", "person"])
    step.save()
    return step


def _tell(broadcast: Broadcast, event: str, person: AbstractUser) -> None:
    data: dict[str, Any] = {
        "broadcast_id": broadcast.pk,
        "title": broadcast.title,
        "person_name": name_of(person),
    }
    emit(event, f"broadcast-{broadcast.pk}", data)
