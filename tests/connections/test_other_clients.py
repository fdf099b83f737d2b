"""Clients of other makers follow a stream, lose the server and are told to stay away."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import connection

from tests.clients import CLIENTS
from tests.conftest import Spawn, skip_or_fail
from tests.pages import Site
from tests.processes import Environment
from tests.servers import MissingError
from tests.servers.programs import lasting_ports
from tests.waiting import PATIENCE, wait_until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="the database has no part"),
]


@dataclass
class Client:
    process: "subprocess.Popen[bytes]"
    printed: Path

    @classmethod
    def start(cls, command: list[str], directory: Path) -> "Client":
        printed = directory / f"printed-{uuid4().hex}"
        with printed.open("wb") as output:
            return cls(subprocess.Popen(command, stdout=output), printed)

    @property
    def events(self) -> list[tuple[str, str, dict[str, object]]]:
        """Name, id and data of each."""
        *lines, _ = self.printed.read_text().split("\n")
        parts = [line.split(" ", 2) for line in lines]
        return [(event, id_, json.loads(data)) for event, id_, data in parts]

    def of(self, name: str) -> list[dict[str, object]]:
        return [data for event, _, data in self.events if event == name]

    @property
    def titles(self) -> list[object]:
        return [data["title"] for data in self.of("MESSAGE")]

    def wait_for(self, count: int, name: str) -> None:
        wait_until(lambda: len(self.of(name)) >= count, message=f"{count} of {name}")

    def wait_for_end(self) -> None:
        assert self.process.wait(PATIENCE) == 0


NewClients = Callable[[Site], list[Client]]


@pytest.fixture
def site(live_database: Environment, spawn: Spawn) -> Site:
    (port,) = lasting_ports(1)
    return Site(live_database, port, spawn)


@pytest.fixture(
    params=[("curl", "httpx-sse"), ("eventsource", "fetch-event-source")], ids=", ".join
)
def new_clients(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewClients]:
    try:
        commands = [CLIENTS[name]() for name in request.param]
    except MissingError as missing:
        skip_or_fail(missing)
    started: list[Client] = []

    def start(site: Site) -> list[Client]:
        new = [
            Client.start([*command, f"{site.url}/api/user/sse"], tmp_path) for command in commands
        ]
        started.extend(new)
        return new

    yield start
    for client in started:
        client.process.kill()
        client.process.wait()


def test_they_return_after_a_crash_and_a_restart_and_have_each_event_once(
    site: Site, new_clients: NewClients
) -> None:
    clients = new_clients(site.start())

    def wait_for(count: int, name: str) -> None:
        for client in clients:
            client.wait_for(count, name)

    wait_for(1, "CONNECTED")
    site.send("One", "Two")
    wait_for(2, "MESSAGE")
    site.kill_web()
    site.send("Three")
    site.restart_web()
    wait_for(3, "MESSAGE")
    site.serving.send(signal.SIGTERM)
    site.serving.wait()
    site.send("Four")
    site.restart_web()
    wait_for(4, "MESSAGE")
    site.send("Five")
    wait_for(5, "MESSAGE")
    for client in clients:
        assert client.titles == ["One", "Two", "Three", "Four", "Five"]
        positions = [int(id_) for event, id_, _ in client.events if event == "MESSAGE"]
        assert positions == sorted(set(positions))
        assert [said["recovered"] for said in client.of("CONNECTED")] == [False, True, True]
        assert len(client.of("SERVER_SHUTDOWN")) == 1


def test_they_stay_away_when_they_are_told_so(site: Site, new_clients: NewClients) -> None:
    site.env["SSE_MAX_CONNECTIONS_PER_USER"] = "2"
    clients = new_clients(site.start())
    for client in clients:
        client.wait_for(1, "CONNECTED")
    for beyond in new_clients(site):
        beyond.wait_for_end()
        assert [event for event, _, _ in beyond.events] == ["CONNECTION_LIMIT_REACHED"]
    site.send("Go home", fire_and_forget=True, force_logoff=True)
    for client in clients:
        client.wait_for_end()
        assert client.titles == ["Go home"]
    wait_until(lambda: site.streams == 0, message="no stream is left")
