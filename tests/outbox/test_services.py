import json
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError

from jobs.correlation import correlated
from outbox.models import Event, Priority
from outbox.services import build_event, emit, emit_all


@pytest.mark.django_db(transaction=True)
def test_an_event_outside_a_transaction_is_refused() -> None:
    with pytest.raises(TransactionManagementError, match=r"transaction\.atomic"):
        emit("blog.post.published", "post-1", {})


@pytest.mark.django_db(transaction=True)
def test_an_event_goes_back_with_the_transaction_of_its_fact() -> None:
    def fail() -> None:
        with transaction.atomic():
            emit("blog.post.published", "post-1", {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not Event.objects.exists()


@pytest.mark.django_db
def test_the_envelope_is_a_cloud_event() -> None:
    with correlated("asked"):
        event = emit("blog.post.published", "post-1", {"title": "Straße"})
    event.refresh_from_db()
    event.position = 7
    assert event.envelope() == {
        "correlationid": "asked",
        "specversion": "1.0",
        "id": str(event.event_id),
        "source": "/broadcast",
        "type": "blog.post.published",
        "subject": "post-1",
        "time": event.created_at.isoformat(),
        "datacontenttype": "application/json",
        "sequence": "7",
        "data": {"title": "Straße"},
    }
    assert json.loads(json.dumps(event.envelope())) == event.envelope()


@pytest.mark.django_db
def test_the_time_of_an_event_has_a_zone() -> None:
    event = emit("blog.post.published", "post-1", {})
    event.refresh_from_db()
    assert event.envelope()["time"].endswith("+00:00")


@pytest.mark.parametrize(
    ("type_", "channels", "topic"),
    [
        ("broadcast.activated", ["all"], "broadcasts"),
        ("broadcast.scheduled", [], "broadcasts"),
        ("blog.post.published", [], "blog"),
        ("blog.post.published", ["all"], "broadcasts"),
        ("link.expired", [], "link"),
    ],
)
def test_what_addresses_a_stream_is_in_the_topic_of_streams(
    type_: str, channels: list[str], topic: str
) -> None:
    assert build_event(type_, "key", {}, channels).topic == topic


def test_the_topic_of_streams_has_one_partition() -> None:
    events = [build_event("broadcast.activated", f"key-{n}", {}) for n in range(50)]
    assert {event.partition for event in events} == {0}


def test_a_key_stays_in_its_partition_and_keys_spread() -> None:
    events = [build_event("link.expired", f"key-{n}", {}) for n in [*range(100), *range(100)]]
    partitions = [event.partition for event in events]
    assert partitions[:100] == partitions[100:]
    assert set(partitions) == set(range(6))


@pytest.mark.django_db
def test_channels_may_come_from_a_generator() -> None:
    emit("broadcast.activated", "b", {}, channels=(f"user-{n}" for n in range(2)))
    assert Event.objects.get().channels == ["user-0", "user-1"]


@pytest.mark.django_db
def test_an_event_is_normal_unless_it_says_otherwise() -> None:
    emit("link.expired", "a", {})
    emit("link.expired", "b", {}, priority=Priority.URGENT)
    assert dict(Event.objects.values_list("key", "priority")) == {"a": 20, "b": 40}


@pytest.mark.django_db
def test_many_events_cost_a_statement_a_hundred(django_assert_max_num_queries: Any) -> None:
    events = [build_event("link.expired", f"key-{n}", {}) for n in range(1_000)]
    with django_assert_max_num_queries(20):  # SQLite takes 76 rows a statement
        emit_all(events)


@pytest.mark.django_db
def test_what_nobody_asked_for_begins_something_of_its_own() -> None:
    one, other = (emit("blog.post.published", "post-1", {}) for _ in range(2))
    assert one.envelope()["correlationid"] != other.envelope()["correlationid"]


@pytest.mark.django_db
def test_an_event_from_before_there_were_ids_has_none() -> None:
    event = emit("blog.post.published", "post-1", {})
    Event.objects.update(correlation_id="")
    event.refresh_from_db()
    assert {"correlationid", "traceparent"}.isdisjoint(event.envelope())


@pytest.mark.django_db
def test_a_process_of_before_there_were_ids_can_write_beside_those_that_know_them() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO outbox_event (event_id, type, topic, partition, key, data, channels, part,"
            " priority, attempts, error) VALUES (%s, 'x', 'x', 0, 'x', '{}', '[]', 0, 20, 0, '')",
            [uuid4().hex],
        )
    assert "correlationid" not in Event.objects.get().envelope()
