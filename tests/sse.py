"""A client of streams for tests: many at once in one event loop, each event counted by its id."""

import asyncio
import json
import subprocess
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from django.core.signing import TimestampSigner

from tests.processes import Environment
from tests.servers import CHECKOUT


@dataclass
class Received:
    event: str
    id: str
    data: dict[str, Any]


@dataclass
class Client:
    """Follows a stream; after a cut it returns with the last id that it saw, as browsers do."""

    port: int
    token: str = ""
    path: str = "/api/user/sse/connect"
    authorization: str = ""
    last_id: str = ""
    received: list[Received] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    connects: int = 0
    status: int = 0
    body: str = ""

    async def follow(self, until: Callable[["Client"], bool], *, reconnect: bool = True) -> None:
        """Read until the condition holds; a server that is away is tried again."""
        while not until(self):
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._read(until)
            if not reconnect:
                return
            if not until(self):
                await asyncio.sleep(0.05)

    def of(self, event: str) -> list[Received]:
        return [received for received in self.received if received.event == event]

    async def _read(self, until: Callable[["Client"], bool]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            target = f"{self.path}?token={self.token}" if self.token else self.path
            headers = f"Last-Event-ID: {self.last_id}\r\n" if self.last_id else ""
            if self.authorization:
                headers += f"Authorization: {self.authorization}\r\n"
            writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
            if not (answer := await reader.readline()):
                raise ConnectionError("killed before it answered")
            self.status = int(answer.split()[1])
            length = 0
            while (line := await reader.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if self.status != 200:
                self.body = (await reader.readexactly(length)).decode() if length else ""
                raise ConnectionError(self.status)
            self.connects += 1
            await self._events(reader, until)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _events(
        self, reader: asyncio.StreamReader, until: Callable[["Client"], bool]
    ) -> None:
        rest = b""
        while not until(self):
            size = int((await reader.readline()).strip() or b"0", 16)
            if size == 0:
                raise ConnectionError("the stream ended")
            rest += await reader.readexactly(size)
            await reader.readexactly(2)
            *blocks, rest = rest.split(b"\n\n")
            for block in blocks:
                self._event(block.decode())

    def _event(self, block: str) -> None:
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "id" in fields:
            self.last_id = fields["id"]
        if "event" in fields:
            data = json.loads(fields["data"])
            self.counts[fields["event"]] += 1
            self.received.append(Received(fields["event"], fields.get("id", ""), data))


def basic(name: str, password: str) -> str:
    """The value of `Authorization` by name and password."""
    return f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"


def token_of(user_id: int, env: Environment) -> str:
    """What POST /api/user/sse/token would give."""
    return TimestampSigner(key=env["SECRET_KEY"], salt="connections.stream").sign(str(user_id))


def run_code(code: str, env: Environment) -> str:
    """Run a piece of code in a process of the project; its standard output."""
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--verbosity=0", "--command", code],
        cwd=CHECKOUT,
        env=env,
        check=True,
        stdout=subprocess.PIPE,
    )
    return done.stdout.decode()
