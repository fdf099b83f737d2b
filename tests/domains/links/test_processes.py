"""Links as processes serve them: clicks that survive a stop, changes that reach others."""

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from django.utils import timezone

from deliveries.models import Endpoint
from domains.links.models import Click, DailyCount, Dimension, Link
from tests.conftest import Spawn
from tests.deliveries.receiver import receiver
from tests.domains.links.conftest import CHROME, link
from tests.live import database_of
from tests.processes import Environment, Spawned
from tests.servers import free_port
from tests.sse import run_code
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

AGENT = {"User-Agent": CHROME}
OPERATOR = """
from django.contrib.auth.models import User
User.objects.create_superuser("operator", password="operator")
"""


@pytest.fixture
def env(live_database: Environment) -> Iterator[Environment]:
    env = live_database | {"WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
    with database_of(env):
        yield env


@pytest.fixture
def operator(env: Environment) -> tuple[str, str]:
    run_code(OPERATOR, env)  # there: passwords of tests are hashed in a way of their own
    return ("operator", "operator")


def serve(spawn: Spawn, env: Environment) -> tuple[Spawned, str]:
    port = free_port()
    web = spawn(["web", "--port", str(port)], env)
    wait_until(lambda: "Listening" in web.output(), message="web listens")
    return web, f"http://127.0.0.1:{port}"


def click(base: str, made: Link, times: int) -> list[int]:
    with httpx.Client(base_url=base, headers=AGENT) as browser:
        return [browser.get(f"/s/{made.short_code}").status_code for _ in range(times)]


def test_every_click_that_was_answered_is_counted_also_when_the_process_is_told_to_stop(
    spawn: Spawn, env: Environment
) -> None:
    made = link()
    served = [serve(spawn, env) for _ in range(2)]
    with ThreadPoolExecutor(8) as people:
        bases = [base for _, base in served] * 4
        statuses = list(people.map(lambda base: click(base, made, 25), bases))
    for web, _ in served:
        web.send(signal.SIGTERM)
    assert {status for some in statuses for status in some} == {302}
    assert [web.wait() for web, _ in served] == [0, 0]
    made.refresh_from_db()
    assert made.click_count == Click.objects.count() == 200
    assert DailyCount.objects.get(dimension=Dimension.CLICKS).count == 200
    assert not any("Traceback" in web.output() for web, _ in served)


def test_a_click_is_counted_within_moments(spawn: Spawn, env: Environment) -> None:
    made = link()
    _, base = serve(spawn, env)
    assert click(base, made, 3) == [302] * 3
    wait_until(lambda: Link.objects.get(pk=made.pk).click_count == 3, message="they are counted")


@pytest.mark.parametrize("shared", [False, True])
def test_a_change_in_one_process_reaches_the_others(
    spawn: Spawn,
    env: Environment,
    operator: tuple[str, str],
    request: pytest.FixtureRequest,
    shared: bool,
) -> None:
    """With Redis at once; without it after the seconds that a process keeps what it read."""
    if shared:
        env = env | {"REDIS_URL": request.getfixturevalue("redis_url")}
    made = link()
    (_, here), (_, there) = (serve(spawn, env) for _ in range(2))
    assert click(there, made, 2) == [302, 302]
    answer = httpx.patch(f"{here}/api/links/{made.pk}", json={"is_active": False}, auth=operator)
    assert answer.status_code == 200
    assert click(here, made, 1) == [410]
    if shared:
        assert click(there, made, 1) == [410]
    wait_until(lambda: click(there, made, 1) == [410], message="the other one knows")


def test_an_expired_link_reaches_a_webhook_by_the_doors_that_people_use(
    spawn: Spawn, env: Environment, operator: tuple[str, str]
) -> None:
    _, base = serve(spawn, env)
    spawn(["relay"], env)
    with receiver() as server:
        Endpoint.objects.create(name="Shop", url=server.url("/"), patterns=["link.expired"])
        end = timezone.now() + timedelta(seconds=3)
        body = {"original_url": "https://example.org", "expires_at": end.isoformat()}
        made = httpx.post(f"{base}/api/links", json=body, auth=operator).json()
        address = f"{base}/s/{made['short_code']}"
        wait_until(lambda: httpx.get(address).status_code == 410, message="it has expired")
        assert Link.objects.get().is_active
        for _ in range(2):
            job = spawn(["run_job", "LINK_EXPIRATION"], env)
            assert job.wait() == 0, job.output()
        wait_until(lambda: server.received, message="the webhook is told")
        (received,) = server.received
        event = json.loads(received.body)
        assert (event["type"], event["data"]["link_id"]) == ("link.expired", made["id"])
    assert not Link.objects.get().is_active
