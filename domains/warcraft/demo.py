"""Two guilds and some characters, as if Battle.net had been asked: for a first look."""

from datetime import timedelta

from django.core.management import call_command
from django.db.models import F, Model
from django.utils import timezone

from domains.warcraft.models import (
    Character,
    Equipment,
    Guild,
    GuildMember,
    RosterChange,
    Statistics,
)

MOMENTS: dict[type[Model], list[str]] = {
    Character: ["synced_at", "next_try_at", "last_login_at"],
    Equipment: ["changed_at"],
    Statistics: ["changed_at"],
    Guild: ["synced_at", "next_try_at"],
    GuildMember: ["joined_at", "left_at"],
    RosterChange: ["at"],
}
FIRST = ("us", "area-52", "knights-of-dawn")


def create() -> bool:
    """Make what is missing; False when it is there."""
    region, realm, name = FIRST
    if Guild.objects.filter(region=region, realm_slug=realm, name_slug=name).exists():
        return False
    call_command("loaddata", "demo-warcraft", verbosity=0)
    _bring_up_to_date()
    return True


def _bring_up_to_date() -> None:
    """The fixture's moments are of 2025: its last sync was an hour ago."""
    newest = Guild.objects.order_by("-synced_at").values_list("synced_at", flat=True)
    last = newest.exclude(synced_at=None).first()
    if not last:
        return
    later: timedelta = timezone.now() - timedelta(hours=1) - last
    for model, names in MOMENTS.items():
        for name in names:
            model._default_manager.exclude(**{name: None}).update(**{name: F(name) + later})
