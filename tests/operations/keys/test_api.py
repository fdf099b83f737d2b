from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from operations.keys import services
from operations.keys.checking import Refused, check
from operations.keys.models import ApiKey
from operations.keys.usage import recorder, sync
from tests.factories import UserFactory, operator
from tests.operations.keys.conftest import code_of

pytestmark = pytest.mark.django_db

KEYS = "/api/admin/api-keys"
PERMISSIONS = [f"operations.{verb}_apikey" for verb in ("view", "add", "change", "delete")]
NEW = {"name": "Shop", "scopes": ["publish", "read"]}


@pytest.fixture
def boss(client: Client) -> User:
    user = operator(*PERMISSIONS)
    client.force_login(user)
    return user


def post(client: Client, address: str, **data: Any) -> Any:
    return client.post(address, data, content_type="application/json")


def test_one_is_made_and_shown_once(client: Client, boss: User) -> None:
    response = post(client, KEYS, **NEW, limit_minute=5)
    assert response.status_code == 201
    made = response.json()
    assert check(made["api_key"]).owner == boss
    assert (made["owner"], made["state"], made["limit_minute"]) == (boss.username, "ACTIVE", 5)
    again = client.get(f"{KEYS}/{made['id']}").json()
    assert again == {name: value for name, value in made.items() if name != "api_key"}
    assert "sk_" not in client.get(KEYS).content.decode()
    assert LogEntry.objects.get().change_message == "Made"


def test_only_a_superuser_makes_and_rotates_the_keys_of_others(client: Client, boss: User) -> None:
    other = UserFactory.create()
    refused = post(client, KEYS, **NEW, owner=other.username)
    assert refused.status_code == 403
    assert "superuser" in refused.json()["message"]
    key, _ = services.make(other, "Theirs", ["read"])
    assert post(client, f"{KEYS}/{key.pk}/rotate").status_code == 403
    client.force_login(User.objects.create_superuser("root"))
    made = post(client, KEYS, **NEW, owner=other.username)
    assert (made.status_code, made.json()["owner"]) == (201, other.username)
    assert post(client, f"{KEYS}/{key.pk}/rotate").status_code == 200
    boss.refresh_from_db()
    client.force_login(boss)
    assert post(client, f"{KEYS}/{key.pk}/disable").status_code == 200  # takes nobody's place


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("scopes", []),
        ("scopes", ["root"]),
        ("scopes", ["read", "read"]),
        ("scopes", "read"),
        ("owner", "nobody"),
        ("expires_at", "2001-01-01T00:00:00Z"),
        ("expires_at", "soon"),
        ("limit_minute", -1),
        ("limit_day", 2**40),
    ],
)
def test_what_is_wrong_is_told_by_field(client: Client, boss: User, field: str, value: Any) -> None:
    response = post(client, KEYS, **NEW | {field: value})
    assert code_of(response) == (400, "invalid")
    assert all(name.startswith(field) for name in response.json()["fields"])
    assert not ApiKey.objects.exists()


def test_it_is_changed_but_keeps_its_owner(client: Client, boss: User) -> None:
    key, written = services.make(boss, "Shop", ["read"])
    change = {"name": "Till", "scopes": ["stream"], "limit_hour": 0}
    response = client.patch(f"{KEYS}/{key.pk}", change, content_type="application/json")
    assert response.status_code == 200
    assert check(written).scopes == {"stream"}
    assert check(written).limits == (None, 0, None)
    refused = client.patch(
        f"{KEYS}/{key.pk}", {"owner": UserFactory.create().username}, "application/json"
    )
    assert refused.json()["fields"] == {"owner": ["A key keeps its owner: make another one."]}


def test_only_a_superuser_widens_the_key_of_somebody_else(client: Client, boss: User) -> None:
    theirs, _ = services.make(UserFactory.create(), "Theirs", ["read", "stream"])
    own, _ = services.make(boss, "Own", ["read"])

    def give(key: ApiKey, *scopes: str) -> Any:
        return client.patch(f"{KEYS}/{key.pk}", {"scopes": scopes}, "application/json").status_code

    assert give(theirs, "read", "stream", "admin") == 403
    assert give(theirs, "read") == 200
    assert give(theirs, "stream") == 403
    assert give(own, "read", "admin") == 200
    client.force_login(User.objects.create_superuser("root"))
    assert give(theirs, "admin") == 200


def test_rotated_both_secrets_work_for_as_long_as_it_says(client: Client, boss: User) -> None:
    key, written = services.make(boss, "Shop", ["read"])
    rotated = post(client, f"{KEYS}/{key.pk}/rotate").json()
    assert rotated["old_until"] is not None
    assert check(written).pk == check(rotated["api_key"]).pk == key.pk
    now = post(client, f"{KEYS}/{key.pk}/rotate", overlap="0").json()
    assert now["old_until"] is None
    for over in (written, rotated["api_key"]):
        with pytest.raises(Refused):
            check(over)
    assert check(now["api_key"]).pk == key.pk
    for wrong in ("-5", "soon", "31d", "9" * 400 + "d"):
        assert post(client, f"{KEYS}/{key.pk}/rotate", overlap=wrong).status_code == 400


@pytest.mark.parametrize("overlap", ["2h", "7200", 7200, "02:00:00", "PT2H"])
def test_an_overlap_may_be_written_as_in_settings(
    client: Client, boss: User, overlap: object
) -> None:
    key, _ = services.make(boss, "Shop", ["read"])
    rotated = post(client, f"{KEYS}/{key.pk}/rotate", overlap=overlap).json()
    ends = datetime.fromisoformat(rotated["old_until"])
    assert timedelta(minutes=119) < ends - timezone.now() <= timedelta(hours=2)


def test_it_is_disabled_enabled_and_deleted(client: Client, boss: User) -> None:
    key, _ = services.make(boss, "Shop", ["read"])
    address = f"{KEYS}/{key.pk}"
    off = post(client, f"{address}/disable").json()
    assert (off["state"], off["reason"]) == ("DISABLED", f"by {boss.username}")
    assert code_of(post(client, f"{address}/disable")) == (409, "invalid_transition")
    assert post(client, f"{address}/enable").json()["state"] == "ACTIVE"
    assert client.delete(address).status_code == 204
    assert client.get(address).status_code == 404
    notes = list(LogEntry.objects.order_by("id").values_list("change_message", flat=True))
    assert notes == ["Disabled", "Enabled", "Deleted"]


def test_usage_is_told_by_day(client: Client, boss: User) -> None:
    key, _ = services.make(boss, "Shop", ["read"])
    for status in (200, 404, 500, 200):
        recorder.count(key.pk, status)
    recorder.to_rows()
    sync()
    days = client.get(f"{KEYS}/{key.pk}/usage", {"days": 2}).json()
    assert [day["total"] for day in days] == [0, 4]
    assert days[1] | {"succeeded": 2, "failed_4xx": 1, "failed_5xx": 1} == days[1]
    assert len(client.get(f"{KEYS}/{key.pk}/usage").json()) == 30
    shown = client.get(f"{KEYS}/{key.pk}").json()
    assert (shown["total"], shown["succeeded"]) == (4, 2)
    for wrong in ("0", "367", "x"):
        refused = client.get(f"{KEYS}/{key.pk}/usage", {"days": wrong})
        assert (refused.status_code, list(refused.json()["fields"])) == (400, ["days"])


def test_the_list_is_filtered_and_costs_the_same_for_many(client: Client, boss: User) -> None:
    other = UserFactory.create()
    services.make(boss, "Reports", ["read"], description="of sales")
    services.make(other, "Till", ["stream", "publish"])
    off, _ = services.make(other, "Off", ["admin"])
    services.disable(off, "x")
    over, _ = services.make(other, "Over", ["read"])
    ApiKey.objects.filter(pk=over.pk).update(expires_at=timezone.now() - timedelta(seconds=1))

    def names(**query: str) -> set[str]:
        return {key["name"] for key in client.get(KEYS, query).json()["results"]}

    assert names(owner=boss.username) == {"Reports"}
    assert names(scope="read") == {"Reports", "Over"}
    assert names(state="ACTIVE") == {"Reports", "Till"}
    assert names(state="DISABLED") == {"Off"}
    assert names(state="EXPIRED") == {"Over"}
    assert names(search="sales rep") == {"Reports"}
    assert names(search=off.key_id) == {"Off"}
    counts = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            client.get(KEYS)
        counts.append(len(queries))
        for n in range(10):
            services.make(UserFactory.create(), f"{n}", ["read"])
    assert counts[0] == counts[1]


@pytest.mark.parametrize("missing", PERMISSIONS)
def test_each_call_needs_its_permission(client: Client, missing: str) -> None:
    user = operator(*(p for p in PERMISSIONS if p != missing))
    client.force_login(user)
    key, _ = services.make(user, "Shop", ["read"])
    address = f"{KEYS}/{key.pk}"
    calls = {
        "operations.view_apikey": [client.get(KEYS), client.get(address)],
        "operations.add_apikey": [post(client, KEYS, **NEW)],
        "operations.change_apikey": [
            client.patch(address, {"name": "x"}, content_type="application/json"),
            *(post(client, f"{address}/{verb}") for verb in ("rotate", "disable", "enable")),
        ],
        "operations.delete_apikey": [client.delete(address)],
    }
    for permission, answers in calls.items():
        for answer in answers:
            assert (answer.status_code == 403) is (permission == missing), permission
