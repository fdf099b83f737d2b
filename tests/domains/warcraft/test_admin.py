from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import Settings

from domains.warcraft import demo
from domains.warcraft.models import Character, Guild, RosterChange, Status
from domains.warcraft.tasks import sync_characters, sync_guilds
from tests.domains.warcraft.battlenet import LATER, World
from tests.factories import operator

pytestmark = pytest.mark.django_db

LIST = "/admin/warcraft/character/"


@pytest.fixture(autouse=True)
def signed_in(client: Client) -> None:
    verbs = ("view", "add", "change", "delete")
    nouns = ("character", "guild", "guildmember", "rosterchange")
    client.force_login(operator(*(f"warcraft.{verb}_{noun}" for verb in verbs for noun in nouns)))


def follow(name: str = "Aelwyn") -> Character:
    row: Character = Character.objects.create(name=name, realm="Area 52", region="us")
    return row


def text(client: Client, address: str) -> str:
    answer = client.get(address, follow=True)
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_a_character_is_added_and_its_page_shows_what_it_wears(
    client: Client, world: World
) -> None:
    world.character("Aelwyn")
    answer = client.post(
        f"{LIST}add/", {"name": "Aelwyn", "realm": "Area 52", "region": "us"}, follow=True
    )
    assert "asked for at the next run" in answer.content.decode()
    sync_characters()
    page = text(client, f"{LIST}{Character.objects.get().pk}/change/")
    for words in ("Augur&#x27;s Ephemeral Wide-Brim", "Main hand", "8123460", "Knights of Dawn"):
        assert words in page
    assert "avatar.jpg" in page


def test_what_is_followed_already_is_refused_in_the_form(client: Client) -> None:
    follow()
    answer = client.post(f"{LIST}add/", {"name": "AELWYN", "realm": "area-52", "region": "us"})
    assert "It is followed already." in answer.content.decode()


@pytest.mark.parametrize("given", [{"name": "", "realm": "Area 52"}, {"name": "''", "realm": ""}])
def test_what_is_missing_is_said_at_its_field_alone(client: Client, given: dict[str, str]) -> None:
    answer = client.post(f"{LIST}add/", given | {"region": "us"})
    assert "This field is required." in answer.content.decode()
    assert "Constraint" not in answer.content.decode()
    assert not Character.objects.exists()


def test_under_another_name_it_is_asked_for_anew(client: Client, world: World) -> None:
    world.character("Aelwyn")
    row = follow()
    sync_characters()
    form = {"name": "Nela", "realm": "Area 52", "region": "us"}
    client.post(f"{LIST}{row.pk}/change/", form)
    row.refresh_from_db()
    assert (row.name_slug, row.status, row.modified) == ("nela", Status.NEW, {})


def test_errors_stand_in_the_list_in_words(client: Client) -> None:
    follow("Nobody")
    sync_characters()
    assert "Battle.net knows no such name" in text(client, f"{LIST}?status__exact=GONE")
    assert "Nobody" not in text(client, f"{LIST}?status__exact=OK")


def test_without_credentials_the_list_says_so(client: Client, settings: Settings) -> None:
    assert "BATTLENET_CLIENT_ID" not in text(client, LIST)
    settings.BATTLENET_CLIENT_ID = ""
    assert "BATTLENET_CLIENT_ID" in text(client, LIST)


def test_a_refresh_is_asked_for_and_watched(client: Client, world: World) -> None:
    world.character("Aelwyn")
    rows = [follow("Aelwyn"), follow("Nobody")]
    chosen = {"action": "refresh_selected", "_selected_action": [row.pk for row in rows]}
    assert "Refresh?" in client.post(LIST, chosen).content.decode()
    assert not Character.objects.asked().exists()
    answer = client.post(LIST, chosen | {"confirmed": "yes"})
    page = text(client, answer["Location"])
    assert "0 % done" in page
    assert "2 are asked for." in page
    sync_characters()
    numbers = text(client, answer["Location"].replace("refresh/", "refresh/numbers/"))
    assert "100 % done" in numbers
    assert "Battle.net knows no such name" in numbers
    of_refresh = answer["Location"].replace("refresh/?asked", "?asked_at__exact")
    assert "Nobody" in text(client, f"{of_refresh}&status__exact=GONE&is_asked__exact=0")
    assert LogEntry.objects.filter(change_message="Refresh").count() == 2


@pytest.mark.parametrize("asked", ["", "nonsense", "2030-13-45", "2030-01-01T00:00:00"])
def test_a_refresh_that_never_was_is_no_error(client: Client, asked: str) -> None:
    assert "Nothing is asked for." in text(client, f"{LIST}refresh/?asked={asked}")


def test_one_is_refreshed_from_its_page(client: Client) -> None:
    row = follow()
    page = f"{LIST}{row.pk}/refresh-one/"
    assert "Refresh?" in text(client, page)
    client.post(page, {"confirmed": "yes"})
    assert Character.objects.asked().count() == 1


def test_who_may_only_look_asks_for_no_refresh(client: Client) -> None:
    client.force_login(operator("warcraft.view_character"))
    row = follow()
    assert client.post(f"{LIST}{row.pk}/refresh-one/", {"confirmed": "yes"}).status_code == 403
    chosen = {"action": "refresh_selected", "_selected_action": [row.pk], "confirmed": "yes"}
    client.post(LIST, chosen)
    assert not Character.objects.asked().exists()
    assert client.get(f"{LIST}refresh/").status_code == 200
    assert client.get("/admin/warcraft/guild/refresh/").status_code == 403


def test_a_roster_shows_who_came_and_went(client: Client, world: World) -> None:
    path = world.guild()
    guild: Guild = Guild.objects.create(name="Knights of Dawn", realm="Area 52", region="us")
    page = reverse("admin:warcraft_guild_roster", args=[guild.pk])
    assert "No roster yet" in text(client, page)
    sync_guilds()
    assert "No change yet" in text(client, page)
    new = {"id": 7, "name": "Nela", "realm": {"slug": "area-52"}, "level": 12}
    world.roster(path, lambda members: members.append({"character": new, "rank": 9}), LATER)
    client.post(f"/admin/warcraft/guild/{guild.pk}/refresh-one/", {"confirmed": "yes"})
    sync_guilds()
    shown = text(client, page)
    assert "Joined" in shown
    assert "rank 9" in shown
    changes = "/admin/warcraft/rosterchange/"
    assert "Nela" in text(client, f"{changes}?guild__id__exact={guild.pk}")
    assert "Nela" in text(client, "/admin/warcraft/guildmember/?stay=current")
    assert "Nela" not in text(client, "/admin/warcraft/guildmember/?stay=past")
    button = client.get(f"/admin/warcraft/guild/{guild.pk}/show-roster/")
    assert button["Location"] == page


def test_lists_cost_a_fixed_number_of_queries(client: Client) -> None:
    demo.create()
    for address in (LIST, *(f"/admin/warcraft/{n}/" for n in ("guild", "guildmember"))):
        client.get(address)
        with CaptureQueriesContext(connection) as few:
            client.get(address)
        for number in range(5):
            copy: Any = Character.objects.get(name="Aelwyn")
            copy.pk, copy.name = None, f"{address} {number}".replace("/", "")
            copy.save()
        with CaptureQueriesContext(connection) as many:
            client.get(address)
        assert len(many) == len(few)


def test_the_demo_is_made_once() -> None:
    assert demo.create()
    assert not demo.create()
    assert set(Character.objects.values_list("status", flat=True)) == set(Status.values)
    assert Guild.objects.get(name="Knights of Dawn").members.current().count() == 6
    assert RosterChange.objects.count() == 5


def test_a_guild_is_deleted_with_its_roster_which_nobody_may_delete_alone(client: Client) -> None:
    demo.create()
    guild = Guild.objects.get(name="Knights of Dawn")
    url = reverse("admin:warcraft_guild_delete", args=[guild.pk])
    counts = {str(name): count for name, count in client.get(url).context["model_count"]}
    assert counts == {"guilds": "1", "members": "7", "roster changes": "5"}
    assert client.post(url, {"post": "yes"}).status_code == 302
    assert not Guild.objects.filter(pk=guild.pk).exists()
