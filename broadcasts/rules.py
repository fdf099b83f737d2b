"""The verbs of a rule, and what it does about events.

For each event that its pattern asks for, one row says what became of it; the row and the broadcast
are one transaction, and the row is unique: an event that comes again finds it. The broadcast is
scheduled for now, so that the clock of broadcasts sends it like any other.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import AbstractUser, User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from broadcasts import approval_rules, services
from broadcasts.approvals import OwnWork
from broadcasts.conditions import holds, in_words, look_up
from broadcasts.fillings import data_of, fill_texts
from broadcasts.models import Approval, Broadcast, Composition, Outcome, Rule, RuleMatch
from jobs import clock
from jobs.acting import changes, did
from outbox.consumers import Envelope, handling
from outbox.models import Event
from outbox.services import emit
from outbox.topics import BROADCASTS

RULES = "rules"  # the consumer group, and the lease of who reads for it
TEXTS = {"title", "content", "language", "translations"}
PATTERN = [f.name for f in Composition._meta.get_fields() if f.name not in TEXTS]
UNCHECKED = ["sender", "series", "edited_by"]  # of rows that are there; each would cost a query


@dataclass(frozen=True)
class Verdict:
    """What a rule does about one event."""

    outcome: Outcome
    note: str = ""
    broadcast: Broadcast | None = None
    """Neither saved nor sent."""


# Operators


def create(rule: Rule, author: AbstractUser | None) -> Rule:
    """Raises `ValidationError` with one message a field."""
    rule.sender = cast("User | None", author)
    if author:
        rule.sender_name = author.get_full_name() or author.username
    services.validate(rule)
    needs_approval = bool(approval_rules.reasons(rule))
    with transaction.atomic():
        _settle(rule, needs_approval)
        rule.save()
        _tell(rule, "broadcast.rule.changed")
        _tell_if_it_waits(rule)
        did("rule.created", rule)
    return rule


def change(
    rule: Rule,
    *,
    editor: AbstractUser | None = None,
    version: int | None = None,
    **fields: Any,
) -> Rule:
    """From here on. `version` is what the editor saw, if that is not what `rule` was read as;
    raises `ChangedMeanwhile`. An approval of what it said before is void.
    """
    seen = rule.version if version is None else version
    for name, value in fields.items():
        setattr(rule, name, value)
    services.validate(rule)
    needs_approval = bool(approval_rules.reasons(rule))
    with _held(rule, seen) as stored:
        did("rule.changed", rule, changes=changes(stored, rule))
        rule.since = stored.since if stored.is_live else None
        rule.version = seen + 1
        rule.edited_by = cast("User | None", editor)
        _settle(rule, needs_approval)
        rule.save()
        _tell(rule, "broadcast.rule.changed")
        _tell_if_it_waits(rule)
    return rule


def start(rule: Rule) -> Rule:
    """It answers from now on, or waits for an approval."""
    needs_approval = bool(approval_rules.reasons(rule))
    with _held(rule, rule.version) as stored:
        _refuse_if(stored.active, _("This rule is active already."))
        rule.active, rule.since = True, None
        _settle(rule, needs_approval and stored.approval != Approval.APPROVED, stored.approval)
        _save(rule, "active", "approval", "since")
        _tell(rule, "broadcast.rule.started")
        _tell_if_it_waits(rule)
        did("rule.started", rule)
    return rule


def stop(rule: Rule) -> Rule:
    """Events pass by until it is started again."""
    with _held(rule, rule.version) as stored:
        _refuse_if(not stored.active, _("This rule is switched off already."))
        rule.active, rule.approval, rule.since = False, stored.approval, None
        _save(rule, "active", "since")
        _tell(rule, "broadcast.rule.stopped")
        did("rule.stopped", rule)
    return rule


def approve(rule: Rule, person: AbstractUser, version: int | None = None) -> Rule:
    """A second person lets it answer. Raises `OwnWork`, and `ChangedMeanwhile` if it is not the
    `version` that was seen."""
    with _held(rule, rule.version if version is None else version) as stored:
        _refuse_if(not stored.awaits_approval, _("This rule waits for no approval."))
        if person.pk in (stored.sender_id, stored.edited_by_id):
            raise OwnWork(
                _("You composed it, or changed it last: a second person must approve it.")
            )
        rule.active, rule.approval, rule.since = True, Approval.APPROVED, _from_now()
        _save(rule, "approval", "since")
        name = person.get_full_name() or person.username
        _tell(rule, "broadcast.rule.approval.approved", person_name=name)
        did("rule.approval.approved", rule)
    return rule


def _settle(rule: Rule, needs_approval: bool, approval: str = Approval.NONE) -> None:
    """Whether it waits for a second person, and from when on it answers."""
    if needs_approval:
        approval = Approval.REQUESTED
    elif approval == Approval.REQUESTED:  # which is not asked for any more
        approval = Approval.NONE
    rule.approval = approval
    rule.since = (rule.since or _from_now()) if rule.is_live else None


def _from_now() -> datetime:
    """SQLite stamps events to the millisecond: one of this moment must not seem to lie before."""
    return clock.now() - timedelta(milliseconds=1)


def _refuse_if(wrong: bool, sentence: str) -> None:
    if wrong:
        raise services.InvalidTransition(sentence)


def _save(rule: Rule, *names: str) -> None:
    changes = {name: getattr(rule, name) for name in names}
    Rule.objects.filter(pk=rule.pk).update(**changes, updated_at=timezone.now())


def _tell_if_it_waits(rule: Rule) -> None:
    if rule.awaits_approval:
        _tell(rule, "broadcast.rule.approval.requested")


def _tell(rule: Rule, event: str, **data: str) -> None:
    emit(event, key=f"rule-{rule.pk}", data={"rule_id": rule.pk, "name": rule.name} | data)


@contextmanager
def _held(rule: Rule, seen: int) -> Iterator[Rule]:
    """A transaction that holds its row, which is given, in the version that was seen."""
    with transaction.atomic():
        stored = Rule.objects.select_for_update(of=("self",)).filter(pk=rule.pk).first()
        if stored is None:
            raise services.InvalidTransition(_("This rule was deleted."))
        if stored.version != seen:
            raise services.ChangedMeanwhile(stored)
        yield stored


# Events


def apply(envelopes: Sequence[Envelope]) -> None:
    """What all rules do about these events; again changes nothing."""
    facts = [envelope for envelope in envelopes if "part" not in envelope]
    live = list(Rule.objects.live().only("pattern"))
    asked = {rule.pk for rule in live if any(rule.wants(fact["type"]) for fact in facts)}
    if not asked:
        return
    with transaction.atomic():
        # Held, in one order: of two readers that have the same event, the second one finds what
        # the first one did, and no two cool-downs end at once.
        held = Rule.objects.live().filter(pk__in=asked).order_by("pk").select_for_update()
        rules = list(held)
        done = set(
            RuleMatch.objects.filter(
                rule__in=rules, event_id__in=[fact["id"] for fact in facts]
            ).values_list("rule_id", "event_id")
        )
        ours = _of_rules(facts)
        now = clock.now()
        for rule in rules:
            _answer(rule, [f for f in facts if (rule.pk, UUID(f["id"])) not in done], ours, now)


def _answer(rule: Rule, facts: Sequence[Envelope], ours: set[int], now: datetime) -> None:
    wanted = [fact for fact in facts if rule.wants(fact["type"]) and _is_in_time(rule, fact, now)]
    last = _last_broadcasts(rule, now) if wanted else {}
    matches = []
    for fact in wanted:
        with handling(fact, RULES):
            verdict = judge(rule, fact, last, now, ours)
            if broadcast := verdict.broadcast:
                broadcast.save()
                services.schedule(broadcast, now)
                last[_cooled(rule, fact)] = now
        matches.append(
            RuleMatch(
                rule=rule,
                event_id=fact["id"],
                type=fact["type"],
                key=fact["subject"],
                outcome=verdict.outcome,
                note=verdict.note,
                broadcast=broadcast,
                created_at=now,
            )
        )
    RuleMatch.objects.bulk_create(matches, batch_size=100)


def _is_in_time(rule: Rule, fact: Envelope, now: datetime) -> bool:
    """Since the rule answers, and not so long ago that its row may be deleted."""
    at = datetime.fromisoformat(fact["time"])
    oldest = now - timedelta(days=settings.EVENT_RETENTION_DAYS)
    return rule.since is not None and at >= max(rule.since, oldest)


def _cooled(rule: Rule, fact: Envelope) -> str:
    """What cools down: the rule, or for it one key."""
    return str(fact["subject"]) if rule.per_key else ""


def _last_broadcasts(rule: Rule, now: datetime) -> dict[str, datetime]:
    """The last one of each that still cools down."""
    if not (pause := rule.pause):
        return {}
    sent = rule.matches.filter(outcome=Outcome.BROADCAST, created_at__gt=now - pause)
    rows = sent.order_by("created_at").values_list("key", "created_at")
    return {key if rule.per_key else "": at for key, at in rows}


def _of_rules(facts: Iterable[Envelope]) -> set[int]:
    """The broadcasts of rules that these events tell of."""
    told = {pk for fact in facts for pk in _broadcasts_in(fact)}
    if not told:
        return set()
    found = RuleMatch.objects.filter(broadcast_id__in=told).values_list("broadcast_id", flat=True)
    return {pk for pk in found if pk is not None}


def _broadcasts_in(fact: Envelope) -> list[int]:
    data = fact["data"]
    several = data.get("broadcast_ids")
    named = [data.get("broadcast_id"), *(several if isinstance(several, list) else [])]
    return [pk for pk in named if type(pk) is int]


def judge(
    rule: Rule,
    fact: Envelope,
    last: dict[str, datetime],
    now: datetime,
    ours: Iterable[int] = (),
) -> Verdict:
    """What `rule` does about an event that it wants, when the `last` broadcasts were then."""
    if not set(_broadcasts_in(fact)).isdisjoint(ours):
        return Verdict(Outcome.LOOP, _("It tells of a broadcast that a rule made."))
    data = data_of(fact)
    for condition in rule.conditions:
        if not holds(condition, data):
            return Verdict(Outcome.CONDITION, _unmet(condition, data))
    try:
        broadcast = compose(rule, fact, now)
    except ValidationError as error:
        return Verdict(Outcome.ERROR, " ".join(error.messages))
    pause, before = rule.pause, last.get(_cooled(rule, fact))
    if pause and before and before + pause > now:
        text = _("The last one went out less than %(pause)s before.")
        return Verdict(Outcome.COOL_DOWN, text % {"pause": rule.cool_down})
    return Verdict(Outcome.BROADCAST, broadcast=broadcast)


def compose(rule: Rule, fact: Envelope, now: datetime) -> Broadcast:
    """Raises `ValidationError` for a field that the event has not, and for what is too long."""
    broadcast = services.draft(
        rule.sender,
        sender_name=rule.sender_name,
        expires_at=now + rule.lifetime if rule.lifetime else None,
        **{name: getattr(rule, name) for name in PATTERN},
        **fill_texts(rule, data_of(fact)),
    )
    broadcast.clean_fields(exclude=UNCHECKED)
    broadcast.clean()
    return broadcast


def _unmet(condition: dict[str, Any], data: dict[str, Any]) -> str:
    actual = look_up(data, condition["field"])
    text = _("Not met: %(condition)s. It is %(actual)s.")
    shown = str(actual)[:200] if isinstance(actual, (str, int, float)) else _("something else")
    if actual is None or not isinstance(actual, (str, int, float, list, dict)):
        shown = _("missing")
    return text % {"condition": in_words(condition), "actual": shown}


# What is shown while a rule is written


def examples(pattern: str, limit: int) -> list[Event]:
    """The latest events that a pattern asks for, newest first."""
    events = Event.objects.filter(part=0).exclude(topic=BROADCASTS)
    if not pattern.endswith("*"):
        events = events.filter(type=pattern)
    elif pattern != "*":
        events = events.filter(topic=pattern.partition(".")[0], type__startswith=pattern[:-1])
    return list(events.order_by("-id")[:limit])


def rehearse(rule: Rule, limit: int) -> list[tuple[Event, Verdict]]:
    """What it would have done about the last events, newest first; nothing is written."""
    last: dict[str, datetime] = {}
    found = []
    for event in reversed(examples(rule.pattern, limit)):
        fact = event.envelope()
        if not rule.wants(event.type):
            continue
        verdict = judge(rule, fact, last, event.created_at)
        if verdict.outcome == Outcome.BROADCAST:
            last[_cooled(rule, fact)] = event.created_at
        found.append((event, verdict))
    return found[::-1]
