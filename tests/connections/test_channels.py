"""django-eventstream's seams, used through its own functions."""

import time
from typing import Any

import jwt
import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.db import transaction
from django.test import RequestFactory
from django_eventstream.storage import EventDoesNotExist
from django_eventstream.utils import get_channelmanager, get_storage

from connections.channels import ChannelManager, LogStorage, channels_of
from connections.grip import grip_response, is_proxied
from outbox.relay import Relay
from outbox.services import emit

KEY = "a key of at least thirty-two bytes"

pytestmark = pytest.mark.django_db


@pytest.fixture
def user() -> User:
    user = User.objects.create_user("reader")
    user.groups.add(Group.objects.create(name="Night shift"))
    return user


def publish(*channels: str, **data: Any) -> None:
    with transaction.atomic():
        emit("broadcast.activated", "broadcast-1", data, channels)
    relay = Relay()
    relay.step()
    relay.resign()


def test_django_eventstream_finds_our_parts() -> None:
    assert isinstance(get_channelmanager(), ChannelManager)
    assert isinstance(get_storage(), LogStorage)


def test_a_person_reads_everyones_their_own_and_their_roles_channels(user: User) -> None:
    request = RequestFactory().get("/")
    request.user = user
    channels = ChannelManager().get_channels_for_request(request, {})
    assert channels == {"all", f"user-{user.pk}", "role-Night shift"}


def test_nobody_in_particular_reads_nothing(user: User) -> None:
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    assert ChannelManager().get_channels_for_request(request, {}) == set()
    assert not ChannelManager().can_read_channel(None, "all")


def test_a_channel_of_others_may_not_be_read(user: User) -> None:
    manager = ChannelManager()
    assert manager.can_read_channel(user, "all")
    assert not manager.can_read_channel(user, f"user-{user.pk + 1}")


def test_stored_events_are_those_of_the_log(user: User) -> None:
    publish("all", n=1)
    publish("role-Night shift", n=2)
    publish("all", n=3)
    events = LogStorage().get_events("all", LogStorage().get_current_id("all") - 2)
    assert [(event.type, event.data) for event in events] == [("MESSAGE", {"n": 3})]


def test_a_position_from_the_future_does_not_exist() -> None:
    with pytest.raises(EventDoesNotExist):
        LogStorage().get_events("all", 10**9)


def test_who_would_write_past_the_outbox_is_told_the_door() -> None:
    with pytest.raises(NotImplementedError, match="emit"):
        LogStorage().append_event("all", "MESSAGE", {})


def test_a_request_of_a_grip_proxy_is_answered_with_what_to_hold(user: User, settings: Any) -> None:
    settings.SECRET_KEY = KEY
    settings.GRIP_URL = "http://127.0.0.1:5561"
    settings.GRIP_PROXIES = [{"control_uri": settings.GRIP_URL, "key": KEY}]
    signature = jwt.encode({"iss": "proxy", "exp": int(time.time()) + 60}, KEY, "HS256")
    headers = {b"grip-sig": signature}
    assert is_proxied(headers)
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/user/sse/connect",
        "query_string": b"",
        "headers": [(name, value.encode()) for name, value in headers.items()],
    }
    status, answer, body = grip_response(scope, lambda: (user, channels_of(user)))
    assert status == 200
    assert answer["Grip-Hold"] == "stream"
    assert "events-all" in answer["Grip-Channel"]
    assert b"stream-open" in body
