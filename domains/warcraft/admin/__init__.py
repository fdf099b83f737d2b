"""What operators follow, how asking Battle.net goes, and rosters with their history."""

from domains.warcraft.admin.characters import CharacterAdmin
from domains.warcraft.admin.guilds import GuildAdmin, GuildMemberAdmin, RosterChangeAdmin

__all__ = ["CharacterAdmin", "GuildAdmin", "GuildMemberAdmin", "RosterChangeAdmin"]
