"""Everything is killed, frozen and restarted while broadcasts go out; nobody may notice.

`make chaos` is the long form; CHAOS_SECONDS and CHAOS_SEED choose.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from tests import servers
from tests.chaos import operators
from tests.chaos.clients import Got, Tab, inbox
from tests.chaos.plan import LAST, Person, Planned, people, plan
from tests.chaos.records import Findings, Records, check_tab, examine
from tests.chaos.site import LEASE, Site, said
from tests.conftest import Spawn, needed
from tests.processes import Spawned, environment
from tests.servers.programs import lasting_ports
from tests.sse import token_of
from tests.waiting import PATIENCE

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(connection.vendor != "sqlite", reason="it has a PostgreSQL of its own"),
]

SECONDS = int(os.environ.get("CHAOS_SECONDS", "30"))
BROADCASTS, CLIENTS = (1_000 * SECONDS // 60, 200) if SECONDS >= 60 else (5 * SECONDS, 60)
HEALED = 300  # seconds that everything may take to come right after the last fault

SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "tests.cluster.settings",  # for a job that ticks each second
    **{f"TEST_{name}_ENABLED": "false" for name in ("LONG", "FREEZE", "RAISES", "HANGS")},
    "OUTBOX_LEASE_SECONDS": str(LEASE),
    "QCLUSTER_WORKERS": "1",
    "SSE_CONNECTS_PER_MINUTE": "0",  # all come from one address
    "SSE_TOKEN_SECONDS": "3600",
    "SSE_HEARTBEAT": "5",
    "SSE_CLIENT_TIMEOUT": "15",
}


@dataclass
class Run:
    """One run of the test, and what it says of itself."""

    site: Site
    people: list[Person]
    tabs: list[Tab] = field(default_factory=list)
    healed_after: float = 0

    async def until(
        self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE
    ) -> None:
        """Wait for it, however the event loop is used meanwhile."""
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(condition):
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
            await asyncio.sleep(0.2)

    def ask(self, question: str) -> int:
        with psycopg.connect(self.site.env["DATABASE_URL"]) as database:
            row = database.execute(question).fetchone()
        assert row
        return int(row[0])

    def at_rest(self) -> bool:
        """Nothing is due any more, and nothing waits to be published."""
        waiting = "SELECT count(*) FROM outbox_event WHERE published_at IS NULL"
        due = (
            "SELECT count(*) FROM broadcasts_broadcast WHERE status IN ('SCHEDULED', 'IN_PROGRESS')"
            " OR status = 'ACTIVE' AND expires_at IS NOT NULL"
        )
        return not self.ask(due) and not self.ask(waiting)

    def operators(self, planned: list[Planned]) -> Spawned:
        self.site.var.joinpath(operators.PLAN).write_text(json.dumps([asdict(p) for p in planned]))
        return self.site.code("from tests.chaos.operators import work; work()")

    def open_tabs(self, chance: random.Random) -> None:
        for person in self.people:
            for number in range(person.tabs):
                self.tabs.append(
                    Tab(
                        port=self.site.ports[(person.pk + number) % 2],
                        token=token_of(person.pk, self.site.env),
                        person=person,
                        ports=list(self.site.ports),
                        chance=chance,
                    )
                )

    async def go(self, planned: list[Planned], chance: random.Random) -> None:
        keeping = [asyncio.create_task(part.keep()) for part in self.site.all_parts]
        for part in self.site.all_parts:
            await asyncio.wait_for(part.is_ready(), PATIENCE)
        self.open_tabs(chance)
        following = [asyncio.create_task(tab.follow(lambda _: False)) for tab in self.tabs]
        try:
            await self.until(lambda: all(tab.connects for tab in self.tabs), "all are connected")
            working = self.operators(planned)
            await self.site.chaos(SECONDS)
            await self.heal(working)
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
            await self.stop(keeping)
        finally:
            for task in [*keeping, *following]:
                task.cancel()
            for part in self.site.all_parts:
                part.send(signal.SIGKILL)

    async def heal(self, working: Spawned) -> None:
        """Every fault is mended: now wait for what must come right by itself."""
        said("no more faults")
        begin = time.monotonic()
        await self.until(lambda: working.process.poll() is not None, "all is sent", HEALED)
        assert working.process.poll() == 0
        said("the operators have done everything")
        self.pause_ticks()
        await self.until(self.at_rest, "the outbox is empty and nothing is due", HEALED)
        said("everything is published")
        last = self.operators([Planned(LAST, 0)])
        await self.until(lambda: last.process.poll() is not None, "the last is sent")
        pk = self.ask(f"SELECT id FROM broadcasts_broadcast WHERE reference = '{LAST}'")
        await self.until(
            lambda: all(tab.got and tab.got[-1].broadcast == pk for tab in self.tabs),
            "each client has caught up",
            HEALED,
        )
        await self.until(lambda: not any(tab.fetching for tab in self.tabs), "all are refetched")
        receipts = f"SELECT count(delivered_at) FROM broadcasts_receipt WHERE broadcast_id = {pk}"
        present = sum(person.tabs > 0 for person in self.people)
        await self.until(lambda: self.ask(receipts) == present, "receipts are written")
        self.healed_after = time.monotonic() - begin
        for person in [tab.person for tab in self.tabs][:10]:
            found = await asyncio.to_thread(inbox, self.site.ports[0], person)
            shown = {one.broadcast for tab in self.tabs if tab.person is person for one in tab.got}
            gone = self.gone()
            assert found == shown - gone, f"the inbox of {person.pk}"

    def pause_ticks(self) -> None:
        """The job that emits each second, so that the outbox stays empty."""
        with psycopg.connect(self.site.env["DATABASE_URL"]) as database:
            database.execute("UPDATE jobs_job SET paused_at = now() WHERE name LIKE 'TEST%'")

    def gone(self) -> set[int]:
        with psycopg.connect(self.site.env["DATABASE_URL"]) as database:
            rows = database.execute("SELECT id FROM broadcasts_broadcast WHERE status != 'ACTIVE'")
            return {int(row[0]) for row in rows}

    async def stop(self, keeping: list[asyncio.Task[None]]) -> None:
        """In order: each ends by itself, and says that all was well."""
        said("all is well, and asked to stop")
        for part in self.site.all_parts:
            part.stopping = True
            assert part.process
            part.process.send(signal.SIGTERM)
        await asyncio.wait_for(asyncio.gather(*keeping), PATIENCE)
        for part in self.site.all_parts:
            assert part.process
            assert part.process.process.poll() == 0, f"{part.name} did not stop in order"

    def report(self, seed: int, records: Records, findings: Findings) -> str:
        moments = sorted(one.at for tab in self.tabs for one in tab.got)
        longest, until = max((b - a, b) for a, b in pairwise(moments))
        ended = Counter({part.name: part.ended for part in self.site.all_parts if part.ended})
        refused = sum((tab.refused for tab in self.tabs), Counter[int]())
        statuses = Counter(row["status"] for row in records.broadcasts.values())
        runs = Counter(run["status"] for run in records.runs)
        lines = {
            "event log": "Kafka" if self.site.kafka else "the database",
            "seed": seed,
            "broadcasts": f"{len(records.broadcasts)} {words(statuses)}",
            "events": f"{len(records.events)}, positions up to {records.head}",
            "clients": f"{len(self.tabs)} of {len({tab.person.pk for tab in self.tabs})} people",
            "deliveries": len(moments),
            "faults": f"{self.site.faults.total()} {words(self.site.faults)}",
            "ended by themselves": f"{ended.total()} {words(ended)}",
            "connects": sum(tab.connects for tab in self.tabs),
            "reconnects": sum(tab.connects - 1 for tab in self.tabs),
            "refused connects": f"{refused.total()} {words(refused)}",
            "told the limit": sum(tab.counts["CONNECTION_LIMIT_REACHED"] for tab in self.tabs),
            "cut by the server": sum(tab.counts["DISCONNECTED"] for tab in self.tabs),
            "RESETs": sum(len(tab.resets) for tab in self.tabs),
            "duplicates": findings.duplicates,
            "receipts": f"{len(records.receipts)}, {findings.unrecorded} unrecorded by killed web",
            "attempts that failed": sum(row["attempts"] for row in records.broadcasts.values()),
            "dead letters": records.letters,
            "runs of jobs": f"{len(records.runs)} {words(runs)}",
            "longest time without delivery": f"{longest:.1f} s, until {clock(until)}",
            "healed after": f"{self.healed_after:.1f} s",
        }
        return "\n".join(f"{name:>30}: {value}" for name, value in lines.items())


def clock(moment: float) -> str:
    """The time of day of a moment of `time.monotonic`."""
    then = datetime.now(UTC) - timedelta(seconds=time.monotonic() - moment)
    return f"{then:%H:%M:%S}"


def words(counts: Counter[str] | Counter[int]) -> str:
    return f"({', '.join(f'{n} {what}' for what, n in sorted(counts.items(), key=str))})"


@pytest.fixture
def seed() -> int:
    chosen = int(os.environ.get("CHAOS_SEED") or random.randrange(1 << 30))
    print("seed", chosen, flush=True)
    return chosen


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path, spawn: Spawn, seed: int) -> Iterator[Site]:
    """Servers of its own, migrated; the parameter says whether Kafka is the log."""
    with ExitStack() as stack:
        postgres = stack.enter_context(needed(servers.running(servers.Postgres)))
        redis = stack.enter_context(needed(servers.running(servers.Redis)))
        broker = needed(servers.running(servers.Kafka)) if request.param else nullcontext(None)
        kafka = stack.enter_context(broker)
        var = tmp_path / "var"
        var.mkdir()
        env = environment(postgres.start(), var) | SETTINGS | {"REDIS_URL": redis.start()}
        env["KAFKA_BOOTSTRAP_SERVERS"] = kafka.url if kafka else ""
        assert spawn(["migrate", "--verbosity=0"], env).wait() == 0
        chance = random.Random(f"{seed} faults")
        yield Site(env, spawn, lasting_ports(2), postgres, redis, kafka, chance)


def settled(site: Site, found: list[Person]) -> list[Person]:
    """The people, as rows."""
    path = site.var / operators.PEOPLE
    path.write_text(json.dumps([asdict(person) for person in found]))
    assert site.code("from tests.chaos.operators import settle; settle()").wait() == 0
    return [Person(**person) for person in json.loads(path.read_text())]


@pytest.mark.parametrize("site", [True, False], indirect=True, ids=["Kafka", "the database"])
def test_whatever_dies_everybody_gets_everything_once_and_in_order(site: Site, seed: int) -> None:
    chance = random.Random(seed)
    run = Run(site, settled(site, people(chance, CLIENTS)))
    planned = plan(chance, run.people, BROADCASTS, SECONDS * 0.95)
    asyncio.run(run.go(planned, chance))
    records = Records.read(site.env["DATABASE_URL"])
    findings = examine(records, [*planned, Planned(LAST, 0)], run.people, run.tabs, site)
    print(run.report(seed, records, findings), flush=True)
    assert findings.wrong == []


@pytest.mark.parametrize(
    ("positions", "wrong"),
    [
        ([1, 3, 4], None),
        ([1, 4], "missed"),
        ([1, 3, 3, 4], "twice"),
        ([1, 4, 3], "out of order"),
        ([1, 2, 3, 4], "not for it"),
    ],
)
def test_what_a_client_should_not_have_got_is_noticed(
    positions: list[int], wrong: str | None
) -> None:
    channels = ["all", "user-8", "role-shop", "user-7"]
    events = [
        {"position": n, "type": "broadcast.activated", "channels": [c], "data": {"broadcast_id": n}}
        for n, c in enumerate(channels, 1)
    ]
    records = Records({n: {"status": "ACTIVE"} for n in range(1, 5)}, events, {}, 4, 0, [])
    tab = Tab(0, "", person=Person(pk=7, roles=["shop"]))
    tab.got = [Got(n, "MESSAGE", n, 0, 0) for n in positions]
    found = list(check_tab(records, tab, Findings([])))
    assert (wrong in found[0]) if wrong else not found
