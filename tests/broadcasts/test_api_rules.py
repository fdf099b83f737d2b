"""`/api/admin/rules`: what programs do with rules."""

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from drf_spectacular.generators import SchemaGenerator
from pytest_django import Settings

from broadcasts import rules
from broadcasts.models import Broadcast, Rule, RuleMatch, Template
from outbox.services import emit
from tests.factories import UserFactory, operator

pytestmark = pytest.mark.django_db

RULES = "/api/admin/rules"
MATCHES = "/api/admin/rule-matches"
LINKS: dict[str, Any] = {
    "name": "Links",
    "pattern": "link.*",
    "conditions": [{"field": "clicks", "operator": "greater", "value": 2}],
    "title": "{{ code }} is over",
    "cool_down": "30m",
}


@pytest.fixture
def api(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator", password="x"))
    return client


def post(api: Client, path: str = "", data: Any = None, **headers: str) -> Any:
    return api.post(RULES + path, data or {}, content_type="application/json", headers=headers)


def patch(api: Client, rule: Rule, data: Any, **headers: str) -> Any:
    url = f"{RULES}/{rule.pk}"
    return api.patch(url, data, content_type="application/json", headers=headers)


def happens(kind: str = "link.expired", **data: Any) -> dict[str, Any]:
    with transaction.atomic():
        event = emit(kind, "link-1", {"code": "spring", "clicks": 3} | data)
    event.refresh_from_db()
    return event.envelope()


def test_a_rule_is_made_shown_changed_and_deleted(api):
    made = post(api, data=LINKS)
    assert made.status_code == 201
    shown = made.json()
    assert (shown["is_live"], shown["version"], shown["approval"]) == (True, 1, "NONE")
    assert shown["conditions"] == LINKS["conditions"]
    assert shown["field_names"] == ["code"]
    rule = Rule.objects.get()
    assert api.get(f"{RULES}/{rule.pk}").json() == shown

    changed = patch(api, rule, {"title": "Over: {{ code }}"}, **{"If-Match": made["ETag"]})
    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    assert changed.json()["conditions"] == LINKS["conditions"]
    late = patch(api, rule, {"title": "x"}, **{"If-Match": made["ETag"]})
    assert (late.status_code, late.json()["code"]) == (412, "changed_meanwhile")

    assert api.delete(f"{RULES}/{rule.pk}").status_code == 204
    assert api.get(f"{RULES}/{rule.pk}").status_code == 404


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"pattern": "broadcast.activated"}, "pattern", "would answer to itself"),
        ({"conditions": "clicks > 2"}, "conditions", "Conditions are a list"),
        ({"conditions": [{"field": "a", "operator": "?"}]}, "conditions", "is no operator"),
        ({"conditions": [{"field": 1, "operator": "exists"}]}, "conditions", "is no field"),
        ({"title": "{{ a"}, "title", "not closed"),
        ({"title": None}, "title", "may not be null"),
        ({"life": "x"}, "life", "is no duration"),
        ({"audience": "SELECTED", "targets": ["ann"]}, "targets", "no user ids"),
        ({"template": 99}, "template", "does not exist"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(api, fields, field, words):
    answer = post(api, data=LINKS | fields)
    assert answer.status_code == 400
    assert words in answer.json()["fields"][field][0]
    assert not Rule.objects.exists()


def test_the_texts_of_a_template_are_taken_with_their_fields(api):
    template = Template.objects.create(
        name="Over",
        title="{{ code }} is over",
        content="{{ clicks }} clicks",
        translations={"de": {"title": "{{ code }} ist vorbei", "content": ""}},
    )
    data = {"name": "Links", "pattern": "link.*", "template": template.pk, "content": "Mine"}
    shown = post(api, data=data).json()
    assert (shown["title"], shown["content"]) == ("{{ code }} is over", "Mine")
    assert shown["translations"]["de"]["title"] == "{{ code }} ist vorbei"
    without = post(api, data={"name": "Other", "pattern": "link.*"})
    assert without.json()["fields"] == {"title": ["Write one, or name a template."]}


def test_it_is_switched_off_and_on(api):
    rule = rules.create(Rule(**LINKS), None)
    assert post(api, f"/{rule.pk}/stop").json()["is_live"] is False
    again = post(api, f"/{rule.pk}/stop")
    assert (again.status_code, again.json()["code"]) == (409, "invalid_transition")
    assert post(api, f"/{rule.pk}/start").json()["is_live"] is True


def test_a_second_person_approves_what_they_have_read(api, client, settings: Settings):
    settings.BROADCAST_APPROVAL_FOR = ["ALL"]
    rule = rules.create(Rule(**LINKS), UserFactory.create())
    assert post(api, f"/{rule.pk}/approve").status_code == 428
    wrong = post(api, f"/{rule.pk}/approve", **{"If-Match": '"7"'})
    assert wrong.status_code == 412
    approved = post(api, f"/{rule.pk}/approve", **{"If-Match": '"1"'})
    assert (approved.json()["approval"], approved.json()["is_live"]) == ("APPROVED", True)
    mine = post(api, data=LINKS | {"name": "Mine"})
    assert (mine.json()["approval"], mine.json()["is_live"]) == ("REQUESTED", False)
    own = post(api, f"/{mine.json()['id']}/approve", **{"If-Match": '"1"'})
    assert (own.status_code, own.json()["code"]) == (403, "own_work")


def test_a_rehearsal_says_what_would_have_been(api):
    happens(clicks=1)
    happens()
    happens()
    rows = post(api, "/rehearse", LINKS).json()
    assert [row["outcome"] for row in rows] == ["COOL_DOWN", "BROADCAST", "CONDITION"]
    assert rows[1]["title"] == "spring is over"
    assert not Broadcast.objects.exists()
    wrong = post(api, "/rehearse", {"pattern": "broadcast.*", "title": "x"})
    assert "would answer to itself" in wrong.json()["fields"]["pattern"][0]
    assert post(api, "/rehearse", {"pattern": "link.*"}).status_code == 400


def test_the_types_that_are_known_are_listed_with_when_they_happen(api, django_assert_num_queries):
    happens()
    happens("weather.changed")
    rules.create(Rule(**LINKS), None)
    rows = {row["type"]: row["description"] for row in api.get(f"{RULES}/event-types").json()}
    assert rows["link.expired"].startswith("The expiry of a short link passed")
    assert rows["weather.changed"] == "", "seen, and declared by nobody"
    assert rows["alert.raised"].endswith("Kafka Connect needs a look.")
    assert not [name for name in rows if name.startswith("broadcast.")]


def test_what_rules_did_is_listed(api):
    rule = rules.create(Rule(**LINKS), None)
    other = rules.create(Rule(**LINKS | {"name": "Other", "pattern": "link.expired"}), None)
    rules.apply([happens(), happens(clicks=1)])
    rows = api.get(MATCHES, {"rule": rule.pk}).json()["results"]
    assert [row["outcome"] for row in rows] == ["CONDITION", "BROADCAST"]
    assert rows[1]["broadcast_id"] == rule.matches.get(outcome="BROADCAST").broadcast_id
    assert len(api.get(MATCHES, {"outcome": "BROADCAST"}).json()["results"]) == 2
    assert api.get(MATCHES, {"event_id": str(uuid.uuid4())}).json()["results"] == []
    assert api.get(MATCHES, {"outcome": "x"}).status_code == 400
    assert other.matches.count() == 2


def test_what_rules_did_is_listed_by_cursor_without_counting(api):
    rules.create(Rule(**LINKS), None)
    rules.apply([happens(clicks=1) for _ in range(5)])
    with CaptureQueriesContext(connection) as captured:
        page = api.get(MATCHES, {"page_size": 3}).json()
    assert not [query for query in captured if "COUNT(" in query["sql"]]
    rest = api.get(page["next"]).json()
    ids = [row["id"] for row in page["results"] + rest["results"]]
    assert ids == list(RuleMatch.objects.order_by("-id").values_list("id", flat=True))
    assert rest["next"] is None
    schema = SchemaGenerator().get_schema(request=None, public=True)
    parameters = schema["paths"][MATCHES]["get"]["parameters"]
    assert "ordering" not in {one["name"] for one in parameters}


def test_lists_cost_the_same_with_1_and_with_20(api):
    def cost() -> list[int]:
        counts = []
        for url in (RULES, MATCHES):
            with CaptureQueriesContext(connection) as queries:
                assert api.get(url).status_code == 200
            counts.append(len(queries))
        return counts

    rules.create(Rule(**LINKS), None)
    rules.apply([happens()])
    with_one = cost()
    for number in range(19):
        rules.create(Rule(**LINKS | {"name": f"Number {number}"}), None)
    rules.apply([happens()])
    assert cost() == with_one
    assert api.get(RULES, {"live": "false"}).json()["count"] == 0
    assert api.get(RULES, {"live": "true", "search": "number"}).json()["count"] == 19


CALLS = [
    ("get", ""),
    ("post", ""),
    ("get", "/{pk}"),
    ("patch", "/{pk}"),
    ("delete", "/{pk}"),
    ("post", "/{pk}/start"),
    ("post", "/{pk}/stop"),
    ("post", "/{pk}/approve"),
    ("post", "/rehearse"),
    ("get", "/event-types"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_who_may_not_is_refused(client, method, path):
    url = RULES + path.format(pk=rules.create(Rule(**LINKS), None).pk)
    call = getattr(client, method)
    assert call(url).status_code == 401
    client.force_login(operator())
    assert call(url).status_code == 403


@pytest.mark.parametrize("path", ["", "/{pk}/start", "/{pk}/stop", "/rehearse"])
def test_a_rule_sends_so_that_needs_the_permission_to_send(client, path):
    url = path.format(pk=rules.create(Rule(**LINKS), None).pk)
    client.force_login(operator("broadcasts.add_rule", "broadcasts.change_rule"))
    answer = post(client, url, LINKS | {"name": "x"})
    assert (answer.status_code, Rule.objects.count()) == (403, 1)
