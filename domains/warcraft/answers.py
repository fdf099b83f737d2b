"""Battle.net's documents, read: what is kept of each, or `Refused` with what is missing."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from django.utils.translation import gettext as _

from domains.warcraft.battlenet import Refused

Body = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")
NO_STATISTICS = {"_links", "character"}


@dataclass(frozen=True)
class Named:
    """Something by Battle.net's own id, or key."""

    id: Any
    name: str


@dataclass(frozen=True)
class Profile:
    name: str
    realm: str
    level: int
    item_level: int
    playable_class: Named
    race: Named
    faction: Named
    specialization: str
    guild_name: str
    achievement_points: int
    last_login_at: datetime | None


@dataclass(frozen=True)
class GuildSummary:
    name: str
    realm: str
    faction: Named
    member_count: int
    achievement_points: int


@dataclass(frozen=True)
class Member:
    id: int
    name: str
    realm_slug: str
    rank: int
    level: int | None
    class_id: int | None
    race_id: int | None

    @property
    def key(self) -> tuple[str, int]:
        return self.realm_slug, self.id


def reader(read: Callable[P, T]) -> Callable[P, T]:
    """What is missing, or is no number, is said of one row and stops no other."""

    @wraps(read)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(*args, **kwargs)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Refused(
                _("Battle.net answers something else than its documents say: %(error)r")
                % {"error": error}
            ) from error

    return checked


@reader
def profile_of(body: Body) -> Profile:
    login = body.get("last_login_timestamp")
    return Profile(
        name=str(body["name"]),
        realm=str(body["realm"]["name"]),
        level=natural(body["level"]),
        item_level=natural(body.get("equipped_item_level", 0)),
        playable_class=_named(body["character_class"]),
        race=_named(body["race"]),
        faction=_faction(body["faction"]),
        specialization=str(body.get("active_spec", {}).get("name") or ""),
        guild_name=str(body.get("guild", {}).get("name") or ""),
        achievement_points=natural(body.get("achievement_points", 0)),
        last_login_at=datetime.fromtimestamp(login / 1_000, UTC) if login else None,
    )


@reader
def items_of(body: Body) -> list[dict[str, Any]]:
    """In the order of Battle.net, which is that of the game's own window."""
    return [
        {
            "slot": str(item["slot"]["type"]),
            "item_id": natural(item["item"]["id"]),
            "name": str(item.get("name") or ""),
            "quality": str(item.get("quality", {}).get("type") or ""),
            "level": natural(item.get("level", {}).get("value", 0)),
        }
        for item in body.get("equipped_items", [])
    ]


@reader
def statistics_of(body: Body) -> dict[str, Any]:
    return {name: value for name, value in sorted(body.items()) if name not in NO_STATISTICS}


@reader
def thumbnail_of(body: Body) -> str:
    found = {asset["key"]: str(asset["value"]) for asset in body.get("assets", [])}
    url = found.get("avatar", "")
    return url if url.startswith("https://") and len(url) <= 500 else ""


@reader
def guild_of(body: Body) -> GuildSummary:
    return GuildSummary(
        name=str(body["name"]),
        realm=str(body["realm"]["name"]),
        faction=_faction(body["faction"]),
        member_count=natural(body["member_count"]),
        achievement_points=natural(body["achievement_points"]),
    )


@reader
def roster_of(body: Body) -> list[Member]:
    return [_member(entry) for entry in body["members"]]


@reader
def index_of(body: Body, name: str) -> list[Named]:
    """Of a list of static data: classes or races."""
    return [_named(entry) for entry in body[name]]


def _member(entry: Body) -> Member:
    character = entry["character"]
    return Member(
        id=natural(character["id"]),
        name=str(character["name"]),
        realm_slug=str(character["realm"]["slug"]),
        rank=natural(entry["rank"]),
        level=_optional(character.get("level")),
        class_id=_optional(character.get("playable_class", {}).get("id")),
        race_id=_optional(character.get("playable_race", {}).get("id")),
    )


def _named(body: Body) -> Named:
    return Named(natural(body["id"]), str(body.get("name") or "")[:100])


def _faction(body: Body) -> Named:
    return Named(str(body["type"]), str(body.get("name") or "")[:100])


def _optional(value: Any) -> int | None:
    return None if value is None else natural(value)


def natural(value: Any) -> int:
    """What no column could hold is no number of a game."""
    number = int(value)
    if not 0 <= number < 2**63:
        raise ValueError(f"{number} is out of range")
    return number
