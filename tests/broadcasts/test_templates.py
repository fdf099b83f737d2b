"""Templates: their fields, and what is checked when they are used."""

import json
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from broadcasts.models import Broadcast, Status, Template
from broadcasts.texts import fields_of, fill
from tests.factories import UserFactory, operator

TEMPLATES = "/api/admin/templates"
BROADCASTS = "/api/admin/broadcasts"
VERBS = [f"broadcasts.{verb}_template" for verb in ("view", "add", "change", "delete")]
MAINTENANCE = {
    "name": "Maintenance",
    "title": "{{ product }} rests",
    "content": "{{product}} is read-only until {{ end }}.",
    "translations": {"de": {"title": "{{ product }} ruht", "content": "Bis {{ end }}."}},
}


def test_fields_are_found_once_each_in_their_order():
    assert fields_of("{{ b }} {{a}}", "{{  b }}{{ c_2 }}") == ["b", "a", "c_2"]


def test_a_text_without_fields_has_none():
    assert fields_of("100 % {of} $it", "{ { no } }") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ }}", "is no field"),
        ("{{ a b }}", "{{ a b }}” is no field"),
        ("{{ a.__class__ }}", "is no field"),
        ("{{ 1a }}", "is no field"),
        ("{{ a|safe }}", "is no field"),
        ("{{ " + "a" * 41 + " }}", "is no field"),
        ("Hello {{ name", "not closed, or not opened"),
        ("Hello name }}", "around “Hello name }}”"),
    ],
)
def test_what_is_no_field_is_named(text, words):
    with pytest.raises(ValidationError, match=words.replace("|", r"\|")):
        fields_of(text)


def test_filling_runs_nothing_and_fills_only_once():
    assert (
        fill("{{ a }} {{ b }}", {"a": "{{ b }}", "b": "%s {0} {{ a }}"}) == "{{ b }} %s {0} {{ a }}"
    )


def test_what_has_no_value_stays():
    assert fill("{{ a }} and {{b}}", {"a": "x"}) == "x and {{b}}"


@given(st.text(max_size=60), st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_any_text_is_filled_or_refused(text, values):
    try:
        fields_of(text)
    except ValidationError:
        return
    fill(text, values)


def made(**fields: Any) -> Template:
    template = Template(**MAINTENANCE | fields)
    template.full_clean()
    template.save()
    return template


@pytest.mark.django_db
def test_using_a_template_fills_all_its_languages():
    used = made().use({"product": "The shop", "end": "ten"})
    assert (used["title"], used["content"]) == (
        "The shop rests",
        "The shop is read-only until ten.",
    )
    assert used["translations"] == {"de": {"title": "The shop ruht", "content": "Bis ten."}}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "Missing: product, end."),
        ({"product": "Shop", "end": " "}, "Missing: end."),
        ({"product": "Shop", "end": "ten", "ends": "x"}, "Not in this template: ends."),
        ({"product": "Shop", "ends": "x"}, "Missing: end. Not in this template: ends."),
    ],
)
def test_missing_and_unknown_fields_are_named(values, message):
    with pytest.raises(ValidationError) as caught:
        made().use(values)
    assert caught.value.message_dict == {"values": [message]}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"title": "{{ a b }}"}, "title"),
        ({"content": "{{ a"}, "content"),
        ({"translations": {"de": {"title": "{{", "content": ""}}}, "translations"),
        ({"translations": {"en": {"title": "Hello", "content": ""}}}, "translations"),
        ({"translations": []}, "translations"),
        ({"name": ""}, "name"),
    ],
)
def test_a_template_that_cannot_be_used_is_not_saved(fields, field):
    with pytest.raises(ValidationError) as caught:
        made(**fields)
    assert list(caught.value.message_dict) == [field]


# The API


@pytest.fixture
def boss(client: Client) -> Client:
    client.force_login(operator(*VERBS, "broadcasts.add_broadcast", "broadcasts.send_broadcast"))
    return client


def act(client: Client, method: str, url: str, **data: Any) -> Any:
    return client.generic(method.upper(), url, json.dumps(data), content_type="application/json")


@pytest.mark.django_db
def test_templates_are_made_changed_and_deleted(boss):
    body = act(boss, "post", TEMPLATES, **MAINTENANCE).json()
    url = f"{TEMPLATES}/{body['id']}"
    assert body["field_names"] == ["product", "end"]
    assert act(boss, "patch", url, content="{{ who }}").json()["field_names"] == [
        "product", "who", "end",
    ]  # fmt: skip
    assert boss.get(TEMPLATES, {"search": "maint"}).json()["results"][0]["id"] == body["id"]
    assert boss.delete(url).status_code == 204
    assert boss.get(url).status_code == 404


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"title": "{{ a b }}"}, "title"),
        ({"name": "Taken"}, "name"),
        ({"language": "?"}, "language"),
    ],
)
def test_what_is_wrong_with_a_template_is_said_at_its_field(boss, fields, field):
    made(name="Taken")
    response = act(boss, "post", TEMPLATES, **MAINTENANCE | fields)
    assert (response.status_code, list(response.json()["fields"])) == (400, [field])


@pytest.mark.django_db
def test_a_broadcast_is_composed_from_a_template(boss):
    values = {"product": "The shop", "end": "ten"}
    response = act(boss, "post", BROADCASTS, template=made().pk, values=values, category="news")
    assert response.status_code == 201, response.content
    broadcast = Broadcast.objects.get()
    assert (broadcast.title, broadcast.category) == ("The shop rests", "news")
    assert broadcast.translations["de"]["title"] == "The shop ruht"
    assert broadcast.status == Status.ACTIVE


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"values": {"product": "Shop"}}, "values"),
        ({"values": "x"}, "values"),
        ({"template": 404}, "template"),
        ({"template": "x"}, "template"),
    ],
)
def test_a_template_that_is_used_wrongly_sends_nothing(boss, fields, field):
    response = act(boss, "post", BROADCASTS, **{"template": made().pk} | fields)
    assert (response.status_code, list(response.json()["fields"])) == (400, [field])
    assert not Broadcast.objects.exists()


@pytest.mark.django_db
def test_a_broadcast_needs_a_title_or_a_template(boss):
    for fields in ({}, {"values": {"a": "b"}}):
        assert act(boss, "post", BROADCASTS, **fields).status_code == 400


@pytest.mark.django_db
def test_the_list_of_templates_costs_the_same_with_1_and_with_20(boss):
    made()
    boss.get(TEMPLATES)
    with CaptureQueriesContext(connection) as with_one:
        boss.get(TEMPLATES)
    for number in range(19):
        made(name=f"T {number}")
    with CaptureQueriesContext(connection) as with_twenty:
        assert len(boss.get(TEMPLATES).json()["results"]) == 20
    assert len(with_twenty) == len(with_one)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("method", "path"),
    [("get", ""), ("post", ""), ("get", "/{pk}"), ("patch", "/{pk}"), ("delete", "/{pk}")],
)
def test_who_may_not_is_refused(client, method, path):
    url = TEMPLATES + path.format(pk=made().pk)
    assert act(client, method, url).status_code == 401
    for person in (UserFactory.create(), operator()):
        client.force_login(person)
        assert act(client, method, url).status_code == 403
    assert Template.objects.exists()
