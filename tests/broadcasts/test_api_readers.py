import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from broadcasts.api.readers import Cursor
from broadcasts.models import PASSED, Broadcast, Preference, Receipt
from broadcasts.receipts import dismiss
from broadcasts.services import cancel, expire_overdue
from outbox.models import Event, LeaderLease, Priority
from tests.factories import ActiveFactory, DraftFactory, GroupFactory, ProductFactory, UserFactory

pytestmark = pytest.mark.django_db

MESSAGES = "/api/user/messages"


@pytest.fixture
def reader(client: Client) -> User:
    user = UserFactory.create()
    client.force_login(user)
    return user


def inbox(client: Client, **query: Any) -> dict[str, Any]:
    response = client.get(MESSAGES, query)
    assert response.status_code == 200, response.content
    body: dict[str, Any] = response.json()
    return body


def ids(body: dict[str, Any]) -> list[int]:
    return [message["broadcast_id"] for message in body["results"]]


def forged(fields: list[Any]) -> str:
    return urlsafe_b64encode(json.dumps(fields).encode()).decode()


def post(client: Client, verb: str, **data: Any) -> Any:
    return client.post(f"{MESSAGES}/{verb}", data, content_type="application/json")


def everything(client: Client, **query: Any) -> list[int]:
    body = inbox(client, **query)
    found = ids(body)
    while body["next"]:
        body = client.get(body["next"]).json()
        found += ids(body)
    return found


def selected(user: User) -> Broadcast:
    broadcast: Broadcast = ActiveFactory.create(audience="SELECTED", targets=[str(user.pk)])
    return broadcast


def test_the_inbox_shows_what_addresses_the_person(client: Client, reader: User) -> None:
    role, product = GroupFactory.create(), ProductFactory.create()
    reader.groups.add(role)
    product.subscribers.add(reader)
    mine = [
        ActiveFactory.create(),
        ActiveFactory.create(audience="ROLE", targets=[role.name]),
        ActiveFactory.create(audience="PRODUCT", targets=[product.slug]),
        selected(reader),
    ]
    selected(UserFactory.create())
    ActiveFactory.create(audience="ROLE", targets=[GroupFactory.create().name])
    DraftFactory.create()
    assert set(ids(inbox(client))) == {broadcast.pk for broadcast in mine}


def test_what_is_over_is_not_in_the_inbox(client: Client, reader: User) -> None:
    cancel(ActiveFactory.create())
    expired = ActiveFactory.create(expires_at=timezone.now() + timedelta(hours=1))
    Broadcast.objects.filter(pk=expired.pk).update(
        scheduled_at=None, expires_at=timezone.now() - timedelta(seconds=1)
    )
    ActiveFactory.create(fire_and_forget=True)
    assert inbox(client)["results"] == []


def test_a_message_has_what_the_stream_sends_and_what_the_person_did(
    client: Client, reader: User
) -> None:
    ActiveFactory.create(content="**Now**", priority=Priority.URGENT)
    [message] = inbox(client)["results"]
    assert message["html"].strip() == "<p><strong>Now</strong></p>"
    assert (message["priority"], message["seen_at"], message["read_at"]) == ("URGENT", None, None)


def test_unread_come_first_then_newest(client: Client, reader: User) -> None:
    old, middle, new = (ActiveFactory.create().pk for _ in range(3))
    post(client, "read", broadcast_id=new)
    assert ids(inbox(client)) == [middle, old, new]


def test_pages_show_everything_once(client: Client, reader: User) -> None:
    sent = [ActiveFactory.create().pk for _ in range(9)]
    same = timezone.now()
    Broadcast.objects.filter(pk__in=sent[:5]).update(activated_at=same)
    post(client, "read", broadcast_ids=sent[1:6])
    whole = ids(inbox(client, limit=100))
    for limit in (1, 2, 4, 9):
        assert everything(client, limit=limit) == whole
    assert sorted(whole) == sent


def test_pages_miss_nothing_when_messages_arrive_and_are_read_between(
    client: Client, reader: User
) -> None:
    sent = {ActiveFactory.create().pk for _ in range(6)}
    first = inbox(client, limit=2)
    ActiveFactory.create()
    post(client, "read", broadcast_ids=ids(first))
    rest = ids(client.get(first["next"]).json())
    following = client.get(first["next"]).json()["next"]
    while following:
        page = client.get(following).json()
        rest += ids(page)
        following = page["next"]
    assert sent <= set(ids(first)) | set(rest)


def test_the_next_page_keeps_the_filters(client: Client, reader: User) -> None:
    wanted = {ActiveFactory.create(category="shop & more").pk for _ in range(3)}
    ActiveFactory.create(category="other")
    assert set(everything(client, category="shop & more", limit=1)) == wanted


def test_the_inbox_is_filtered(client: Client, reader: User) -> None:
    plain = ActiveFactory.create(title="Plain words").pk
    urgent = ActiveFactory.create(priority=Priority.URGENT, content="the database moves").pk
    post(client, "read", broadcast_id=plain)
    assert ids(inbox(client, state="unread")) == [urgent]
    assert ids(inbox(client, state="read")) == [plain]
    assert ids(inbox(client, priority="URGENT")) == [urgent]
    assert ids(inbox(client, search="MOVES database")) == [urgent]
    assert ids(inbox(client, search="nothing")) == []
    assert inbox(client, state="read")["unread"] == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"cursor": "W10="}, "cursor"),
        ({"cursor": "ä"}, "cursor"),
        ({"cursor": forged([1, "2026-01-01T00:00:00Z", 1])}, "cursor"),
        ({"cursor": forged([True, "2026-01-01T00:00:00Z", None])}, "cursor"),
        ({"cursor": forged([True, "0001-01-01T00:00:00+14:00", 1])}, "cursor"),  # before all time
        ({"state": "new"}, "state"),
        ({"priority": "20"}, "priority"),
        ({"search": "\x00"}, "search"),
    ],
)
def test_a_bad_query_is_a_400_that_names_it(
    client: Client, reader: User, query: dict[str, Any], field: str
) -> None:
    response = client.get(MESSAGES, query)
    assert response.status_code == 400
    assert list(response.json()["fields"]) == [field]


@pytest.mark.parametrize("pk", [-1, 0, 10**40])
@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-01"])
def test_a_forged_cursor_breaks_nothing(client: Client, reader: User, pk: int, moment: str) -> None:
    ActiveFactory.create()
    inbox(client, cursor=forged([True, moment, pk]))


def test_a_cursor_says_itself_again() -> None:
    cursor = Cursor(is_read=False, activated_at=datetime(2026, 1, 1, tzinfo=UTC), id=1)
    assert Cursor.parse(str(cursor)) == cursor


def test_the_position_is_that_before_the_rows(client: Client, reader: User) -> None:
    LeaderLease.objects.create(name="relay", position=41)
    assert inbox(client)["position"] == 41


def test_the_inbox_costs_the_same_for_2_and_for_20(client: Client, reader: User) -> None:
    counts = []
    for more in (2, 18):
        for _ in range(more):
            product = ProductFactory.create()
            product.subscribers.add(reader)
            ActiveFactory.create(audience="PRODUCT", targets=[product.slug])
        with CaptureQueriesContext(connection) as queries:
            inbox(client)
        counts.append(len(queries))
    assert counts == [8, 8]


@pytest.mark.parametrize(
    ("verb", "stamp"),
    [("read", "read_at"), ("ack-visibility", "seen_at"), ("dismiss", "dismissed_at")],
)
def test_a_verb_stamps_the_receipt_of_this_person(
    client: Client, reader: User, verb: str, stamp: str
) -> None:
    one, two = ActiveFactory.create(), ActiveFactory.create()
    response = post(client, verb, broadcast_ids=[one.pk, two.pk])
    unread = 2 if verb == "ack-visibility" else 0
    assert response.json() == {"count": 2, "unread": unread}
    receipts = Receipt.objects.filter(user=reader, **{f"{stamp}__isnull": False})
    assert receipts.count() == 2


def test_saying_it_twice_changes_nothing(client: Client, reader: User) -> None:
    broadcast = ActiveFactory.create()
    for _ in range(2):
        assert post(client, "read", broadcast_id=broadcast.pk).json() == {"count": 1, "unread": 0}
    assert Receipt.objects.count() == 1


def test_what_is_dismissed_leaves_the_inbox(client: Client, reader: User) -> None:
    broadcast = ActiveFactory.create()
    post(client, "dismiss", broadcast_id=broadcast.pk)
    assert inbox(client)["results"] == []
    assert post(client, "dismiss", broadcast_id=broadcast.pk).status_code == 404


def test_everything_is_read_at_once(client: Client, reader: User) -> None:
    for _ in range(3):
        ActiveFactory.create()
    response = client.post(f"{MESSAGES}/read-all")
    assert response.json() == {"count": 3, "unread": 0}


def leave_by_mute(reader: User, broadcast: Broadcast) -> None:
    Preference.objects.create(user=reader, muted_categories=[broadcast.category])


def leave_by_dismissal(reader: User, broadcast: Broadcast) -> None:
    dismiss(reader, [broadcast.pk])


def leave_by_cancellation(reader: User, broadcast: Broadcast) -> None:
    cancel(broadcast)


def leave_by_expiry(reader: User, broadcast: Broadcast) -> None:
    moment = F("activated_at") + timedelta(microseconds=1)  # by one clock, the database's
    Broadcast.objects.filter(pk=broadcast.pk).update(expires_at=moment)
    assert expire_overdue() == 1


@pytest.mark.parametrize(
    "leave", [leave_by_mute, leave_by_dismissal, leave_by_cancellation, leave_by_expiry]
)
def test_what_left_while_the_word_was_on_its_way_was_seen(
    client: Client, reader: User, leave: Callable[[User, Broadcast], None]
) -> None:
    gone, there = ActiveFactory.create(category="canteen"), ActiveFactory.create()
    leave(reader, gone)
    assert ids(inbox(client)) == [there.pk]
    assert post(client, "ack-visibility", broadcast_ids=[gone.pk, there.pk]).json()["count"] == 2
    assert Receipt.objects.filter(user=reader, seen_at__isnull=False).count() == 2


def test_what_was_over_long_ago_was_not_seen_now(client: Client, reader: User) -> None:
    broadcast = ActiveFactory.create()
    cancel(broadcast)
    Broadcast.objects.update(finished_at=F("finished_at") - PASSED)
    assert post(client, "ack-visibility", broadcast_id=broadcast.pk).status_code == 404


@pytest.mark.parametrize("verb", ["read", "ack-visibility", "dismiss"])
def test_somebody_elses_message_is_a_404_and_nothing_is_written(
    client: Client, reader: User, verb: str
) -> None:
    mine, theirs = ActiveFactory.create(), selected(UserFactory.create())
    events = Event.objects.count()
    response = post(client, verb, broadcast_ids=[mine.pk, theirs.pk])
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"
    assert str(theirs.pk) in response.json()["message"]
    assert not Receipt.objects.filter(user=reader).exists()
    assert Event.objects.count() == events


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"broadcast_id": 1, "broadcast_ids": [1]},
        {"broadcast_id": "one"},
        {"broadcast_id": 0},
        {"broadcast_id": 10**30},
        {"broadcast_ids": []},
        {"broadcast_ids": [None]},
        {"broadcast_ids": list(range(1, 1_002))},
    ],
)
def test_bad_ids_are_a_400(client: Client, reader: User, data: dict[str, Any]) -> None:
    response = post(client, "read", **data)
    assert response.status_code == 400
    assert response.json()["fields"]


def test_an_unknown_id_is_a_404(client: Client, reader: User) -> None:
    assert post(client, "read", broadcast_id=2**63 - 1).status_code == 404
