from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from outbox.logs import DatabaseLog, Record
from outbox.models import ConsumerOffset, Event
from outbox.relay import Relay
from outbox.services import emit
from outbox.tasks import delete_old_events

pytestmark = pytest.mark.django_db


@pytest.fixture
def log() -> DatabaseLog:
    return DatabaseLog()


def publish(*keys: str, type_: str = "link.expired") -> None:
    with transaction.atomic():
        for key in keys:
            emit(type_, key, {})
    relay = Relay(DatabaseLog())
    relay.step()
    relay.resign()


def keys_of(records: list[Record] | None) -> list[str]:
    assert records is not None
    return [record.key for record in records]


def forget_until(position: int) -> None:
    old = timezone.now() - timedelta(days=30)
    Event.objects.filter(position__lte=position).update(published_at=old)
    delete_old_events()


def test_a_consumer_without_a_group_starts_at_the_head(log: DatabaseLog) -> None:
    publish("before")
    consumer = log.consumer(["link"])
    publish("after")
    assert keys_of(consumer.poll()) == ["after"]
    assert consumer.poll() == []


def test_a_consumer_without_a_group_starts_where_it_says(log: DatabaseLog) -> None:
    publish("a", "b", "c")
    assert keys_of(log.consumer(["link"], after=1).poll()) == ["b", "c"]


def test_a_consumer_without_a_group_leaves_no_trace(log: DatabaseLog) -> None:
    publish("a")
    consumer = log.consumer(["link"], after=0)
    consumer.commit(consumer.poll()[0])
    assert not ConsumerOffset.objects.exists()


def test_a_new_group_starts_at_the_beginning(log: DatabaseLog) -> None:
    publish("a")
    assert keys_of(log.consumer(["link"], group="mail").poll()) == ["a"]


def test_a_group_goes_on_behind_what_it_committed(log: DatabaseLog) -> None:
    publish("a", "b", "c")
    consumer = log.consumer(["link"], group="mail")
    records = consumer.poll()
    consumer.commit(records[1])
    assert keys_of(log.consumer(["link"], group="mail").poll()) == ["c"]


def test_groups_do_not_disturb_each_other(log: DatabaseLog) -> None:
    publish("a")
    mail = log.consumer(["link"], group="mail")
    mail.commit(mail.poll()[0])
    assert keys_of(log.consumer(["link"], group="chat").poll()) == ["a"]


def test_a_commit_never_goes_back(log: DatabaseLog) -> None:
    publish("a", "a", "a")
    consumer = log.consumer(["link"], group="mail")
    records = consumer.poll()
    consumer.commit(records[2])
    consumer.commit(records[0])
    assert log.consumer(["link"], group="mail").poll() == []


def test_each_topic_has_its_own_offset(log: DatabaseLog) -> None:
    publish("a")
    first = log.consumer(["link"], group="mail")
    first.commit(first.poll()[0])
    publish("p", type_="blog.post.published")
    assert keys_of(log.consumer(["link", "blog"], group="mail").poll()) == ["p"]
    assert keys_of(log.consumer(["blog"], group="mail").poll()) == ["p"]


def test_a_consumer_reads_only_its_topics(log: DatabaseLog) -> None:
    publish("a")
    publish("p", type_="blog.post.published")
    assert keys_of(log.consumer(["blog"], after=0).poll()) == ["p"]


def test_a_poll_takes_at_most_its_limit_and_loses_nothing(log: DatabaseLog) -> None:
    publish(*"abcde")
    consumer = log.consumer(["link"], after=0)
    polls = [keys_of(consumer.poll(2)) for _ in range(4)]
    assert polls == [["a", "b"], ["c", "d"], ["e"], []]


def test_an_unpublished_event_is_not_read(log: DatabaseLog) -> None:
    emit("link.expired", "a", {})
    assert log.consumer(["link"], after=0).poll() == []
    assert log.head() == 0


def test_a_replay_is_complete_up_to_its_limit(log: DatabaseLog) -> None:
    publish(*"abcd")
    assert keys_of(log.replay("link", 1, 10)) == ["b", "c", "d"]
    assert keys_of(log.replay("link", 1, 2)) == ["b", "c"]
    assert log.replay("link", 4, 10) == []


def test_a_replay_says_when_something_is_gone(log: DatabaseLog) -> None:
    publish(*"abcd")
    forget_until(2)
    assert log.replay("link", 1, 10) is None
    assert keys_of(log.replay("link", 2, 10)) == ["c", "d"]


def test_a_replay_of_an_emptied_log_knows_what_was_there(log: DatabaseLog) -> None:
    publish(*"ab")
    forget_until(2)
    assert log.replay("link", 1, 10) is None
    assert log.replay("link", 2, 10) == []


def test_what_is_gone_of_another_topic_is_gone_too_for_safety(log: DatabaseLog) -> None:
    publish("p", type_="blog.post.published")
    publish("a")
    forget_until(1)
    assert log.replay("link", 0, 10) is None


def test_the_tail_is_the_last_and_says_from_where_it_is_complete(log: DatabaseLog) -> None:
    publish(*"abcd")
    records, since = log.tail("link", 2)
    assert (keys_of(records), since) == (["c", "d"], 2)
    records, since = log.tail("link", 10)
    assert (keys_of(records), since) == (["a", "b", "c", "d"], 0)


def test_the_tail_of_nothing_is_complete_from_the_beginning(log: DatabaseLog) -> None:
    assert log.tail("link", 10) == ([], 0)


def test_the_tail_after_retention_is_complete_from_what_is_left(log: DatabaseLog) -> None:
    publish(*"abcd")
    forget_until(3)
    records, since = log.tail("link", 10)
    assert (keys_of(records), since) == (["d"], 3)


def test_a_poll_is_one_query(log: DatabaseLog, django_assert_num_queries: Any) -> None:
    publish(*"abcd")
    consumer = log.consumer(["link", "blog"], after=0)
    with django_assert_num_queries(1):
        consumer.poll()


@override_settings(EVENT_MAX_BYTES=30)
def test_the_size_counts_bytes_not_letters(log: DatabaseLog) -> None:
    with pytest.raises(ValueError, match="EVENT_MAX_BYTES"):
        log.check(Event(key="a", data={"t": "日本語日本語"}))
