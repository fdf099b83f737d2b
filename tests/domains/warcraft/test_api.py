from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from domains.warcraft.models import Character, Guild, Status
from domains.warcraft.tasks import sync_characters, sync_guilds
from jobs.models import Job
from tests.domains.warcraft.battlenet import LATER, World
from tests.factories import operator

pytestmark = pytest.mark.django_db

CHARACTERS = "/api/warcraft/characters"
GUILDS = "/api/warcraft/guilds"
AELWYN = {"name": "Aelwyn", "realm": "Area 52", "region": "us"}
KNIGHTS = {"name": "Knights of Dawn", "realm": "Area 52", "region": "us"}


@pytest.fixture(autouse=True)
def signed_in(client: Client) -> None:
    verbs = ("view", "add", "change", "delete")
    nouns = ("character", "guild")
    client.force_login(operator(*(f"warcraft.{verb}_{noun}" for verb in verbs for noun in nouns)))


def post(client: Client, address: str, **data: Any) -> Any:
    return client.post(address, data, content_type="application/json")


def test_a_character_is_followed_synced_shown_renamed_and_deleted(
    client: Client, world: World
) -> None:
    path = world.character("Aelwyn")
    made = post(client, CHARACTERS, **AELWYN)
    assert made.status_code == 201, made.content
    assert (made.json()["status"], made.json()["realm_slug"]) == ("NEW", "area-52")
    url = f"{CHARACTERS}/{made.json()['id']}"
    assert client.get(f"{url}/equipment").json() == {"items": [], "changed_at": None}
    assert client.get(f"{url}/statistics").json() == {"values": {}, "changed_at": None}
    sync_characters()
    shown = client.get(url).json()
    assert (shown["status"], shown["playable_class"], shown["item_level"]) == ("OK", "Mage", 704)
    assert len(client.get(f"{url}/equipment").json()["items"]) == 4
    assert client.get(f"{url}/statistics").json()["values"]["health"] == 8123460
    world.character("Nela")
    renamed = client.patch(url, {"name": "Nela", "status": "GONE"}, "application/json").json()
    assert (renamed["name_slug"], renamed["status"], renamed["level"]) == ("nela", "NEW", 80)
    sync_characters()
    assert world.counts[path] == 1
    assert client.get(url).json()["name"] == "Nela"
    assert client.delete(url).status_code == 204
    assert client.get(url).status_code == 404


def test_a_guild_has_a_roster_and_its_history(client: Client, world: World) -> None:
    path = world.guild()
    url = f"{GUILDS}/{post(client, GUILDS, **KNIGHTS).json()['id']}"
    assert client.get(f"{url}/roster").json()["results"] == []
    sync_guilds()
    world.roster(path, lambda members: members.pop(0), LATER)
    assert client.post(f"{url}/refresh").status_code == 202
    sync_guilds()
    roster = client.get(f"{url}/roster").json()
    assert [member["name"] for member in roster["results"]] == ["Aelwyn", "Zuljira"]
    backwards = client.get(f"{url}/roster?ordering=-rank").json()["results"]
    assert [member["name"] for member in backwards] == ["Zuljira", "Aelwyn"]
    (change,) = client.get(f"{url}/changes").json()["results"]
    assert (change["kind"], change["member_name"], change["before"]) == ("LEFT", "Thórgrim", "0")
    races = client.get("/api/warcraft/races").json()["results"]
    assert {"id": 2, "name": "Orc"} in races
    assert client.get("/api/warcraft/classes/8").json() == {"id": 8, "name": "Mage"}
    assert client.get("/api/warcraft/factions/HORDE").json()["name"] == "Horde"


def test_a_refresh_is_taken_and_done_by_the_job(client: Client, world: World) -> None:
    world.character("Aelwyn")
    Job.objects.get_or_create(name="CHARACTER_SYNC")
    url = f"{CHARACTERS}/{post(client, CHARACTERS, **AELWYN).json()['id']}"
    taken = client.post(f"{url}/refresh")
    assert taken.status_code == 202
    assert (taken.json()["is_asked"], world.asked) == (True, [])
    assert Job.objects.get(name="CHARACTER_SYNC").requested_at
    sync_characters()
    done = client.get(url).json()
    assert (done["is_asked"], done["status"]) == (False, "OK")
    assert done["asked_at"] == taken.json()["asked_at"]


def test_too_many_refreshes_are_told_when_to_come_again(client: Client, settings: Settings) -> None:
    settings.WARCRAFT_REFRESHES_PER_MINUTE = 2
    cache.clear()
    url = f"{CHARACTERS}/{post(client, CHARACTERS, **AELWYN).json()['id']}"
    answers = [client.post(f"{url}/refresh") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert 0 < int(answers[2]["Retry-After"]) <= 60
    assert client.get(url).status_code == 200


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", "", "blank"),
        ("name", "../x", "as the game shows it"),
        ("realm", "a/b", "as the game shows it"),
        ("realm", "''", "as the game shows it"),
        ("region", "mars", "not a valid choice"),
    ],
)
def test_what_is_no_name_is_refused(client: Client, field: str, value: str, words: str) -> None:
    answer = post(client, CHARACTERS, **AELWYN | {field: value})
    assert answer.status_code == 400
    assert words in answer.json()["fields"][field][0]


def test_a_character_is_followed_once_however_it_is_written(client: Client) -> None:
    first = post(client, CHARACTERS, **AELWYN).json()
    again = post(client, CHARACTERS, name="aelwyn", realm="area-52", region="us")
    assert again.status_code == 400
    assert "followed already" in again.json()["message"]
    assert post(client, CHARACTERS, **AELWYN | {"region": "eu"}).status_code == 201
    other = f"{CHARACTERS}/{first['id']}"
    assert client.patch(other, {"region": "eu"}, "application/json").status_code == 400
    assert client.patch(other, {"name": "AELWYN"}, "application/json").status_code == 200


def test_lists_are_filtered_and_cost_a_fixed_number_of_queries(
    client: Client, world: World
) -> None:
    world.everybody = True
    for name in ("Aelwyn", "Nela", "Ruk"):
        post(client, CHARACTERS, **AELWYN | {"name": name})
    sync_characters()
    client.get(CHARACTERS)
    with CaptureQueriesContext(connection) as few:
        assert client.get(CHARACTERS).json()["count"] == 3
    for name in ("Oldhand", "Zul", "Morg"):
        post(client, CHARACTERS, **AELWYN | {"name": name, "realm": "Kel'Thuzad", "region": "eu"})
    sync_characters()
    Character.objects.filter(name="Zul").update(status=Status.GONE)
    with CaptureQueriesContext(connection) as many:
        assert client.get(CHARACTERS).json()["count"] == 6
    assert len(many) == len(few)

    def names(query: str) -> list[str]:
        return [row["name"] for row in client.get(f"{CHARACTERS}?{query}").json()["results"]]

    assert names("realm=Kel'Thuzad") == ["Morg", "Oldhand", "Zul"]
    assert names("status=GONE") == ["Zul"]
    assert names("region=us&search=el") == ["Aelwyn", "Nela"]
    assert names("guild=knights of dawn&min_level=80&ordering=-name")[0] == "Zul"
    assert names("playable_class=1") == []


@pytest.mark.parametrize(
    ("method", "address", "permission"),
    [
        ("get", CHARACTERS, "view_character"),
        ("post", CHARACTERS, "add_character"),
        ("get", f"{CHARACTERS}/1", "view_character"),
        ("get", f"{CHARACTERS}/1/equipment", "view_character"),
        ("get", f"{CHARACTERS}/1/statistics", "view_character"),
        ("patch", f"{CHARACTERS}/1", "change_character"),
        ("delete", f"{CHARACTERS}/1", "delete_character"),
        ("post", f"{CHARACTERS}/1/refresh", "change_character"),
        ("get", GUILDS, "view_guild"),
        ("post", f"{GUILDS}/1/refresh", "change_guild"),
        ("get", f"{GUILDS}/1/roster", "view_guild"),
        ("get", f"{GUILDS}/1/changes", "view_guild"),
        ("get", "/api/warcraft/races", "view_character"),
        ("get", "/api/warcraft/classes", "view_character"),
        ("get", "/api/warcraft/factions", "view_character"),
    ],
)
def test_each_call_needs_its_permission(method: str, address: str, permission: str) -> None:
    def ask(user: Any) -> int:
        client = Client()
        if user:
            client.force_login(user)
        status: int = getattr(client, method)(address, content_type="application/json").status_code
        return status

    assert ask(None) == 401
    assert ask(operator("jobs.view_job")) == 403
    assert ask(operator(f"warcraft.{permission}")) in (200, 400, 404)
    assert not Guild.objects.exists()
