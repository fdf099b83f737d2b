"""Verbs on what is followed, characters and guilds alike; admin, API and jobs call them."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from domains.warcraft.battlenet import BattleNetError, NotFound
from domains.warcraft.models import (
    Faction,
    PlayableClass,
    Race,
    Status,
    Tracked,
    TrackedQuerySet,
)
from jobs import clock
from jobs.execution import run_now
from jobs.registry import periodic_jobs

JOBS = {"character": "CHARACTER_SYNC", "guild": "GUILD_SYNC"}
FIRST_DELAY = timedelta(minutes=15)  # after the first failure; doubled with each in a row
LONGEST_DELAY = timedelta(hours=24)
GONE_DELAY = timedelta(days=7)
OUTCOME = ["status", "failures", "last_error", "next_try_at"]
ERROR_LENGTH = 500
BATCH = 100  # rows of a statement


@transaction.atomic
def refresh(rows: TrackedQuerySet) -> tuple[int, datetime]:
    """Ask Battle.net for all of these at once, changed or not, before all that is merely due.

    How many, and the moment by which `asked_at` knows them. Raises `JobBusy`.
    """
    moment = clock.now()
    count = rows.update(is_asked=True, asked_at=moment)
    if count:
        run_now(JOBS[rows.model.noun])
    return count, moment


@transaction.atomic
def readdress(row: Tracked) -> None:
    """Save it under another name, realm or region: what was read belongs to the old one.

    What it was stays until Battle.net has answered; its history does, too. Where it has the same
    address, what was read stays, and only how it is written is saved.
    """
    stored = type(row)._default_manager.select_for_update().get(pk=row.pk)
    row.set_slugs()
    if row.natural_key() != stored.natural_key():
        row.modified = {}
        row.status, row.failures, row.last_error = Status.NEW, 0, ""
        row.next_try_at = clock.now()
        fields = ["name", "realm", "region", "name_slug", "realm_slug", "modified"]
        row.save(update_fields=[*fields, "status", "failures", "last_error", "next_try_at"])
    elif (row.name, row.realm) != (stored.name, stored.realm):
        row.save(update_fields=["name", "realm"])


def next_slot(noun: str, at: datetime) -> datetime:
    """When its job runs after this moment: a row that is due a moment later waits for another."""
    return periodic_jobs[JOBS[noun]].interval.after(at)


def delay_after(failures: int) -> timedelta:
    doubled: int = 2 ** min(failures - 1, 20)
    return min(FIRST_DELAY * doubled, LONGEST_DELAY)


def in_step(row: Tracked, at: datetime, next_try: datetime) -> dict[str, Any]:
    """What a row says of itself when Battle.net has answered."""
    return {
        "status": Status.OK,
        "synced_at": at,
        "next_try_at": next_try,
        "failures": 0,
        "last_error": "",
    }


def keep(model: type[Tracked], rows: Sequence[Tracked], at: datetime) -> None:
    """Nothing is new of these: one statement for all of them."""
    if rows:
        fields = in_step(rows[0], at, next_slot(model.noun, at))
        objects: Any = model._default_manager
        objects.filter(pk__in=[row.pk for row in rows]).update(**fields)


def fail(model: type[Tracked], failed: Sequence[tuple[Tracked, Exception]], at: datetime) -> None:
    """Say of each what was wrong, and when it is tried again: later with each failure in a row."""
    for row, error in failed:
        gone = isinstance(error, NotFound)
        row.failures += 1
        row.status = Status.GONE if gone else Status.FAILING
        row.last_error = words(error)
        delay = GONE_DELAY if gone else delay_after(row.failures)
        row.next_try_at = next_slot(model.noun, at + delay)
    objects: Any = model._default_manager
    # Not `overwrite`: a row may hold what the database has just refused.
    objects.bulk_update([row for row, _error in failed], OUTCOME, batch_size=BATCH)


def answered(model: type[Tracked], rows: Sequence[Tracked]) -> None:
    """Nobody waits for these any more, unless they were asked for again since they were read."""
    objects: Any = model._default_manager
    for moment in {row.asked_at for row in rows if row.is_asked}:
        asked = [row.pk for row in rows if row.is_asked and row.asked_at == moment]
        objects.filter(pk__in=asked, asked_at=moment).update(is_asked=False)


def overwrite(rows: Sequence[Tracked], names: list[str]) -> None:
    """These fields of rows that are there, and locked.

    Each row goes as it is: `bulk_update` would make a CASE for every field of every row, which
    cost more than all else that the job itself did.
    """
    if rows:
        objects: Any = type(rows[0])._default_manager
        objects.bulk_create(
            rows, batch_size=BATCH, update_conflicts=True, unique_fields=["id"], update_fields=names
        )


def words(error: Exception) -> str:
    said = str(error) if isinstance(error, BattleNetError) else f"{type(error).__name__}: {error}"
    return said.replace("\0", "")[:ERROR_LENGTH]


def still_those(model: type[Tracked], rows: Iterable[Tracked]) -> set[int]:
    """Locked: those that nobody deleted or readdressed since they were read."""
    expected = {row.pk: row.natural_key() for row in rows}
    objects: Any = model._default_manager
    current = objects.select_for_update().filter(pk__in=expected)
    found = current.values_list("pk", "region", "realm_slug", "name_slug")
    return {pk for pk, *natural in found if expected[pk] == tuple(natural)}


def know(model: type[Faction | Race | PlayableClass], names: dict[Any, str]) -> None:
    """Make what is missing, and name what had no name; a name that is there stays."""
    objects: Any = model._default_manager
    there = dict(objects.filter(pk__in=names).values_list("pk", "name"))
    missing = [model(pk=pk, name=name) for pk, name in names.items() if pk not in there]
    objects.bulk_create(missing, ignore_conflicts=True)
    for pk, name in names.items():
        if name and there.get(pk) == "":
            objects.filter(pk=pk, name="").update(name=name)
