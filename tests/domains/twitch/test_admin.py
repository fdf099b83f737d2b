from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from domains.twitch import demo
from domains.twitch.models import ChannelViewer, Clip, Command, Message, Stream, Viewer
from tests.domains.twitch.conftest import CHANNEL, live
from tests.factories import operator
from tests.test_admin_pages import PAIR

pytestmark = pytest.mark.django_db

MODELS = (Stream, Message, Viewer, ChannelViewer, Command, Clip)


@pytest.fixture
def boss(client: Client) -> User:
    user = User.objects.create_superuser("boss", password="x")
    client.force_login(user)
    return user


def clip() -> Clip:
    return Clip.objects.create(
        twitch_clip_id="abc",
        channel=CHANNEL,
        title="The crust",
        url="https://clips.example/abc",
        created_at=timezone.now(),
    )


@pytest.mark.usefixtures("boss")
@pytest.mark.parametrize("model", MODELS)
def test_the_pages_of_the_demo_open(client: Client, model: Any) -> None:
    assert demo.create()
    clip()
    name = f"admin:twitch_{model._meta.model_name}"
    addresses = [reverse(f"{name}_changelist")]
    addresses += [reverse(f"{name}_change", args=[row.pk]) for row in model.objects.all()[:3]]
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert not PAIR.findall(answer.content.decode()), address


def test_the_demo_is_made_once() -> None:
    assert demo.create()
    assert not Stream.objects.filter(last_activity_at__gt=F("ended_at")).exists()
    count = Message.objects.count()
    assert not demo.create()
    assert Message.objects.count() == count
    assert Stream.objects.real().active().count() == 1


@pytest.mark.usefixtures("boss")
def test_a_stream_is_ended_and_the_chat_only_one_offers_it_not(client: Client) -> None:
    stream = live()
    url = reverse("admin:twitch_stream_end_one", args=[stream.pk])
    assert "Nothing resumes it" in client.get(url).content.decode()
    for said in ("It is over.", "has ended already"):
        page = client.post(url, {"confirmed": 1}, follow=True).content.decode()
        assert said in page
    sentinel = Stream.objects.chat_only()
    page = client.get(reverse("admin:twitch_stream_change", args=[sentinel.pk])).content.decode()
    assert f"{sentinel.pk}/end" not in page
    refused = reverse("admin:twitch_stream_end_one", args=[sentinel.pk])
    answer = client.post(refused, {"confirmed": 1}, follow=True)
    assert "never ends" in answer.content.decode()


@pytest.mark.usefixtures("boss")
@pytest.mark.parametrize(("state", "count"), [("live", 1), ("ended", 2), ("chat", 1), ("", 4)])
def test_streams_are_found_by_state(client: Client, state: str, count: int) -> None:
    demo.create()
    answer = client.get(reverse("admin:twitch_stream_changelist"), {"state": state})
    assert len(answer.context["cl"].result_list) == count


@pytest.mark.usefixtures("boss")
def test_commands_are_switched_and_keep_their_count(client: Client) -> None:
    command = Command.objects.create(name="toast", response="x")
    url = reverse("admin:twitch_command_changelist")
    for action, is_active in (("switch_off", False), ("switch_on", True)):
        client.post(url, {"action": action, "_selected_action": [command.pk]})
        command.refresh_from_db()
        assert command.is_active == is_active
    Command.objects.update(usage_count=9)
    fields = {"name": "toast", "response": "y", "is_active": "on", "cooldown_seconds": 0}
    client.post(reverse("admin:twitch_command_change", args=[command.pk]), fields)
    command.refresh_from_db()
    assert (command.response, command.usage_count) == ("y", 9)


def test_who_may_only_look_ends_and_switches_nothing(client: Client) -> None:
    stream = live()
    command = Command.objects.create(name="toast", response="x")
    client.force_login(operator("twitch.view_stream", "twitch.view_command"))
    url = reverse("admin:twitch_stream_end_one", args=[stream.pk])
    assert client.post(url, {"confirmed": 1}).status_code == 403
    chosen = {"action": "switch_off", "_selected_action": [command.pk]}
    client.post(reverse("admin:twitch_command_changelist"), chosen)
    command.refresh_from_db()
    stream.refresh_from_db()
    assert stream.is_active
    assert command.is_active


@pytest.mark.usefixtures("boss")
def test_the_number_of_messages_leads_to_them(client: Client) -> None:
    demo.create()
    stream = Stream.objects.real().active().get()
    url = f"{reverse('admin:twitch_message_changelist')}?stream__id__exact={stream.pk}"
    page = client.get(reverse("admin:twitch_stream_changelist")).content.decode()
    assert url in page
    assert len(client.get(url).context["cl"].result_list) == stream.total_messages == 14
