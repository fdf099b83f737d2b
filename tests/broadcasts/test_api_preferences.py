from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from broadcasts.models import Preference
from connections.tokens import make_token
from outbox.models import Priority
from tests.factories import ActiveFactory, UserFactory

pytestmark = pytest.mark.django_db

URL = "/api/user/preferences"
DEFAULTS: dict[str, Any] = {
    "muted_categories": [],
    "quiet_start": None,
    "quiet_end": None,
    "quiet_days": [],
    "time_zone": "UTC",
    "language": "",
    "email": "NEVER",
    "email_after": 60,
    "email_at": "08:00",
}


@pytest.fixture
def reader(client: Client) -> User:
    user = UserFactory.create(email="reader@example.org")
    client.force_login(user)
    return user


def change(client: Client, method: str, **fields: Any) -> Any:
    return getattr(client, method)(URL, fields, content_type="application/json")


def test_who_prefers_nothing_is_shown_the_defaults(client: Client, reader: User) -> None:
    assert client.get(URL).json() == DEFAULTS | {"categories": [], "held_until": None}
    assert not Preference.objects.exists()


def test_a_patch_changes_what_it_names_and_a_put_all(client: Client, reader: User) -> None:
    quiet = {"quiet_start": "22:00", "quiet_end": "07:00", "time_zone": "Europe/Berlin"}
    assert change(client, "patch", **quiet).status_code == 200
    answer = change(client, "patch", muted_categories=["b", "a", "b"], quiet_days=[4, 0, 4])
    assert answer.json() | quiet == answer.json()
    assert (answer.json()["muted_categories"], answer.json()["quiet_days"]) == (["a", "b"], [0, 4])
    assert client.get(URL).json() == answer.json()
    answer = change(client, "put", email="DAILY", email_at="07:30")
    expected = DEFAULTS | {"email": "DAILY", "email_at": "07:30"}
    assert answer.json() == expected | {"categories": [], "held_until": None}


def test_it_says_until_when_messages_are_held(client: Client, reader: User) -> None:
    night = {"quiet_start": "22:00", "quiet_end": "07:00", "time_zone": "Asia/Tokyo"}
    with time_machine.travel(datetime(2030, 1, 31, 15, tzinfo=UTC)):
        client.force_login(reader)
        assert change(client, "patch", **night).json()["held_until"] == "2030-01-31T22:00:00+00:00"


def test_the_count_of_unread_leaves_out_what_is_muted(client: Client, reader: User) -> None:
    ActiveFactory.create(category="canteen")
    ActiveFactory.create(category="canteen", priority=Priority.URGENT)
    change(client, "patch", muted_categories=["canteen"])
    inbox = client.get("/api/user/messages").json()
    assert (len(inbox["results"]), inbox["unread"]) == (1, 1)
    assert inbox["results"][0]["mandatory"] is True
    assert client.get("/api/user/messages", {"category": "canteen"}).json()["unread"] == 1
    assert client.get(URL).json()["categories"] == ["canteen"]


@pytest.mark.parametrize(
    ("fields", "wrong", "says"),
    [
        ({"quiet_start": "22:00"}, "non_field_errors", "start and an end"),
        ({"quiet_start": "22:00", "quiet_end": "22:00"}, "non_field_errors", "another time"),
        ({"quiet_start": "25:00"}, "quiet_start", "hh:mm"),
        ({"time_zone": "Mars/Olympus"}, "time_zone", "Europe/Berlin"),
        ({"time_zone": "../etc/passwd"}, "time_zone", "Europe/Berlin"),
        ({"quiet_days": [7]}, "quiet_days.0", "less than or equal to 6"),
        ({"muted_categories": "news"}, "muted_categories", "list"),
        ({"muted_categories": [{"a": 1}]}, "muted_categories.0", "string"),
        ({"muted_categories": [str(n) for n in range(201)]}, "muted_categories", "200"),
        ({"email": "HOURLY"}, "email", "HOURLY"),
        ({"email": "DELAYED", "email_after": 0}, "email_after", "not a valid choice"),
    ],
)
def test_what_makes_no_sense_says_what_to_do(
    client: Client, reader: User, fields: dict[str, Any], wrong: str, says: str
) -> None:
    answer = change(client, "patch", **fields)
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == [wrong]
    assert says in " ".join(answer.json()["fields"][wrong])
    assert not Preference.objects.exists()


def test_e_mail_needs_an_address(client: Client) -> None:
    client.force_login(UserFactory.create())
    answer = change(client, "patch", email="DAILY")
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["email"])
    assert "no e-mail address" in answer.json()["message"]


@pytest.mark.parametrize("method", ["get", "put", "patch"])
def test_who_is_not_signed_in_gets_401(client: Client, method: str) -> None:
    assert change(client, method).status_code == 401


def test_pages_of_other_sites_use_their_token_and_see_their_own(client: Client) -> None:
    one, other = UserFactory.create(), UserFactory.create()
    for user, category in ((one, "a"), (other, "b")):
        headers = {"Authorization": f"Bearer {make_token(user.pk)}"}
        fields = {"muted_categories": [category]}
        client.patch(URL, fields, content_type="application/json", headers=headers)
    muted = Preference.objects.order_by("pk").values_list("pk", "muted_categories")
    assert list(muted) == [(one.pk, ["a"]), (other.pk, ["b"])]


def test_it_costs_the_same_for_2_categories_and_for_20(client: Client, reader: User) -> None:
    counts = []
    for more in (2, 18):
        for number in range(more):
            ActiveFactory.create(category=f"{more} {number}")
        with CaptureQueriesContext(connection) as queries:
            client.get(URL)
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_it_is_described(client: Client, reader: User) -> None:
    schema = client.get(
        "/api/schema", headers={"accept": "application/vnd.oai.openapi+json"}
    ).json()
    assert set(schema["paths"][URL]) == {"get", "put", "patch"}
    shown = schema["components"]["schemas"]["Preferences"]["properties"]
    assert set(shown) == {*DEFAULTS, "categories", "held_until"}


def test_the_language_that_a_reader_prefers_is_before_all_others(
    client: Client, reader: User
) -> None:
    translations = {"de": {"title": "Guten Morgen", "content": ""}}
    ActiveFactory.create(title="Good morning", translations=translations)
    assert change(client, "patch", language="de").json()["language"] == "de"
    inbox = client.get("/api/user/messages?language=en", headers={"Accept-Language": "fr"}).json()
    assert inbox["languages"] == ["de", "en", "fr"]
    assert [message["title"] for message in inbox["results"]] == ["Guten Morgen"]


def test_their_language_costs_no_query(client: Client, reader: User) -> None:
    ActiveFactory.create()
    client.get("/api/user/messages")
    with CaptureQueriesContext(connection) as before:
        client.get("/api/user/messages?search=Broadcast")
    change(client, "patch", language="de")
    with CaptureQueriesContext(connection) as after:
        client.get("/api/user/messages?search=Broadcast")
    assert len(after) == len(before)


def test_a_language_that_there_is_not_is_refused(client: Client, reader: User) -> None:
    answer = change(client, "patch", language="tlh")
    assert answer.status_code == 400
    assert "cannot be read in that language" in answer.content.decode()
