"""Redis goes, comes back and forgets while real processes work: nobody misses anything."""

import asyncio
import re
from itertools import pairwise

import httpx
import pytest
from redis import Redis

from tests import servers
from tests.conftest import Spawn
from tests.connections.test_streams_live import (
    Site,
    has,
    messages,
    together,
)
from tests.processes import Environment
from tests.sse import Client
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

SIGN_UP = "User.objects.create_user('reader', password='a long password')"


class Reader:
    """A browser that signs in by the form and asks for its inbox."""

    def __init__(self, site: Site) -> None:
        self.http = httpx.Client(base_url=f"http://localhost:{site.port}", timeout=PATIENCE)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def sign_in(self) -> None:
        page = self.http.get("/login")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        assert token
        form = {"username": "reader", "password": "a long password"}
        answer = self.http.post(
            page.url,
            data=form | {"csrfmiddlewaretoken": token[1]},
            headers={"Referer": str(page.url)},
        )
        assert answer.status_code == 302, answer.text

    def inbox(self) -> list[int]:
        answer = self.http.get("/api/user/messages", params={"limit": 100})
        assert answer.status_code == 200, answer.text
        return sorted(message["broadcast_id"] for message in answer.json()["results"])


@pytest.fixture
def redis_site(
    live_database: Environment, free_port: int, spawn: Spawn, redis_server: servers.Redis
) -> Site:
    env = {"REDIS_URL": redis_server.start(), "SSE_HEARTBEAT": "1", "SSE_TOKEN_SECONDS": "3600"}
    return Site(live_database | env, free_port, spawn)


def registered(redis: Redis, site: Site) -> int:
    """Streams that Redis knows of this site's node."""
    nodes = redis.keys(f"sse:streams:*:{site.port}")
    return sum(redis.zcard(node) - 1 for node in nodes)


def test_redis_stops_forgets_and_returns_while_broadcasts_go_out(
    redis_site: Site, redis_server: servers.Redis
) -> None:
    site = redis_site
    web = site.web()
    site.relay()
    clients = [site.client(pk) for pk in site.people(20)]
    site.code(SIGN_UP)
    sent: list[int] = []

    async def follow(early: Reader, visitor: Reader) -> None:
        def send() -> None:
            sent.extend(site.send(5))
            assert early.inbox() == sent

        early.sign_in()
        tasks = [asyncio.create_task(client.follow(has("MESSAGE", 30))) for client in clients]
        while not all(client.counts["CONNECTED"] for client in clients):
            await asyncio.sleep(0.02)
        redis = Redis.from_url(site.env["REDIS_URL"])
        await asyncio.to_thread(wait_until, lambda: registered(redis, site) == len(clients))
        await asyncio.to_thread(send)

        redis.flushall()
        await asyncio.to_thread(send)
        await asyncio.to_thread(wait_until, lambda: registered(redis, site) == len(clients))

        redis.close()
        redis_server.stop()
        await asyncio.to_thread(send)
        await asyncio.to_thread(visitor.sign_in)
        assert await asyncio.to_thread(visitor.inbox) == sent
        meanwhile = Client(site.port, clients[0].token)
        await meanwhile.follow(has("CONNECTED"), reconnect=False)
        assert meanwhile.connects == 1
        await asyncio.to_thread(send)

        redis_server.start()
        await asyncio.to_thread(send)
        with Redis.from_url(site.env["REDIS_URL"]) as back:
            await asyncio.to_thread(
                wait_until, lambda: registered(back, site) == len(clients), message="told again"
            )
        await asyncio.to_thread(send)
        await asyncio.gather(*tasks)

    with Reader(site) as early, Reader(site) as visitor:
        asyncio.run(together(follow(early, visitor)))
    assert all(messages(client) == sent for client in clients)
    assert all(client.connects == 1 for client in clients)
    told = re.findall("Redis is (away|back)", web.output())
    assert told[:1] == ["away"]
    assert all(one != next_one for one, next_one in pairwise(told))  # however many ask
    assert "Traceback" not in web.output()


def test_the_limit_counts_the_streams_of_all_nodes(redis_site: Site) -> None:
    other = Site(redis_site.env, servers.free_port(), redis_site.spawn)
    redis_site.web()
    other.web()
    (one,) = redis_site.people(1)
    clients = [place.client(one) for place in (redis_site, other, redis_site, other, redis_site)]

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
    active = "print(Connection.objects.active().count())"
    wait_until(lambda: redis_site.code(active).strip() == "0", message="the rows are ended")
    assert redis_site.code("print(Connection.objects.count())").strip() == "5"


def test_a_stream_can_be_disconnected_at_once_by_its_owner_through_another_node(
    redis_site: Site,
) -> None:
    other = Site(redis_site.env, servers.free_port(), redis_site.spawn)
    redis_site.web()
    other.web()
    redis_site.relay()
    redis_site.code(SIGN_UP)
    client = redis_site.client(int(redis_site.code("print(User.objects.get().pk)")))

    async def follow(reader: Reader) -> None:
        reader.sign_in()
        task = asyncio.create_task(client.follow(has("DISCONNECTED"), reconnect=False))
        while not client.of("CONNECTED"):
            await asyncio.sleep(0.01)
        answer = await asyncio.to_thread(
            reader.http.post,
            "/api/user/sse/disconnect",
            json={"connection_id": client.of("CONNECTED")[0].data["connection_id"]},
            headers={"X-CSRFToken": reader.http.cookies["csrftoken"]},
        )
        assert answer.status_code == 204, answer.text
        await task

    with Reader(other) as reader:
        asyncio.run(together(follow(reader)))
    assert client.of("DISCONNECTED")[0].data["reconnect"] is False
