"""Streams that Pushpin holds: real proxy, web, relay, and who follows them."""

import asyncio
import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import jwt
import pytest

from tests.conftest import NewPushpin, Spawn
from tests.connections.test_streams_live import Site, has, messages, together
from tests.processes import Environment
from tests.servers import Kafka, Pushpin
from tests.servers.pushpin import KEY
from tests.sse import Client, token_of
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

GROUP = "Group.objects.create(name='{}').user_set.add({})"


class ProxiedSite(Site):
    pushpin: Pushpin

    def client(self, user_id: int) -> Client:
        return Client(self.pushpin.http, token_of(user_id, self.env))

    def log(self) -> list[tuple[int, int, str]]:
        """Position, broadcast and type of what was published to somebody."""
        code = """
from outbox.models import Event
for e in Event.objects.published().exclude(channels=[]).order_by("position"):
    print(e.position, e.data.get("broadcast_id") or 0, e.type)
"""
        lines = [line.split() for line in self.code(code).splitlines()]
        return [(int(position), int(pk), kind) for position, pk, kind in lines]


@pytest.fixture
def site(
    live_database: Environment, free_port: int, spawn: Spawn, new_pushpin: NewPushpin
) -> Iterator[ProxiedSite]:
    pushpin = new_pushpin(free_port)
    more = {
        "SSE_TOKEN_SECONDS": "3600",
        "SSE_CONNECTS_PER_MINUTE": "0",
        "GRIP_URL": pushpin.url,
        "GRIP_KEY": KEY,
    }
    site = ProxiedSite(live_database | more, free_port, spawn)
    site.pushpin = pushpin
    return site  # type: ignore[return-value]


@asynccontextmanager
async def following(*clients: Client) -> Any:
    """They follow for ever, in the background; from when all are connected."""
    tasks = [asyncio.create_task(client.follow(has("NEVER"))) for client in clients]
    await until(lambda: all(client.counts["CONNECTED"] for client in clients))
    yield
    for task in tasks:
        task.cancel()


async def until(condition: Any, seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def ids(client: Client) -> list[int]:
    return [int(received.id) for received in client.of("MESSAGE")]


def test_each_gets_its_own_in_order_with_positions_as_ids(site: ProxiedSite) -> None:
    site.web()
    site.relay()
    one, two, three = site.people(3)
    site.code(f"""
{GROUP.format("Night shift", one)}
{GROUP.format("Crew & co, Zürich", f"{one}, {two}")}
""")
    clients = [site.client(pk) for pk in (one, two, three)]

    async def follow() -> None:
        async with following(*clients):
            crew = ["Crew & co, Zürich"]
            sent = await asyncio.to_thread(
                lambda: [
                    site.send(audience="ROLE", targets=["Night shift"]),
                    site.send(audience="ROLE", targets=crew),
                    site.send(audience="ROLE", targets=["Night shift", *crew]),
                    site.send(audience="SELECTED", targets=[str(one), str(three)]),
                    site.send(audience="ALL"),
                ]
            )
            night, crew_, both, selected, everyone = (pks[0] for pks in sent)
            await until(lambda: all(everyone in messages(client) for client in clients))
            await asyncio.sleep(0.5)  # nothing follows
            assert messages(clients[0]) == [night, crew_, both, selected, everyone]
            assert messages(clients[1]) == [crew_, both, everyone]
            assert messages(clients[2]) == [selected, everyone]

    asyncio.run(together(follow()))
    position = {pk: position for position, pk, kind in site.log() if kind == "broadcast.activated"}
    for client in clients:
        assert ids(client) == [position[pk] for pk in messages(client)]
        assert client.connects == 1


def test_what_was_sent_while_a_client_was_away_is_in_its_stream_when_it_is_back(
    site: ProxiedSite,
) -> None:
    site.web()
    site.relay()
    (one,) = site.people(1)
    client = site.client(one)
    asyncio.run(together(client.follow(has("CONNECTED"))))
    sent = site.send(3) + site.send(2, audience="SELECTED", targets=[str(one)])
    sent += site.send(30, content="More than goes with the first answer. " * 100)
    asyncio.run(together(client.follow(has("MESSAGE", len(sent)))))
    assert messages(client) == sent
    assert [c.data["recovered"] for c in client.of("CONNECTED")] == [False, True]


def test_kafka_as_the_log_changes_nothing(site: ProxiedSite, kafka: Kafka) -> None:
    site.env["KAFKA_BOOTSTRAP_SERVERS"] = kafka.url
    site.env["KAFKA_TOPIC_PREFIX"] = f"{uuid.uuid4().hex}."
    site.web()
    site.relay()
    clients = [site.client(pk) for pk in site.people(2)]

    async def follow() -> list[int]:
        async with following(*clients):
            sent = await asyncio.to_thread(lambda: site.send(20))
            await until(lambda: all(len(messages(client)) >= 20 for client in clients))
            return sent

    sent = asyncio.run(asyncio.wait_for(follow(), 600))
    assert [messages(client) for client in clients] == [sent, sent]


def test_the_proxy_keeps_streams_alive_and_web_resets_who_has_an_unknown_position(
    site: ProxiedSite,
) -> None:
    site.web(SSE_HEARTBEAT="1")
    (one,) = site.people(1)
    client = site.client(one)
    client.last_id = "1000000"
    asyncio.run(together(client.follow(has("HEARTBEAT", 2))))
    assert [received.event for received in client.received] == [
        "CONNECTED", "RESET", "HEARTBEAT", "HEARTBEAT",
    ]  # fmt: skip
    assert client.of("HEARTBEAT")[0].data == {"timestamp": None}


def test_a_publisher_that_is_killed_costs_nobody_a_message(site: ProxiedSite) -> None:
    site.web()
    relay = site.relay()
    people = site.people(6)
    site.code(GROUP.format("Crew", people[0]) + "\n" + GROUP.format("Watch", people[0]))
    clients = [site.client(pk) for pk in people]

    async def follow() -> list[int]:
        nonlocal relay
        async with following(*clients):
            sending = asyncio.create_task(asyncio.to_thread(send_all))
            for _ in range(3):
                seen = len(clients[0].received)
                await until(lambda seen=seen: len(clients[0].received) > seen + 20)
                os.killpg(relay.pid, signal.SIGKILL)
                relay.wait()
                relay = await asyncio.to_thread(site.relay)
            sent = await sending
            await until(lambda: all(len(messages(c)) >= expected(c) for c in clients))
            await asyncio.sleep(1)  # nothing follows
            return sent

    def send_all() -> list[int]:
        sent: list[int] = []
        for _ in range(4):
            sent += site.send(46)
            sent += site.send(2, audience="ROLE", targets=["Crew", "Watch"])
            sent += site.send(2, audience="SELECTED", targets=[str(people[0])])
        return sent

    def expected(client: Client) -> int:
        return 200 if client is clients[0] else 184

    sent = asyncio.run(asyncio.wait_for(follow(), 600))
    assert len(sent) == 200
    assert messages(clients[0]) == sent
    assert all(len(messages(client)) == 184 for client in clients[1:])
    for client in clients:
        assert ids(client) == sorted(set(ids(client)))
        assert client.connects == 1


def test_a_proxy_that_is_restarted_costs_nobody_a_message(site: ProxiedSite) -> None:
    site.web()
    site.relay()
    clients = [site.client(pk) for pk in site.people(5)]

    async def follow() -> list[int]:
        async with following(*clients):
            sent = await asyncio.to_thread(lambda: site.send(20))
            await until(lambda: all(messages(client) for client in clients))
            await asyncio.to_thread(site.pushpin.stop)
            sent += await asyncio.to_thread(lambda: site.send(20))
            await asyncio.to_thread(site.pushpin.start)
            sent += await asyncio.to_thread(lambda: site.send(20))
            await until(lambda: all(len(messages(client)) >= 60 for client in clients))
            return sent

    sent = asyncio.run(asyncio.wait_for(follow(), 600))
    for client in clients:
        assert messages(client) == sent
        assert ids(client) == sorted(set(ids(client)))


def test_a_person_is_disconnected_and_the_others_are_not(site: ProxiedSite) -> None:
    site.web()
    site.relay()
    one, two = site.people(2)
    ended, other = site.client(one), site.client(two)

    async def follow() -> None:
        async with following(other):
            ending = asyncio.create_task(ended.follow(has("NEVER"), reconnect=False))
            await until(lambda: ended.counts["CONNECTED"])
            code = "from connections.services import disconnect_people\n"
            code += f"disconnect_people([{one}], reason='by an operator', reconnect=False)"
            await asyncio.to_thread(site.code, code)
            await ending
            await asyncio.to_thread(site.send)
            await until(lambda: messages(other))

    asyncio.run(together(follow()))
    assert ended.of("DISCONNECTED")[0].data == {"reason": "by an operator", "reconnect": False}
    assert messages(ended) == []


REACHED = """
from broadcasts.receipts import statistics
counted = statistics(Broadcast.objects.get(pk={pk}))
print(counted.delivered, counted.seen, counted.read)
"""


def test_whom_fire_and_forget_reached_is_counted_by_their_own_word(site: ProxiedSite) -> None:
    site.web()
    site.relay()
    clients = [site.client(pk) for pk in site.people(2)]

    async def follow() -> int:
        async with following(*clients):
            (sent,) = await asyncio.to_thread(lambda: site.send(fire_and_forget=True))
            await until(lambda: all(messages(client) == [sent] for client in clients))
            return sent

    pk = asyncio.run(asyncio.wait_for(follow(), 120))
    assert site.code(REACHED.format(pk=pk)).split() == ["0", "0", "0"]
    seen = Request(
        f"{site.pushpin.public_url}/api/user/messages/ack-visibility",
        json.dumps({"broadcast_id": pk}).encode(),
        {"Authorization": f"Bearer {clients[0].token}", "Content-Type": "application/json"},
    )
    with urlopen(seen, timeout=30) as answer:
        assert answer.status == HTTPStatus.OK
    assert site.code(REACHED.format(pk=pk)).split() == ["1", "1", "0"]


def test_a_new_role_ends_the_stream_which_returns_with_it(site: ProxiedSite) -> None:
    site.web()
    site.relay()
    (one,) = site.people(1)
    client = site.client(one)

    async def follow() -> None:
        async with following(client):
            await asyncio.to_thread(site.code, GROUP.format("Crew", one))
            await until(lambda: client.counts["CONNECTED"] == 2)
            await asyncio.to_thread(lambda: site.send(audience="ROLE", targets=["Crew"]))
            await until(lambda: messages(client))

    asyncio.run(together(follow()))
    assert client.of("DISCONNECTED")[0].data["reconnect"] is True


def test_a_stream_of_more_channels_than_pushpin_takes_is_held_by_web(site: ProxiedSite) -> None:
    site.env["GRIP_MAX_CHANNELS"] = "2"  # with `all` and `user-...`, and the chain: 3
    site.web()
    site.relay()
    (one,) = site.people(1)
    client = site.client(one)

    async def follow() -> None:
        async with following(client):
            left = "print(Connection.objects.active().count())"
            assert (await asyncio.to_thread(site.code, left)).strip() == "1"
            sent = await asyncio.to_thread(lambda: site.send(2))
            await until(lambda: messages(client) == sent)

    asyncio.run(together(follow()))


def refusal(url: str, **headers: str) -> tuple[int, str]:
    with pytest.raises(HTTPError) as refused:
        urlopen(Request(url, headers=headers), timeout=PATIENCE)
    return refused.value.code, refused.value.read().decode()


def test_nobody_reads_the_stream_of_another(site: ProxiedSite) -> None:
    site.web()
    one, two = site.people(2)
    connect = f"{site.pushpin.public_url}/api/user/sse/connect"
    assert refusal(connect)[0] == HTTPStatus.UNAUTHORIZED
    assert refusal(f"{connect}?token=forged")[0] == HTTPStatus.UNAUTHORIZED
    token = token_of(one, site.env)
    assert refusal(f"{connect}?token={token}&user={two}")[0] == HTTPStatus.FORBIDDEN
    assert refusal(f"{connect}/forged:link")[0] == HTTPStatus.UNAUTHORIZED


@pytest.mark.parametrize("path", ["?token={}", "/forged:link"])
def test_who_is_not_the_proxy_is_refused(site: ProxiedSite, path: str) -> None:
    site.web()
    (one,) = site.people(1)
    url = f"http://127.0.0.1:{site.port}/api/user/sse/connect"
    url += path.format(token_of(one, site.env))
    in_time = {"iss": "pushpin", "exp": int(time.time()) + 60}
    for signature in (
        jwt.encode(in_time, "some other key of enough bytes, forged", "HS256"),
        jwt.encode(in_time | {"exp": int(time.time()) - 60}, KEY, "HS256"),
        jwt.encode(in_time, "", "none"),
        "nonsense",
    ):
        status, body = refusal(url, **{"Grip-Sig": signature})
        assert (status, "invalid_grip_signature" in body) == (HTTPStatus.FORBIDDEN, True)
