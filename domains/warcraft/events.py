"""What this app tells: each type and when it happens."""

from django.utils.translation import gettext_lazy as _

EVENTS = {
    "warcraft.character.synced": _("Battle.net had something new of a character."),
    "warcraft.character.equipment.updated": _("A character wears something else."),
    "warcraft.character.statistics.updated": _("The statistics of a character changed."),
    "warcraft.guild.synced": _("Battle.net had something new of a guild or its roster."),
    "warcraft.guild.member.joined": _("A guild has a new member."),
    "warcraft.guild.member.left": _("Somebody is no longer in the roster of a guild."),
}
