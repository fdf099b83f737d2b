import re
from datetime import timedelta
from html import unescape
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
from operations.keys.models import ApiKey, ApiKeyUsage
from operations.keys.secrets import KEY
from tests.factories import UserFactory, operator

pytestmark = pytest.mark.django_db

KEYS = "/admin/operations/apikey/"
YES = {"confirmed": "yes"}
PERMISSIONS = [f"operations.{verb}_apikey" for verb in ("view", "add", "change", "delete")]
NEW = {"name": "Shop", "scopes": ["publish", "read"], "limit_minute": "5"}


@pytest.fixture
def console(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def boss(client: Client) -> User:
    user = operator(*PERMISSIONS)
    client.force_login(user)
    return user


def page(client: Client, url: str, **query: Any) -> str:
    response = client.get(url, query)
    assert response.status_code == 200
    return unescape(response.content.decode())


def shown_in(response: Any) -> str:
    found = KEY.search(response.content.decode())
    assert found
    return found[0]


def test_one_is_made_and_its_secret_shown_once(console: Client) -> None:
    owner = UserFactory.create()
    response = console.post(f"{KEYS}add/", {**NEW, "owner": owner.pk})
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    written = shown_in(response)
    holder = check(written)
    assert (holder.owner, set(holder.scopes)) == (owner, {"publish", "read"})
    assert holder.limits == (5, None, None)
    key = ApiKey.objects.get()
    for address in (KEYS, f"{KEYS}{key.pk}/change/", f"{KEYS}{key.pk}/history/"):
        assert "sk_" not in page(console, address)
    assert LogEntry.objects.get().object_id == str(key.pk)


def test_who_is_no_superuser_makes_keys_of_their_own(client: Client, boss: User) -> None:
    assert 'name="owner"' not in page(client, f"{KEYS}add/")
    response = client.post(f"{KEYS}add/", {**NEW, "owner": UserFactory.create().pk})
    assert check(shown_in(response)).owner == boss


@pytest.mark.parametrize("change", [{"scopes": []}, {"name": ""}, {"limit_minute": "-1"}])
def test_what_is_wrong_is_told(console: Client, change: dict[str, Any]) -> None:
    owner = UserFactory.create()
    response = console.post(f"{KEYS}add/", {**NEW, "owner": owner.pk, **change})
    assert response.status_code == 200
    assert not ApiKey.objects.exists()
    assert "errorlist" in response.content.decode() or "error" in response.content.decode()


def test_an_expiry_that_is_over_is_refused_unless_it_was_there(
    console: Client, key: ApiKey
) -> None:
    over = {"expires_at_0": "2001-01-01", "expires_at_1": "00:00:00"}
    fields = {"name": "Till", "scopes": ["read"], **over}
    response = console.post(f"{KEYS}{key.pk}/change/", fields)
    assert "choose a moment to come" in response.content.decode()
    ApiKey.objects.update(expires_at="2001-01-01T00:00:00Z")
    assert console.post(f"{KEYS}{key.pk}/change/", fields).status_code == 302
    assert ApiKey.objects.get().name == "Till"


def test_rotated_the_new_secret_is_shown_and_the_old_one_works_on(
    console: Client, key: ApiKey, written: str
) -> None:
    address = f"{KEYS}{key.pk}/rotate/"
    assert "The old secret works for" in page(console, address)
    new = shown_in(console.post(address, YES | {"hours": "24"}))
    assert check(new).pk == check(written).pk == key.pk
    newest = shown_in(console.post(address, YES | {"hours": "0"}))
    with pytest.raises(Refused):
        check(new)
    assert check(newest).pk == key.pk
    assert "sk_" not in page(console, address)


def test_only_its_owner_or_a_superuser_rotates_a_key(
    client: Client, boss: User, key: ApiKey
) -> None:
    assert client.post(f"{KEYS}{key.pk}/rotate/", YES | {"hours": "0"}).status_code == 403
    assert f"{KEYS}{key.pk}/rotate/" not in page(client, f"{KEYS}{key.pk}/change/")
    mine, _ = services.make(boss, "Mine", ["read"])
    assert f"{KEYS}{mine.pk}/rotate/" in page(client, f"{KEYS}{mine.pk}/change/")


def test_only_its_owner_or_a_superuser_widens_a_key(client: Client, boss: User) -> None:
    theirs, _ = services.make(UserFactory.create(), "Theirs", ["read"])
    wider = {"name": "Theirs", "scopes": ["read", "admin"]}
    assert client.post(f"{KEYS}{theirs.pk}/change/", wider).status_code == 403
    renamed = {"name": "Renamed", "scopes": ["read"]}
    assert client.post(f"{KEYS}{theirs.pk}/change/", renamed).status_code == 302
    theirs.refresh_from_db()
    assert (theirs.name, theirs.scopes) == ("Renamed", ["read"])
    mine, _ = services.make(boss, "Mine", ["read"])
    assert client.post(f"{KEYS}{mine.pk}/change/", wider).status_code == 302


def test_disabled_and_enabled_by_its_page(console: Client, key: ApiKey, written: str) -> None:
    address = f"{KEYS}{key.pk}/"
    assert "Disable Shop?" in page(console, f"{address}disable/")
    console.post(f"{address}disable/", YES)
    with pytest.raises(Refused):
        check(written)
    assert "by root" in page(console, f"{address}change/")
    again = console.post(f"{address}disable/", YES, follow=True)
    assert "disabled already" in again.content.decode()
    console.post(f"{address}enable/", YES)
    assert check(written).pk == key.pk


def test_many_are_disabled_by_the_list(console: Client, owner: User) -> None:
    keys = [services.make(owner, f"{n}", ["read"])[0] for n in range(3)]
    console.post(
        KEYS, {"action": "disable_selected", "_selected_action": [key.pk for key in keys[:2]]}
    )
    states = list(ApiKey.objects.order_by("pk").values_list("enabled", flat=True))
    assert states == [False, False, True]


def test_deleted_it_is_gone_with_its_usage(console: Client, key: ApiKey) -> None:
    ApiKeyUsage.objects.create(key=key, day=timezone.now().date(), succeeded=5)
    assert "Shop" in page(console, f"{KEYS}{key.pk}/delete/")
    console.post(f"{KEYS}{key.pk}/delete/", {"post": "yes"})
    assert not ApiKey.objects.exists()
    assert not ApiKeyUsage.objects.exists()


def test_the_list_draws_30_days_by_as_many_queries_for_many(console: Client, owner: User) -> None:
    today = timezone.now().date()
    counts = []
    for _ in range(2):
        for n in range(10):
            key, _ = services.make(UserFactory.create(), f"{n}", ["read"])
            days = [today - timedelta(days=n) for n in range(40)]
            ApiKeyUsage.objects.bulk_create(
                ApiKeyUsage(key=key, day=day, succeeded=7) for day in days
            )
        with CaptureQueriesContext(connection) as queries:
            shown = page(console, KEYS)
        counts.append(len(queries))
    assert counts[0] == counts[1]
    assert len(re.findall("<rect x=", shown)) == 20 * 30
    assert "210 in 30 days, at most 7 a day" in shown


def test_the_page_of_one_shows_its_answers_by_day_and_class(console: Client, key: ApiKey) -> None:
    assert "Not used in these days" in page(console, f"{KEYS}{key.pk}/change/")
    today = timezone.now().date()
    ApiKeyUsage.objects.create(key=key, day=today, succeeded=8, failed_4xx=1, failed_5xx=1)
    shown = page(console, f"{KEYS}{key.pk}/change/")
    assert re.findall(r'<rect class="(\w+)"', shown) == ["good", "warn", "bad"]
    heights = [float(h) for h in re.findall(r'<rect class[^>]*height="([\d.]+)"', shown)]
    assert sum(heights) == pytest.approx(64)
    assert heights[0] == pytest.approx(51.2)


def test_the_list_is_filtered(console: Client, owner: User) -> None:
    services.make(owner, "Reads", ["read"])
    off, _ = services.make(owner, "Publishes", ["publish"])
    services.disable(off, "x")
    assert "Publishes" not in page(console, KEYS, scope="read")
    assert "Reads" not in page(console, KEYS, state="DISABLED")
    assert "Reads" in page(console, KEYS, state="ACTIVE", q=owner.username)
