"""Streams of real processes: web, relay and who follows them."""

import asyncio
import os
import random
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from django.db import connection

from tests.conftest import Spawn
from tests.processes import Environment, Spawned
from tests.servers.programs import lasting_ports
from tests.sse import Client, run_code, token_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

IMPORTS = """
from django.contrib.auth.models import Group, User
from broadcasts.models import Broadcast, Product
from broadcasts.services import cancel
from connections.models import Connection
from connections.services import disconnect
"""
PEOPLE = """
from django.contrib.auth.models import User
User.objects.bulk_create(User(username=f"reader-{{n}}") for n in range({count}))
print(*User.objects.order_by("pk").values_list("pk", flat=True))
"""
SEND = """
from broadcasts.services import compose, send
print(*[send(compose(None, title=f"Number {{n}}", **{fields})).pk for n in range({count})])
"""


@dataclass
class Site:
    env: Environment
    port: int
    spawn: Spawn

    def web(self, *arguments: str, **env: str) -> Spawned:
        web = self.spawn(["web", "--port", str(self.port), *arguments], self.env | env)
        wait_until(lambda: "Listening" in web.output(), message="web listens")
        return web

    def relay(self) -> Spawned:
        relay = self.spawn(["relay"], self.env)
        wait_until(lambda: "BROADCAST_CLOCK started" in relay.output(), message="the relay works")
        return relay

    def people(self, count: int) -> list[int]:
        return [int(pk) for pk in run_code(PEOPLE.format(count=count), self.env).split()]

    def send(self, count: int = 1, **fields: object) -> list[int]:
        """Send broadcasts in a process of its own; their ids."""
        return [
            int(pk) for pk in run_code(SEND.format(count=count, fields=fields), self.env).split()
        ]

    def client(self, user_id: int) -> Client:
        return Client(self.port, token_of(user_id, self.env))

    def code(self, code: str) -> str:
        return run_code(IMPORTS + code, self.env)


@pytest.fixture
def site(live_database: Environment, free_port: int, spawn: Spawn) -> Iterator[Site]:
    generous = {"SSE_TOKEN_SECONDS": "3600", "SSE_CONNECTS_PER_MINUTE": "0"}
    return Site(live_database | generous, free_port, spawn)  # type: ignore[return-value]


def messages(client: Client) -> list[int]:
    return [received.data["broadcast_id"] for received in client.of("MESSAGE")]


def has(event: str, count: int = 1) -> Callable[[Client], bool]:
    return lambda client: client.counts[event] >= count


async def together(*follows: object, timeout: float = 600) -> None:
    async with asyncio.timeout(timeout):
        await asyncio.gather(*follows)  # type: ignore[call-overload]


def test_each_audience_gets_its_own_and_nobody_else(site: Site) -> None:
    site.web()
    site.relay()
    one, two, three = site.people(3)
    site.code(f"""
Group.objects.create(name="Night shift").user_set.add({one})
Product.objects.create(slug="payments", name="Payments").subscribers.add({two})
""")
    clients = [site.client(pk) for pk in (one, two, three)]

    async def follow() -> None:
        following = [
            client.follow(lambda c: 0 in messages(c) or "END" in c.body) for client in clients
        ]
        tasks = [asyncio.create_task(f) for f in following]
        while not all(client.counts["CONNECTED"] for client in clients):
            await asyncio.sleep(0.02)
        sent = await asyncio.to_thread(
            lambda: [
                site.send(audience="ROLE", targets=["Night shift"]),
                site.send(audience="PRODUCT", targets=["payments"]),
                site.send(audience="SELECTED", targets=[str(one), str(three)]),
                site.send(audience="ALL"),
            ]
        )
        role, product, selected, everyone = (ids[0] for ids in sent)
        while not all(everyone in messages(client) for client in clients):
            await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        assert messages(clients[0]) == [role, selected, everyone]
        assert messages(clients[1]) == [product, everyone]
        assert messages(clients[2]) == [selected, everyone]

    asyncio.run(together(follow()))


def test_what_was_sent_while_a_client_was_away_is_replayed(site: Site) -> None:
    site.web()
    site.relay()
    (one,) = site.people(1)
    client = site.client(one)
    asyncio.run(together(client.follow(has("CONNECTED"))))
    sent = site.send(5)
    asyncio.run(together(client.follow(has("MESSAGE", 5))))
    assert messages(client) == sent
    assert [c.data["recovered"] for c in client.of("CONNECTED")] == [False, True]


def test_a_cancelled_broadcast_leaves_the_screen(site: Site) -> None:
    site.web()
    site.relay()
    (one,) = site.people(1)
    client = site.client(one)
    asyncio.run(together(client.follow(has("CONNECTED"))))
    (sent,) = site.send()
    site.code(f"""
cancel(Broadcast.objects.get(pk={sent}), "wrong building")
""")
    asyncio.run(together(client.follow(has("MESSAGE_REMOVED"))))
    assert client.of("MESSAGE_REMOVED")[0].data == {"broadcast_id": sent, "reason": "CANCELLED"}


def test_head_compression_and_old_proxies_are_in_nobodys_way(site: Site) -> None:
    site.web()
    (one,) = site.people(1)
    path = f"/api/user/sse/connect?token={token_of(one, site.env)}"
    with closing(HTTPConnection("127.0.0.1", site.port, timeout=60)) as connection:
        connection.request("HEAD", path)
        head = connection.getresponse()
        assert (head.status, head.read()) == (200, b"")
        connection.request("GET", path, headers={"Accept-Encoding": "gzip, br"})  # on the same
        stream = connection.getresponse()
        for answer in (head, stream):
            assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            assert answer.headers["Cache-Control"] == "no-cache, no-store, no-transform"
            assert answer.headers["X-Accel-Buffering"] == "no"
            assert "Content-Encoding" not in answer.headers
        assert [stream.readline()[:6], stream.readline()] == [b"retry:", b"event: CONNECTED\n"]
    with socket.create_connection(("127.0.0.1", site.port), timeout=60) as old:
        old.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())  # as nginx asks unless told otherwise
        lines = iter(old.makefile("rb").readline, b"event: CONNECTED\n")
        assert not any(b"chunked" in line.lower() for line in lines)


def test_the_fifth_stream_of_a_person_is_told_the_limit(site: Site) -> None:
    site.web()
    (one,) = site.people(1)
    clients = [site.client(one) for _ in range(5)]

    async def connect() -> None:
        tasks = []
        for client in clients[:4]:
            tasks.append(asyncio.create_task(client.follow(has("NEVER"))))
            while not client.of("CONNECTED"):
                await asyncio.sleep(0.02)
        await clients[4].follow(has("CONNECTION_LIMIT_REACHED"), reconnect=False)
        for task in tasks:
            task.cancel()

    asyncio.run(together(connect()))
    assert clients[4].of("CONNECTION_LIMIT_REACHED")[0].data["limit"] == 4


def test_a_stream_of_another_process_can_be_disconnected(site: Site) -> None:
    site.web()
    site.relay()
    (one,) = site.people(1)
    client = site.client(one)

    async def follow() -> None:
        task = asyncio.create_task(client.follow(has("DISCONNECTED"), reconnect=False))
        while not client.of("CONNECTED"):
            await asyncio.sleep(0.02)
        await asyncio.to_thread(
            site.code,
            "disconnect(Connection.objects.active().get(), 'by an operator')",
        )
        await task

    asyncio.run(together(follow()))
    assert client.of("DISCONNECTED")[0].data == {"reason": "by an operator", "reconnect": False}
    left = "print(Connection.objects.active().count())"
    wait_until(lambda: site.code(left).strip() == "0")


def test_a_new_role_cuts_the_stream_which_returns_with_it(site: Site) -> None:
    site.web()
    site.relay()
    (one,) = site.people(1)
    client = site.client(one)

    async def follow() -> None:
        task = asyncio.create_task(client.follow(has("MESSAGE")))
        while not client.of("CONNECTED"):
            await asyncio.sleep(0.02)
        await asyncio.to_thread(
            site.code,
            f"Group.objects.create(name='Crew').user_set.add({one})",
        )
        while len(client.of("CONNECTED")) < 2:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(lambda: site.send(audience="ROLE", targets=["Crew"]))
        await task

    asyncio.run(together(follow()))
    assert client.of("DISCONNECTED")[0].data["reconnect"] is True


@pytest.mark.parametrize("log", ["database", "Kafka"])
def test_tabs_on_three_processes_get_everything_that_their_person_gets(
    site: Site, request: pytest.FixtureRequest, log: str
) -> None:
    """Messages, a new role, a forced logoff, and the end of one tab alone."""
    if log == "Kafka":
        site.env["KAFKA_BOOTSTRAP_SERVERS"] = request.getfixturevalue("kafka_url")
        site.env["KAFKA_TOPIC_PREFIX"] = f"{uuid4().hex[:8]}-"
    ports = lasting_ports(3)
    sites = [replace(site, port=port) for port in ports]
    for one_site in sites:
        one_site.web()
    site.relay()
    person, other = site.people(2)
    tabs = [one_site.client(person) for one_site in sites]
    stranger = sites[0].client(other)

    async def all_have(event: str, count: int) -> None:
        while not all(tab.counts[event] >= count for tab in tabs):
            await asyncio.sleep(0.02)

    async def walk() -> None:
        tasks = [
            asyncio.create_task(client.follow(lambda client: False)) for client in (*tabs, stranger)
        ]
        await all_have("CONNECTED", 1)
        await asyncio.to_thread(site.send, 5)
        await all_have("MESSAGE", 5)
        await asyncio.to_thread(
            site.code, f"Group.objects.create(name='Crew').user_set.add({person})"
        )
        await all_have("CONNECTED", 2)
        await asyncio.to_thread(lambda: site.send(audience="ROLE", targets=["Crew"]))
        await all_have("MESSAGE", 6)
        first = tabs[0].of("CONNECTED")[-1].data["connection_id"]
        await asyncio.to_thread(
            site.code, f"disconnect(Connection.objects.get(pk='{first}'), 'alone', reconnect=True)"
        )
        while tabs[0].counts["CONNECTED"] < 3:
            await asyncio.sleep(0.02)
        leave: dict[str, object] = {"fire_and_forget": True, "force_logoff": True}
        to_one = leave | {"audience": "SELECTED", "targets": [str(person)]}
        await asyncio.to_thread(lambda: site.send(1, **to_one))
        await all_have("MESSAGE", 7)
        for task in tasks:
            task.cancel()

    asyncio.run(together(walk()))
    for tab in tabs:
        assert len(set(messages(tab))) == 7
        assert tab.of("MESSAGE")[-1].data["force_logoff"] is True
    assert [tab.counts["CONNECTED"] for tab in tabs] == [3, 2, 2]
    assert stranger.counts["MESSAGE"] == 5


def test_processes_share_a_port_and_each_takes_the_clients_of_one_that_ends(site: Site) -> None:
    first, second = site.web("--worker", "1"), site.web("--worker", "2")
    site.relay()
    clients = [site.client(pk) for pk in site.people(24)]

    def nodes() -> set[object]:
        return {client.of("CONNECTED")[-1].data["node"] for client in clients}

    async def all_have(sent: list[int]) -> None:
        while not all(len(messages(client)) >= len(sent) for client in clients):
            await asyncio.sleep(0.02)

    async def walk() -> list[int]:
        tasks = [asyncio.create_task(client.follow(has("MESSAGE", 3))) for client in clients]
        while not all(client.counts["CONNECTED"] for client in clients):
            await asyncio.sleep(0.02)
        sent = await asyncio.to_thread(site.send)
        await all_have(sent)
        assert {str(node)[-2:] for node in nodes()} == {"/1", "/2"}
        os.kill(first.pid, signal.SIGKILL)
        sent += await asyncio.to_thread(site.send)
        await all_have(sent)
        assert {str(node)[-2:] for node in nodes()} == {"/2"}
        await asyncio.to_thread(site.web, "--worker", "1")
        second.send(signal.SIGTERM)
        await asyncio.to_thread(second.wait)
        sent += await asyncio.to_thread(site.send)
        await asyncio.gather(*tasks)
        return sent

    sent = asyncio.run(asyncio.wait_for(walk(), 600))
    assert all(messages(client) == sent for client in clients)
    assert {str(node)[-2:] for node in nodes()} == {"/1"}
    assert all(not client.of("RESET") for client in clients)


def test_an_ordered_end_is_announced_and_leaves_no_connection_behind(site: Site) -> None:
    web = site.web()
    (one,) = site.people(1)
    client = site.client(one)

    async def follow() -> None:
        task = asyncio.create_task(client.follow(has("SERVER_SHUTDOWN"), reconnect=False))
        while not client.of("CONNECTED"):
            await asyncio.sleep(0.02)
        web.send(signal.SIGTERM)
        await task

    asyncio.run(together(follow()))
    assert client.of("SERVER_SHUTDOWN")[0].data["retry_after"] > 0
    assert web.wait() == 0
    left = "print(*Connection.objects.values_list('status', 'reason'))"
    assert site.code(left).strip() == "('INACTIVE', 'server shutdown')"


def test_a_web_that_was_killed_holds_nobodys_place_when_it_is_back(site: Site) -> None:
    (one,) = site.people(1)
    for _ in range(3):
        web = site.web()
        clients = [site.client(one) for _ in range(4)]
        asyncio.run(together(*[c.follow(has("CONNECTED"), reconnect=False) for c in clients]))
        assert all(not c.of("CONNECTION_LIMIT_REACHED") for c in clients)
        os.kill(web.pid, signal.SIGKILL)
        web.wait()


def test_a_client_that_never_reads_slows_nobody_and_grows_nothing(site: Site) -> None:
    web = site.web(SSE_CLIENT_BUFFER_BYTES="65536", SSE_SEND_TIMEOUT="1", SSE_HEARTBEAT="1")
    site.relay()
    one, two = site.people(2)
    reader = site.client(two)

    async def follow() -> None:
        deaf_reader, deaf = await asyncio.open_connection("127.0.0.1", site.port, limit=1_024)
        token = token_of(one, site.env)
        deaf.write(f"GET /api/user/sse/connect?token={token} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await deaf_reader.readuntil(b"CONNECTED")
        deaf.transport.pause_reading()  # type: ignore[attr-defined]
        task = asyncio.create_task(reader.follow(has("MESSAGE", 150)))
        before = memory(web)
        await asyncio.to_thread(lambda: site.send(150, content="Long text. " * 4_000))
        await task
        assert memory(web) - before < 100 * 1024  # KiB; the ring keeps the frames once
        slow = f"Connection.objects.filter(reason='reads too slowly', user_id={one})"
        await asyncio.to_thread(
            wait_until, lambda: site.code(f"print({slow}.count())").strip() == "1"
        )
        deaf.close()

    asyncio.run(together(follow()))
    assert messages(reader) == sorted(messages(reader))
    assert len(set(messages(reader))) == 150


def test_a_thousand_clients_get_a_burst_complete_and_in_order(site: Site) -> None:
    name = "&application_name=web" if "?" in site.env["DATABASE_URL"] else "?application_name=web"
    web = site.web(**({"DATABASE_URL": site.env["DATABASE_URL"] + name} if on_postgres() else {}))
    site.relay()
    clients = [site.client(pk) for pk in site.people(1_000)]

    async def follow() -> list[int]:
        tasks = [asyncio.create_task(client.follow(has("MESSAGE", 200))) for client in clients]
        while not all(client.counts["CONNECTED"] for client in clients):
            await asyncio.sleep(0.05)
        sent = await asyncio.to_thread(lambda: site.send(200))
        assert threads(web) < 30
        assert database_connections(web, site.env) < 10
        await asyncio.gather(*tasks)
        return sent

    sent = asyncio.run(asyncio.wait_for(follow(), 600))
    assert all(messages(client) == sent for client in clients)
    assert all(client.connects == 1 for client in clients)


def test_kills_in_any_order_lose_nothing_and_send_nothing_twice(site: Site) -> None:
    """kill -9 of web, relay and qcluster, ten times, while 200 broadcasts go out."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    parts = {
        "web": site.web,
        "relay": site.relay,
        "qcluster": lambda: site.spawn(["qcluster"], site.env),
    }
    running = {name: start() for name, start in parts.items()}
    clients = [site.client(pk) for pk in site.people(20)]

    async def kill_and_restart() -> None:
        for _ in range(10):
            name = chance.choice(sorted(parts))
            os.killpg(running[name].pid, signal.SIGKILL)
            running[name].wait()
            running[name] = await asyncio.to_thread(parts[name])
            await asyncio.sleep(chance.random() * 0.5)

    async def chaos() -> list[int]:
        tasks = [asyncio.create_task(client.follow(has("MESSAGE", 200))) for client in clients]
        while not all(client.counts["CONNECTED"] for client in clients):
            await asyncio.sleep(0.02)
        killer = asyncio.create_task(kill_and_restart())
        sent: list[int] = []
        while len(sent) < 200:
            sent += await asyncio.to_thread(lambda: site.send(20))
        await killer
        await asyncio.gather(*tasks)
        return sent

    sent = asyncio.run(asyncio.wait_for(chaos(), 600))
    for client in clients:
        assert messages(client) == sent
        assert [r.event for r in client.received if r.event == "RESET"] == []


def memory(process: Spawned) -> int:
    """Resident KiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]


def threads(process: Spawned) -> int:
    return len(list(Path(f"/proc/{process.pid}/task").iterdir()))


def on_postgres() -> bool:
    return connection.vendor == "postgresql"


def database_connections(process: Spawned, env: Environment) -> int:
    if on_postgres():
        with psycopg.connect(env["DATABASE_URL"]) as postgres:
            row = postgres.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'web'"
            ).fetchone()
        assert row
        return int(row[0])
    return sum(name.endswith(".sqlite3") for name in open_files(process))


def open_files(process: Spawned) -> Iterator[str]:
    for fd in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            yield str(fd.readlink())
