"""django-eventstream's seams, used through its own functions."""

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.db import transaction
from django.test import RequestFactory
from django_eventstream.storage import EventDoesNotExist
from django_eventstream.utils import get_channelmanager, get_storage

from connections.channels import ChannelManager, LogStorage
from outbox.relay import Relay
from outbox.services import emit

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
