import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from deliveries.discord import FIELDS, TOTAL, embed_of, message_of, units
from deliveries.models import Attempt, Delivery, Endpoint, Kind, State, Status
from tests.deliveries.conftest import NewEndpoint, Send, deliver, envelope
from tests.deliveries.receiver import Server, answer

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5_000),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@pytest.fixture
def endpoint(new_endpoint: NewEndpoint) -> Endpoint:
    return new_endpoint(kind=Kind.DISCORD, rate=1_000)


def texts(embed: dict[str, Any]) -> list[tuple[str, int]]:
    """Each text with its limit."""
    found = [
        (embed["title"], 256),
        (embed["author"]["name"], 256),
        (embed["footer"]["text"], 2048),
        (embed.get("description", "-"), 4096),
    ]
    for field in embed["fields"]:
        found += [(field["name"], 256), (field["value"], 1024)]
    return found


@given(st.dictionaries(st.text(max_size=400), values, max_size=40), st.text(max_size=9_000))
def test_no_data_whatever_breaks_a_limit(data: dict[str, Any], title: str) -> None:
    embed = embed_of(envelope("blog.post.published", title=title, content=title, **data))
    assert len(embed["fields"]) <= FIELDS
    for text, most in texts(embed):
        assert text.strip()
        assert units(text) <= most
    assert sum(units(text) for text, _ in texts(embed)) <= TOTAL
    json.dumps(embed)


def test_an_embed_tells_the_event() -> None:
    event = envelope("link.expired", link_id=7, title="Old link", message="It is over.", note=None)
    embed = embed_of(event)
    assert (embed["title"], embed["description"]) == ("Old link", "It is over.")
    assert embed["fields"] == [{"name": "link_id", "value": "7", "inline": True}]
    assert event["id"] in embed["footer"]["text"]
    assert embed["timestamp"] == event["time"]


@pytest.mark.parametrize(
    ("event_type", "colour"),
    [
        ("blog.made", 3447003),
        ("twitchbot.live", 10181046),
        ("link.made", 3066993),
        ("x.y", 5814783),
    ],
)
def test_the_colour_tells_the_source(event_type: str, colour: int) -> None:
    assert embed_of(envelope(event_type))["color"] == colour


def test_nobody_is_mentioned() -> None:
    assert message_of(envelope(message="@everyone"))["allowed_mentions"] == {"parse": []}


@pytest.mark.django_db
def test_a_message_is_posted_and_its_id_kept(
    endpoint: Endpoint, send: Send, server: Server
) -> None:
    server.behaviours["/"] = answer(200, '{"id": "42"}')
    deliver()
    send()
    (received,) = server.received
    assert received.path == "/?wait=true"
    assert received.headers["Content-Type"] == "application/json"
    assert "webhook-signature" not in {name.lower() for name in received.headers}
    assert json.loads(received.body)["embeds"][0]["title"] == "link.expired"
    assert json.loads(Attempt.objects.get().response_body)["id"] == "42"


@pytest.mark.django_db
def test_429_waits_as_the_body_says(endpoint: Endpoint, send: Send, server: Server) -> None:
    body = json.dumps({"message": "slow down", "retry_after": 64.57, "global": False})
    server.behaviours["/"] = answer(429, body, {"Retry-After": "1"})
    other = Endpoint.objects.create(
        name="other", kind=Kind.DISCORD, url=server.url("/other"), patterns=["no.such"]
    )
    deliver()
    send()
    delivery = Delivery.objects.get()
    endpoint.refresh_from_db()
    assert (delivery.status, delivery.counted) == (Status.RETRYING, 0)
    assert endpoint.not_before
    assert timedelta(seconds=40) < endpoint.not_before - timezone.now() < timedelta(seconds=65)
    other.refresh_from_db()
    assert other.not_before is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("said", "headers"),
    [
        ({"global": True}, {}),
        ({}, {"X-RateLimit-Global": "true"}),
        ({}, {"X-RateLimit-Scope": "global"}),
    ],
)
def test_a_global_limit_holds_every_discord_endpoint_back_and_no_webhook(
    endpoint: Endpoint,
    send: Send,
    server: Server,
    new_endpoint: NewEndpoint,
    said: dict[str, bool],
    headers: dict[str, str],
) -> None:
    server.behaviours["/"] = answer(429, json.dumps({"retry_after": 100} | said), headers)
    other = new_endpoint("/other", kind=Kind.DISCORD, patterns=["no.such"])
    webhook = new_endpoint("/webhook")
    deliver()
    send()
    for held in (endpoint, other):
        held.refresh_from_db()
        assert held.not_before
        assert held.not_before > timezone.now() + timedelta(seconds=60)
    webhook.refresh_from_db()
    assert webhook.not_before is None
    assert webhook.deliveries.get().status == Status.SUCCESS


@pytest.mark.django_db
def test_it_stops_before_the_limit_that_discord_tells(
    endpoint: Endpoint, send: Send, server: Server
) -> None:
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "60"}
    server.behaviours["/"] = answer(204, headers=headers)
    deliver()
    send()
    endpoint.refresh_from_db()
    assert endpoint.not_before
    assert endpoint.not_before > timezone.now() + timedelta(seconds=30)
    assert endpoint.deliveries.get().status == Status.SUCCESS


@pytest.mark.django_db
def test_a_webhook_that_was_deleted_is_asked_no_more(
    endpoint: Endpoint, send: Send, server: Server
) -> None:
    server.behaviours["/"] = answer(404, json.dumps({"code": 10015, "message": "Unknown Webhook"}))
    deliver()
    send()
    endpoint.refresh_from_db()
    assert endpoint.state == State.DISABLED


@pytest.mark.django_db
def test_without_a_rate_it_keeps_to_discords_own(endpoint: Endpoint) -> None:
    endpoint.rate = None
    assert endpoint.pace == 2


def test_what_is_no_text_is_shown_as_json() -> None:
    unique = uuid.uuid4().hex
    fields = embed_of(envelope(ids=[1, 2], name=unique, empty=""))["fields"]
    assert [field["value"] for field in fields] == ["[1, 2]", unique, "–"]
