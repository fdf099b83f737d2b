"""A character at Battle.net: what is asked for, and what becomes of the answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domains.warcraft.answers import (
    Profile,
    items_of,
    profile_of,
    statistics_of,
    thumbnail_of,
)
from domains.warcraft.battlenet import Asking, Document, NotFound, address
from domains.warcraft.models import (
    Character,
    Equipment,
    Faction,
    PlayableClass,
    Race,
    Statistics,
)
from domains.warcraft.services import in_step, know, next_slot, overwrite
from outbox.models import Event
from outbox.services import build_event, emit_all

DOCUMENTS = 4
OF_PROFILE = ["name", "realm", "level", "item_level", "specialization", "guild_name"]
OF_PROFILE += ["achievement_points", "last_login_at"]
WRITTEN = [*OF_PROFILE, "playable_class", "race", "faction", "thumbnail", "modified"]
WRITTEN += ["status", "synced_at", "next_try_at", "failures", "last_error"]


@dataclass(frozen=True)
class Answer:
    """What is None is as it was."""

    row: Character
    profile: Profile
    items: list[dict[str, Any]] | None
    statistics: dict[str, Any] | None
    thumbnail: str | None
    modified: dict[str, str]


def fetch(asking: Asking, row: Character) -> Answer | None:
    """None: nothing is new. All documents are written when its player logs out, so that the
    others are asked for only when the profile changed, or when somebody asked for all of it.
    """
    path = "/profile/wow/character" + address(row.realm_slug, row.name_slug)
    known = {} if row.is_asked else row.modified
    profile = asking.get(path, modified=known.get("profile", ""))
    if profile.body is None:
        return None
    worn = _beside(asking, f"{path}/equipment", known.get("equipment", ""))
    values = _beside(asking, f"{path}/statistics", known.get("statistics", ""))
    media = _beside(asking, f"{path}/character-media", known.get("media", ""))
    return Answer(
        row=row,
        profile=profile_of(profile.body),
        items=None if worn.body is None else items_of(worn.body),
        statistics=None if values.body is None else statistics_of(values.body),
        thumbnail=None if media.body is None else thumbnail_of(media.body),
        modified={
            "profile": profile.modified,
            "equipment": worn.modified,
            "statistics": values.modified,
            "media": media.modified,
        },
    )


def _beside(asking: Asking, path: str, modified: str) -> Document:
    """A character may have a profile and nothing else."""
    try:
        return asking.get(path, modified=modified)
    except NotFound:
        return Document({})


def write(answers: Sequence[Answer], at: datetime) -> None:
    """In the caller's transaction: rows, and an event for each that had something new."""
    profiles = [answer.profile for answer in answers]
    know(PlayableClass, {p.playable_class.id: p.playable_class.name for p in profiles})
    know(Race, {p.race.id: p.race.name for p in profiles})
    know(Faction, {p.faction.id: p.faction.name for p in profiles})
    next_try = next_slot(Character.noun, at)
    for answer in answers:
        _take(answer, at, next_try)
    overwrite([answer.row for answer in answers], WRITTEN)
    events = [
        build_event("warcraft.character.synced", answer.row.key, facts(answer))
        for answer in answers
    ]
    emit_all([*events, *_write_equipment(answers, at), *_write_statistics(answers, at)])


def _take(answer: Answer, at: datetime, next_try: datetime) -> None:
    row, profile = answer.row, answer.profile
    for name in OF_PROFILE:
        setattr(row, name, getattr(profile, name))
    row.playable_class_id = profile.playable_class.id
    row.race_id = profile.race.id
    row.faction_id = profile.faction.id
    row.thumbnail = row.thumbnail if answer.thumbnail is None else answer.thumbnail
    row.modified = answer.modified
    for name, value in in_step(row, at, next_try).items():
        setattr(row, name, value)


def _write_equipment(answers: Sequence[Answer], at: datetime) -> list[Event]:
    read = {a.row.pk: a.items for a in answers if a.items is not None}
    before = dict(Equipment.objects.filter(pk__in=read).values_list("pk", "items"))
    changed = {pk: items for pk, items in read.items() if before.get(pk) != items}
    rows = [Equipment(pk=pk, items=items, changed_at=at) for pk, items in changed.items()]
    Equipment.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["character"],
        update_fields=["items", "changed_at"],
    )
    return [
        build_event(
            "warcraft.character.equipment.updated",
            row.key,
            identity(row) | {"item_level": row.item_level, "slots": slots(before[row.pk], worn)},
        )
        for row in (answer.row for answer in answers)
        if row.pk in before and (worn := changed.get(row.pk)) is not None
    ]


def _write_statistics(answers: Sequence[Answer], at: datetime) -> list[Event]:
    read = {a.row.pk: a.statistics for a in answers if a.statistics is not None}
    before = dict(Statistics.objects.filter(pk__in=read).values_list("pk", "values"))
    changed = {pk: values for pk, values in read.items() if before.get(pk) != values}
    rows = [Statistics(pk=pk, values=values, changed_at=at) for pk, values in changed.items()]
    Statistics.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["character"],
        update_fields=["values", "changed_at"],
    )
    return [
        build_event(
            "warcraft.character.statistics.updated",
            row.key,
            identity(row) | {"changed": differing(before[row.pk], values)},
        )
        for row in (answer.row for answer in answers)
        if row.pk in before and (values := changed.get(row.pk)) is not None
    ]


def slots(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is worn elsewhere than before: each slot with both items, null for none."""
    old, new = ({item["slot"]: item for item in items} for items in (before, after))
    return [
        {"slot": slot, "before": old.get(slot), "after": new.get(slot)}
        for slot in sorted(old | new)
        if old.get(slot) != new.get(slot)
    ]


def differing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(name for name in before | after if before.get(name) != after.get(name))


def identity(row: Character) -> dict[str, Any]:
    return {
        "character_id": row.pk,
        "name": row.name,
        "realm": row.realm,
        "region": row.region,
    }


def facts(answer: Answer) -> dict[str, Any]:
    row, profile = answer.row, answer.profile
    assert row.synced_at
    return identity(row) | {
        "level": row.level,
        "item_level": row.item_level,
        "class": profile.playable_class.name,
        "race": profile.race.name,
        "faction": profile.faction.name,
        "achievement_points": row.achievement_points,
        "synced_at": row.synced_at.isoformat(),
    }
