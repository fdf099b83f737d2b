"""Characters, from Battle.net's documents to rows and events."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from domains.warcraft.models import Character, Equipment, Statistics, Status
from domains.warcraft.services import refresh
from domains.warcraft.tasks import sync_characters
from jobs import clock
from outbox.models import Event
from tests.domains.warcraft.battlenet import LATER, World

pytestmark = pytest.mark.django_db


def follow(name: str = "Aelwyn", realm: str = "Area 52", region: str = "us") -> Character:
    return Character.objects.create(name=name, realm=realm, region=region)


def make_due() -> None:
    Character.objects.update(next_try_at=timezone.now() - timedelta(seconds=1))


def events(kind: str) -> list[dict[str, Any]]:
    rows = Event.objects.filter(type=f"warcraft.character.{kind}").order_by("id")
    return [row.data for row in rows]


def test_a_character_is_read_and_told(world: World) -> None:
    world.character("Aelwyn")
    row = follow("aelwyn", "area-52")
    outcome = sync_characters()
    assert (outcome.items, outcome.failed, outcome.skipped) == (1, 0, 0)
    row.refresh_from_db()
    assert (row.name, row.realm, row.level, row.item_level) == ("Aelwyn", "Area 52", 80, 704)
    assert (str(row.playable_class), str(row.race), str(row.faction)) == (
        "Mage",
        "Blood Elf",
        "Horde",
    )
    assert (row.guild_name, row.specialization) == ("Knights of Dawn", "Frost")
    assert row.thumbnail.endswith("avatar.jpg")
    assert (row.status, row.failures, row.last_error) == (Status.OK, 0, "")
    assert row.next_try_at > clock.now()
    assert Equipment.objects.get().items[0] == {
        "slot": "HEAD",
        "item_id": 237718,
        "name": "Augur's Ephemeral Wide-Brim",
        "quality": "EPIC",
        "level": 710,
    }
    assert Statistics.objects.get().values["intellect"] == {"base": 17647, "effective": 83121}
    assert row.synced_at
    assert events("synced") == [
        {
            "character_id": row.pk,
            "name": "Aelwyn",
            "realm": "Area 52",
            "region": "us",
            "level": 80,
            "item_level": 704,
            "class": "Mage",
            "race": "Blood Elf",
            "faction": "Horde",
            "achievement_points": 21445,
            "synced_at": row.synced_at.isoformat(),
        }
    ]
    assert Event.objects.get().topic == "warcraft"


def test_the_region_decides_namespace_and_locale(world: World, settings: Any) -> None:
    settings.BATTLENET_CN_CLIENT_ID, settings.BATTLENET_CN_CLIENT_SECRET = "client", "secret"
    world.character("Aelwyn")
    follow(region="eu")
    follow(region="cn")
    sync_characters()
    asked = {a.query["namespace"]: a.query["locale"] for a in world.asked}
    assert asked == {"profile-eu": "en_US", "profile-cn": "zh_CN"}


def test_what_did_not_change_is_no_event_and_one_request(world: World) -> None:
    world.character("Aelwyn")
    follow()
    sync_characters()
    before = Character.objects.get()
    world.asked.clear()
    make_due()
    assert sync_characters().items == 1
    assert [a.headers.get("If-Modified-Since") for a in world.asked] == [before.modified["profile"]]
    after = Character.objects.get()
    assert before.synced_at
    assert after.synced_at
    assert after.synced_at > before.synced_at
    assert len(events("synced")) == 1


def test_another_helmet_is_told_with_both(world: World) -> None:
    path = world.character("Aelwyn")
    row = follow()
    sync_characters()
    assert not events("equipment.updated")  # what was never read did not change
    worn = world.documents[f"{path}/equipment"][0]
    worn["equipped_items"][0]["level"]["value"] = 723
    world.documents[f"{path}/equipment"] = worn, LATER
    world.put(path, "character", LATER, equipped_item_level=707)
    make_due()
    sync_characters()
    (told,) = events("equipment.updated")
    assert (told["character_id"], told["item_level"]) == (row.pk, 707)
    (slot,) = told["slots"]
    assert (slot["slot"], slot["before"]["level"], slot["after"]["level"]) == ("HEAD", 710, 723)
    assert not events("statistics.updated")  # they were 304


def test_other_statistics_are_told_by_name(world: World) -> None:
    path = world.character("Aelwyn")
    follow()
    sync_characters()
    world.put(path, "character", LATER)
    world.put(f"{path}/statistics", "statistics", LATER, health=9_000_000)
    make_due()
    sync_characters()
    assert [told["changed"] for told in events("statistics.updated")] == [["health"]]
    assert Statistics.objects.get().values["health"] == 9_000_000


def test_a_profile_may_be_all_there_is(world: World) -> None:
    path = world.character("Aelwyn")
    for name in ("equipment", "statistics", "character-media"):
        del world.documents[f"{path}/{name}"]
    del world.documents[path][0]["guild"]
    follow()
    assert sync_characters().items == 1
    assert Equipment.objects.get().items == []
    assert Character.objects.get().guild_name == ""


def test_who_asks_gets_all_of_it_whatever_is_said_to_be_unchanged(world: World) -> None:
    world.character("Aelwyn")
    follow()
    sync_characters()
    Statistics.objects.all().delete()
    world.asked.clear()
    count, moment = refresh(Character.objects.all())
    assert count == 1
    sync_characters()
    assert len(world.asked) == 4
    row = Character.objects.get()
    assert (row.is_asked, row.asked_at) == (False, moment)
    assert Statistics.objects.exists()


def test_a_name_of_any_letters_is_asked_for(world: World) -> None:
    world.character("Ærwýn", "kelthuzad")
    world.character("Странник", "gordunni")
    follow("Ærwýn", "Kel'Thuzad")
    follow("Странник", "gordunni", "eu")
    assert sync_characters().items == 2


@pytest.mark.parametrize(
    ("realm", "slug"),
    [
        ("Argent Dawn", "argent-dawn"),
        ("argent-dawn", "argent-dawn"),
        ("Kel'Thuzad", "kelthuzad"),
        ("Azjol-Nerub", "azjolnerub"),
        ("Aggra (Português)", "aggra-português"),
        ("  Festung der Stürme ", "festung-der-stürme"),
    ],
)
def test_a_realm_is_known_by_its_slug(realm: str, slug: str) -> None:
    assert follow(realm=realm).realm_slug == slug
