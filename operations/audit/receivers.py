"""What is told elsewhere, and becomes an entry."""

from typing import Any, cast

from django.contrib.auth.models import Group, Permission, User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models import Model
from django.db.models.signals import m2m_changed
from django.dispatch import receiver

from jobs.acting import Actor, acted, acting, did
from jobs.throttle import times
from operations.audit.services import write

MEMBERSHIPS = {
    User.groups.through: "groups",
    User.user_permissions.through: "permissions",
    Group.permissions.through: "permissions",
}
MINUTE = 60
MOST_FAILED = 20
"""Failed sign-ins of an address that are written down in a minute."""
VERBS = {"post_add": "added", "post_remove": "removed", "pre_clear": "cleared"}


@receiver(acted)
def record(actor: Actor, action: str, subject: Model, detail: dict[str, Any], **_: Any) -> None:
    write(actor, action, subject, detail)


@receiver(user_logged_in)
def record_sign_in(user: User, **_: Any) -> None:
    if acting():  # not the session that a test makes
        did("user.signed_in", user)


@receiver(user_logged_out)
def record_sign_out(user: User | None, **_: Any) -> None:
    if user:
        did("user.signed_out", user)


@receiver(user_login_failed)
def record_failed_sign_in(credentials: dict[str, Any], request: Any = None, **_: Any) -> None:
    """Of whoever it is: the name is what was typed. Who guesses shall not fill the audit."""
    if not (actor := acting()):
        return
    count = times("sign-ins-failed", actor.address, MINUTE)
    if count <= MOST_FAILED:
        name = str(credentials.get("username", ""))
        detail = {"more": "is not written for a minute"} if count == MOST_FAILED else {}
        who = Actor(actor.door, name=name, address=actor.address)
        write(who, "user.sign_in_failed", None, detail)


def record_membership(
    instance: Model, action: str, reverse: bool, pk_set: set[Any] | None, **told: Any
) -> None:
    """Groups of a person, permissions of a person or a group, from whichever side they are set."""
    if action not in VERBS or (not pk_set and action != "pre_clear") or not acting():
        return
    through, model = told["sender"], told["model"]
    what = MEMBERSHIPS[through]
    verb = VERBS[action]
    others = _others(instance, through, model, pk_set, reverse)
    if reverse:
        for person in others:
            did(f"{person._meta.model_name}.{what}_changed", person, **{verb: [str(instance)]})
    elif others:
        names = [str(other) for other in others]
        did(f"{instance._meta.model_name}.{what}_changed", instance, **{verb: names})


def _others(
    instance: Model, through: Any, model: Any, pk_set: set[Any] | None, reverse: bool
) -> list[Model]:
    """On the other side: those named, or all that are there before it is cleared."""
    rows = model._default_manager.all()
    if model is Permission:
        rows = rows.select_related("content_type")
    if pk_set is None:
        forward, backward = _sides(through, instance)
        linked = through._default_manager.filter(**{forward: instance.pk})
        pk_set = set(linked.values_list(backward, flat=True))
    return cast(list[Model], list(rows.filter(pk__in=pk_set)))


def _sides(through: Any, instance: Model) -> tuple[str, str]:
    mine, theirs = "", ""
    for field in through._meta.concrete_fields:
        if field.remote_field and field.remote_field.model is type(instance):
            mine = field.attname
        elif field.remote_field:
            theirs = field.attname
    return mine, theirs


for through in MEMBERSHIPS:
    m2m_changed.connect(record_membership, sender=through)
