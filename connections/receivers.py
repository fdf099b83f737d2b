"""Permissions that change cut the stream; the client returns with its new channels."""

from typing import Any

from django.contrib.auth.models import User
from django.db.models.signals import m2m_changed, post_save
from django.dispatch import receiver

from connections.services import disconnect_people


@receiver(m2m_changed, sender=User.groups.through)
def cut_streams_when_groups_change(
    instance: Any, action: str, reverse: bool, pk_set: set[int] | None, **_: Any
) -> None:
    if action in {"post_add", "post_remove"} and pk_set:
        people = pk_set if reverse else {instance.pk}
        disconnect_people(people, reason="permissions changed", reconnect=True)


@receiver(post_save, sender=User)
def cut_streams_of_who_is_shut_out(instance: User, created: bool, **_: Any) -> None:
    if not created and not instance.is_active:
        disconnect_people({instance.pk}, reason="account disabled", reconnect=False)
