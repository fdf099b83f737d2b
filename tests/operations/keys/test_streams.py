"""A key opens the stream of its owner, and its end cuts it."""

import http.client
import json
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from connections import consumers, hub
from connections.admissions import Asking, admit, identify
from connections.models import Connection
from connections.refusals import ConnectLimit, Refusal
from connections.registry import get_registry
from connections.services import CLOSE
from jobs.correlation import correlation_id
from operations.keys import services
from operations.keys.authentication import refusals
from operations.keys.models import ApiKey
from operations.keys.usage import recorder
from outbox.models import Event
from tests.conftest import Spawn
from tests.connections.test_consumers import ask
from tests.connections.test_feed import ask as ask_for_all_events
from tests.factories import UserFactory
from tests.live import database_of
from tests.processes import Environment, Spawned
from tests.sse import run_code
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

CONNECT = "/api/user/sse/connect"
ASKED = [("", "GET"), ("", "HEAD"), ("user=somebody", "GET")]
TIMES = 5
OFTEN = 8  # so that a connection that has prepared the look has seen the key as it was


@pytest.fixture(autouse=True)
def fresh_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_hub", None)
    monkeypatch.setattr(consumers, "_limit", ConnectLimit())


def refusal(written: str, header: str = "X-API-Key") -> tuple[int, str]:
    status, _, body = ask(headers={header: written})
    return status, json.loads(body)["code"]


def uses() -> dict[str, int]:
    waiting = recorder.waiting.items()
    return {name.split(":")[2]: n for name, n in waiting if not name.endswith(":last")}


def test_either_header_opens_the_stream_and_is_counted_as_it_begins(
    key: ApiKey, written: str
) -> None:
    for headers in ({"X-API-Key": written}, {"Authorization": f"Bearer {written}"}):
        status, found, body = ask(headers=headers)
        assert (status, found["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert found["ratelimit-policy"].startswith('"minute";q=60;w=60, "hour"')
        assert found["ratelimit"].startswith('"minute";r=5')
        assert b"event: CONNECTED" in body
    rows = Connection.objects.values_list("user", "api_key")
    assert set(rows) == {(key.owner_id, key.key_id)}
    assert uses() == {"succeeded": 2}


@pytest.mark.parametrize("name", ["token", "api_key", "key"])
def test_a_key_in_the_address_is_refused(written: str, name: str) -> None:
    status, _, _ = ask(f"{name}={written}")
    assert status == 401
    assert uses() == {}


def test_each_refusal_is_told_and_counted_as_in_the_api(
    owner: User, key: ApiKey, written: str
) -> None:
    assert refusal("ak_nothing") == (401, "invalid_api_key")
    assert refusal(f"Bearer {written[:-1]}x", "Authorization") == (401, "invalid_api_key")
    services.disable(key, "by the test")
    assert refusal(written) == (401, "api_key_disabled")
    assert uses() == {}
    _, reads = services.make(owner, "Reads", ["read"])
    assert refusal(reads) == (403, "scope_missing")
    limited, often = services.make(owner, "Often", ["stream"], limit_minute=1)
    assert ask(headers={"X-API-Key": often})[0] == 200
    status, headers, body = ask(headers={"X-API-Key": often})
    assert (status, json.loads(body)["code"]) == (429, "limit_reached")
    assert headers["ratelimit-policy"].startswith('"minute";q=1;w=60')
    assert 0 < int(headers["retry-after"]) <= 60
    _, other = services.make(owner, "Other", ["stream"])
    assert ask("user=somebody", headers={"X-API-Key": other})[0] == 403
    assert uses() == {"failed_4xx": 1, "succeeded": 1}
    counts = dict(recorder.waiting)
    assert counts.pop(f"{limited.pk}:{day()}:failed_4xx") == 1


def test_each_answer_to_a_key_says_how_its_limits_stand(owner: User) -> None:
    _, reads = services.make(owner, "Reads", ["read"], limit_minute=2)
    _, streams = services.make(owner, "Streams", ["stream"], limit_minute=5)
    answers = [ask(headers={"X-API-Key": reads}) for _ in range(3)]
    answers += [ask(query, method=how, headers={"X-API-Key": streams}) for query, how in ASKED]
    assert [(status, headers["ratelimit"].split(";")[1]) for status, headers, _ in answers] == [
        (403, "r=1"),
        (403, "r=0"),
        (429, "r=0"),
        (200, "r=4"),
        (200, "r=3"),
        (403, "r=2"),
    ]
    assert ["retry-after" in headers for _, headers, _ in answers] == [n == 2 for n in range(6)]


def test_the_stream_of_all_events_says_so_also_to_who_may_not_see_them(
    key: ApiKey, written: str
) -> None:
    ApiKey.objects.update(limit_minute=1)
    answers = [ask_for_all_events(headers={"X-API-Key": written}) for _ in range(2)]
    said = [(answer.status, answer.error["code"]) for answer in answers]
    assert said == [(403, "forbidden"), (429, "limit_reached")]
    assert ["retry-after" in answer.headers for answer in answers] == [False, True]
    assert all(answer.headers["ratelimit"].startswith('"minute";r=0') for answer in answers)
    assert uses() == {"failed_4xx": 2}


def day() -> str:
    return timezone.now().date().isoformat()


def test_an_account_that_is_shut_opens_no_stream(key: ApiKey, written: str) -> None:
    User.objects.update(is_active=False)
    assert refusal(written) == (401, "api_key_owner_inactive")


def test_many_with_keys_are_admitted_together(
    owner: User, django_assert_max_num_queries: Any
) -> None:
    get_registry().start("node")
    people = UserFactory.create_batch(20)
    keys = [services.make(person, "x", ["stream"]) for person in people]
    given = [Asking(None, None, None, "192.0.2.1", "", written) for _, written in keys]
    with django_assert_max_num_queries(12):
        found = admit("node", [*given, Asking(None, None, None, "192.0.2.1", "", "nothing")])
    rows = [one[0] for one in found if not isinstance(one, Refusal)]
    assert [(row.user_id, row.api_key) for row in rows] == [
        (person.pk, key.key_id) for person, (key, _) in zip(people, keys, strict=True)
    ]
    assert isinstance(found[-1], Refusal)


@pytest.mark.parametrize(
    "end", ["disable", "delete", "rotate", "again", "scopes", "expire", "overlap"]
)
def test_what_ends_a_key_cuts_its_streams(key: ApiKey, end: str) -> None:
    over = timezone.now() - timedelta(seconds=1)
    match end:
        case "disable":
            services.disable(key, "by the test")
        case "delete":
            services.delete(key)
        case "rotate":
            services.rotate(key, timedelta(0))
        case "again":  # what the oldest opened
            services.rotate(key, timedelta(hours=1))
            assert not Event.objects.filter(type=CLOSE).exists()
            services.rotate(key, timedelta(hours=1))
        case "scopes":
            services.edit(key, scopes=["read"])
        case "expire":
            ApiKey.objects.update(expires_at=over)
            assert services.end_expired() == 1
        case "overlap":
            services.rotate(key, timedelta(hours=1))
            assert not Event.objects.filter(type=CLOSE).exists()
            ApiKey.objects.update(old_until=over)
            assert services.end_expired() == 1
    event = Event.objects.get(type=CLOSE)
    assert event.channels == [f"user-{key.owner_id}"]
    assert event.data["api_key"] == key.key_id
    assert event.data["reconnect"] is (end in {"rotate", "again", "scopes", "overlap"})


# Real processes


MAKE = """
from django.contrib.auth.models import User
from operations.keys.services import make
owner, _ = User.objects.get_or_create(username="owner")
for n in range(2):
    print(make(owner, "Shop", ["stream", "read"], limit_minute=0)[1])
"""
DISABLE = """
import time
from operations.keys.models import ApiKey
from operations.keys.services import disable
disable(ApiKey.objects.get(key_id="{key_id}"), "by the test")
print(time.time())
"""


def web(spawn: Spawn, env: Environment, port: int) -> Spawned:
    process = spawn(["web", "--port", str(port)], env)
    wait_until(lambda: "Listening" in process.output(), message="web listens")
    return process


def one_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1)


@contextmanager
def stream(port: int, written: str) -> Iterator[Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with closing(connection):
        connection.request("GET", CONNECT, headers={"X-API-Key": written, "Host": "localhost"})
        response = connection.getresponse()
        assert response.status == 200
        while response.readline().strip() != b"event: CONNECTED":
            pass
        yield response


def still_open(env: Environment, ended: str, *others: str) -> list[str]:
    """The keys of those streams that are open once that of `ended` is not."""
    names = [written.partition(".")[0] for written in (ended, *others)]

    def found() -> list[str]:
        return [
            *Connection.objects.active().filter(api_key__in=names).values_list("api_key", flat=True)
        ]

    with database_of(env):
        wait_until(lambda: names[0] not in found(), message="its row has ended")
        return found()


def status_of(port: int, written: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with closing(connection):
        path = "/api/user/sse/connected/owner"
        connection.request("GET", path, headers={"X-API-Key": written, "Host": "localhost"})
        return connection.getresponse().status


@pytest.mark.processes
def test_disabled_in_one_process_a_key_is_refused_by_all_and_its_stream_ends(
    live_database: Environment, free_port: int, spawn: Spawn, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.servers import free_port as another

    env, ports = live_database | {"SSE_CONNECTS_PER_MINUTE": "0"}, (free_port, another())
    for port in ports:
        web(spawn, env, port)
    relay = spawn(["relay"], env)
    wait_until(lambda: "BROADCAST_CLOCK started" in relay.output(), message="the relay works")
    took = []
    for _ in range(TIMES):
        ends, stays = run_code(MAKE, env).split()
        for _ in range(OFTEN):
            assert [status_of(port, ends) for port in ports] == [200, 200]
        with stream(ports[1], ends) as cut, stream(ports[1], stays), one_thread() as thread:
            ended = thread.submit(lambda of: (of.read(), time.time()), cut)
            at = float(run_code(DISABLE.format(key_id=ends.partition(".")[0]), env))
            assert [status_of(port, ends) for port in ports] == [401, 401]
            rest, then = ended.result(PATIENCE)
            took.append(then - at)
            assert b"event: DISCONNECTED" in rest
            assert b'"reconnect":false' in rest
            assert [status_of(port, stays) for port in ports] == [200, 200]
            assert still_open(env, ends, stays) == [stays.partition(".")[0]]
    with capsys.disabled():
        print(f" streams cut after {statistics.median(took) * 1_000:.0f} ms (median of {TIMES})")


@pytest.mark.processes
def test_uses_reach_their_rows_when_a_web_process_ends_in_order(
    live_database: Environment, free_port: int, spawn: Spawn
) -> None:
    process = web(spawn, live_database, free_port)
    written = run_code(MAKE, live_database).split()[0]
    for _ in range(20):
        assert status_of(free_port, written) == 200
    process.close()
    told = """
from operations.keys.models import ApiKey
from operations.keys.usage import sync
sync()
print(max(ApiKey.objects.values_list("succeeded", flat=True)))
"""
    assert int(run_code(told, live_database)) == 20


def test_a_stream_that_a_proxy_would_hold_is_held_here(
    key: ApiKey, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connections.grip.is_proxied", lambda headers: True)
    monkeypatch.setattr("connections.grip.is_signed", lambda headers: True)
    _, headers, body = ask(headers={"X-API-Key": written})
    assert b"event: CONNECTED" in body
    assert "grip-hold" not in headers
    assert Client(headers={"x-api-key": written}).get("/api/user/messages").status_code == 200


def test_a_key_that_is_refused_is_told_under_the_id_of_its_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One worker asks for many at once."""
    told = []
    monkeypatch.setattr(
        refusals, "note", lambda _, address: told.append((address, correlation_id()))
    )
    asking = [
        Asking(None, None, None, f"192.0.2.{n}", "", api_key="ak_nobodys", correlation_id=f"id-{n}")
        for n in (1, 2)
    ]
    assert [type(found) for found in identify(asking)] == [Refusal, Refusal]
    assert told == [("192.0.2.1", "id-1"), ("192.0.2.2", "id-2")]
