"""The probes: each part is stopped for real, in front of a real web process."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from broadcast_project import health
from jobs import clock
from jobs.models import Job
from jobs.schedules import synchronise
from outbox.logs import DatabaseLog, LogUnavailable
from outbox.models import Event
from outbox.relay import Relay
from outbox.services import emit
from tests import servers
from tests.conftest import Spawn, needed
from tests.processes import Environment, Spawned, environment
from tests.servers import CHECKOUT
from tests.sse import run_code
from tests.waiting import PATIENCE, wait_until

PARTS = {"database", "clock", "event log", "cache", "relay", "jobs"}
HAPPEN = """
from django.db import transaction
from outbox.services import emit
with transaction.atomic():
    emit("test.happened", key="1", data={})
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> health.Checker:
    """What other tests found is forgotten."""
    checker = health.Checker()
    monkeypatch.setattr(health, "_checker", checker)
    return checker


@pytest.fixture
def relay(transactional_db: None) -> Relay:
    Job.objects.all().delete()  # they have waited since the tests began
    synchronise()
    leader = Relay()
    assert leader.lead()
    return leader


def forget(checker: health.Checker) -> None:
    checker.known = None


def test_a_process_is_live_without_the_database(client: Client) -> None:
    response = client.get("/healthz")  # pytest-django refuses the database to this test
    assert (response.status_code, response.json()["status"]) == (HTTPStatus.OK, "ok")


@pytest.mark.parametrize("host", ["10.1.2.3:8000", "nobody-allowed-this.example"])
def test_a_probe_may_name_any_host(client: Client, host: str) -> None:
    assert client.get("/healthz", headers={"host": host}).status_code == HTTPStatus.OK


def test_a_probe_is_not_sent_to_https(client: Client, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert client.get("/healthz").status_code == HTTPStatus.OK


def test_a_probe_only_reads(client: Client) -> None:
    response = client.post("/readyz")
    assert response.status_code == HTTPStatus.METHOD_NOT_ALLOWED
    assert response["Allow"] == "GET, HEAD"


def test_all_is_well(client: Client, relay: Relay) -> None:
    response = client.get("/readyz")
    body = response.json()
    assert (response.status_code, body["status"], body["message"]) == (HTTPStatus.OK, "ok", "")
    assert set(body["parts"]) == PARTS - {"cache"}
    assert relay.holder in body["parts"]["relay"]["message"]
    assert response["Cache-Control"] == "no-store"


def test_without_a_relay_it_serves_and_says_what_to_start(
    client: Client, relay: Relay, fresh: health.Checker
) -> None:
    relay.resign()
    response = client.get("/readyz")
    body = response.json()
    assert (response.status_code, body["status"]) == (HTTPStatus.OK, "degraded")
    assert "manage.py relay" in body["message"]
    assert body["parts"]["database"]["status"] == "ok"
    assert client.get("/readyz?strict").status_code == HTTPStatus.SERVICE_UNAVAILABLE


def test_jobs_that_are_late_are_named(client: Client, relay: Relay, fresh: health.Checker) -> None:
    name = "EVENT_RETENTION"
    Job.objects.update_or_create(
        name=name, defaults={"last_slot": timezone.now() - timedelta(days=9)}
    )
    body = client.get("/readyz").json()
    assert (body["status"], body["parts"]["jobs"]["status"]) == ("degraded", "degraded")
    assert name in body["message"]
    Job.objects.update(last_slot=timezone.now())
    forget(fresh)
    assert client.get("/readyz").json()["status"] == "ok"


class Away(DatabaseLog):
    def ping(self, timeout: float) -> None:
        raise LogUnavailable("away")


@pytest.mark.parametrize(
    ("away", "published", "state"),
    [
        (60, None, "degraded"),
        (60, 90, "degraded"),
        (60, 55, "degraded"),  # what was on its way
        (60, 45, "unavailable"),
        (5, 0, "degraded"),
    ],
)
def test_a_log_that_only_this_process_cannot_reach_makes_it_unavailable(
    client: Client,
    relay: Relay,
    monkeypatch: pytest.MonkeyPatch,
    away: int,
    published: int | None,
    state: str,
) -> None:
    """Seconds ago it was reached here, and something was published to it by others."""
    check = health.LogCheck()
    check.reached -= away
    monkeypatch.setitem(health.CHECKS, "event log", (check, health.DEGRADED))
    monkeypatch.setattr(health, "get_log", Away)
    if published is not None:
        with transaction.atomic():
            emit("test.happened", key="1", data={})
        relay.step()
        Event.objects.update(published_at=clock.now() - timedelta(seconds=published))
    response = client.get("/readyz")
    assert response.json()["parts"]["event log"]["status"] == state
    assert response.status_code == (503 if state == "unavailable" else 200)


@pytest.mark.parametrize(("apart", "state"), [(-6, "degraded"), (0, "ok"), (6, "degraded")])
def test_a_clock_that_goes_wrong_is_told(
    client: Client, relay: Relay, monkeypatch: pytest.MonkeyPatch, apart: int, state: str
) -> None:
    monkeypatch.setattr(clock, "now", lambda: timezone.now() + timedelta(seconds=apart))
    response = client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (HTTPStatus.OK, state)


def test_a_hundred_probes_are_one_look(
    client: Client, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Any] = []
    monkeypatch.setattr(health, "FRESH", PATIENCE)
    monkeypatch.setattr(health, "Look", counted(looks, health.Look))
    assert {client.get("/readyz").status_code for _ in range(100)} == {HTTPStatus.OK}
    assert len(looks) == 2  # the database's and the log's


def counted(looks: list[Any], look: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def counting(group: Any) -> Any:
        looks.append(group)
        return look(group)

    return counting


def test_a_part_that_hangs_is_told_and_not_asked_again(
    client: Client, relay: Relay, fresh: health.Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = threading.Event()
    asked = []

    def hang() -> str:
        asked.append(1)
        hangs.wait(PATIENCE)
        return "late"

    monkeypatch.setitem(health.CHECKS, "event log", (hang, health.UNAVAILABLE))
    monkeypatch.setattr(health, "PATIENCE", 0.5)
    try:
        for _ in range(3):
            forget(fresh)
            response = client.get("/readyz")
            assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
            assert "No answer" in response.json()["parts"]["event log"]["message"]
        assert len(asked) == 1
    finally:
        hangs.set()


def test_people_get_a_page(client: Client, relay: Relay) -> None:
    relay.resign()
    response = client.get("/readyz", headers={"accept": "text/html,*/*;q=0.8"})
    assert response["Content-Type"].startswith("text/html")
    assert "It serves, but not everything works" in response.text
    assert "manage.py relay" in response.text
    assert client.get("/readyz", headers={"accept": "*/*"}).json()


# With real servers


@dataclass
class Site:
    env: Environment
    port: int
    postgres: servers.Postgres
    redis: servers.Redis
    kafka: servers.Kafka
    relay: Spawned
    alone: int
    """The port of a process that alone cannot reach Kafka."""

    def ask(self, path: str = "/readyz", port: int = 0) -> tuple[int, dict[str, Any]]:
        response = httpx.get(f"http://127.0.0.1:{port or self.port}{path}", timeout=PATIENCE)
        return response.status_code, response.json()

    def alone_is(self, code: int) -> None:
        def is_so() -> bool:
            run_code(HAPPEN, self.env)
            return self.ask(port=self.alone)[0] == code

        wait_until(is_so, message=f"{code} of the process without Kafka")

    def slots_are(self, hours: int) -> None:
        """Of all jobs, that so far ahead: whether they are late is nobody's but the test's."""
        with psycopg.connect(self.env["DATABASE_URL"]) as postgres:
            postgres.execute("UPDATE jobs_job SET last_slot = now() + %s", [timedelta(hours=hours)])

    def until(self, code: int, **parts: str) -> dict[str, Any]:
        """Wait for a status, with these states of parts and all others well."""
        wanted = dict.fromkeys(PARTS, "ok") | {n.replace("_", " "): s for n, s in parts.items()}

        def is_so() -> dict[str, Any]:
            status, body = self.ask()
            states = {name: part["status"] for name, part in body["parts"].items()}
            return body if (status, states) == (code, wanted) else {}

        return wait_until(is_so, message=f"{code} with {wanted}")


@pytest.fixture
def site(
    tmp_path: Path, free_port: int, spawn: Spawn, redis_server: servers.Redis
) -> Iterator[Site]:
    with (
        needed(servers.running(servers.Postgres)) as postgres,
        needed(servers.running(servers.Kafka)) as kafka,
    ):
        (tmp_path / "var").mkdir()
        env = environment(postgres.start(), tmp_path / "var") | {
            "REDIS_URL": redis_server.start(),
            "KAFKA_BOOTSTRAP_SERVERS": kafka.url,
        }
        command = [sys.executable, "manage.py", "migrate", "--verbosity=0"]
        subprocess.run(command, cwd=CHECKOUT, env=env, check=True)
        spawn(["web", "--port", str(free_port)], env)
        alone = servers.free_port()
        nowhere = f"127.0.0.1:{servers.free_port()}"
        spawn(["web", "--port", str(alone)], env | {"KAFKA_BOOTSTRAP_SERVERS": nowhere})
        relay = spawn(["relay"], env)
        wait_until(lambda: servers.programs.speaks(f"http://127.0.0.1:{free_port}/healthz"))
        wait_until(lambda: servers.programs.speaks(f"http://127.0.0.1:{alone}/healthz"))
        site = Site(env, free_port, postgres, redis_server, kafka, relay, alone)
        site.slots_are(hours=1)
        yield site


@pytest.mark.processes
@pytest.mark.skipif(connection.vendor != "sqlite", reason="the database is the test's own")
@pytest.mark.django_db(transaction=True)
def test_each_part_that_is_stopped_is_told_and_comes_back(site: Site) -> None:
    site.until(HTTPStatus.OK)
    site.alone_is(HTTPStatus.SERVICE_UNAVAILABLE)
    site.until(HTTPStatus.OK)

    site.redis.stop()
    body = site.until(HTTPStatus.OK, cache="degraded")
    assert (body["status"], body["message"].count("Redis")) == ("degraded", 1)
    site.redis.start()
    site.until(HTTPStatus.OK)

    site.kafka.stop()
    body = site.until(HTTPStatus.OK, event_log="degraded")
    assert "inboxes are up to date" in body["message"]
    site.kafka.start()
    site.until(HTTPStatus.OK)

    site.slots_are(hours=-200)
    site.until(HTTPStatus.OK, jobs="degraded")
    site.slots_are(hours=1)
    site.until(HTTPStatus.OK)

    site.postgres.stop("immediate")
    gone = {"database": "unavailable"} | dict.fromkeys(["clock", "relay", "jobs"], "degraded")
    body = site.until(HTTPStatus.SERVICE_UNAVAILABLE, **gone)
    assert body["status"] == "unavailable"
    assert site.ask("/healthz")[0] == HTTPStatus.OK
    site.postgres.start()
    site.until(HTTPStatus.OK)

    site.relay.close()
    body = site.until(HTTPStatus.OK, relay="degraded")
    assert "manage.py relay" in body["message"]
