"""Who is refused a stream, and how it is said."""

import asyncio
import json
import threading
from typing import Any

import pytest
import time_machine
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client

from broadcasts.directory import get_directory
from connections import admissions, consumers, hub
from connections.admissions import admit
from connections.hub import database_task
from connections.models import Connection
from connections.refusals import ConnectLimit
from connections.registry import DatabaseRegistry
from connections.services import disconnect_people
from connections.tokens import make_token
from connections.wire import frame_of
from outbox.logs import get_log
from outbox.relay import Relay
from outbox.topics import BROADCASTS
from tests.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def fresh_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_hub", None)
    monkeypatch.setattr(consumers, "_limit", ConnectLimit())


@pytest.fixture
def user() -> User:
    return User.objects.create_user("reader", password="secret")


def scope_of(
    query: str, method: str = "GET", headers: dict[str, str] | None = None
) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": "/api/user/sse/connect",
        "query_string": query.encode(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
        "client": ["192.0.2.1", 4711],
    }


def ask(
    query: str = "",
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    scope: dict[str, Any] | None = None,
    times: int = 1,
    pieces: int = 1,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and the last of `pieces` of the body, of the last of `times` requests."""
    scope = scope or scope_of(query, method, headers)

    async def request() -> tuple[dict[str, Any], dict[str, Any]]:
        for _ in range(times):
            application = ApplicationCommunicator(consumers.StreamConsumer.as_asgi(), scope)
            await application.send_input({"type": "http.request"})
            start = await application.receive_output(PATIENCE)
            for _ in range(pieces):
                body = await application.receive_output(PATIENCE)
            await application.send_input({"type": "http.disconnect"})
            await application.wait(PATIENCE)
        await hub.get_hub().shut_down()
        return start, body

    start, body = asyncio.run(request())
    hub._hub = None
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], found, body["body"]


def error(answer: tuple[int, dict[str, str], bytes]) -> dict[str, Any]:
    status, _, body = answer
    said: dict[str, Any] = json.loads(body)
    assert said["status"] == status
    return said


def test_who_is_not_signed_in_gets_401() -> None:
    assert error(ask())["code"] == "not_authenticated"


def test_a_session_opens_a_stream(user: User, client: Client) -> None:
    client.force_login(user)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    status, headers, body = ask(headers={"Cookie": f"{settings.SESSION_COOKIE_NAME}={cookie}"})
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert headers["x-accel-buffering"] == "no"
    assert b"event: CONNECTED\nid: 0\n" in body


def test_a_token_opens_a_stream(user: User) -> None:
    assert ask(f"token={make_token(user.pk)}")[0] == 200


def test_a_forged_token_gets_401(user: User) -> None:
    forged = make_token(user.pk).replace(str(user.pk), str(user.pk + 1), 1)
    assert error(ask(f"token={forged}"))["code"] == "invalid_token"


def test_a_token_may_stand_in_a_header(user: User) -> None:
    assert ask(headers={"Authorization": f"Bearer {make_token(user.pk)}"})[0] == 200
    assert error(ask(headers={"Authorization": "Bearer x"}))["code"] == "invalid_token"


def test_an_expired_token_gets_401_and_is_told_where_to_get_a_new_one(user: User) -> None:
    with time_machine.travel("2020-01-01"):
        old = make_token(user.pk)
    said = error(ask(f"token={old}"))
    assert said["status"] == 401
    assert "expired" in said["message"]
    assert "/api/user/sse/token" in said["message"]


def test_the_token_of_a_disabled_account_gets_401(user: User) -> None:
    token = make_token(user.pk)
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert error(ask(f"token={token}"))["status"] == 401


def test_somebody_elses_stream_is_403(user: User) -> None:
    other = User.objects.create_user("other")
    for name in (other.pk, other.username):
        assert error(ask(f"token={make_token(user.pk)}&user={name}"))["code"] == "forbidden"


def test_ones_own_stream_may_be_named(user: User) -> None:
    assert ask(f"token={make_token(user.pk)}&user=reader")[0] == 200


@pytest.mark.parametrize("value", ["abc", "-1", "1.5", "١٢", "9" * 30, "9" * 5_000, "error"])
def test_a_malformed_last_event_id_gets_400(user: User, value: str) -> None:
    said = error(
        ask(f"token={make_token(user.pk)}", headers={"Last-Event-ID": value})
        if value.isascii()
        else ask(f"token={make_token(user.pk)}&last_event_id={value}")
    )
    assert said["code"] == "invalid_last_event_id"


def test_a_last_event_id_from_the_future_is_not_recovered(user: User) -> None:
    _, _, body = ask(f"token={make_token(user.pk)}&last_event_id=999999")
    assert b'"recovered":false' in body


def test_the_parameter_of_the_client_library_is_understood(user: User) -> None:
    assert error(ask(f"token={make_token(user.pk)}&lastEventId=x"))["status"] == 400


def test_other_methods_get_405(user: User) -> None:
    status, headers, _ = ask(method="POST")
    assert (status, headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_head_tells_the_headers_and_ends(user: User) -> None:
    status, headers, body = ask(f"token={make_token(user.pk)}", method="HEAD")
    assert (status, body) == (200, b"")
    assert headers["content-type"].startswith("text/event-stream")
    assert not Connection.objects.exists()


def test_nothing_on_the_way_may_keep_buffer_or_compress_it(user: User) -> None:
    _, headers, body = ask(
        f"token={make_token(user.pk)}", headers={"Accept-Encoding": "gzip, deflate, br, zstd"}
    )
    assert headers["cache-control"] == "no-cache, no-store, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in headers
    assert b"event: CONNECTED\n" in body


def test_each_client_is_told_another_moment_to_return_at(user: User) -> None:
    answers = [ask(f"token={make_token(user.pk)}")[2] for _ in range(4)]
    retries = [int(body.split(b"\n")[0].removeprefix(b"retry: ")) for body in answers]
    assert all(1_000 <= retry <= 4_000 for retry in retries)
    assert len(set(retries)) > 1


def test_a_full_server_gets_503_with_retry_after(user: User, settings: Any) -> None:
    settings.SSE_MAX_CONNECTIONS = 0
    status, headers, _ = answer = ask(f"token={make_token(user.pk)}")
    assert error(answer)["code"] == "too_many_connections"
    assert (status, int(headers["retry-after"]) > 0) == (503, True)


def test_too_many_connects_of_an_address_get_429(user: User, settings: Any) -> None:
    settings.SSE_CONNECTS_PER_MINUTE = 2
    with time_machine.travel("2030-01-01 00:00:10", tick=False):
        status, headers, _ = ask(f"token={make_token(user.pk)}", times=3)
    assert (status, headers["retry-after"]) == (429, "50")


@pytest.mark.parametrize(
    ("lines", "proxies", "seen"),
    [
        (["203.0.113.9"], 0, "192.0.2.1"),
        (["203.0.113.9"], 1, "203.0.113.9"),
        (["198.51.100.7, 203.0.113.9"], 1, "203.0.113.9"),
        (["203.0.113.9", "10.0.0.2"], 2, "203.0.113.9"),  # a proxy that adds a line
    ],
)
def test_behind_proxies_the_address_is_of_whoever_asks(
    user: User, settings: Any, lines: list[str], proxies: int, seen: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    scope = scope_of(f"token={make_token(user.pk)}")
    scope["headers"] = [(b"x-forwarded-for", line.encode()) for line in lines]
    assert ask(scope=scope)[0] == 200
    assert Connection.objects.get().address == seen


def test_only_named_origins_may_read_it_from_elsewhere(user: User, settings: Any) -> None:
    settings.SSE_ALLOW_ORIGINS = ["https://a.example"]
    query = f"token={make_token(user.pk)}"
    _, allowed, _ = ask(query, headers={"Origin": "https://a.example"})
    _, refused, _ = ask(query, headers={"Origin": "https://b.example"})
    assert allowed["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-origin" not in refused


def test_a_preflight_is_answered_and_a_refusal_can_be_read(settings: Any) -> None:
    settings.SSE_ALLOW_ORIGINS = ["https://a.example"]
    origin = {"Origin": "https://a.example"}
    status, headers, body = ask(method="OPTIONS", headers=origin)
    assert (status, body) == (204, b"")
    assert "Last-Event-ID" in headers["access-control-allow-headers"]
    assert headers["access-control-allow-credentials"] == "true"
    status, headers, _ = ask(headers=origin)
    assert (status, headers["access-control-allow-origin"]) == (401, "https://a.example")
    assert "access-control-allow-origin" not in ask(method="OPTIONS")[1]


def test_a_directory_that_is_down_is_503_and_not_silence(user: User, settings: Any) -> None:
    settings.DIRECTORY_BACKEND = "broadcasts.directory.HttpDirectory"
    settings.DIRECTORY_URL = "http://127.0.0.1:9/"
    get_directory.cache_clear()
    try:
        status, headers, _ = answer = ask(f"token={make_token(user.pk)}")
    finally:
        get_directory.cache_clear()
    assert error(answer)["code"] == "unavailable"
    assert (status, headers["retry-after"]) == (503, "5")


def test_a_client_that_goes_while_it_is_admitted_leaves_no_connection_behind(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    admitting, gone = threading.Event(), threading.Event()

    def admit_slowly(*asking: Any) -> Any:
        admitting.set()
        gone.wait(PATIENCE)
        return admit(*asking)

    async def come_and_go() -> None:
        consumer = ApplicationCommunicator(consumers.StreamConsumer.as_asgi(), scope)
        await consumer.send_input({"type": "http.request"})
        await asyncio.to_thread(admitting.wait, PATIENCE)
        await consumer.send_input({"type": "http.disconnect"})
        await consumer.wait(PATIENCE)
        gone.set()
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(ended):
                await asyncio.sleep(0.02)
        await hub.get_hub().shut_down()

    @database_task
    def ended() -> bool:
        return Connection.objects.filter(reason="client disconnected").exists()

    monkeypatch.setattr(admissions, "admit", admit_slowly)
    scope = scope_of(f"token={make_token(user.pk)}")
    asyncio.run(come_and_go())
    assert not Connection.objects.active().exists()


def test_an_error_after_the_admission_leaves_no_connection_behind(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> bool:
        raise OperationalError("the database is away")

    monkeypatch.setattr(consumers.StreamConsumer, "can_replay", fail)
    assert error(ask(f"token={make_token(user.pk)}&last_event_id=0"))["status"] == 503
    assert Connection.objects.get().reason == "client disconnected"


def test_a_server_whose_first_stream_met_an_outage_serves_the_next(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = DatabaseRegistry.start
    failures = [OperationalError("the database is away")]

    def start_at_last(self: DatabaseRegistry, node: str) -> None:
        if failures:
            raise failures.pop()
        start(self, node)

    monkeypatch.setattr(DatabaseRegistry, "start", start_at_last)
    assert ask(f"token={make_token(user.pk)}", times=2)[0] == 200


@pytest.mark.parametrize("other", ['a={"x":1}', "a,b=1", "a[1]=2", 'x="a b'])
def test_the_cookies_of_other_applications_are_in_nobodys_way(
    user: User, client: Client, other: str
) -> None:
    client.force_login(user)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    assert ask(headers={"Cookie": f"{other}; {settings.SESSION_COOKIE_NAME}={cookie}"})[0] == 200


def test_permissions_that_change_while_a_stream_opens_cut_it(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def admit_and_then_change(*asking: Any) -> Any:
        answer = admit(*asking)
        disconnect_people({user.pk}, reason="permissions changed", reconnect=True)
        Relay().step()
        this = hub.get_hub()
        done = threading.Event()
        frames = [frame_of(record) for record in get_log().tail(BROADCASTS, 1)[0]]
        this.loop.call_soon_threadsafe(this.dispatch, frames)
        this.loop.call_soon_threadsafe(done.set)
        done.wait(PATIENCE)
        return answer

    monkeypatch.setattr(admissions, "admit", admit_and_then_change)
    _, _, body = ask(f"token={make_token(user.pk)}", pieces=2)
    assert b"event: DISCONNECTED" in body
