"""What the publisher tells a proxy, and in which order; with a proxy that only listens."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from connections import publisher
from connections.grip import published
from connections.publisher import GripPublisher, Proxy, standing
from connections.screening import RELEASE
from connections.services import disconnect_people
from outbox.models import LeaderLease
from outbox.relay import Relay
from outbox.services import emit

pytestmark = pytest.mark.django_db

Told = list[dict[str, Any]]


class Listening(Proxy):
    """Keeps what it is told; answers with `status`."""

    def __init__(self) -> None:
        super().__init__("http://proxy.test")
        self.requests: list[Told] = []
        self.status = 200
        self.client = httpx.Client(transport=httpx.MockTransport(self.hear))

    def hear(self, request: httpx.Request) -> httpx.Response:
        if self.status == 200:
            self.requests.append(json.loads(request.content)["items"])
        return httpx.Response(self.status)

    def told(self) -> Told:
        told = [item for request in self.requests for item in request]
        self.requests = []
        return told


@pytest.fixture
def proxy() -> Listening:
    return Listening()


@pytest.fixture
def grip(proxy: Listening, monkeypatch: pytest.MonkeyPatch) -> Iterator[GripPublisher]:
    monkeypatch.setattr(publisher, "READ_WAIT", 0)
    monkeypatch.setattr(publisher, "RETRY", 0)
    emit("broadcast.activated", "before", {}, channels=["all"])
    Relay().step()
    LeaderLease.objects.update(until=None)
    started = new_publisher(proxy)
    started.step()
    proxy.told()
    yield started
    started.stop()


def new_publisher(proxy: Proxy) -> GripPublisher:
    made = GripPublisher()
    made.proxies = [proxy]
    return made


def publish(grip: GripPublisher) -> None:
    LeaderLease.objects.filter(name="relay").update(until=None)
    Relay().step()
    grip.step()


def actions(told: Told) -> list[str]:
    """Each as channel, and what is done there."""
    return [
        f"{item['channel']} {item['formats']['http-stream'].get('action', 'send')}" for item in told
    ]


def test_one_channel_is_told_whole_and_each_names_the_one_before(
    grip: GripPublisher, proxy: Listening
) -> None:
    for channel in ("all", "role-Night shift"):
        emit("broadcast.activated", channel, {"broadcast_id": 7}, channels=[channel])
    publish(grip)
    first, second = proxy.told()
    assert first["prev-id"] == "1"
    assert second["prev-id"] == first["id"] == "2"
    assert second["meta"] == {"require_sub": "to-role-Night%20shift"}
    assert second["formats"]["http-stream"]["content"] == (
        'event: MESSAGE\nid: 3\ndata: {"broadcast_id":7}\n\n'
    )


def test_what_comes_twice_in_one_batch_is_told_once(grip: GripPublisher, proxy: Listening) -> None:
    """As after a relay died between publish and mark, and the next one published it again."""
    for channel in ("all", "role-Crew"):
        emit("broadcast.activated", channel, {}, channels=[channel])
    LeaderLease.objects.filter(name="relay").update(until=None)
    Relay().step()
    assert grip.consumer
    records = grip.consumer.poll()
    grip._tell([*records, *records])
    assert [(item["id"], item["prev-id"]) for item in proxy.told()] == [("2", "1"), ("3", "2")]


def test_several_channels_and_persons_are_asked_to_fetch_and_the_chain_goes_on(
    grip: GripPublisher, proxy: Listening
) -> None:
    emit("broadcast.activated", "a", {}, channels=["role-a", "role-b"])
    emit("broadcast.read", "b", {}, channels=["user-1"])
    emit("broadcast.scheduled", "c", {})
    publish(grip)
    told = proxy.told()
    assert actions(told) == [
        "to-role-a hint", "to-role-b hint", "to-user-1 hint", "broadcasts send",
    ]  # fmt: skip
    assert (told[-1]["prev-id"], told[-1]["id"]) == ("1", "4")
    assert told[-1]["meta"] == {"require_sub": "nobody"}


def test_the_end_of_quiet_hours_is_for_streams_that_no_proxy_holds(
    grip: GripPublisher, proxy: Listening
) -> None:
    moments = dict.fromkeys(("since", "until"), "2030-01-31T06:00:00+00:00")
    emit(RELEASE, "quiet-hours", moments, channels=["user-1", "user-2"])
    publish(grip)
    assert [item["channel"] for item in proxy.told()] == ["broadcasts"]


def test_what_is_too_large_to_tell_is_fetched(grip: GripPublisher, proxy: Listening) -> None:
    emit("broadcast.activated", "a", {"text": "x" * 300_000}, channels=["all"])
    publish(grip)
    assert actions(proxy.told()) == ["to-all hint", "broadcasts send"]


def test_a_stream_is_ended_after_what_came_before_and_before_what_comes_after(
    grip: GripPublisher, proxy: Listening
) -> None:
    emit("broadcast.activated", "a", {}, channels=["all"])
    disconnect_people([3], reason="signed out", reconnect=True)
    emit("broadcast.activated", "b", {}, channels=["all"])
    publish(grip)
    assert actions(proxy.told()) == [
        "broadcasts send", "to-user-3 send", "to-user-3 close", "broadcasts send",
        "broadcasts send",
    ]  # fmt: skip


def test_requests_are_smaller_than_the_proxy_takes(grip: GripPublisher, proxy: Listening) -> None:
    for n in range(6):
        emit("broadcast.activated", f"{n}", {"text": "x" * 150_000}, channels=["all"])
    publish(grip)
    assert [len(request) for request in proxy.requests] == [3, 3]


def test_a_proxy_that_was_not_told_has_its_streams_ask(
    grip: GripPublisher, proxy: Listening
) -> None:
    proxy.status = 503
    emit("broadcast.activated", "a", {}, channels=["all"])
    publish(grip)
    emit("broadcast.activated", "b", {}, channels=["all"])
    publish(grip)
    proxy.status = 200
    grip.step()
    (told,) = proxy.told()
    assert (told["id"], "prev-id" in told) == ("3", False)
    assert published() == 3


def test_who_follows_one_that_was_killed_has_all_streams_ask(
    grip: GripPublisher, proxy: Listening
) -> None:
    LeaderLease.objects.update(until=None)
    successor = new_publisher(proxy)
    successor.step()
    assert actions(proxy.told()) == ["broadcasts send"]
    grip.leader.renewed_at = 0
    grip.step()  # the frozen one wakes up, and has lost the lead
    assert proxy.told() == []


def test_who_follows_one_that_stopped_in_order_goes_on_where_it_was(
    grip: GripPublisher, proxy: Listening
) -> None:
    grip.stop()
    emit("broadcast.activated", "a", {}, channels=["all"])
    publish(new_publisher(proxy))
    (told,) = proxy.told()
    assert (told["prev-id"], told["id"]) == ("1", "2")


def test_one_that_lost_the_lead_tells_nothing(grip: GripPublisher, proxy: Listening) -> None:
    LeaderLease.objects.filter(name="grip").update(token=99)
    emit("broadcast.activated", "a", {}, channels=["all"])
    publish(grip)
    assert proxy.told() == []


def test_the_console_is_told_who_tells_the_proxies(grip: GripPublisher, proxy: Listening) -> None:
    emit("broadcast.activated", "a", {}, channels=["all"])
    emit("link.expired", "b", {})
    LeaderLease.objects.filter(name="relay").update(until=None)
    Relay().step()
    assert standing().pending == 1
    grip.step()
    assert (standing().pending, standing().leader) == (0, grip.leader.holder)
    grip.stop()
    assert standing().leader == ""
