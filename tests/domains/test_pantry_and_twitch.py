"""Through public doors: from a call of the API over a job and the event log to a webhook."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from deliveries.models import Endpoint
from tests.conftest import Spawn
from tests.deliveries.receiver import Server, receiver
from tests.domains.pantry.conftest import day
from tests.live import database_of
from tests.processes import Environment
from tests.sse import run_code
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

BOSS = """
from django.contrib.auth.models import User
User.objects.create_superuser("boss", password="boss")
"""
JOBS = ("ITEM_EXPIRATION", "STOCK_LEVEL", "STREAM_CLOSER", "MESSAGE_CLEANUP")


@pytest.fixture
def server() -> Iterator[Server]:
    with receiver() as server:
        yield server


@pytest.fixture(params=["database", "Kafka"])
def env(live_database: Environment, request: pytest.FixtureRequest) -> Environment:
    env = live_database | {
        "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        "STREAM_CLOSER_INACTIVE_TIMEOUT": "1ms",
    }
    if request.param == "database":
        return env
    url = request.getfixturevalue("kafka_url")
    prefix = f"{uuid.uuid4().hex[:8]}-"
    return env | {"KAFKA_BOOTSTRAP_SERVERS": url, "KAFKA_TOPIC_PREFIX": prefix}


@pytest.fixture
def api(env: Environment, free_port: int, spawn: Spawn) -> Iterator[httpx.Client]:
    web = spawn(["web", "--port", str(free_port)], env)
    run_code(BOSS, env)  # while it starts
    wait_until(lambda: "Listening" in web.output(), message="web listens")
    base = f"http://127.0.0.1:{free_port}/api"
    with httpx.Client(base_url=base, auth=("boss", "boss"), timeout=PATIENCE) as client:
        yield client


def post(api: httpx.Client, path: str, **data: Any) -> Any:
    answer = api.post(path, json=data)
    assert answer.is_success, answer.text
    return answer.json()


def test_each_job_reaches_a_webhook_once(
    api: httpx.Client, env: Environment, spawn: Spawn, server: Server
) -> None:
    with database_of(env):
        patterns = ["foodfolio.*", "twitchbot.*"]
        Endpoint.objects.create(name="Phone", url=server.url(), patterns=patterns)
    spawn(["relay"], env)
    milk = post(api, "foodfolio/items", name="Milk")
    low = post(api, "foodfolio/variants", item=milk["id"], name="1 l", min_sku=9)
    post(api, "foodfolio/variants", item=milk["id"], name="5 l")
    for days in (-1, 2):
        stock = f"foodfolio/variants/{low['id']}/stock-up"
        post(api, stock, expires_on=str(day(days)))
    stream = post(api, "twitch/streams", channel="toast", title="Rye")
    said = {"id": "a", "user_id": "1", "username": "ann", "text": "Hi"}
    told = {"channel": "toast", "messages": [said | {"sent_at": "2020-01-31T20:00:00Z"}]}
    assert post(api, "twitch/messages", **told)["stream"] == stream["id"]
    for job in [*JOBS, *JOBS]:
        ran = spawn(["run_job", job], env)
        assert ran.wait() == 0, ran.output()

    expected = {
        "foodfolio.detail.expired",
        "foodfolio.detail.expiring.soon",
        "foodfolio.variant.stock.low",
        "foodfolio.variant.stock.empty",
        "twitchbot.stream.started",
        "twitchbot.stream.ended",
    }
    wait_until(lambda: len(server.received) >= len(expected), message="all came")
    bodies = [json.loads(received.body) for received in server.received]
    assert sorted(body["type"] for body in bodies) == sorted(expected)
    data = {body["type"]: body["data"] for body in bodies}
    assert data["foodfolio.detail.expiring.soon"]["days_left"] == 2
    assert data["foodfolio.variant.stock.low"]["current_stock"] == 1
    assert data["twitchbot.stream.ended"]["total_messages"] == 1
    assert api.get("twitch/messages").json()["results"] == []
    assert not api.get(f"twitch/streams/{stream['id']}").json()["is_active"]
