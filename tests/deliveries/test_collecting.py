import json
import uuid
from datetime import datetime

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from pytest_django import Settings

from broadcasts.models import Audience, Broadcast
from broadcasts.services import activate, cancel, compose, send
from deliveries.models import Delivery, Endpoint, State, Status
from deliveries.services import collect, send_test
from deliveries.tasks import Collector
from operations.models import Alert, Kind
from operations.services import raise_alert, resolve
from outbox.deadletters import redrive
from outbox.logs import DatabaseLog
from outbox.models import ConsumerOffset, DeadLetter, Event
from outbox.patterns import INTERNAL
from outbox.relay import Relay
from outbox.services import emit
from outbox.topics import topic_of
from tests.deliveries.conftest import NewEndpoint, Send, envelope
from tests.deliveries.receiver import Server
from tests.test_docs import DOCS, rows

pytestmark = pytest.mark.django_db


def publish(*types: str) -> None:
    with transaction.atomic():
        for number, event_type in enumerate(types):
            emit(event_type, f"key-{number}", {"n": number})
    relay = Relay(DatabaseLog())
    relay.step()
    relay.resign()


def read() -> None:
    collector = Collector()
    collector.step()
    collector.stop()


@pytest.mark.parametrize(
    ("pattern", "event_type", "wanted"),
    [
        ("*", "link.expired", True),
        ("broadcast.*", "broadcast.activated", True),
        ("broadcast.*", "broadcasts.activated", False),
        ("broadcast.*", "broadcast", False),
        ("blog.post.*", "blog.post.scheduled.published", True),
        ("link.expired", "link.expired", True),
        ("link.expired", "link.expired.twice", False),
        ("*", "broadcast.read", False),
        ("broadcast.*", "broadcast.dismissed", False),
        ("connection.*", "connection.close", False),
        ("broadcast.read", "broadcast.read", True),
    ],
)
def test_a_pattern_is_a_type_or_a_beginning(pattern: str, event_type: str, wanted: bool) -> None:
    assert Endpoint(patterns=["no.such", pattern]).wants(event_type) is wanted


@pytest.mark.parametrize("patterns", [[], "*", ["a*"], ["*.expired"], [""], [7], ["Link Expired"]])
def test_what_can_match_nothing_is_refused(patterns: object) -> None:
    endpoint = Endpoint(name="a", url="https://example.org", patterns=patterns)
    with pytest.raises(ValidationError) as error:
        endpoint.full_clean()
    assert set(error.value.message_dict) == {"patterns"}


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org",
        "example.org",
        "http://",
        "https://xn--/",
        "https://example.org:65536/",
        "https://a..b/",
        "https://" + "a" * 64 + ".org/",
        "http://a:b@example.org",
        "http://10.0.0.1/",
    ],
)
def test_what_cannot_or_must_not_be_sent_to_is_refused(url: str) -> None:
    with pytest.raises(ValidationError) as error:
        Endpoint(name="a", url=url, patterns=["*"]).full_clean()
    assert set(error.value.message_dict) == {"url"}


def test_every_type_that_is_documented_can_be_asked_for(settings: Settings) -> None:
    described = rows("events.md", "Event types")
    to_streams = {"connection.close", "quiet.ended"}
    topics = {topic_of(name, addressed=name in to_streams) for name in described}
    assert topics <= set(settings.DELIVERY_TOPICS)


def test_what_is_of_a_single_person_is_internal_and_documented_as_such() -> None:
    described = rows("events.md", "Event types").items()
    keys = ("user-<id>", "quiet-hours")
    personal = {name for name, (key, *_) in described if any(one in key for one in keys)}
    assert personal == INTERNAL
    for name in INTERNAL:
        assert f"`{name}`" in (DOCS / "deliveries.md").read_text()


def test_what_is_told_to_thousands_in_several_events_is_one_delivery(
    new_endpoint: NewEndpoint, django_user_model: type[User], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadcasts.services.CHUNK", 10)
    new_endpoint()
    people = django_user_model.objects.bulk_create(User(username=f"u{n}") for n in range(25))
    targets = [str(user.pk) for user in people]
    broadcast = send(compose(None, title="T", audience=Audience.SELECTED, targets=targets))
    activate(Broadcast.objects.get(pk=broadcast.pk))
    cancel(Broadcast.objects.get(pk=broadcast.pk))
    assert Event.objects.filter(type="broadcast.activated").count() == 3
    relay = Relay(DatabaseLog())
    relay.step()
    relay.resign()
    read()
    types = list(Delivery.objects.order_by("pk").values_list("type", flat=True))
    assert types == [
        "broadcast.scheduled",
        "broadcast.preparing",
        "broadcast.activated",
        "broadcast.cancelled",
    ]


def test_each_endpoint_gets_what_it_wants(new_endpoint: NewEndpoint) -> None:
    everything = new_endpoint()
    links = new_endpoint(patterns=["link.*"])
    publish("link.expired", "alert.raised", "link.made")
    read()
    assert list(everything.deliveries.order_by("pk").values_list("type", flat=True)) == [
        "link.expired",
        "alert.raised",
        "link.made",
    ]
    assert links.deliveries.count() == 2
    first = links.deliveries.earliest("pk")
    assert (first.status, first.attempts, first.key) == (Status.PENDING, 0, "key-0")
    assert '"specversion":"1.0"' in first.body


def test_an_alert_of_a_job_goes_out_like_any_event(
    new_endpoint: NewEndpoint, send: Send, server: Server
) -> None:
    new_endpoint(patterns=["alert.*"])
    raise_alert(Kind.OVERDUE, "LINK_EXPIRATION", "It was due long ago.")
    resolve(Alert.objects.get())
    publish()
    read()
    send()
    told = [json.loads(received.body) for received in server.received]
    assert {one["type"] for one in told} == {"alert.raised", "alert.resolved"}
    assert {one["data"]["message"] for one in told} == {"It was due long ago."}


def test_what_is_read_again_makes_nothing_twice(new_endpoint: NewEndpoint) -> None:
    new_endpoint()
    publish("link.expired", "alert.raised")
    read()
    ConsumerOffset.objects.update(offset=0)
    read()
    assert Delivery.objects.count() == 2


def test_one_that_stops_is_followed_where_it_stood(new_endpoint: NewEndpoint) -> None:
    new_endpoint()
    first = Collector()
    publish("link.expired")
    first.step()
    first.stop()
    publish("link.expired")
    second = Collector()
    second.step()
    assert Delivery.objects.count() == 2
    first.step()
    assert first.consumer is None, "only one of them reads"
    second.stop()


def test_a_paused_endpoint_collects_and_a_disabled_one_does_not(new_endpoint: NewEndpoint) -> None:
    paused, disabled = new_endpoint(state=State.PAUSED), new_endpoint(state=State.DISABLED)
    collect([envelope()])
    assert (paused.deliveries.count(), disabled.deliveries.count()) == (1, 0)


def test_a_batch_costs_a_fixed_number_of_queries(
    new_endpoint: NewEndpoint, django_assert_max_num_queries: object
) -> None:
    for _ in range(5):
        new_endpoint()
    with django_assert_max_num_queries(12):  # type: ignore[operator]
        collect([envelope() for _ in range(100)])
    assert Delivery.objects.count() == 500


def test_poison_is_a_dead_letter_and_stops_nothing(new_endpoint: NewEndpoint) -> None:
    new_endpoint()
    publish("link.expired", "link.expired")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deliveries.services.build_delivery", refuse_key_0)
        read()
    letter = DeadLetter.objects.get()
    assert (letter.source, letter.key) == ("deliveries", "key-0")
    assert [delivery.key for delivery in Delivery.objects.all()] == ["key-1"]
    redrive(letter)
    assert Delivery.objects.count() == 2


def refuse_key_0(endpoint: Endpoint, event: dict[str, str], due: datetime) -> Delivery:
    if event["subject"] == "key-0":
        raise ValueError("poison")
    return Delivery(
        endpoint=endpoint,
        event_id=uuid.UUID(event["id"]),
        type=event["type"],
        key=event["subject"],
        body="{}",
        next_attempt_at=due,
    )


def test_a_test_event_goes_to_its_endpoint_alone(new_endpoint: NewEndpoint) -> None:
    chosen, other = new_endpoint(patterns=["link.expired"]), new_endpoint()
    send_test(chosen)
    assert (chosen.deliveries.get().type, other.deliveries.count()) == ("webhook.test", 0)
