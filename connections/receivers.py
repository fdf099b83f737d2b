"""Permissions that change cut the stream; the client returns with its new channels, if it may."""

from typing import Any

from django.contrib.auth.models import Group, User
from django.contrib.auth.signals import user_logged_out
from django.db.models.signals import m2m_changed, post_save, pre_delete
from django.dispatch import receiver

from connections.services import disconnect_people


@receiver(m2m_changed, sender=User.groups.through)
def cut_streams_when_groups_change(
    instance: Any, action: str, reverse: bool, pk_set: set[int] | None, **_: Any
) -> None:
    cut_streams_of_members(
        action, pk_set if reverse else {instance.pk}, cleared=instance.user_set if reverse else None
    )


@receiver(pre_delete, sender=Group)
def cut_streams_of_a_group_that_goes(instance: Group, **_: Any) -> None:
    cut_streams_of_members("pre_clear", None, cleared=instance.user_set)


def cut_streams_of_members(action: str, people: set[int] | None, *, cleared: Any = None) -> None:
    """For `m2m_changed` of whatever gives channels; `cleared` is the relation that is emptied."""
    if action == "pre_clear" and cleared is not None:
        people = set(cleared.values_list("pk", flat=True))
    if action in {"post_add", "post_remove", "pre_clear"} and people:
        disconnect_people(people, reason="permissions changed", reconnect=True)


@receiver(post_save, sender=User)
def cut_streams_of_who_is_shut_out(instance: User, created: bool, **_: Any) -> None:
    if created:
        return
    if not instance.is_active:
        disconnect_people({instance.pk}, reason="account disabled", reconnect=False)
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
