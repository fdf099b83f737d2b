from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator

from domains.links.clicks import Visit, record
from domains.links.models import Click, Link
from tests.domains.links.conftest import BOT, CHROME, IPHONE, link
from tests.factories import UserFactory, operator

pytestmark = pytest.mark.django_db

LINKS = "/api/links"
NEW = {"original_url": "https://example.org/page", "custom_alias": "Party", "title": "A party"}
VERBS = ("view", "add", "change", "delete")
PNG = b"\x89PNG\r\n"


@pytest.fixture
def boss(client: Client) -> User:
    user = operator(*(f"links.{verb}_link" for verb in VERBS))
    client.force_login(user)
    return user


def post(client: Client, address: str, **data: Any) -> Any:
    return client.post(address, data, content_type="application/json")


def patch(client: Client, made: Link, **data: Any) -> Any:
    return client.patch(f"{LINKS}/{made.pk}", data, content_type="application/json")


def test_a_link_is_made_shown_changed_and_deleted(client: Client, boss: User) -> None:
    made = post(client, LINKS, **NEW)
    assert made.status_code == 201, made.content
    shown = client.get(f"{LINKS}/{made.json()['id']}").json()
    assert shown == made.json()
    assert shown["short_url"] == "http://localhost:8000/s/party"
    assert (len(shown["short_code"]), shown["state"], shown["click_count"]) == (6, "ACTIVE", 0)
    row = Link.objects.get()
    assert row.created_by == boss
    changed = patch(client, row, custom_alias="", is_active=False)
    assert (changed.status_code, changed.json()["state"]) == (200, "INACTIVE")
    assert changed.json()["short_url"].endswith(row.short_code)
    assert client.delete(f"{LINKS}/{row.pk}").status_code == 204
    assert not Link.objects.exists()
    notes = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
    assert list(notes) == ["Made", "Changed", "Deleted"]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("original_url", "ftp://example.org", "begins with https:// or http://"),
        ("original_url", "http://localhost:8000/s/party", "short link already"),
        ("original_url", "", "blank"),
        ("custom_alias", "taken", "Another link has this name"),
        ("custom_alias", "a b", "Letters (a to z), digits"),
        ("custom_alias", "x" * 51, "50"),
        ("expires_at", "2020-01-01T00:00:00Z", "This has passed"),
        ("expires_at", "soon", "format"),
    ],
)
@pytest.mark.usefixtures("boss")
def test_what_is_wrong_is_said_of_its_field(
    client: Client, field: str, value: str, said: str
) -> None:
    other = link(custom_alias="taken")
    made = post(client, LINKS, **NEW | {field: value})
    assert made.status_code == 400
    assert said in str(made.json()["fields"][field])
    target = link()
    changed = patch(client, target, **{field: value})
    assert changed.status_code == 400
    assert said in str(changed.json()["fields"][field])
    assert Link.objects.get(pk=target.pk).original_url == target.original_url
    assert other.custom_alias == "taken"


def test_who_may_not_is_refused(client: Client) -> None:
    made = link()
    paths = ["", "/stats", "/clicks-by-date", "/clicks", "/qr"]
    for path in paths:
        assert client.get(f"{LINKS}/{made.pk}{path}").status_code == 401
    client.force_login(UserFactory.create())
    for path in paths:
        assert client.get(f"{LINKS}/{made.pk}{path}").status_code == 403
    client.force_login(operator("links.view_link"))
    for path in paths:
        assert client.get(f"{LINKS}/{made.pk}{path}").status_code == 200
    assert post(client, LINKS, **NEW).status_code == 403
    assert patch(client, made, title="x").status_code == 403
    assert client.delete(f"{LINKS}/{made.pk}").status_code == 403


@pytest.mark.usefixtures("boss")
def test_what_is_not_there_is_404(client: Client) -> None:
    for path in ("", "/stats", "/clicks-by-date", "/clicks", "/qr"):
        assert client.get(f"{LINKS}/1{path}").status_code == 404


@pytest.mark.usefixtures("boss")
def test_the_list_is_searched_filtered_and_costs_the_same_for_any_number(client: Client) -> None:
    now = timezone.now()
    link("https://example.org/a", title="First", reference="broadcast-7")
    with CaptureQueriesContext(connection) as one:
        client.get(LINKS)
    ended = link("https://example.com/b", custom_alias="second")
    Link.objects.filter(pk=ended.pk).update(expires_at=now)
    for _ in range(10):
        link(is_active=False)
    with CaptureQueriesContext(connection) as many:
        client.get(LINKS)
    assert len(many) == len(one)

    def count(query: str) -> int:
        return int(client.get(f"{LINKS}?{query}").json()["count"])

    assert [count(f"state={state}") for state in ("ACTIVE", "EXPIRED", "INACTIVE")] == [1, 1, 10]
    assert count("search=first") == count("search=example.com") == count("search=second") == 1
    assert count("reference=broadcast-7") == 1
    assert client.get(f"{LINKS}?state=SOON").status_code == 400


@pytest.mark.usefixtures("boss")
def test_statistics_count_people_and_bots_apart_by_day_and_kind(client: Client) -> None:
    made, other = link(), link()
    noon = datetime(2030, 1, 30, 12, tzinfo=UTC)
    mobile = Visit(made.pk, noon, user_agent=IPHONE, referrer="https://t.co/x")
    record(
        [
            mobile,
            mobile,
            Visit(made.pk, noon + timedelta(days=1), user_agent=CHROME),
            Visit(made.pk, noon, user_agent=BOT),
            Visit(made.pk, noon - timedelta(days=400), user_agent=CHROME),
            Visit(other.pk, noon, user_agent=CHROME),
        ]
    )
    query = "?since=2030-01-29&until=2030-01-31"
    found = client.get(f"{LINKS}/{made.pk}/stats{query}").json()
    assert (found["total"], found["bots"], found["readers"]) == (4, 1, 0)
    days = [
        {"day": "2030-01-29", "clicks": 0, "bots": 0},
        {"day": "2030-01-30", "clicks": 2, "bots": 1},
        {"day": "2030-01-31", "clicks": 1, "bots": 0},
    ]
    assert found["days"] == days
    assert client.get(f"{LINKS}/{made.pk}/clicks-by-date{query}").json() == days
    assert [(one["value"], one["clicks"]) for one in found["devices"]] == [
        ("mobile", 2),
        ("desktop", 1),
    ]
    assert [one["share"] for one in found["referrers"]] == pytest.approx([2 / 3, 1 / 3])
    assert [one["value"] for one in found["referrers"]] == ["t.co", ""]


@pytest.mark.usefixtures("boss")
def test_statistics_say_what_happened_of_late(client: Client) -> None:
    made, now = link(), timezone.now()
    record(
        [Visit(made.pk, now - timedelta(days=age), user_agent=CHROME) for age in (0, 6, 7, 29, 30)]
    )
    with CaptureQueriesContext(connection) as captured:
        found = client.get(f"{LINKS}/{made.pk}/stats").json()
    assert len(captured) <= 14
    assert (found["today"], found["last_7_days"], found["last_30_days"]) == (1, 2, 4)
    assert found["total"] == 5
    assert len(found["days"]) == 30


@pytest.mark.parametrize(
    "query",
    ["since=2030-01-31&until=2030-01-01", "since=yesterday", "since=2020-01-01&until=2030-01-01"],
)
@pytest.mark.usefixtures("boss")
def test_a_range_that_is_none_is_refused(client: Client, query: str) -> None:
    made = link()
    for path in ("stats", "clicks-by-date"):
        answer = client.get(f"{LINKS}/{made.pk}/{path}?{query}")
        assert answer.status_code == 400
        assert "since" in answer.json()["fields"]


@pytest.mark.usefixtures("boss")
def test_single_clicks_come_in_pages_the_latest_first(client: Client) -> None:
    made = link()
    record([Visit(made.pk, timezone.now(), "203.0.113.9", CHROME) for _ in range(30)])
    first = client.get(f"{LINKS}/{made.pk}/clicks?page_size=25").json()
    rest = client.get(first["next"]).json()
    ids = [row["id"] for row in first["results"] + rest["results"]]
    assert len(first["results"]) == 25
    assert ids == list(Click.objects.order_by("-id").values_list("id", flat=True))
    assert first["results"][0]["address"] == "203.0.113.0"


@pytest.mark.usefixtures("boss")
def test_single_clicks_are_not_counted_nor_offered_what_lists_of_links_are(client: Client) -> None:
    path = f"{LINKS}/{link().pk}/clicks"
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    assert not [query for query in captured if "COUNT(" in query["sql"]]
    schema = SchemaGenerator().get_schema(request=None, public=True)
    parameters = schema["paths"]["/api/links/{id}/clicks"]["get"]["parameters"]
    assert {one["name"] for one in parameters} == {"id", "cursor", "page_size"}
    of_no_list = b64encode(b"p=x").decode()
    assert client.get(path, {"cursor": of_no_list}).status_code == 404


@pytest.mark.usefixtures("boss")
def test_a_qr_code_is_an_svg_or_a_png(client: Client) -> None:
    made = link()
    svg = client.get(f"{LINKS}/{made.pk}/qr")
    assert (svg["Content-Type"], svg.content[:5]) == ("image/svg+xml", b"<?xml")
    small = client.get(f"{LINKS}/{made.pk}/qr?type=png&scale=1")
    large = client.get(f"{LINKS}/{made.pk}/qr?type=png&scale=10")
    assert (small["Content-Type"], small.content[:6]) == ("image/png", PNG)
    assert len(large.content) > len(small.content)
    for wrong in ("type=gif", "scale=0", "scale=51", "scale=x"):
        assert client.get(f"{LINKS}/{made.pk}/qr?{wrong}").status_code == 400
