"""Permissions that change cut the stream; the client returns with its new channels, if it may."""

from collections.abc import Collection
from typing import Any

from django.contrib.auth.models import Group, User
from django.contrib.auth.signals import user_logged_out
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save
from django.dispatch import receiver

from connections.services import disconnect_people

RIGHTS = {"is_staff", "is_superuser"}


@receiver(m2m_changed, sender=User.user_permissions.through)
def cut_streams_when_permissions_are_lost(
    instance: Any, action: str, reverse: bool, pk_set: set[int] | None, **_: Any
) -> None:
    if action == "post_add":  # it opens streams, and closes none
        return
    cut_streams_of_members(
        action, pk_set if reverse else {instance.pk}, cleared=instance.user_set if reverse else None
    )


@receiver(m2m_changed, sender=User.groups.through)
def cut_streams_when_groups_change(
    instance: Any, action: str, reverse: bool, pk_set: set[int] | None, **_: Any
) -> None:
    cut_streams_of_members(
        action, pk_set if reverse else {instance.pk}, cleared=instance.user_set if reverse else None
    )


@receiver(m2m_changed, sender=Group.permissions.through)
def cut_streams_when_a_group_loses_permissions(
    instance: Any, action: str, reverse: bool, pk_set: set[int] | None, **_: Any
) -> None:
    """Those of its staff: what others hear comes from the group, not from its permissions."""
    if action not in {"post_remove", "pre_clear"}:
        return
    groups = (pk_set or instance.group_set.all()) if reverse else [instance]
    staff = User.objects.filter(is_staff=True, groups__in=groups)
    cut_streams_of_members("post_remove", set(staff.values_list("pk", flat=True)))


@receiver(pre_delete, sender=Group)
def cut_streams_of_a_group_that_goes(instance: Group, **_: Any) -> None:
    cut_streams_of_members("pre_clear", None, cleared=instance.user_set)


def cut_streams_of_members(action: str, people: set[int] | None, *, cleared: Any = None) -> None:
    """For `m2m_changed` of whatever gives channels; `cleared` is the relation that is emptied."""
    if action == "pre_clear" and cleared is not None:
        people = set(cleared.values_list("pk", flat=True))
    if action in {"post_add", "post_remove", "pre_clear"} and people:
        disconnect_people(people, reason="permissions changed", reconnect=True)


@receiver(pre_save, sender=User)
def notice_who_loses_rights(
    instance: Any, raw: bool, update_fields: Collection[str] | None, **_: Any
) -> None:
    """Compared with the row; cut after it was saved, or who returns at once has them still."""
    instance._loses_rights = False
    saved = RIGHTS if update_fields is None else RIGHTS.intersection(update_fields)
    if raw or instance._state.adding or not saved:
        return
    before = User.objects.filter(pk=instance.pk).values(*saved).first() or {}
    instance._loses_rights = any(
        had and not getattr(instance, name) for name, had in before.items()
    )


@receiver(post_save, sender=User)
def cut_streams_of_who_is_shut_out(instance: User, created: bool, **_: Any) -> None:
    if created:
        return
    if not instance.is_active:
        disconnect_people({instance.pk}, reason="account disabled", reconnect=False)
    elif instance._loses_rights:  # type: ignore[attr-defined]
        disconnect_people({instance.pk}, reason="permissions changed", reconnect=True)
    elif instance._password is not None:  # type: ignore[attr-defined]  # a new one is saved
        disconnect_people({instance.pk}, reason="password changed", reconnect=True)


@receiver(pre_delete, sender=User)
def cut_streams_of_who_is_deleted(instance: User, **_: Any) -> None:
    disconnect_people({instance.pk}, reason="account deleted", reconnect=False)


@receiver(user_logged_out)
def cut_streams_of_who_signs_out(user: User | None, **_: Any) -> None:
    """A stream does not know its session: all are cut, and those of other sessions return."""
    if user:
        disconnect_people({user.pk}, reason="signed out", reconnect=True)
