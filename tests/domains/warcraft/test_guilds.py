"""Guilds: rosters, and who came and went."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from domains.warcraft.models import Guild, GuildMember, PlayableClass, RosterChange, Status
from domains.warcraft.services import readdress
from domains.warcraft.tasks import sync_guilds
from outbox.models import Event
from tests.domains.warcraft.battlenet import LATER, World, answering
from tests.factories import operator

pytestmark = pytest.mark.django_db

LATEST = "Fri, 21 Nov 2025 21:52:00 GMT"


def follow() -> Guild:
    return Guild.objects.create(name="Knights of Dawn", realm="Area 52", region="us")


def sync_again() -> Any:
    Guild.objects.update(next_try_at=timezone.now() - timedelta(seconds=1))
    return sync_guilds()


def join(world: World, path: str, modified: str = LATER) -> None:
    new = {"id": 7, "name": "Nela", "realm": {"slug": "area-52"}, "level": 12}
    world.roster(path, lambda m: m.append({"character": new, "rank": 9}), modified)


def by_admin(client: Client, guild: Guild, **fields: str) -> Any:
    form = {"name": guild.name, "realm": guild.realm, "region": guild.region}
    return client.post(f"/admin/warcraft/guild/{guild.pk}/change/", form | fields)


def by_api(client: Client, guild: Guild, **fields: str) -> Any:
    return client.patch(f"/api/warcraft/guilds/{guild.pk}", fields, "application/json")


def told(kind: str) -> list[dict[str, Any]]:
    rows = Event.objects.filter(type=f"warcraft.guild.{kind}").order_by("id")
    return [row.data for row in rows]


def history() -> list[tuple[str, str, str, str]]:
    rows = RosterChange.objects.order_by("id").select_related("member")
    return [(row.kind, row.member.name, row.before, row.after) for row in rows]


@pytest.fixture
def path(world: World) -> str:
    """That of a guild which was read once."""
    path = world.guild()
    follow()
    assert sync_guilds().items == 1
    return path


def test_a_guild_is_read_with_its_roster(path: str) -> None:
    guild = Guild.objects.get()
    assert (str(guild.faction), guild.member_count, guild.achievement_points) == ("Horde", 3, 2835)
    roster = [(m.name, m.rank, str(m.playable_class), str(m.race)) for m in guild.members.all()]
    assert roster == [
        ("Thórgrim", 0, "Warrior", "Orc"),
        ("Aelwyn", 2, "Mage", "Blood Elf"),
        ("Zuljira", 5, "Hunter", "Troll"),
    ]
    assert guild.synced_at
    assert told("synced") == [
        {
            "guild_id": guild.pk,
            "name": "Knights of Dawn",
            "realm": "Area 52",
            "region": "us",
            "faction": "Horde",
            "member_count": 3,
            "achievement_points": 2835,
            "synced_at": guild.synced_at.isoformat(),
        }
    ]


def test_who_is_in_the_first_roster_did_not_join_just_now(path: str) -> None:
    assert not told("member.joined")
    assert not history()
    assert set(GuildMember.objects.values_list("joined_at", flat=True)) == {None}


def test_who_comes_and_who_goes_is_told_once(world: World, path: str) -> None:
    join(world, path)
    sync_again()
    world.roster(path, lambda m: m.pop(0), LATEST)
    sync_again()
    sync_again()
    (joined,) = told("member.joined")
    (left,) = told("member.left")
    assert (joined["member_name"], joined["rank"], joined["level"]) == ("Nela", 9, 12)
    assert (left["member_name"], left["rank"], left["guild_id"]) == (
        "Thórgrim",
        0,
        Guild.objects.get().pk,
    )
    assert history() == [("JOINED", "Nela", "", "9"), ("LEFT", "Thórgrim", "0", "")]
    assert GuildMember.objects.current().count() == 3
    assert GuildMember.objects.get(name="Thórgrim").left_at
    assert Event.objects.filter(key=f"guild-{left['guild_id']}").count() == 5


@pytest.mark.parametrize("save", [by_admin, by_api])
@pytest.mark.parametrize("fields", [{}, {"name": "knights of DAWN", "realm": "area-52"}])
def test_a_guild_that_is_saved_as_it_is_keeps_what_was_read(
    world: World, path: str, client: Client, save: Callable[..., Any], fields: dict[str, str]
) -> None:
    client.force_login(operator("warcraft.view_guild", "warcraft.change_guild"))
    before = Guild.objects.get()
    assert save(client, before, **fields).status_code in (200, 302)
    after = Guild.objects.get()
    assert (after.status, after.modified) == (Status.OK, before.modified)
    assert (after.name, after.next_try_at) == (fields.get("name", before.name), before.next_try_at)
    join(world, path)
    sync_again()
    assert [joined["member_name"] for joined in told("member.joined")] == ["Nela"]
    assert history() == [("JOINED", "Nela", "", "9")]


def test_the_roster_of_the_old_name_has_not_left_the_new_one(world: World, path: str) -> None:
    def move(members: list[Any]) -> None:
        members.pop(0)
        members[0]["rank"] = 8

    guild = Guild.objects.get()
    world.guild("other-knights", name="Other Knights")
    world.roster("/data/wow/guild/area-52/other-knights", move, LATER)
    guild.name = "Other Knights"
    readdress(guild)
    join(world, "/data/wow/guild/area-52/other-knights")
    sync_again()
    assert not told("member.left") + told("member.joined")
    assert not history()
    current = GuildMember.objects.current()
    assert [(m.name, m.rank) for m in current] == [("Zuljira", 5), ("Aelwyn", 8), ("Nela", 9)]
    assert set(current.values_list("joined_at", flat=True)) == {None}
    assert GuildMember.objects.get(name="Thórgrim").left_at
    world.roster("/data/wow/guild/area-52/other-knights", lambda m: m.pop(0), LATEST)
    sync_again()
    assert history() == [("LEFT", "Aelwyn", "8", "")]


def test_who_comes_back_has_another_stay(world: World, path: str) -> None:
    gone = world.documents[f"{path}/roster"][0]["members"][0]
    world.roster(path, lambda m: m.pop(0), LATER)
    sync_again()
    world.roster(path, lambda m: m.append(gone), LATEST)
    sync_again()
    stays = GuildMember.objects.filter(name="Thórgrim").order_by("pk")
    assert [bool(stay.left_at) for stay in stays] == [True, False]
    assert [kind for kind, *_ in history()] == ["LEFT", "JOINED"]


def test_another_rank_or_name_is_history_and_nobody_has_left(world: World, path: str) -> None:
    def change(members: list[Any]) -> None:
        members[2]["rank"] = 4
        members[1]["character"]["name"] = "Aelwynn"
        members[0]["character"]["level"] = 90

    world.roster(path, change, LATER)
    sync_again()
    assert history() == [
        ("RENAMED", "Aelwynn", "Aelwyn", "Aelwynn"),
        ("RANK", "Zuljira", "5", "4"),
    ]
    assert not told("member.joined")
    assert GuildMember.objects.get(name="Thórgrim").level == 90


def test_a_roster_without_anybody_is_an_error_and_no_exodus(world: World, path: str) -> None:
    world.roster(path, lambda m: m.clear(), LATER)
    assert sync_again().failed == 1
    guild = Guild.objects.get()
    assert guild.status == Status.FAILING
    assert "lists none" in guild.last_error
    assert GuildMember.objects.current().count() == 3
    assert not told("member.left")


def test_what_did_not_change_is_no_event(world: World, path: str) -> None:
    world.asked.clear()
    sync_again()
    assert len(world.asked) == 2
    assert len(told("synced")) == 1


def test_names_of_classes_wait_until_they_can_be_had(world: World) -> None:
    world.guild()
    index = "/data/wow/playable-class/index"
    world.instead(index, answering(403))
    follow()
    assert sync_guilds().items == 1
    assert str(PlayableClass.objects.get(pk=8)) == "#8"
    sync_again()
    assert str(PlayableClass.objects.get(pk=8)) == "Mage"
    assert "static-" in next(a for a in world.asked if a.path == index).query["namespace"]
