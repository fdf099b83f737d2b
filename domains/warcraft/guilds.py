"""A guild at Battle.net: what is asked for, and what its roster tells of who came and went."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from domains.warcraft.answers import GuildSummary, Member, guild_of, index_of, roster_of
from domains.warcraft.battlenet import Asking, BattleNetError, Client, Refused, address
from domains.warcraft.models import (
    Faction,
    Guild,
    GuildMember,
    PlayableClass,
    Race,
    RosterChange,
)
from domains.warcraft.services import in_step, know, next_slot, overwrite
from outbox.models import Event
from outbox.services import build_event, emit_all

DOCUMENTS = 2
BATCH = 500
WRITTEN = ["name", "realm", "faction", "member_count", "achievement_points", "modified"]
WRITTEN += ["status", "synced_at", "next_try_at", "failures", "last_error"]
OF_MEMBER = ["name", "rank", "level", "playable_class_id", "race_id"]
Change = RosterChange.Kind


@dataclass(frozen=True)
class Answer:
    """What is None is as it was."""

    row: Guild
    summary: GuildSummary | None
    members: list[Member] | None
    modified: dict[str, str]
    is_first: bool
    """No roster was read under this name: who is in it did not join just now, and who is known
    is of the old name."""


@dataclass
class Difference:
    """What rosters tell when they are laid beside what was known."""

    joined: list[GuildMember] = field(default_factory=list)
    left: list[GuildMember] = field(default_factory=list)
    changed: list[GuildMember] = field(default_factory=list)
    history: list[RosterChange] = field(default_factory=list)


def fetch(asking: Asking, row: Guild) -> Answer | None:
    """None: nothing is new."""
    path = "/data/wow/guild" + address(row.realm_slug, row.name_slug)
    known = {} if row.is_asked else row.modified
    guild = asking.get(path, modified=known.get("guild", ""))
    roster = asking.get(f"{path}/roster", modified=known.get("roster", ""))
    if guild.body is None and roster.body is None:
        return None
    summary = None if guild.body is None else guild_of(guild.body)
    members = None if roster.body is None else roster_of(roster.body)
    count = row.member_count if summary is None else summary.member_count
    if members == [] and count:
        raise Refused(
            _("Battle.net counts %(count)s members and lists none: nobody has left.")
            % {"count": count}
        )
    modified = {"guild": guild.modified, "roster": roster.modified}
    is_first = "roster" not in row.modified
    return Answer(row, summary, members, modified, is_first)


def write(answers: Sequence[Answer], at: datetime) -> None:
    """In the caller's transaction: guilds, rosters, their history, and the events."""
    summaries = [answer.summary for answer in answers if answer.summary]
    know(Faction, {summary.faction.id: summary.faction.name for summary in summaries})
    next_try = next_slot(Guild.noun, at)
    for answer in answers:
        _take(answer, at, next_try)
    overwrite([answer.row for answer in answers], WRITTEN)
    names = dict(Faction.objects.values_list("pk", "name"))
    events = [
        build_event(
            "warcraft.guild.synced",
            answer.row.key,
            facts(answer.row, names.get(answer.row.faction_id or "", "")),
        )
        for answer in answers
    ]
    emit_all([*events, *_write_rosters(answers, at)])


def _take(answer: Answer, at: datetime, next_try: datetime) -> None:
    row, summary = answer.row, answer.summary
    if summary:
        row.name, row.realm = summary.name, summary.realm
        row.faction_id = summary.faction.id
        row.member_count = summary.member_count
        row.achievement_points = summary.achievement_points
    row.modified = answer.modified
    for name, value in in_step(row, at, next_try).items():
        setattr(row, name, value)


def _write_rosters(answers: Sequence[Answer], at: datetime) -> list[Event]:
    read = [answer for answer in answers if answer.members is not None]
    members = [member for answer in read for member in answer.members or ()]
    know(PlayableClass, {m.class_id: "" for m in members if m.class_id is not None})
    know(Race, {m.race_id: "" for m in members if m.race_id is not None})
    known: dict[int, dict[tuple[str, int], GuildMember]] = {a.row.pk: {} for a in read}
    for member in GuildMember.objects.current().filter(guild__in=known):
        known[member.guild_id][member.realm_slug, member.battlenet_id] = member
    difference = Difference()
    for answer in read:
        _compare(answer, known[answer.row.pk], difference, at)
    GuildMember.objects.bulk_create(difference.joined, batch_size=BATCH)
    GuildMember.objects.bulk_update(difference.changed, OF_MEMBER, batch_size=100)
    for start in range(0, len(difference.left), BATCH):
        gone = [member.pk for member in difference.left[start : start + BATCH]]
        GuildMember.objects.filter(pk__in=gone).update(left_at=at)
    RosterChange.objects.bulk_create(difference.history, batch_size=BATCH)
    guilds = {answer.row.pk: answer.row for answer in read}
    return [
        _event_of(change, guilds[change.guild_id])
        for change in difference.history
        if change.kind in (Change.JOINED, Change.LEFT)
    ]


def _compare(
    answer: Answer,
    known: dict[tuple[str, int], GuildMember],
    difference: Difference,
    at: datetime,
) -> None:
    guild = answer.row
    listed = {member.key: member for member in answer.members or ()}
    history: list[RosterChange] = []
    for key, member in listed.items():
        if key in known:
            history += _compare_member(known[key], member, difference, at)
            continue
        new = GuildMember(
            guild=guild,
            battlenet_id=member.id,
            realm_slug=member.realm_slug,
            joined_at=None if answer.is_first else at,
            **fields_of(member),
        )
        difference.joined.append(new)
        history.append(changed(new, Change.JOINED, at, after=str(new.rank)))
    for key, row in known.items():
        if key not in listed:
            row.left_at = at
            difference.left.append(row)
            history.append(changed(row, Change.LEFT, at, before=str(row.rank)))
    if not answer.is_first:
        difference.history += history


def _compare_member(
    row: GuildMember, member: Member, difference: Difference, at: datetime
) -> list[RosterChange]:
    new = fields_of(member)
    history: list[RosterChange] = []
    if all(getattr(row, name) == value for name, value in new.items()):
        return history
    if row.rank != member.rank:
        before, after = str(row.rank), str(member.rank)
        history.append(changed(row, Change.RANK, at, before=before, after=after))
    if row.name != member.name:
        history.append(changed(row, Change.RENAMED, at, before=row.name, after=member.name))
    for name, value in new.items():
        setattr(row, name, value)
    difference.changed.append(row)
    return history


def fields_of(member: Member) -> dict[str, Any]:
    return {
        "name": member.name,
        "rank": member.rank,
        "level": member.level,
        "playable_class_id": member.class_id,
        "race_id": member.race_id,
    }


def changed(
    member: GuildMember, kind: str, at: datetime, before: str = "", after: str = ""
) -> RosterChange:
    return RosterChange(
        guild_id=member.guild_id, member=member, kind=kind, before=before, after=after, at=at
    )


def _event_of(change: RosterChange, guild: Guild) -> Event:
    member = change.member
    data = identity(guild) | {
        "member_id": member.pk,
        "member_name": member.name,
        "member_realm": member.realm_slug,
        "rank": member.rank,
        "level": member.level,
    }
    if change.kind == Change.JOINED:
        return build_event("warcraft.guild.member.joined", guild.key, data)
    return build_event("warcraft.guild.member.left", guild.key, data)


def identity(row: Guild) -> dict[str, Any]:
    return {"guild_id": row.pk, "name": row.name, "realm": row.realm, "region": row.region}


def facts(row: Guild, faction: str) -> dict[str, Any]:
    assert row.synced_at
    return identity(row) | {
        "faction": faction,
        "member_count": row.member_count,
        "achievement_points": row.achievement_points,
        "synced_at": row.synced_at.isoformat(),
    }


def name_unnamed(client: Client, region: str) -> None:
    """Rosters have classes and races by id alone: their names are fetched when some lack them.

    What cannot be had is asked for by the next run.
    """
    asking = Asking(client, region)
    wanted: list[tuple[type[PlayableClass | Race], str, str]] = [
        (PlayableClass, "/data/wow/playable-class/index", "classes"),
        (Race, "/data/wow/playable-race/index", "races"),
    ]
    for model, path, name in wanted:
        objects: Any = model._default_manager
        if objects.filter(name="").exists():
            try:
                body = asking.get(path, namespace="static").body or {}
                know(model, {found.id: found.name for found in index_of(body, name)})
            except BattleNetError:
                return
