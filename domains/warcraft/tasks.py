"""The clock of Warcraft."""

from django.db.models.functions import Now

from domains.warcraft.models import Character, Guild
from domains.warcraft.sync import CHARACTERS, GUILDS, sync
from jobs.registry import Outcome, periodic


def count_characters() -> int:
    return int(Character.objects.waiting(Now()).count())


def count_guilds() -> int:
    return int(Guild.objects.waiting(Now()).count())


@periodic("CHARACTER_SYNC", every="6h", at_most="2m", backlog=count_characters)
def sync_characters() -> Outcome:
    """Ask Battle.net what is new of characters: details, equipment, statistics."""
    return sync(CHARACTERS)


@periodic("GUILD_SYNC", every="12h", at_most="2m", backlog=count_guilds)
def sync_guilds() -> Outcome:
    """Ask Battle.net what is new of guilds, and who joined and left."""
    return sync(GUILDS)
