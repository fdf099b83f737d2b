import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from broadcasts.models import Broadcast, Status
from broadcasts.receipts import mark_read, record_deliveries
from outbox.models import Event, Priority
from tests.factories import (
    ActiveFactory,
    DraftFactory,
    GroupFactory,
    ProductFactory,
    UserFactory,
    operator,
)

pytestmark = pytest.mark.django_db

BROADCASTS = "/api/admin/broadcasts"
VERBS = ["view", "add", "change", "send", "approve"]
SOON = timedelta(hours=1)


@pytest.fixture
def boss(client: Client) -> User:
    user = operator(*(f"broadcasts.{verb}_broadcast" for verb in VERBS))
    client.force_login(user)
    return user


def create(client: Client, **fields: Any) -> Any:
    fields = {"title": "Maintenance"} | fields
    return client.post(BROADCASTS, json.dumps(fields, default=str), content_type="application/json")


def act(client: Client, method: str, path: str, **data: Any) -> Any:
    body = json.dumps(data, default=str)
    return getattr(client, method)(f"{BROADCASTS}/{path}", body, content_type="application/json")


def found(client: Client, **query: Any) -> list[int]:
    response = client.get(BROADCASTS, query)
    assert response.status_code == 200, response.content
    return [broadcast["id"] for broadcast in response.json()["results"]]


def test_creating_sends(client: Client, boss: User) -> None:
    response = create(client, priority="URGENT", external_id="one")
    assert response.status_code == 201
    body = response.json()
    assert (body["status"], body["priority"], body["external_id"]) == ("ACTIVE", "URGENT", "one")
    assert body["statistics"]["targeted"] == User.objects.count()
    assert body["sender_name"] == boss.username
    assert Event.objects.filter(type="broadcast.activated").count() == 1


def test_creating_with_a_moment_schedules(client: Client, boss: User) -> None:
    body = create(client, scheduled_at=timezone.now() + SOON).json()
    assert body["status"] == "SCHEDULED"


def test_creating_can_keep_a_draft(client: Client, boss: User) -> None:
    assert create(client, send=False).json()["status"] == "DRAFT"
    assert list(Event.objects.filter(type__startswith="broadcast.")) == []


def test_what_expired_before_it_could_be_sent_is_kept_as_expired(
    client: Client, boss: User
) -> None:
    body = create(client, expires_at=timezone.now() - SOON).json()
    assert body["status"] == "EXPIRED"
    assert not Event.objects.filter(type="broadcast.activated").exists()


def test_user_ids_may_be_numbers(client: Client, boss: User) -> None:
    body = create(client, audience="SELECTED", targets=[boss.pk]).json()
    assert (body["targets"], body["statistics"]["targeted"]) == ([str(boss.pk)], 1)


NOW = timezone.now()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": "\x00"}, "title"),
        ({"content": "x" * 1_000_000}, "content"),
        ({"priority": "20"}, "priority"),
        ({"priority": 20}, "priority"),
        ({"priority": ["HIGH"]}, "priority"),
        ({"audience": "SOME"}, "audience"),
        ({"targets": ["one"]}, "targets"),
        ({"audience": "ROLE"}, "targets"),
        ({"audience": "ROLE", "targets": []}, "targets"),
        ({"audience": "ROLE", "targets": "guests"}, "targets"),
        ({"audience": "ROLE", "targets": {"0": "guests"}}, "targets"),
        ({"audience": "ROLE", "targets": ["guests"]}, "targets"),
        ({"audience": "ROLE", "targets": ["\x00"]}, "targets"),
        ({"audience": "ROLE", "targets": [True]}, "targets"),
        ({"audience": "PRODUCT", "targets": ["moon"]}, "targets"),
        ({"audience": "SELECTED", "targets": ["0"]}, "targets"),
        ({"audience": "SELECTED", "targets": ["²"]}, "targets"),
        ({"audience": "SELECTED", "targets": ["9" * 40]}, "targets"),
        ({"audience": "SELECTED", "targets": [10**18 - 1]}, "targets"),
        ({"scheduled_at": "tomorrow"}, "scheduled_at"),
        ({"scheduled_at": "0001-01-01T00:00:00+14:00"}, "scheduled_at"),
        ({"scheduled_at": NOW + SOON, "expires_at": NOW}, "non_field_errors"),
        ({"force_logoff": True}, "non_field_errors"),
    ],
)
def test_bad_input_is_a_400_that_names_the_field_and_keeps_nothing(
    client: Client, boss: User, fields: dict[str, Any], field: str
) -> None:
    response = create(client, **fields)
    assert response.status_code == 400, response.content
    assert list(response.json()["fields"]) == [field]
    assert not Broadcast.objects.exists()


def test_a_target_named_twice_is_refused(client: Client, boss: User) -> None:
    role = GroupFactory.create()
    response = create(client, audience="ROLE", targets=[role.name, role.name])
    assert "once" in response.json()["message"]


def test_an_audience_without_people_is_refused_and_nothing_is_kept(
    client: Client, boss: User
) -> None:
    response = create(client, audience="ROLE", targets=[GroupFactory.create().name])
    assert response.status_code == 400
    assert "Nobody" in response.json()["message"]
    assert not Broadcast.objects.exists()


def test_an_external_id_is_taken_once(client: Client, boss: User) -> None:
    create(client, external_id="one")
    assert list(create(client, external_id="one").json()["fields"]) == ["external_id"]
    assert create(client, external_id=None).status_code == 201
    assert create(client, external_id=None).status_code == 201


def test_the_list_is_filtered(client: Client, boss: User) -> None:
    draft = DraftFactory.create(title="Alpha words", category="shop").pk
    active = ActiveFactory.create(priority=Priority.HIGH, content="beta *words*").pk
    later = ActiveFactory.create(scheduled_at=timezone.now() + SOON).pk
    assert found(client) == [later, active, draft]
    assert found(client, filter="all") == [later, active, draft]
    assert found(client, filter="active") == [active]
    assert found(client, filter="scheduled") == [later]
    assert found(client, status=["DRAFT", "ACTIVE"]) == [active, draft]
    assert found(client, audience="ROLE") == []
    assert found(client, priority="HIGH") == [active]
    assert found(client, category="shop") == [draft]
    assert found(client, search="words alpha") == [draft]
    assert found(client, scheduled_after=(timezone.now() + SOON / 2).isoformat()) == [later]
    assert found(client, created_before=(timezone.now() - SOON).isoformat()) == []
    assert found(client, ordering="title")[0] == draft


@pytest.mark.parametrize(
    "query",
    [
        {"filter": "some"},
        {"status": "GONE"},
        {"priority": "20"},
        {"created_after": "yesterday"},
        {"search": "\x00"},
    ],
)
def test_a_bad_filter_is_a_400(client: Client, boss: User, query: dict[str, str]) -> None:
    response = client.get(BROADCASTS, query)
    assert response.status_code == 400
    assert list(response.json()["fields"]) == list(query)


def test_a_page_that_is_not_there_is_a_404(client: Client, boss: User) -> None:
    assert client.get(BROADCASTS, {"page": 2}).status_code == 404


def test_equal_keys_are_shown_once_over_all_pages(client: Client, boss: User) -> None:
    drafts = {DraftFactory.create(title="same").pk for _ in range(5)}
    shown = [
        pk for page in (1, 2, 3) for pk in found(client, ordering="title", page_size=2, page=page)
    ]
    assert sorted(shown) == sorted(drafts)


def test_the_list_costs_the_same_for_2_and_for_20(client: Client, boss: User) -> None:
    counts = []
    for more in (2, 18):
        for _ in range(more):
            mark_read(boss, [ActiveFactory.create().pk])
        with CaptureQueriesContext(connection) as queries:
            client.get(BROADCASTS)
        counts.append(len(queries))
    # session, user, two for permissions, count, page, statistics
    assert counts == [7, 7]


def test_the_list_leaves_targets_and_content_in_the_database(client: Client, boss: User) -> None:
    people = [str(UserFactory.create().pk) for _ in range(3)]
    DraftFactory.create(audience="SELECTED", targets=people)
    with CaptureQueriesContext(connection) as queries:
        [broadcast] = client.get(BROADCASTS).json()["results"]
    assert broadcast["target_count"] == 3
    page = next(
        q["sql"] for q in queries if "LIMIT 1" in q["sql"] and "array_length" in q["sql"].lower()
    )
    assert '"broadcasts_broadcast"."targets",' not in page
    assert '"broadcasts_broadcast"."content"' not in page


def test_one_broadcast_shows_its_first_thousand_targets(client: Client, boss: User) -> None:
    draft = DraftFactory.create()
    Broadcast.objects.filter(pk=draft.pk).update(
        audience="SELECTED", targets=[str(n) for n in range(1, 2_001)]
    )
    body = client.get(f"{BROADCASTS}/{draft.pk}").json()
    assert (len(body["targets"]), body["targets_truncated"], body["target_count"]) == (
        1_000,
        True,
        2_000,
    )


@pytest.mark.parametrize("pk", [10**6, 10**30])
def test_an_unknown_broadcast_is_a_404(client: Client, boss: User, pk: int) -> None:
    assert client.get(f"{BROADCASTS}/{pk}").status_code == 404


def test_a_draft_is_edited(client: Client, boss: User) -> None:
    draft = DraftFactory.create()
    body = act(client, "patch", str(draft.pk), title="New", priority="LOW").json()
    assert (body["title"], body["priority"], body["content"]) == ("New", "LOW", draft.content)


def test_what_is_sent_is_not_edited(client: Client, boss: User) -> None:
    response = act(client, "patch", str(ActiveFactory.create(title="Old").pk), title="New")
    assert (response.status_code, response.json()["code"]) == (409, "invalid_transition")
    assert Broadcast.objects.get().title == "Old"


def test_a_bad_edit_changes_nothing(client: Client, boss: User) -> None:
    draft = DraftFactory.create(title="Old")
    response = act(client, "patch", str(draft.pk), title="New", audience="SELECTED")
    assert response.status_code == 400
    assert Broadcast.objects.get().title == "Old"


def test_a_draft_is_sent_once(client: Client, boss: User) -> None:
    path = f"{DraftFactory.create().pk}/send"
    assert act(client, "post", path).json()["status"] == "ACTIVE"
    assert act(client, "post", path).status_code == 409


def test_a_draft_is_scheduled(client: Client, boss: User) -> None:
    moment = timezone.now() + SOON
    body = act(client, "post", f"{DraftFactory.create().pk}/send", scheduled_at=moment).json()
    assert body["status"] == "SCHEDULED"
    assert (
        act(client, "post", f"{DraftFactory.create().pk}/send", scheduled_at="x").status_code == 400
    )


@pytest.mark.parametrize("where", ["body", "query"])
def test_deleting_cancels(client: Client, boss: User, where: str) -> None:
    broadcast = ActiveFactory.create()
    if where == "body":
        response = act(client, "delete", str(broadcast.pk), reason="wrong text")
    else:
        response = client.delete(f"{BROADCASTS}/{broadcast.pk}?reason=wrong+text")
    assert (response.status_code, response.content) == (204, b"")
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.cancel_reason) == (Status.CANCELLED, "wrong text")
    assert act(client, "delete", str(broadcast.pk)).status_code == 409


def test_a_broadcast_is_duplicated_as_a_draft(client: Client, boss: User) -> None:
    original = ActiveFactory.create(priority=Priority.HIGH, scheduled_at=timezone.now() + SOON)
    response = act(client, "post", f"{original.pk}/duplicate")
    body = response.json()
    assert response.status_code == 201
    assert body["id"] != original.pk
    assert (body["status"], body["priority"], body["scheduled_at"]) == ("DRAFT", "HIGH", None)


def test_only_what_failed_is_retried(client: Client, boss: User) -> None:
    draft = DraftFactory.create()
    assert act(client, "post", f"{draft.pk}/retry").status_code == 409
    Broadcast.objects.filter(pk=draft.pk).update(status="FAILED", scheduled_at=timezone.now())
    assert act(client, "post", f"{draft.pk}/retry").json()["status"] == "SCHEDULED"


def test_the_statistics_count_people_once(client: Client, boss: User) -> None:
    broadcast = ActiveFactory.create()
    reader = UserFactory.create()
    for _ in range(2):
        mark_read(reader, [broadcast.pk])
        record_deliveries(broadcast.pk, [boss.pk, reader.pk], timezone.now())
    Broadcast.objects.filter(pk=broadcast.pk).update(targeted=4)
    expected = {
        "targeted": 4,
        "delivered": 2,
        "seen": 1,
        "read": 1,
        "acknowledged": 0,
        "dismissed": 0,
        "delivery_rate": 0.5,
        "seen_rate": 0.25,
        "read_rate": 0.25,
        "acknowledgement_rate": 0.0,
    }
    stats = client.get(f"{BROADCASTS}/{broadcast.pk}/stats").json()
    assert {name: stats[name] for name in expected} == expected


def test_a_draft_has_no_rates(client: Client, boss: User) -> None:
    assert client.get(f"{BROADCASTS}/{DraftFactory.create().pk}/stats").json()["read_rate"] is None


def test_deliveries_are_filtered_and_searched(client: Client, boss: User) -> None:
    anna, bert = UserFactory.create(username="anna"), UserFactory.create(username="bert")
    broadcast = ActiveFactory.create(audience="SELECTED", targets=[str(anna.pk), str(bert.pk)])
    mark_read(anna, [broadcast.pk])

    def names(**query: str) -> list[str]:
        body = client.get(f"{BROADCASTS}/{broadcast.pk}/deliveries", query).json()
        return [delivery["username"] for delivery in body["results"]]

    assert names() == ["anna", "bert"]
    assert names(status="READ") == ["anna"]
    assert names(status="PENDING") == ["bert"]
    assert names(search="ER") == ["bert"]
    assert names(ordering="-id") == ["bert", "anna"]


def test_deliveries_cost_the_same_for_2_and_for_20(client: Client, boss: User) -> None:
    broadcast = ActiveFactory.create()
    counts = []
    for more in (2, 18):
        people = [UserFactory.create().pk for _ in range(more)]
        record_deliveries(broadcast.pk, people, timezone.now())
        with CaptureQueriesContext(connection) as queries:
            client.get(f"{BROADCASTS}/{broadcast.pk}/deliveries")
        counts.append(len(queries))
    assert counts == [7, 7]


def test_the_preview_counts_and_samples(client: Client, boss: User) -> None:
    product = ProductFactory.create()
    product.subscribers.add(
        UserFactory.create(username="anna"), UserFactory.create(username="bert")
    )
    asked = {"audience": "PRODUCT", "targets": [product.slug], "search": "ann"}
    answers = [
        client.get(f"{BROADCASTS}/preview", asked).json(),
        act(client, "post", "preview", **asked).json(),
    ]
    for body in answers:
        assert body["count"] == 2
        assert [person["username"] for person in body["people"]] == ["anna"]


@pytest.mark.parametrize(
    "asked",
    [
        {"audience": "ROLE"},
        {"audience": "ROLE", "targets": ["guests"]},
        {"audience": "SELECTED", "targets": ["²"]},
        {"targets": ["guests"]},
    ],
)
def test_a_preview_of_a_bad_audience_is_a_400(
    client: Client, boss: User, asked: dict[str, Any]
) -> None:
    for response in (
        client.get(f"{BROADCASTS}/preview", asked),
        act(client, "post", "preview", **asked),
    ):
        assert response.status_code == 400
        assert list(response.json()["fields"]) == ["targets"]


REQUESTS = [
    ("view", "get", "", {}),
    ("view", "get", "/{id}", {}),
    ("view", "get", "/{id}/stats", {}),
    ("view", "get", "/{id}/deliveries", {}),
    ("add", "post", "", {"title": "x", "send": False}),
    ("add", "post", "/preview", {"audience": "ALL"}),
    ("add", "post", "/{id}/duplicate", {}),
    ("change", "patch", "/{id}", {"title": "x"}),
    ("send", "post", "/{id}/send", {}),
    ("send", "post", "/{id}/retry", {}),
    ("send", "delete", "/{id}", {}),
    ("view", "get", "/{id}/approvals", {}),
    ("change", "post", "/{id}/request-approval", {}),
    ("approve", "post", "/{id}/approve", {}),
    ("approve", "post", "/{id}/reject", {"comment": "x"}),
]


@pytest.mark.parametrize(("verb", "method", "path", "data"), REQUESTS)
def test_each_request_needs_its_own_permission(
    client: Client, verb: str, method: str, path: str, data: dict[str, Any]
) -> None:
    draft = DraftFactory.create()
    address = BROADCASTS + path.replace("{id}", str(draft.pk))
    others = [f"broadcasts.{other}_broadcast" for other in VERBS if other != verb]
    for user, permitted in [
        (operator(*others), False),
        (operator(f"broadcasts.{verb}_broadcast"), True),
    ]:
        client.force_login(user)
        body = {} if method == "get" else {"data": json.dumps(data)}
        response = getattr(client, method)(address, content_type="application/json", **body)
        assert (response.status_code != 403) is permitted


def test_who_may_only_write_drafts_cannot_send_by_creating(client: Client) -> None:
    client.force_login(operator("broadcasts.add_broadcast"))
    response = create(client)
    assert response.status_code == 403
    assert "send: false" in response.json()["message"]
    assert not Broadcast.objects.exists()


def test_a_permission_without_staff_opens_nothing(client: Client) -> None:
    user = operator("broadcasts.view_broadcast")
    User.objects.filter(pk=user.pk).update(is_staff=False)
    client.force_login(user)
    assert client.get(BROADCASTS).status_code == 403
