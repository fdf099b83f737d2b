"""The processes, kept alive as a supervisor does, and what befalls them and their servers."""

import asyncio
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from tests.conftest import Spawn
from tests.processes import Environment, Spawned
from tests.servers import Kafka, Postgres, Redis, Server

AGAIN = 0.5  # seconds before a part that died is started again, as `manage.py up` waits
OUTAGE = (0.0, 3.0)  # seconds that a server is away, besides what its start takes
PAUSE = (0.3, 2.5)  # seconds between faults; those that take longer overlap
LEASE = 3  # seconds, of the relay
FROZEN = (LEASE + 1.0, 2.0 * LEASE)  # seconds: longer than any lease of a relay


Fault = Callable[[], Coroutine[None, None, None]]


@dataclass
class Span:
    """When something was away, by `time.monotonic`."""

    begin: float
    end: float = float("inf")


@dataclass
class Part:
    """One process; whatever ends it, it is started again."""

    name: str
    arguments: list[str]
    env: Environment
    spawn: Spawn
    ready: str
    process: Spawned | None = None
    ended: int = 0
    """How often it ended without having been killed."""
    killed: list[float] = field(default_factory=list)
    frozen: list[Span] = field(default_factory=list)
    stopping: bool = False

    async def keep(self) -> None:
        while not self.stopping:
            kills = len(self.killed)
            process = self.process = self.spawn(self.arguments, self.env)
            while (code := process.process.poll()) is None:
                await asyncio.sleep(0.05)
            self.send(signal.SIGKILL)  # what it left behind
            if not self.stopping:
                if kills == len(self.killed):
                    self.ended += 1
                    said(f"{self.name} ended with exit code {code}")
                await asyncio.sleep(AGAIN)

    def send(self, number: signal.Signals) -> None:
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def kill(self) -> None:
        said(f"{self.name} is killed")
        self.killed.append(time.monotonic())
        self.send(signal.SIGKILL)

    async def freeze(self, seconds: float) -> None:
        said(f"{self.name} is frozen for {seconds:.1f} s")
        span = Span(time.monotonic())
        self.frozen.append(span)
        process = self.process
        self.send(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        if process is self.process:
            self.send(signal.SIGCONT)
        span.end = time.monotonic()

    def kill_a_child(self, chance: random.Random) -> None:
        """One of those that it forked, which it has to replace itself."""
        if self.process and (children := _group(self.process.pid) - {self.process.pid}):
            said(f"a child of {self.name} is killed")
            with suppress(ProcessLookupError):
                os.kill(chance.choice(sorted(children)), signal.SIGKILL)

    async def is_ready(self) -> None:
        while not (self.process and self.ready in self.process.output()):
            await asyncio.sleep(0.1)


def said(what: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S.%f}", what, flush=True)


def _group(leader: int) -> set[int]:
    listed = subprocess.run(["pgrep", "-g", str(leader)], capture_output=True, text=True)
    return {int(pid) for pid in listed.stdout.split()}


@dataclass
class Site:
    env: Environment
    spawn: Spawn
    ports: list[int]
    postgres: Postgres
    redis: Redis
    kafka: Kafka | None
    chance: random.Random
    parts: dict[str, list[Part]] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    database_away: list[Span] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    away: dict[Server | None, Span] = field(default_factory=dict)

    def __post_init__(self) -> None:
        web = [
            self._part("web", n, "Listening", "--port", str(p)) for n, p in enumerate(self.ports)
        ]
        self.parts = {
            "web": web,
            "relay": [self._part("relay", n, "BROADCAST_CLOCK started") for n in range(2)],
            "qcluster": [self._part("qcluster", n, "Running the periodic jobs") for n in range(2)],
        }

    def _part(self, kind: str, number: int, ready: str, *arguments: str) -> Part:
        node = {"NODE_NAME": f"{kind}-{number}"}
        return Part(f"{kind}-{number}", [kind, *arguments], self.env | node, self.spawn, ready)

    def code(self, code: str) -> Spawned:
        """A piece of code in a process of the project."""
        return self.spawn(["shell", "--verbosity=0", "--command", code], self.env)

    @property
    def var(self) -> Path:
        return Path(self.env["VAR_DIR"])

    @property
    def all_parts(self) -> list[Part]:
        return [part for parts in self.parts.values() for part in parts]

    # What happens

    async def chaos(self, seconds: float) -> None:
        """Faults of all kinds in random order, each of which mends itself; then all is well."""
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as running:
            bag: list[str] = []
            while time.monotonic() < end:
                if not bag:
                    bag = self.chance.sample(list(self.kinds()), len(self.kinds()))
                running.create_task(self._befall(bag.pop()))
                await asyncio.sleep(self.chance.uniform(*PAUSE))

    async def _befall(self, name: str) -> None:
        """A server that is already away is spared."""
        victim, fault = self.kinds()[name]
        if victim not in self.away:
            self.faults[name] += 1
            await fault()

    def kinds(self) -> dict[str, tuple[Server | None, Fault]]:
        """By name, what goes away and how."""
        parts: dict[str, Fault] = {
            "web killed": lambda: self._kill("web"),
            "web killed again": lambda: self._kill("web"),
            "web frozen": lambda: self._freeze("web"),
            "relay killed": lambda: self._kill("relay"),
            "relay killed again": lambda: self._kill("relay"),
            "relay frozen": lambda: self._freeze("relay"),
            "relay frozen again": lambda: self._freeze("relay"),
            "qcluster killed": lambda: self._kill("qcluster"),
            "qcluster's child killed": self._kill_a_child,
            "qcluster frozen": lambda: self._freeze("qcluster"),
        }
        stops: dict[str, tuple[Server, Callable[[], None]]] = {
            "PostgreSQL stopped": (self.postgres, self.postgres.stop),
            "PostgreSQL crashed": (self.postgres, partial(self.postgres.stop, "immediate")),
            "Redis flushed": (self.redis, self.redis.flush),
            "Redis stopped": (self.redis, self.redis.stop),
        }
        if self.kafka:
            stops["Kafka stopped"] = (self.kafka, self.kafka.stop)
            stops["Kafka killed"] = (self.kafka, self.kafka.brokers[0].kill)
        return {name: (None, fault) for name, fault in parts.items()} | {
            name: (server, partial(self._restart, server, stop))
            for name, (server, stop) in stops.items()
        }

    async def _kill(self, kind: str) -> None:
        """In turn: since the last kill, the other one leads, and holds the streams."""
        self.kills[kind] += 1
        self.parts[kind][self.kills[kind] % 2].kill()

    async def _kill_a_child(self) -> None:
        self.chance.choice(self.parts["qcluster"]).kill_a_child(self.chance)

    async def _freeze(self, kind: str) -> None:
        await self.chance.choice(self.parts[kind]).freeze(self.chance.uniform(*FROZEN))

    async def _restart(self, server: Server, stop: Callable[[], None]) -> None:
        """With its data, at its address; one that was only flushed is not started again."""
        said(f"{server.name} goes away")
        span = self.away[server] = Span(time.monotonic())
        if server is self.postgres:
            self.database_away.append(span)
        await asyncio.to_thread(stop)
        await asyncio.sleep(self.chance.uniform(*OUTAGE))
        await asyncio.to_thread(server.start)
        span.end = time.monotonic()
        del self.away[server]
        said(f"{server.name} is back")
