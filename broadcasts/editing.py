"""Several people at one draft: who else has it open, and whether what one sees still stands."""

from datetime import timedelta

from django.contrib.auth.models import AbstractUser
from django.db.models.functions import Now

from broadcasts.directory import name_of
from broadcasts.models import Broadcast, Editor

GONE_AFTER = timedelta(seconds=30)  # without a word of the page, which speaks every ten


def join(broadcast: Broadcast, person: AbstractUser) -> list[str]:
    """Say that the person has it open; the names of the others who do."""
    Editor.objects.update_or_create(
        broadcast=broadcast, user_id=person.pk, defaults={"seen_at": Now()}
    )
    there = Editor.objects.filter(broadcast=broadcast)
    there.filter(seen_at__lt=Now() - GONE_AFTER).delete()
    others = there.exclude(user_id=person.pk).select_related("user").order_by("user__username")
    return [name_of(editor.user) for editor in others]


def leave(broadcast: Broadcast, person: AbstractUser) -> None:
    Editor.objects.filter(broadcast=broadcast, user_id=person.pk).delete()
