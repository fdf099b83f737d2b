"""Readers, as their browsers would behave: they return to whichever process answers."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.request import Request, urlopen

from tests.chaos.plan import Person
from tests.sse import Client
from tests.waiting import PATIENCE

RETURN = (0.2, 1.0)  # seconds; a quarter of what the server asks for
WORDS = ("MESSAGE", "MESSAGE_REMOVED")


@dataclass(frozen=True, slots=True)
class Got:
    position: int
    event: str
    broadcast: int
    at: float
    port: int


@dataclass
class Reset:
    """What lies between the two positions was not sent; the inbox stands for it."""

    after: int
    position: int
    inbox: set[int] = field(default_factory=set)


@dataclass
class Tab(Client):
    """Of 200 of these nobody keeps whole messages: only what they were."""

    person: Person = field(default_factory=Person)
    ports: list[int] = field(default_factory=list)
    chance: random.Random = field(default_factory=random.Random)
    got: list[Got] = field(default_factory=list)
    resets: list[Reset] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    fetching: set[asyncio.Task[None]] = field(default_factory=set)

    async def _read(self, until: Callable[[Client], bool]) -> None:
        before = self.connects
        try:
            await super()._read(until)
        finally:
            other = self.ports[self.ports.index(self.port) - 1]
            if self.connects == before:
                self.refused[self.status] += 1
                self.port = other  # that one may live
            else:
                self.port = self.chance.choice(self.ports)
            self.status = 0
            await asyncio.sleep(self.chance.uniform(*RETURN))

    def _event(self, block: str) -> None:
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        event = fields.get("event", "")
        position = int(fields.get("id", 0))
        self.counts[event] += 1
        if event in WORDS:
            broadcast = json.loads(fields["data"])["broadcast_id"]
            self.got.append(Got(position, event, broadcast, time.monotonic(), self.port))
        elif event == "RESET":
            reset = Reset(int(self.last_id or 0), position)
            self.resets.append(reset)
            task = asyncio.create_task(self.refetch(reset))
            self.fetching.add(task)
            task.add_done_callback(self.fetching.discard)
        self.last_id = fields.get("id", self.last_id)

    async def refetch(self, reset: Reset) -> None:
        while True:
            try:
                reset.inbox = await asyncio.to_thread(inbox, self.ports[0], self.person)
            except OSError:
                self.ports.reverse()
                await asyncio.sleep(RETURN[1])
            else:
                return


def inbox(port: int, person: Person) -> set[int]:
    """Every page of it."""
    found: set[int] = set()
    url: str | None = f"http://localhost:{port}/api/user/messages?limit=100"
    while url:
        request = Request(url, headers={"Cookie": f"sessionid={person.session}"})
        with urlopen(request, timeout=PATIENCE) as answer:
            page: dict[str, Any] = json.load(answer)
        found |= {message["broadcast_id"] for message in page["results"]}
        url = page["next"]
    return found
