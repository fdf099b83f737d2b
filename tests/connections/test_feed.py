"""The stream of domain events: who gets it, what is on it, and from where it goes on."""

import asyncio
import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.db import connections, transaction
from django.test import Client as Browser

from connections import consumers, feed, hub
from connections.feed import DomainLog, FeedConsumer, get_feed
from connections.refusals import ConnectLimit
from connections.tokens import make_token
from jobs.acting import acting_as, at_the_terminal
from operations.audit.models import AuditEntry
from operations.keys import services
from operations.keys.models import ApiKey
from operations.keys.usage import recorder
from outbox.models import Event, LeaderLease
from outbox.relay import Relay
from outbox.services import emit
from tests.conftest import Spawn
from tests.processes import Environment
from tests.sse import Client, basic, run_code
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def fresh_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_hub", None)
    monkeypatch.setattr(feed, "_feed", None)
    monkeypatch.setattr(consumers, "_limit", ConnectLimit())


@pytest.fixture
def operator() -> User:
    user = User.objects.create_user("operator", password="secret", is_staff=True)
    user.user_permissions.add(
        Permission.objects.get(content_type__app_label="outbox", codename="view_event")
    )
    Event.objects.all().delete()  # which tells that her streams are to be cut
    return user


def authorization(name: str = "operator", password: str = "secret") -> dict[str, str]:
    return {"Authorization": basic(name, password)}


def happens(kind: str, key: str = "thing-1", *, channels: tuple[str, ...] = (), **data: Any) -> int:
    """Published; its position."""
    with transaction.atomic():
        event = emit(kind, key, data, channels=channels)
    relay = Relay()
    relay.step()
    relay.resign()
    event.refresh_from_db()
    assert event.position
    return event.position


class Answer:
    def __init__(self, start: dict[str, Any], bodies: list[bytes]) -> None:
        self.status = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        self.bodies = bodies

    @property
    def error(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.bodies[0])
        assert said["status"] == self.status
        return said


def ask(
    query: str = "",
    *,
    headers: dict[str, str] | None = None,
    method: str = "GET",
    pieces: int = 1,
    meanwhile: Callable[[], Any] | None = None,
) -> Answer:
    """The first `pieces` of the body; `meanwhile` is called after the first of them."""
    scope = {
        "type": "http",
        "method": method,
        "path": "/api/events/stream",
        "query_string": query.encode(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
        "client": ["192.0.2.1", 4711],
    }

    async def request() -> Answer:
        application = ApplicationCommunicator(FeedConsumer.as_asgi(), scope)
        await application.send_input({"type": "http.request"})
        start = await application.receive_output(PATIENCE)
        bodies = []
        for piece in range(pieces):
            if piece == 1 and meanwhile:
                await asyncio.to_thread(in_a_thread, meanwhile)
            bodies.append((await application.receive_output(PATIENCE))["body"])
        await application.send_input({"type": "http.disconnect"})
        await application.wait(PATIENCE)
        await get_feed().shut_down()
        return Answer(start, bodies)

    try:
        return asyncio.run(request())
    finally:
        feed._feed = hub._hub = None


def in_a_thread(call: Callable[[], Any]) -> None:
    call()
    connections.close_all()


def events(bodies: list[bytes]) -> list[tuple[str, str]]:
    """The name and the id of each."""
    found = []
    for block in b"".join(bodies).decode().strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((fields["event"], fields.get("id", "")))
    return found


# Who


def test_who_is_not_signed_in_gets_401() -> None:
    assert ask().error["code"] == "not_authenticated"


def test_a_wrong_password_gets_401(operator: User) -> None:
    answer = ask(headers=authorization(password="wrong"))
    assert (answer.status, answer.error["code"]) == (401, "not_authenticated")


def test_who_failed_to_sign_in_and_from_where_is_in_the_audit(operator: User) -> None:
    with acting_as(at_the_terminal("web")):  # who runs the server has not tried it
        ask(headers=authorization(password="wrong"))
    [entry] = AuditEntry.objects.all()
    assert (entry.action, entry.person) == ("user.sign_in_failed", "operator")
    assert (entry.door, entry.address, entry.via) == ("stream", "192.0.2.1", "")


def test_a_token_for_streams_opens_none(operator: User) -> None:
    """It may be made by others, who need not be allowed to see events."""
    token = make_token(operator.pk)
    assert ask(f"token={token}").status == 401
    assert ask(headers={"Authorization": f"Bearer {token}"}).status == 401


@pytest.mark.parametrize("is_staff", [True, False])
def test_who_may_not_see_events_gets_403(operator: User, is_staff: bool) -> None:
    User.objects.filter(pk=operator.pk).update(is_staff=is_staff)
    if is_staff:
        operator.user_permissions.clear()
    answer = ask(headers=authorization())
    assert (answer.status, answer.error["code"]) == (403, "forbidden")
    assert "outbox.view_event" in answer.error["message"]


def test_a_session_opens_it(operator: User, client: Browser) -> None:
    client.force_login(operator)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    answer = ask(headers={"Cookie": f"{settings.SESSION_COOKIE_NAME}={cookie}"})
    assert answer.status == 200
    assert events(answer.bodies) == [("CONNECTED", "0")]


def test_pages_of_other_sites_cannot_read_it(operator: User, monkeypatch: Any) -> None:
    monkeypatch.setattr(settings, "SSE_ALLOW_ORIGINS", ["https://shop.example"])
    answer = ask(headers=authorization() | {"Origin": "https://shop.example"})
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers


def test_head_opens_none(operator: User) -> None:
    answer = ask(headers=authorization(), method="HEAD")
    assert (answer.status, answer.bodies) == (200, [b""])
    assert ask(method="HEAD").status == 401


def test_another_method_gets_405(operator: User) -> None:
    assert ask(method="POST", headers=authorization()).status == 405


@pytest.mark.parametrize(
    ("types", "words"),
    [
        ("Blog", "Blog: write an event type"),
        ("link.*,x..y", "x..y: write an event type"),
        ("broadcast.*", "broadcast.* is not of this stream"),
        ("connection.close", "is not of this stream"),
    ],
)
def test_what_is_no_type_of_it_gets_400(operator: User, types: str, words: str) -> None:
    answer = ask(f"types={types}", headers=authorization())
    assert (answer.status, answer.error["code"]) == (400, "invalid_types")
    assert words in answer.error["message"]


@pytest.mark.parametrize("given", ["x", "-1", "9" * 20])
def test_a_last_event_id_that_is_no_position_gets_400(operator: User, given: str) -> None:
    answer = ask(headers=authorization() | {"Last-Event-ID": given})
    assert answer.error["code"] == "invalid_last_event_id"


def test_one_too_many_is_told_so(operator: User, monkeypatch: Any) -> None:
    monkeypatch.setattr(settings, "SSE_MAX_CONNECTIONS_PER_USER", 0)
    answer = ask(headers=authorization())
    assert events(answer.bodies) == [("CONNECTION_LIMIT_REACHED", "")]


def test_a_full_process_gets_503(operator: User, monkeypatch: Any) -> None:
    monkeypatch.setattr(settings, "SSE_MAX_CONNECTIONS", 0)
    answer = ask(headers=authorization())
    assert (answer.status, answer.error["code"]) == (503, "too_many_connections")


def test_too_many_connects_of_an_address_get_429(operator: User, monkeypatch: Any) -> None:
    monkeypatch.setattr(settings, "SSE_CONNECTS_PER_MINUTE", 1)
    ask(headers=authorization())
    assert ask(headers=authorization()).error["code"] == "too_many_connects"


def of_operator(person: User) -> None:
    person.user_permissions.clear()


def staff_status(person: User) -> None:
    person.is_staff = False
    person.save()


def of_group(person: User) -> None:
    Group.objects.get(name="Watchers").permissions.clear()


@pytest.mark.parametrize("takes", [of_operator, staff_status, of_group])
def test_whose_permission_is_taken_away_loses_it(
    operator: User, takes: Callable[[User], None]
) -> None:
    watchers = Group.objects.create(name="Watchers")
    watchers.permissions.set(operator.user_permissions.all())
    operator.groups.add(watchers)
    if takes is of_group:
        operator.user_permissions.clear()
    Event.objects.all().delete()

    def take_away() -> None:
        takes(operator)
        Relay().step()

    answer = ask(headers=authorization(), pieces=2, meanwhile=take_away)
    assert events(answer.bodies)[-1] == ("DISCONNECTED", "")
    assert b"permissions changed" in answer.bodies[1]


# By an API key


def key_of(person: User, *scopes: str) -> tuple[ApiKey, dict[str, str]]:
    key, written = services.make(person, "Watcher", list(scopes))
    Event.objects.all().delete()
    return key, {"X-API-Key": written}


@pytest.mark.parametrize("scope", ["read", "admin"])
def test_a_key_that_may_read_opens_it_and_is_counted(operator: User, scope: str) -> None:
    _, headers = key_of(operator, scope)
    assert events(ask(headers=headers).bodies) == [("CONNECTED", "0")]
    assert [name for name in recorder.waiting if ":succeeded" in name]


@pytest.mark.parametrize("scope", ["stream", "publish"])
def test_a_key_of_another_scope_is_told_which(operator: User, scope: str) -> None:
    _, headers = key_of(operator, scope)
    answer = ask(headers=headers)
    assert (answer.status, answer.error["code"]) == (403, "scope_missing")
    assert "admin, read" in answer.error["message"]


def test_a_key_may_no_more_than_its_owner() -> None:
    _, headers = key_of(User.objects.create_user("reader"), "read", "admin")
    assert ask(headers=headers).error["code"] == "forbidden"


def test_a_key_that_is_none_gets_401(operator: User) -> None:
    answer = ask(headers={"X-API-Key": "ak_nothing"} | authorization())
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")


def test_a_key_that_is_disabled_loses_it_and_others_of_the_person_do_not(operator: User) -> None:
    key, headers = key_of(operator, "read")

    def disable() -> None:
        services.disable(key, "lost")
        happens("link.expired")

    answer = ask("types=link.*", headers=headers, pieces=2, meanwhile=disable)
    assert events(answer.bodies)[-1] == ("DISCONNECTED", "")
    services.enable(key)
    Event.objects.all().delete()
    answer = ask("types=link.*", headers=authorization(), pieces=2, meanwhile=disable)
    assert events(answer.bodies)[-1][0] == "link.expired"


# What


def test_an_event_comes_with_its_envelope_and_others_do_not(operator: User) -> None:
    positions: list[int] = []

    def happen() -> None:
        happens("foodfolio.variant.stock.low", "variant-1")
        happens("link.expired", "link-1", channels=("all",))  # addressed to readers
        happens("broadcast.approval.requested", "broadcast-1")
        positions.append(happens("link.expired", "link-2", code="spring"))

    answer = ask("types=link.*,blog.*", headers=authorization(), pieces=2, meanwhile=happen)
    (name, position) = events(answer.bodies[1:])[0]
    assert (name, int(position)) == ("link.expired", positions[0])
    data = json.loads(answer.bodies[1].decode().split("data: ", 1)[1])
    assert data == json.loads(json.dumps(Event.objects.get(key="link-2").envelope()))
    assert len(events(answer.bodies[1:])) == 1


@pytest.mark.parametrize("query", ["", "types=*", "event_types=link.*", "types=link.expired"])
def test_a_pattern_asks_for_it(operator: User, query: str) -> None:
    answer = ask(
        query, headers=authorization(), pieces=2, meanwhile=lambda: happens("link.expired")
    )
    assert events(answer.bodies[1:])[0][0] == "link.expired"


# From where


def test_what_was_missed_is_replayed(operator: User) -> None:
    first = happens("link.expired", "link-1")
    happens("blog.post.published")
    happens("broadcast.scheduled")
    third = happens("link.expired", "link-2")
    asked = authorization() | {"Last-Event-ID": str(first)}
    answer = ask("types=link.*", headers=asked, pieces=2)
    assert events(answer.bodies) == [("CONNECTED", str(first)), ("link.expired", str(third))]
    assert b'"recovered":true' in answer.bodies[0]


@pytest.mark.parametrize("gone", ["too old", "from the future"])
def test_what_cannot_be_replayed_is_a_reset(operator: User, gone: str) -> None:
    for number in range(3):
        last = happens("link.expired", f"link-{number}")
    Event.objects.filter(key="link-0").delete()
    asked = "0" if gone == "too old" else str(last + 5)
    answer = ask(headers=authorization() | {"Last-Event-ID": asked}, pieces=2)
    assert [name for name, _ in events(answer.bodies)] == ["CONNECTED", "RESET"]
    assert b'"recovered":false' in answer.bodies[0]


def test_what_is_published_to_kafka_but_not_marked_is_not_passed_over() -> None:
    """The relay gives positions before it publishes; a reader must not run ahead of the marks."""
    happens("link.expired", "link-1")
    log = DomainLog()
    reader = log.consumer([])
    LeaderLease.objects.filter(name="relay").update(position=3)
    with transaction.atomic():
        waiting = [emit("link.expired", f"link-{n}", {}) for n in (2, 3)]
    for position, event in enumerate(waiting, 2):
        Event.objects.filter(pk=event.pk).update(position=position)
    assert log.head() == 1
    assert not reader.poll()
    Event.objects.filter(position__in=[2, 3]).update(published_at="2030-01-01T00:00Z")
    assert [record.position for record in reader.poll()] == [2, 3]
    assert not reader.poll()


def test_events_of_readers_are_looked_at_once(django_assert_num_queries: Any) -> None:
    reader = DomainLog().consumer([])
    last = happens("broadcast.scheduled")
    assert not reader.poll()
    assert reader.position == last  # type: ignore[attr-defined]
    with django_assert_num_queries(4):
        reader.poll()


def test_the_readers_hub_does_not_know_of_it(operator: User) -> None:
    began: list[object] = []

    def happen() -> None:
        happens("link.expired")
        began.extend([get_feed().started, hub.get_hub().started])

    ask(headers=authorization(), pieces=2, meanwhile=happen)
    assert began[0]
    assert began[1] is None


# Real processes

OPERATOR = """
from django.contrib.auth.models import User
User.objects.create_superuser("operator", password="operator")
"""
HAPPEN = """
from django.db import transaction
from outbox.services import build_event, emit_all
with transaction.atomic():
    emit_all([build_event("link.expired", f"link-{{n}}", {{"n": n}}) for n in range({0}, {1})])
"""


@pytest.fixture
def env(live_database: Environment) -> Environment:
    return live_database | {"SSE_CONNECTS_PER_MINUTE": "0"}


@pytest.mark.processes
def test_through_a_restart_a_client_gets_each_event_once_and_in_order(
    env: Environment, spawn: Spawn, free_port: int
) -> None:
    run_code(OPERATOR, env)
    relay = spawn(["relay"], env)
    web = spawn(["web", "--port", str(free_port)], env)
    wait_until(lambda: "Listening" in web.output(), message="web listens")
    client = Client(
        free_port,
        path="/api/events/stream?types=link.*",
        authorization=basic("operator", "operator"),
    )

    async def follow() -> None:
        following = asyncio.create_task(client.follow(lambda c: c.counts["link.expired"] >= 900))
        while not client.counts["CONNECTED"]:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(run_code, HAPPEN.format(0, 300), env)
        while client.counts["link.expired"] < 300:
            await asyncio.sleep(0.02)
        web.send(signal.SIGTERM)
        await asyncio.to_thread(web.wait)
        await asyncio.to_thread(run_code, HAPPEN.format(300, 600), env)
        again = spawn(["web", "--port", str(free_port)], env)
        while client.counts["link.expired"] < 600:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(run_code, HAPPEN.format(600, 900), env)
        async with asyncio.timeout(PATIENCE):
            await following
        again.send(signal.SIGTERM)

    asyncio.run(follow())
    assert client.counts["SERVER_SHUTDOWN"] == 1
    got = [received.data["data"]["n"] for received in client.of("link.expired")]
    assert got == list(range(900))
    assert relay.process.poll() is None
