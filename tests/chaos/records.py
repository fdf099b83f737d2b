"""What stands in the database at the end, and whether it is what the clients saw."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.chaos.clients import WORDS, Tab
from tests.chaos.plan import Person, Planned
from tests.chaos.site import Part, Site, Span

Row = dict[str, Any]

CHUNK = 1_000  # people an event
SAID = {
    "broadcast.activated": "MESSAGE",
    "broadcast.cancelled": "MESSAGE_REMOVED",
    "broadcast.expired": "MESSAGE_REMOVED",
}
UNRECORDED = 2.0  # seconds of work that a killed process may leave unrecorded
SETTLED = 4.0  # seconds until a process has found the database again
LATE = 3.0  # seconds that a busy test may take to see what was written to it


@dataclass
class Records:
    broadcasts: dict[int, Row]
    events: list[Row]
    receipts: dict[tuple[int, int], Row]
    head: int
    letters: int
    runs: list[Row]

    @classmethod
    def read(cls, url: str) -> "Records":
        with psycopg.connect(url, row_factory=dict_row) as database:

            def rows(table: str, order: str) -> list[Row]:
                return database.execute(f"SELECT * FROM {table} ORDER BY {order}").fetchall()

            lease = next(r for r in rows("outbox_leaderlease", "name") if r["name"] == "relay")
            return cls(
                broadcasts={row["id"]: row for row in rows("broadcasts_broadcast", "id")},
                events=rows("outbox_event", "position"),
                receipts={
                    (row["broadcast_id"], row["user_id"]): row
                    for row in rows("broadcasts_receipt", "id")
                },
                head=lease["position"],
                letters=len(rows("outbox_deadletter", "id")),
                runs=rows("jobs_run", "token"),
            )


@dataclass
class Findings:
    """What is wrong, in words; and what is allowed, but counted."""

    wrong: list[str]
    duplicates: int = 0
    unrecorded: int = 0


def examine(
    records: Records, planned: list[Planned], people: list[Person], tabs: list[Tab], site: Site
) -> Findings:
    findings = Findings([])
    by_reference = defaultdict(list)
    for row in records.broadcasts.values():
        by_reference[row["reference"]].append(row)
    known = {item.reference: item for item in planned}
    plans: dict[int, Planned] = {}
    for reference, item in known.items():
        if len(by_reference[reference]) == 1:
            plans[by_reference[reference][0]["id"]] = item
        else:
            findings.wrong.append(f"{len(by_reference[reference])} broadcasts {reference}")
    findings.wrong += check_broadcasts(records, plans, people)
    findings.wrong += check_log(records)
    findings.wrong += check_runs(records)
    for tab in tabs:
        findings.wrong += check_tab(records, tab, findings)
    findings.wrong += check_receipts(records, tabs, site, findings)
    return findings


def check_broadcasts(
    records: Records, plans: dict[int, Planned], people: list[Person]
) -> Iterator[str]:
    """Each has its status, its count, and its one event for each chunk of its audience."""
    told: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for event in records.events:
        if event["type"] in SAID and event["channels"]:
            told[event["data"]["broadcast_id"], SAID[event["type"]]].append(event)
    for pk, item in plans.items():
        row = records.broadcasts[pk]
        where = f"{item.reference} ({item.audience})"
        if row["status"] not in status_of(item):
            yield f"{where} is {row['status']}: {row['last_error']}"
        if not row["activated_at"] and row["status"] == "ACTIVE":
            yield f"{where} was never activated"
        audience = [person for person in people if item.addresses(person)]
        chunks = ceil(len(item.channels()) / CHUNK) if row["activated_at"] else 0
        over = row["status"] != "ACTIVE"
        for word, count in zip(WORDS, [chunks, chunks * over], strict=True):
            events = told[pk, word]
            channels = [channel for event in events for channel in event["channels"]]
            if len(events) != count or sorted(channels) != sorted(item.channels()) * bool(count):
                yield f"{where} has {len(events)} events {word}, not {count}"
        if row["activated_at"] and row["targeted"] != len(audience):
            yield f"{where} is for {row['targeted']} people, not {len(audience)}"


def status_of(item: Planned) -> set[str]:
    if item.cancelled_after is not None:
        return {"CANCELLED"}
    return {"EXPIRED"} if item.expires_after is not None else {"ACTIVE"}


def check_log(records: Records) -> Iterator[str]:
    """Every event is published, and no position is missing up to the head."""
    for event in records.events:
        if not (event["position"] and event["published_at"]):
            yield f"event {event['id']} ({event['type']}) is not published: {event['error']}"
    positions = [event["position"] for event in records.events if event["position"]]
    if holes := sorted(set(range(1, records.head + 1)) - set(positions)):
        yield f"no event has the positions {holes}"
    if records.letters:
        yield f"{records.letters} dead letters"


def check_runs(records: Records) -> Iterator[str]:
    """No two of a job at once; what a run wrote under its lease, it wrote once."""
    by_job = defaultdict(list)
    for run in records.runs:
        if run["started_at"]:
            by_job[run["job_id"]].append(run)
    for job, runs in by_job.items():
        for earlier, later in pairwise(runs):
            if not earlier["finished_at"] or earlier["finished_at"] > later["started_at"]:
                yield f"{job} ran at {earlier['slot']} and {later['slot']} at once"
    written = Counter(e["key"] for e in records.events if e["type"] == "test.second")
    yield from (f"the run of {slot} wrote {n} times" for slot, n in written.items() if n > 1)
    for run in by_job["TEST_EVERY_SECOND"]:
        if run["status"] == "SUCCEEDED" and run["slot"].isoformat() not in written:
            yield f"the run of {run['slot']} succeeded and wrote nothing"


def check_tab(records: Records, tab: Tab, findings: Findings) -> Iterator[str]:
    """It got what addresses its person, all of it, once and in order, and nothing else."""
    who = f"tab of {tab.person.pk} (last {tab.last_id})"
    due = [
        (event["position"], SAID[event["type"]], event["data"]["broadcast_id"])
        for event in records.events
        if event["type"] in SAID and not tab.person.channels.isdisjoint(event["channels"])
    ]
    got = [(one.position, one.event, one.broadcast) for one in tab.got]
    findings.duplicates += len(got) - len(set(got))
    if got == due:
        return
    if doubles := [one for one, count in Counter(got).items() if count > 1]:
        yield f"{who} got twice: {doubles}"
    if alien := set(got) - set(due):
        yield f"{who} got what is not for it: {sorted(alien)}"
    if [one for one, _, _ in got] != sorted(one for one, _, _ in got):
        yield f"{who} got out of order: {[b for a, b in pairwise(got) if a[0] > b[0]]}"
    missing = sorted(set(due) - set(got))
    if lost := [one for one in missing if not stands_in_inbox(one, records, tab)]:
        yield f"{who} missed {lost}"


def stands_in_inbox(missed: tuple[int, str, int], records: Records, tab: Tab) -> bool:
    """A RESET passed it over, and the inbox that was fetched then agrees."""
    position, word, broadcast = missed
    over = records.broadcasts[broadcast]["status"] != "ACTIVE"
    return any(
        reset.after < position <= reset.position
        and (word != "MESSAGE" or over or broadcast in reset.inbox)
        for reset in tab.resets
    )


def check_receipts(
    records: Records, tabs: list[Tab], site: Site, findings: Findings
) -> Iterator[str]:
    """Who saw a message has a receipt that says so, and nobody else has.

    What a web process wrote in its last moments before it was killed may be unrecorded.
    """
    seen = who_saw_what(tabs)
    web = dict(zip(site.ports, site.parts["web"], strict=True))
    for (broadcast, person), moments in seen.items():
        receipt = records.receipts.get((broadcast, person))
        if receipt and receipt["delivered_at"]:
            over = records.broadcasts[broadcast]["status"] != "ACTIVE"
            if receipt["status"] != ("SUPERSEDED" if over else "DELIVERED"):
                yield f"receipt of {broadcast} for {person} is {receipt['status']}"
        elif all(was_cut_off(at, web[port], site.database_away) for at, port in moments):
            findings.unrecorded += 1
        else:
            yield f"no receipt of {broadcast} for {person}, who got it {moments}"
    for (broadcast, person), receipt in records.receipts.items():
        if receipt["delivered_at"] and (broadcast, person) not in seen:
            yield f"receipt of {broadcast} for {person}, who has not got it"


def who_saw_what(tabs: list[Tab]) -> dict[tuple[int, int], list[tuple[float, int]]]:
    """By broadcast and person, when it came, and from which port; nothing, if by the inbox."""
    seen: dict[tuple[int, int], list[tuple[float, int]]] = defaultdict(list)
    for tab in tabs:
        for one in tab.got:
            if one.event == "MESSAGE":
                seen[one.broadcast, tab.person.pk].append((one.at, one.port))
        for reset in tab.resets:
            for broadcast in reset.inbox:
                seen.setdefault((broadcast, tab.person.pk), [])
    return seen


def was_cut_off(at: float, web: Part, away: Iterable[Span]) -> bool:
    """Whether the process was killed before it had had the time to record what it wrote then."""
    waits = [*web.frozen, *(Span(span.begin, span.end + SETTLED) for span in away)]
    return any(
        at - LATE <= kill and kill - at - waited(at, kill, waits) <= UNRECORDED
        for kill in web.killed
    )


def waited(begin: float, end: float, waits: Iterable[Span]) -> float:
    return sum(max(0, min(end, span.end) - max(begin, span.begin)) for span in waits)
