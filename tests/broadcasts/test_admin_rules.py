"""The pages of rules: the form, its example and its test, and what a rule did."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from broadcasts import rules
from broadcasts.admin.rules import as_text
from broadcasts.models import Broadcast, Outcome, Rule, RuleMatch
from outbox.services import emit
from tests.factories import UserFactory, operator

pytestmark = pytest.mark.django_db

LIST = "/admin/broadcasts/rule/"
MATCHES = "/admin/broadcasts/rulematch/"
VERBS = [f"broadcasts.{verb}_rule" for verb in ("view", "add", "change", "delete")]


@pytest.fixture
def console(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator", password="x"))
    return client


def written(**fields: Any) -> dict[str, Any]:
    return {
        "name": "Links",
        "active": "on",
        "pattern": "link.*",
        "title": "{{ code }} is over",
        "content": "*{{ owner.name }}*",
        "priority": 20,
        "audience": "ALL",
    } | fields


def asked(*conditions: tuple[str, str, str]) -> dict[str, list[str]]:
    columns = zip(*conditions, strict=True)
    names = ("field", "operator", "value")
    return {f"conditions_{n}": list(c) for n, c in zip(names, columns, strict=True)}


def made(**fields: Any) -> Rule:
    given = {"name": "Links", "pattern": "link.*", "title": "{{ code }}"} | fields
    return rules.create(Rule(**given), None)


def happens(kind: str = "link.expired", key: str = "link-1", **data: Any) -> dict[str, Any]:
    with transaction.atomic():
        event = emit(kind, key, {"code": "spring", "clicks": 3, "owner": {"name": "Ann"}} | data)
    event.refresh_from_db()
    return event.envelope()


def page_of(rule: Rule, verb: str = "change") -> str:
    return f"{LIST}{rule.pk}/{verb}/"


def errors_of(response: Any) -> dict[str, list[str]]:
    return dict(response.context["adminform"].form.errors)


def test_saving_the_form_makes_a_rule_that_answers(console):
    happens()
    conditions = asked(
        ("clicks", "greater", "2"),
        ("code", "in", 'a, "b, c"'),
        ("owner", "exists", ""),
        ("", "equals", ""),
    )
    response = console.post(f"{LIST}add/", written(**conditions), follow=True)
    rule = Rule.objects.get()
    assert response.redirect_chain == [(page_of(rule), 302)]
    assert "It answers from now on." in response.content.decode()
    assert (rule.is_live, rule.sender_name) == (True, "operator")
    assert rule.conditions == [
        {"field": "clicks", "operator": "greater", "value": "2"},
        {"field": "code", "operator": "in", "value": ["a", "b, c"]},
        {"field": "owner", "operator": "exists", "value": None},
    ]


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"pattern": "broadcast.*"}, "pattern", "would answer to itself"),
        ({"pattern": "Links"}, "pattern", "write an event type"),
        ({"title": "{{ a b }}"}, "title", "is no field of an event"),
        ({"cool_down": "soon"}, "cool_down", "is no duration"),
        ({"audience": "ROLE"}, "targets", "Choose at least one role"),
        (asked(("clicks", "less", "many")), "conditions", "Condition 1: “many” is neither"),
        (asked(("", "equals", "x")), "conditions", "is no field"),
        (asked(("code", "in", "")), "conditions", "takes a list"),
        (asked(("code", "in", "a\nb")), "conditions", "in one line"),
        (asked(("code", "in", "a, b\r\nc")), "conditions", "in one line"),
    ],
)
def test_an_error_is_at_its_field_and_nothing_is_saved(console, fields, field, words):
    errors = errors_of(console.post(f"{LIST}add/", written(**fields)))
    assert list(errors) == [field]
    assert words in errors[field][0]
    assert not Rule.objects.exists()


def test_what_was_typed_stands_in_the_form_again(console):
    conditions = asked(("clicks", "less", "many"), ("code", "in", "a, b"))
    page = console.post(f"{LIST}add/", written(**conditions)).content.decode()
    assert 'value="many"' in page
    assert 'value="a, b"' in page


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (5, "5"), (True, "true"), ("x", "x"), (["a", 1, "b, c"], 'a, 1, "b, c"')],
)
def test_a_value_is_shown_as_it_would_be_typed(value, text):
    assert as_text(value) == text


def test_the_form_shows_a_rule_as_it_is_stored_and_saving_it_changes_nothing(console):
    rule = made(conditions=[{"field": "clicks", "operator": "less", "value": 5}])
    page = console.get(page_of(rule)).content.decode()
    assert '<option value="less" selected>' in page
    same = written(title=rule.title, content="", **asked(("clicks", "less", "5")))
    console.post(page_of(rule), same | {"version": "1"})
    assert Rule.objects.get().conditions[0]["field"] == "clicks"


def test_what_somebody_else_changed_meanwhile_is_shown_beside_it(console):
    rule = made()
    seen = written(title="Mine", version="1")
    rules.change(
        Rule.objects.get(), title="Theirs", conditions=[{"field": "a", "operator": "exists"}]
    )
    page = console.post(page_of(rule), seen).content.decode()
    assert "Not saved" in page
    assert "Theirs" in page
    assert "a is there" in page
    assert Rule.objects.get().title == "Theirs"
    console.post(page_of(rule), seen | {"version": "2"})
    assert Rule.objects.get().title == "Mine"


# The example and the test


def test_the_known_types_are_offered_and_none_of_broadcasts(console):
    happens()
    happens("blog.post.published")
    made()
    page = console.get(f"{LIST}add/").content.decode()
    for offered in ("link.expired", "blog.post.published", "blog.*", "alert.raised"):
        assert f'<option value="{offered}">' in page
    assert "A job, an endpoint, a connector, its WAL, or Kafka Connect needs a look." in page
    assert '<option value="broadcast.' not in page


def example(console: Client, pattern: str) -> dict[str, Any]:
    response = console.post(f"{LIST}example/", {"pattern": pattern})
    assert response.status_code == 200
    answer: dict[str, Any] = response.json()
    return answer


def test_the_latest_example_shows_its_fields(console):
    happens(code="old")
    happens(code="x" * 200, tags=["a", "b"])
    answer = example(console, "link.*")
    fields = {field["path"]: field["text"] for field in answer["fields"]}
    assert fields["event.key"] == "link-1"
    assert fields["owner.name"] == "Ann"
    assert fields["tags"] == "a, b"
    assert len(fields["code"]) == 121
    assert "link.expired of link-1" in answer["about"]
    assert answer["url"]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "Choose an event"),
        ("link.created", "No such event has happened yet"),
        ("alert.raised", "Kafka Connect needs a look."),
        ("Link", "write an event type"),
        ("quiet.ended", "would answer to itself"),
    ],
)
def test_without_an_example_it_says_why(console, pattern, words):
    happens()
    assert words in " ".join(str(value) for value in example(console, pattern).values())


def rehearsed(console: Client, **fields: Any) -> dict[str, Any]:
    response = console.post(f"{LIST}rehearse/", written(**fields))
    assert response.status_code == 200
    answer: dict[str, Any] = response.json()
    return answer


def test_a_test_says_what_would_have_been_and_why_not(console):
    happens(clicks=9)
    happens(clicks=9, code=None)
    happens(clicks=1)
    answer = rehearsed(console, name="", audience="ROLE", **asked(("clicks", "greater", "5")))
    assert answer["summary"] == "1 of the last 3 events would have been broadcast."
    not_met, missing, sent = answer["rows"]
    assert not_met["note"] == "Not met: clicks is greater than 5. It is 1."
    assert missing["note"] == "The event has no code to fill in."
    assert (sent["title"], sent["html"]) == ("spring is over", "<p><em>Ann</em></p>\n")
    assert not Broadcast.objects.exists()
    assert not RuleMatch.objects.exists()


def test_a_test_of_a_rule_that_is_there_is_of_what_is_typed(console):
    happens()
    rule = made()
    answer = rehearsed(console, rule=rule.pk, title="New {{ code }}")
    assert answer["rows"][0]["title"] == "New spring"
    assert Rule.objects.get().title == "{{ code }}"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pattern": "connection.*"}, "would answer to itself"),
        ({"title": ""}, "This field is required"),
        ({"content": "{{ a"}, "not closed"),
        (asked(("clicks", "less", "many")), "Condition 1"),
        ({"rule": "x"}, "No such event is in the log"),
    ],
)
def test_what_is_wrong_is_said_by_the_test_as_well(console, fields, words):
    assert words in " ".join(map(str, rehearsed(console, **fields).values()))


# Verbs and lists


def test_it_is_switched_off_and_on_after_a_question(console):
    rule = made()
    for verb, live in (("stop", False), ("start", True)):
        assert console.get(page_of(rule, verb)).context["question"].facts
        assert Rule.objects.get().is_live is not live
        console.post(page_of(rule, verb), {"confirmed": "yes"})
        assert Rule.objects.get().is_live is live
    response = console.post(page_of(rule, "start"), {"confirmed": "yes"}, follow=True)
    assert "active already" in response.content.decode()
    assert LogEntry.objects.filter(object_id=rule.pk).count() == 2


def test_a_second_person_approves_what_they_have_seen(console, settings: Settings):
    settings.BROADCAST_APPROVAL_FOR = ["ALL"]
    author = UserFactory.create()
    rule = rules.create(Rule(name="Links", pattern="link.*", title="{{ code }}"), author)
    page = console.get(page_of(rule)).content.decode()
    assert "Waits for approval" in page
    assert page_of(rule, "approve") in page
    seen = console.get(page_of(rule, "approve")).context["question"].form.initial
    console.post(page_of(rule, "approve"), {"confirmed": "yes", **seen})
    assert Rule.objects.get().is_live
    mine = console.post(f"{LIST}add/", written(name="Mine"), follow=True)
    assert "when a second person approves it" in mine.content.decode()
    own = page_of(Rule.objects.get(name="Mine"), "approve")
    answer = console.post(own, {"confirmed": "yes", "version": 1}, follow=True)
    assert "a second person must approve it" in answer.content.decode()


def test_the_page_of_a_rule_shows_what_it_did(console):
    rule = made()
    rules.apply([happens(), happens(code=None)])
    page = console.get(page_of(rule)).content.decode()
    assert "The event has no code to fill in." in page
    assert f"{MATCHES}?rule__id__exact={rule.pk}&amp;outcome__exact=ERROR" in page
    broadcast = Broadcast.objects.get()
    assert f"/admin/broadcasts/broadcast/{broadcast.pk}/change/" in page
    listed = console.get(MATCHES, {"rule__id__exact": rule.pk, "outcome__exact": "ERROR"})
    assert len(listed.context["cl"].result_list) == 1
    for match in RuleMatch.objects.all():
        shown = console.get(f"{MATCHES}{match.pk}/change/").content.decode()
        assert str(match.event_id) in shown
        assert match.get_outcome_display() in shown


def test_a_broadcast_leads_to_its_rule(console):
    rule = made()
    rules.apply([happens()])
    page = console.get(f"/admin/broadcasts/broadcast/{Broadcast.objects.get().pk}/change/")
    assert page_of(rule) in page.content.decode()


def test_the_lists_cost_the_same_with_1_and_with_20(console):
    def cost() -> list[int]:
        counts = []
        for url in (LIST, MATCHES):
            with CaptureQueriesContext(connection) as queries:
                assert console.get(url).status_code == 200
            counts.append(len(queries))
        return counts

    made()
    rules.apply([happens()])
    cost()
    with_one = cost()
    for number in range(19):
        made(name=f"Number {number}")
    rules.apply([happens()])
    assert cost() == with_one


@pytest.mark.parametrize(("state", "count"), [("live", 1), ("off", 1), ("waits", 0), ("no", 2)])
def test_the_list_is_filtered_by_state(console, state, count):
    made()
    rules.stop(made(name="Other"))
    response = console.get(LIST, {"state": state}, follow=True)
    assert response.context["cl"].result_count == count


PATHS = [
    "",
    "add/",
    "example/",
    "rehearse/",
    *(f"{{pk}}/{v}/" for v in ("change", "start", "stop", "delete")),
]


@pytest.mark.parametrize("path", PATHS)
def test_who_may_not_is_refused(client, path):
    url = LIST + path.format(pk=made().pk)
    data = {"confirmed": "yes", "post": "yes"}
    assert client.post(url, data).status_code == 302  # to the login
    client.force_login(UserFactory.create())
    assert client.post(url, data).status_code == 302
    client.force_login(operator())
    assert client.post(url, data).status_code == 403
    assert Rule.objects.get().is_live


@pytest.mark.parametrize("path", PATHS[1:])
def test_a_rule_sends_so_that_needs_the_permission_to_send(client, path):
    url = LIST + path.format(pk=made().pk)
    client.force_login(operator(*VERBS))
    assert client.post(url, {"confirmed": "yes", "post": "yes"} | written()).status_code == 403
    assert Rule.objects.get().title == "{{ code }}"


def test_who_may_not_see_events_gets_no_link_to_them(client):
    happens()
    client.force_login(operator(*VERBS, "broadcasts.send_broadcast"))
    assert example(client, "link.*")["url"] == ""
    assert rehearsed(client)["rows"][0]["url"] == ""


def test_who_may_only_look_sees_the_whole_rule_and_no_buttons(client):
    client.force_login(operator("broadcasts.view_rule"))
    rule = made(
        conditions=[{"field": "clicks", "operator": "greater", "value": 2}],
        translations={"de": {"title": "Vorbei", "content": "Ganz"}},
    )
    page = client.get(page_of(rule)).content.decode()
    assert "clicks is greater than 2" in page
    assert "Vorbei" in page
    assert "data-rehearse" not in page
    assert "/stop/" not in page


def test_nobody_makes_or_changes_a_match(console):
    rule = made()
    rules.apply([happens()])
    match = RuleMatch.objects.get()
    assert console.get(f"{MATCHES}add/").status_code == 403
    assert (
        console.post(f"{MATCHES}{match.pk}/change/", {"outcome": Outcome.ERROR}).status_code == 403
    )
    assert console.post(f"{MATCHES}{match.pk}/delete/", {"post": "yes"}).status_code == 403
    assert rule.matches.count() == 1


def test_a_rule_is_deleted_with_what_it_did_which_nobody_may_delete_alone(client):
    client.force_login(operator(*VERBS, "broadcasts.send_broadcast"))
    rule = made()
    rules.apply([happens(key=f"link-{n}") for n in range(3)])
    counts = client.get(f"{LIST}{rule.pk}/delete/").context["model_count"]
    assert [(str(name), count) for name, count in counts][1] == ("matches of rules", "3")
    assert client.post(f"{LIST}{rule.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not RuleMatch.objects.exists()
    assert Broadcast.objects.count() == 3
