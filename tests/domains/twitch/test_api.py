from base64 import b64encode
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator

from domains.twitch.models import Clip, Command, Message, Stream
from outbox.models import Event
from tests.domains.twitch.conftest import CHANNEL
from tests.factories import UserFactory, operator

pytestmark = pytest.mark.django_db

API = "/api/twitch"
MODELS = ("stream", "message", "viewer", "channelviewer", "command", "clip")


@pytest.fixture
def bot(client: Client) -> User:
    permissions = [f"twitch.{v}_{m}" for m in MODELS for v in ("view", "add", "change", "delete")]
    user = operator(*permissions, "twitch.use_command")
    client.force_login(user)
    return user


def post(client: Client, path: str, **data: Any) -> Any:
    return client.post(f"{API}/{path}", data, content_type="application/json")


def line(number: int, **fields: Any) -> dict[str, Any]:
    said = {"user_id": f"{number}", "username": f"user{number}", "text": "Hello"}
    return {"id": f"m{number}", "sent_at": timezone.now().isoformat()} | said | fields


@pytest.mark.usefixtures("bot")
def test_a_bot_tells_of_a_stream_from_its_start_to_its_end(client: Client) -> None:
    made = post(client, "streams", channel="#Toast", twitch_id="4711", title="Rye")
    assert made.status_code == 201, made.content
    stream = f"streams/{made.json()['id']}"
    assert (made.json()["channel"], made.json()["is_active"]) == ("toast", True)
    assert post(client, "streams", channel="toast", twitch_id="4711").status_code == 200
    lines = [line(1), line(2)]
    for known in (0, 2):
        told = post(client, "messages", channel="toast", messages=lines)
        assert told.status_code == 200, told.content
        assert told.json() == {"stream": made.json()["id"], "new": 2 - known, "known": known}
    changed = client.patch(f"{API}/{stream}", {"title": "Wheat"}, content_type="application/json")
    assert changed.json()["title"] == "Wheat"
    assert post(client, f"{stream}/viewers", viewers=40).json()["peak_viewers"] == 40
    ended = post(client, f"{stream}/end").json()
    assert (ended["is_active"], ended["total_messages"]) == (False, 2)
    for path in (f"{stream}/end", f"{stream}/viewers"):
        answer = post(client, path, viewers=1)
        assert (answer.status_code, answer.json()["code"]) == (409, "invalid_transition")
    told_of = Event.objects.filter(type__startswith="twitchbot").order_by("pk")
    types = told_of.values_list("type", flat=True)
    assert [name.rpartition(".")[2] for name in types] == ["started", "updated", "ended"]


@pytest.mark.usefixtures("bot")
def test_messages_are_listed_newest_first_by_cursor_without_counting(client: Client) -> None:
    lines = [line(n, sent_at=(timezone.now() - timedelta(minutes=n)).isoformat()) for n in range(5)]
    post(client, "messages", channel="toast", messages=lines)
    page = client.get(f"{API}/messages?page_size=3&channel=toast").json()
    assert [row["twitch_id"] for row in page["results"]] == ["m0", "m1", "m2"]
    rest = client.get(page["next"]).json()
    assert [row["twitch_id"] for row in rest["results"]] == ["m3", "m4"]
    assert client.get(f"{API}/messages?channel=other").json()["results"] == []
    assert client.get(f"{API}/messages?since=yesterday").status_code == 400
    of_no_list = b64encode(b"p=x").decode()
    assert client.get(f"{API}/messages", {"cursor": of_no_list}).status_code == 404


@pytest.mark.usefixtures("bot")
def test_what_is_wrong_is_said(client: Client) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "streams": {"channel": "no channel"},
        "messages": {"channel": "toast", "messages": []},
        "commands": {"name": "No!", "response": "x"},
        "commands/use": {"name": "x"},
        "clips": {"channel": "toast", "url": "no address"},
    }
    for path, data in wrong.items():
        answer = post(client, path, **data)
        assert answer.status_code == 400, path
        assert answer.json()["fields"], path
    many = [line(n) for n in range(1_001)]
    assert post(client, "messages", channel="toast", messages=many).status_code == 400
    bad = post(client, "messages", channel="toast", messages=[line(1), line(2, sent_at="x")])
    assert list(bad.json()["fields"]) == ["messages.1.sent_at"]
    assert not Message.objects.exists()


@pytest.mark.usefixtures("bot")
def test_a_command_is_made_asked_and_refused(client: Client) -> None:
    made = post(client, "commands", name="toast", response="{user}: {count}", cooldown_seconds=60)
    assert made.status_code == 201, made.content
    call = {"name": "!Toast", "channel": CHANNEL, "user": "Ann"}
    assert post(client, "commands/use", **call).json() == {"answer": "Ann: 1"}
    refused = post(client, "commands/use", **call)
    assert (refused.status_code, refused.json()["code"]) == (409, "command_refused")
    Command.objects.update(usage_count=7)
    url = f"{API}/commands/{made.json()['id']}"
    client.patch(url, {"response": "x"}, content_type="application/json")
    assert Command.objects.get().usage_count == 7
    assert post(client, "commands/use", **(call | {"name": "none"})).status_code == 404


def tell_of_clip(client: Client, **fields: Any) -> Any:
    clip = {
        "twitch_clip_id": "abc",
        "channel": "toast",
        "title": "The crust",
        "url": "https://clips.example/abc",
        "created_at": timezone.now().isoformat(),
    }
    return post(client, "clips", **clip | fields)


@pytest.mark.usefixtures("bot")
def test_a_clip_that_comes_again_is_brought_up_to_date(client: Client) -> None:
    for views, status in ((1, 201), (50, 200)):
        answer = tell_of_clip(client, view_count=views)
        assert (answer.status_code, answer.json()["view_count"]) == (status, views)
    assert Clip.objects.get().view_count == 50


def test_who_may_only_add_clips_changes_none(client: Client) -> None:
    client.force_login(operator("twitch.add_clip"))
    assert tell_of_clip(client).status_code == 201
    refused = tell_of_clip(client, title="Nonsense")
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert Clip.objects.get().title == "The crust"
    assert tell_of_clip(client, twitch_clip_id="def").status_code == 201


@pytest.mark.usefixtures("bot")
@pytest.mark.parametrize("path", ["streams", "messages", "viewers", "channel-viewers", "commands"])
def test_a_list_costs_a_fixed_number_of_queries(client: Client, path: str) -> None:
    counts = []
    for size in (2, 9):
        for number in range(size):
            post(client, "streams", channel=f"c{size}{number}")
            post(
                client, "messages", channel=f"c{size}{number}", messages=[line(size * 10 + number)]
            )
            Command.objects.create(name=f"c{size}{number}", response="x")
        with CaptureQueriesContext(connection) as queries:
            assert client.get(f"{API}/{path}").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


def operations() -> list[tuple[str, str]]:
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    return [(m, p) for p, methods in paths.items() if p.startswith(API) for m in methods]


def test_who_may_not_makes_no_call(client: Client) -> None:
    assert len(operations()) > 15
    for user, status in ((None, 401), (UserFactory.create(), 403), (operator(), 403)):
        if user:
            client.force_login(user)
        for method, path in operations():
            address = path.replace("{id}", "1")
            answer = getattr(client, method)(address, content_type="application/json")
            assert answer.status_code == status, (method, path)
    assert not Stream.objects.real().exists()


def test_who_may_only_look_changes_nothing(client: Client) -> None:
    client.force_login(operator(*(f"twitch.view_{model}" for model in MODELS)))
    for method, path in operations():
        address = path.replace("{id}", "1")
        answer = getattr(client, method)(address, content_type="application/json")
        allowed = answer.status_code in (200, 404)
        assert allowed if method == "get" else answer.status_code == 403, (method, path)
