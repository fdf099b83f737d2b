"""What the jobs of Warcraft do, seen from outside; only Battle.net is a local server."""

from typing import Any

import pytest
from django.utils import timezone

from domains.warcraft.models import Character, Guild
from tests.domains.warcraft.battlenet import LATER, Server, World
from tests.everywhere import Everywhere

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

CHARACTERS, GUILDS = "/api/warcraft/characters", "/api/warcraft/guilds"
AREA_52 = {"realm": "Area 52", "region": "us"}


@pytest.fixture
def battlenet(server: Server) -> dict[str, str]:
    return {
        "BATTLENET_CLIENT_ID": "client",
        "BATTLENET_CLIENT_SECRET": "secret",
        "BATTLENET_TOKEN_URL": f"{server.url}/token",
        "BATTLENET_API_URL": server.url,
    }


def time_passes() -> None:
    """So much that all are due again."""
    Character.objects.update(next_try_at=timezone.now())
    Guild.objects.update(next_try_at=timezone.now())


def facts(seen: list[Any], name: str) -> list[Any]:
    return [one["data"][name] for one in seen]


def test_of_a_character_all_are_told_once_what_is_new(
    site: Everywhere, world: World, battlenet: dict[str, str]
) -> None:
    path = world.character("Thrall", level=70)
    followed = site.request("POST", CHARACTERS, {"name": "Thrall"} | AREA_52)
    with site.watch("warcraft.character.synced") as synced:
        site.run_job("CHARACTER_SYNC", **battlenet)
        time_passes()
        site.run_job("CHARACTER_SYNC", **battlenet)
    assert world.counts[path] == 2, "it was asked for again, and nothing was new"
    assert facts(synced, "character_id") == [followed["id"]]
    world.put(path, "character", LATER, name="Thrall", level=71)
    world.put(f"{path}/equipment", "equipment", LATER, equipped_items=[])
    time_passes()
    with (
        site.watch("warcraft.character.synced") as synced,
        site.watch("warcraft.character.equipment.updated") as changed,
    ):
        site.run_job("CHARACTER_SYNC", **battlenet)
    assert facts(synced, "level") == [71]
    assert all(slot["after"] is None for slot in changed[0]["data"]["slots"])
    shown = site.request("GET", f"{CHARACTERS}/{followed['id']}")
    assert (shown["level"], shown["status"], shown["failures"]) == (71, "OK", 0)
    assert site.request("GET", f"{CHARACTERS}/{followed['id']}/equipment")["items"] == []


def test_of_a_guild_all_are_told_once_who_came_and_went(
    site: Everywhere, world: World, battlenet: dict[str, str]
) -> None:
    path = world.guild()
    followed = site.request("POST", GUILDS, {"name": "Knights of Dawn"} | AREA_52)
    with site.watch("warcraft.guild.synced") as synced:
        site.run_job("GUILD_SYNC", **battlenet)
        time_passes()
        site.run_job("GUILD_SYNC", **battlenet)
    assert world.counts[f"{path}/roster"] == 2, "it was asked for again, and nothing was new"
    assert facts(synced, "guild_id") == [followed["id"]]
    roster = f"{GUILDS}/{followed['id']}/roster?ordering=rank"
    (gone, *_), count = names_in(site.request("GET", roster))
    nela = {"id": 7, "name": "Nela", "realm": {"slug": "area-52"}, "level": 12}

    def change(members: list[Any]) -> None:
        members[:] = [one for one in members if one["character"]["name"] != gone]
        members.append({"character": nela, "rank": 9})

    world.roster(path, change, LATER)
    time_passes()
    with (
        site.watch("warcraft.guild.member.joined") as joined,
        site.watch("warcraft.guild.member.left") as left,
    ):
        site.run_job("GUILD_SYNC", **battlenet)
        time_passes()
        site.run_job("GUILD_SYNC", **battlenet)
    assert (facts(joined, "member_name"), facts(left, "member_name")) == (["Nela"], [gone])
    names, count_after = names_in(site.request("GET", roster))
    assert ("Nela" in names, gone in names, count_after) == (True, False, count)


def names_in(roster: Any) -> tuple[list[str], int]:
    return [one["name"] for one in roster["results"]], roster["count"]
