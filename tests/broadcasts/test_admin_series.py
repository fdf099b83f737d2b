from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from broadcasts.admin import SeriesAdmin
from broadcasts.models import Broadcast, Series, Status, Template
from broadcasts.series import change, end, start
from broadcasts.series_models import State
from tests.factories import UserFactory, operator

pytestmark = pytest.mark.django_db

LIST = "/admin/broadcasts/series/"
UPCOMING = f"{LIST}upcoming/"
FILL = "/admin/broadcasts/template/fill/"
VERBS = [f"broadcasts.{verb}_series" for verb in ("view", "add", "change")]


@pytest.fixture(autouse=True)
def monday() -> Any:
    with time_machine.travel(datetime(2026, 6, 1, 12, tzinfo=UTC), tick=False):
        yield


@pytest.fixture
def console(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator", password="x"))
    return client


def written(**fields: Any) -> dict[str, Any]:
    return {
        "title": "Good morning",
        "content": "*Hi*",
        "priority": 20,
        "audience": "ALL",
        "cron": "0 9 * * *",
        "zone": "Europe/Berlin",
    } | fields


def daily(**fields: Any) -> Series:
    return start(None, **{"title": "Daily", "cron": "0 9 * * *", "zone": "Europe/Berlin"} | fields)


def page_of(series: Series, verb: str = "change") -> str:
    return f"{LIST}{series.pk}/{verb}/"


def state_of(series: Series) -> State:
    return Series.objects.get(pk=series.pk).state


def errors_of(response: Any) -> dict[str, list[str]]:
    return dict(response.context["adminform"].form.errors)


def test_saving_the_form_starts_the_series(console):
    response = console.post(f"{LIST}add/", written(life="8h", count=3), follow=True)
    series = Series.objects.get()
    assert response.redirect_chain == [(page_of(series), 302)]
    assert (series.state, series.sender_name) == (State.RUNNING, "operator")
    assert series.broadcasts.get().status == Status.SCHEDULED
    assert "Tue 2 Jun 2026, 09:00 CEST (UTC+02:00)" in response.content.decode()


def test_its_translations_are_stored(console):
    row = {
        "translations_language": ["de", "fr", ""],
        "translations_title": ["Guten Morgen", "Bonjour", " "],
        "translations_content": ["*Hallo*", "", ""],
    }
    console.post(f"{LIST}add/", written(**row))
    assert Broadcast.objects.get().translations == {
        "de": {"title": "Guten Morgen", "content": "*Hallo*"},
        "fr": {"title": "Bonjour", "content": ""},
    }


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"cron": "at nine"}, "cron", "is no cron expression"),
        ({"cron": "0 9 31 4 *"}, "cron", "It never comes"),
        ({"zone": "Mars/Base"}, "zone", "Select a valid choice"),
        ({"starts_on": "0001-01-01"}, "starts_on", "a day from 2000"),
        ({"life": "long"}, "life", "write 30m, 8h or 7d"),
        ({"ends_on": "2026-05-01"}, "cron", "It never comes"),
        ({"audience": "ROLE"}, "targets", "Choose at least one role"),
        ({"force_logoff": "on"}, "force_logoff", "fire and forget"),
        (
            {"translations_language": [""], "translations_title": ["Hallo"],
             "translations_content": [""]},
            "translations", "Choose the language",
        ),
        (
            {"translations_language": ["de"] * 2, "translations_title": ["Hallo"] * 2,
             "translations_content": [""] * 2},
            "translations", "each language once",
        ),
        (
            {"translations_language": ["de"], "translations_title": ["Ha\0llo"],
             "translations_content": [""]},
            "translations", "Null characters",
        ),
    ],
)  # fmt: skip
def test_an_error_is_at_its_field_and_nothing_starts(console, fields, field, words):
    errors = errors_of(console.post(f"{LIST}add/", written(**fields)))
    assert list(errors) == [field]
    assert words in errors[field][0]
    assert not Series.objects.exists()


def test_a_change_is_from_here_on(console):
    series = daily()
    response = console.post(page_of(series), written(cron="0 18 * * *"), follow=True)
    assert "Changed from here on." in response.content.decode()
    broadcast = series.broadcasts.get()
    assert broadcast.title == "Good morning"
    assert broadcast.occurrence == datetime(2026, 6, 1, 16, tzinfo=UTC)


def test_a_series_ended_meanwhile_is_not_changed(console, monkeypatch):
    series = daily()
    form = written()
    validate = Series.full_clean

    def ended_meanwhile(self: Series, *args: Any, **kwargs: Any) -> None:
        validate(self, *args, **kwargs)
        monkeypatch.undo()
        end(Series.objects.get(pk=series.pk))

    monkeypatch.setattr(Series, "full_clean", ended_meanwhile)
    response = console.post(page_of(series), form, follow=True)
    assert "This series is Ended" in response.content.decode()
    assert Series.objects.get().title == "Daily"


# What it means, while it is written


def upcoming(console: Client, **fields: Any) -> dict[str, Any]:
    given = {"cron": "30 2 * * *", "zone": "Europe/Berlin"} | fields
    response = console.post(UPCOMING, given)
    assert response.status_code == 200
    answer: dict[str, Any] = response.json()
    return answer


def test_the_next_five_are_shown_by_the_clocks_of_the_zone(console):
    answer = upcoming(console, starts_on="2026-10-24")
    assert answer["words"] == "At 02:30, Europe/Berlin"
    assert answer["moments"] == [
        "Sat 24 Oct 2026, 02:30 CEST (UTC+02:00)",
        "Sun 25 Oct 2026, 02:30 CEST (UTC+02:00)",
        "Mon 26 Oct 2026, 02:30 CET (UTC+01:00)",
        "Tue 27 Oct 2026, 02:30 CET (UTC+01:00)",
        "Wed 28 Oct 2026, 02:30 CET (UTC+01:00)",
    ]


def test_the_moment_after_a_leap_is_shown(console):
    moments = upcoming(console, starts_on="2027-03-28", count=2)["moments"]
    assert moments == [
        "Sun 28 Mar 2027, 03:00 CEST (UTC+02:00)",
        "Mon 29 Mar 2027, 02:30 CEST (UTC+02:00)",
    ]


def test_what_is_left_out_is_not_among_the_next(console):
    series = daily()
    console.post(
        page_of(series, "skip"), {"confirmed": "yes", "occurrence": "2026-06-02T07:00:00+00:00"}
    )
    answer = upcoming(console, series=series.pk, cron="0 9 * * *")
    assert answer["moments"][0].startswith("Wed 3 Jun 2026, 09:00")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"zone": ""}, "This field is required"),
        ({"cron": "x"}, "is no cron expression"),
        ({"zone": "Mars/Base"}, "is no time zone"),
        ({"count": "x"}, "whole number"),
        ({"ends_on": "2026-01-01"}, "It never comes"),
        ({"starts_on": "soon"}, "valid date"),
        ({"starts_on": "9999-12-31"}, "a day from 2000"),
        ({"series": "x" * 50, "cron": "?"}, "is no cron expression"),
    ],
)
def test_what_cannot_be_is_said_while_it_is_written(console, fields, words):
    assert words in upcoming(console, **fields)["error"]


def test_a_new_text_is_in_the_language_of_the_project(console):
    for form in ("broadcast", "series", "template"):
        page = console.get(f"/admin/broadcasts/{form}/add/").content.decode()
        assert '<option value="en" selected>' in page


# Verbs


def test_it_is_paused_resumed_and_ended_after_a_question(console):
    series = daily()
    for verb, state in (
        ("pause", State.PAUSED),
        ("resume", State.RUNNING),
        ("end", State.ENDED),
    ):
        before = state_of(series)
        assert console.get(page_of(series, verb)).context["question"].facts
        assert state_of(series) == before
        console.post(page_of(series, verb), {"confirmed": "yes"})
        assert state_of(series) == state
    assert LogEntry.objects.filter(object_id=series.pk).count() == 3


def test_one_of_the_next_five_is_left_out(console):
    series = daily()
    question = console.get(page_of(series, "skip")).context["question"]
    labels = [label for _value, label in question.form.fields["occurrence"].choices]
    assert labels[0] == "Tue 2 Jun 2026, 09:00 CEST (UTC+02:00)"
    assert len(labels) == 5

    chosen = {"confirmed": "yes", "occurrence": "2026-06-03T07:00:00+00:00"}
    page = console.post(page_of(series, "skip"), chosen, follow=True)
    assert "Wed 3 Jun 2026, 09:00" in page.content.decode()
    assert series.skips.get().occurrence == datetime(2026, 6, 3, 7, tzinfo=UTC)


def test_what_was_left_out_is_put_back(console):
    series = daily()
    assert page_of(series, "put-back") not in console.get(page_of(series)).content.decode()
    chosen = {"confirmed": "yes", "occurrence": "2026-06-03T07:00:00+00:00"}
    console.post(page_of(series, "skip"), chosen)
    assert page_of(series, "put-back") in console.get(page_of(series)).content.decode()
    console.post(page_of(series, "put-back"), chosen)
    assert not series.skips.exists()


def test_the_second_of_two_who_change_it_sees_both_texts(console):
    series = daily()
    opened = console.get(page_of(series))
    assert 'name="version" value="1"' in opened.content.decode()
    ann = UserFactory.create(first_name="Ann", last_name="Lee")
    change(Series.objects.get(), editor=ann, title="Theirs", cron="0 10 * * *")
    mine = written(title="Mine", cron="0 11 * * *", version=1)
    page = console.post(page_of(series), mine)
    assert "Not saved: Ann Lee changed it at" in page.text
    assert {"label": "Title", "theirs": "Theirs", "mine": "Mine"} in page.context["theirs"]
    assert Series.objects.get().title == "Theirs"
    console.post(page_of(series), mine | {"version": 2})
    assert (Series.objects.get().title, Series.objects.get().version) == ("Mine", 3)


def test_a_change_between_the_check_and_the_save_is_seen_too(console, monkeypatch):
    series, get_object = daily(), SeriesAdmin.get_object
    change(Series.objects.get(), title="Theirs")

    def read_too_early(*_: Any, **__: Any) -> Series:
        monkeypatch.setattr(SeriesAdmin, "get_object", get_object)
        return series

    monkeypatch.setattr(SeriesAdmin, "get_object", read_too_early)
    page = console.post(page_of(series), written(title="Mine", version=1))
    assert {"label": "Title", "theirs": "Theirs", "mine": "Mine"} in page.context["theirs"]
    assert Series.objects.get().title == "Theirs"


@pytest.mark.parametrize("occurrence", ["", "yesterday", "2026-06-03T08:00:00+00:00"])
def test_what_is_none_of_the_next_five_is_not_left_out(console, occurrence):
    series = daily()
    console.post(page_of(series, "skip"), {"confirmed": "yes", "occurrence": occurrence})
    assert not series.skips.exists()


@pytest.mark.parametrize("verb", ["approve", "pause", "skip", "put-back"])
@pytest.mark.parametrize("pk", ["abc", "404", "9" * 30])
def test_a_series_that_is_not_there_is_not_found(console, verb, pk):
    assert console.get(f"{LIST}{pk}/{verb}/").status_code == 404


def test_a_verb_that_comes_too_late_is_a_message(console):
    series = end(daily())
    response = console.post(page_of(series, "pause"), {"confirmed": "yes"}, follow=True)
    assert "This series is Ended" in response.content.decode()


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_its_page_and_buttons(console, state):
    series = daily()
    if state == State.PAUSED:
        console.post(page_of(series, "pause"), {"confirmed": "yes"})
    if state == State.ENDED:
        end(series)
    page = console.get(page_of(series)).content.decode()
    offered = {verb for verb in ("pause", "resume", "skip", "end") if f"/{verb}/" in page}
    assert (
        offered
        == {
            State.RUNNING: {"pause", "skip", "end"},
            State.PAUSED: {"resume", "skip", "end"},
            State.ENDED: set(),
        }[state]
    )
    assert ("Change from here on" in page) == (state != State.ENDED)


# Lists and rights


def test_the_list_costs_the_same_with_1_and_with_20(console):
    daily()
    console.get(LIST)
    with CaptureQueriesContext(connection) as with_one:
        console.get(LIST)
    for _ in range(19):
        daily()
    with CaptureQueriesContext(connection) as with_twenty:
        assert console.get(LIST).content.decode().count("At 09:00") == 20
    assert len(with_twenty) == len(with_one)


def test_the_list_is_filtered_by_state(console):
    daily(title="Goes on")
    end(daily(title="Is over"))
    page = console.get(LIST, {"state": "ENDED"}).content.decode()
    assert "Is over" in page
    assert "Goes on" not in page
    assert console.get(LIST, {"state": "no"}, follow=True).status_code == 200


def test_a_broadcast_leads_to_its_series(console):
    series = daily()
    page = console.get(f"/admin/broadcasts/broadcast/{series.broadcasts.get().pk}/change/")
    assert page_of(series) in page.content.decode()


OF_ONE = ("pause", "skip", "put-back", "end")
PATHS = ["", "add/", "{pk}/change/", *(f"{{pk}}/{verb}/" for verb in OF_ONE)]


@pytest.mark.parametrize("path", [*PATHS, "upcoming/"])
def test_who_may_not_is_refused(client, path):
    url = LIST + path.format(pk=daily().pk)
    data = {"confirmed": "yes"}
    assert client.post(url, data).status_code == 302  # to the login
    client.force_login(UserFactory.create())
    assert client.post(url, data).status_code == 302
    client.force_login(operator())
    assert client.post(url, data).status_code == 403
    assert state_of(Series.objects.get()) == State.RUNNING


@pytest.mark.parametrize("path", PATHS[1:])
def test_a_series_sends_so_that_needs_the_permission_to_send(client, path):
    url = LIST + path.format(pk=daily().pk)
    client.force_login(operator(*VERBS))
    assert client.post(url, {"confirmed": "yes"} | written()).status_code == 403
    assert state_of(Series.objects.get()) == State.RUNNING
    assert Series.objects.get().title == "Daily"


def test_who_may_only_look_sees_no_buttons(client):
    client.force_login(operator("broadcasts.view_series"))
    page = client.get(page_of(daily())).content.decode()
    assert "Change from here on" not in page
    assert "/pause/" not in page


# Templates


def filled(console: Client, template: Template, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = console.post(FILL, {"template": template.pk} | fields).json()
    return answer


@pytest.fixture
def template() -> Template:
    german = {"title": "{{ who }} ruht", "content": ""}
    return Template.objects.create(
        name="Rest", title="{{ who }} rests", content="*{{ when }}*", translations={"de": german}
    )


def test_the_forms_offer_templates_with_their_fields(console, template):
    for form in ("broadcast", "series"):
        page = console.get(f"/admin/broadcasts/{form}/add/")
        assert page.context["templates"] == [
            {"id": template.pk, "name": "Rest", "fields": ["who", "when"]}
        ]


def test_a_template_is_previewed_while_it_is_filled_in(console, template):
    answer = filled(console, template, value_who="The shop", value_when="")
    assert (answer["title"], answer["html"]) == (
        "The shop rests",
        "<p><em>{{ when }}</em></p>\n",
    )


def test_a_template_is_used_when_all_is_filled_in(console, template):
    assert filled(console, template, use="yes", value_who="x") == {"error": "Missing: when."}
    answer = filled(console, template, use="yes", value_who="The shop", value_when="<b>now</b>")
    assert answer["translations"]["de"]["title"] == "The shop ruht"
    assert "<b>" not in answer["html"]


def test_a_template_is_written_in_the_admin(console):
    text = {"name": "T", "title": "{{ a }}", "content": "{{ b b }}"}
    errors = errors_of(console.post("/admin/broadcasts/template/add/", text))
    assert "{{ b b }}” is no field" in errors["content"][0]
    console.post("/admin/broadcasts/template/add/", text | {"content": "{{ b }}"})
    assert Template.objects.get().fields == ["a", "b"]
    assert "a, b" in console.get("/admin/broadcasts/template/").content.decode()


def test_who_composes_nothing_fills_nothing(client, template):
    client.force_login(operator("broadcasts.view_broadcast"))
    assert client.post(FILL, {"template": template.pk}).status_code == 403


@pytest.mark.parametrize("pk", ["", "x", "404", "9" * 40])
def test_a_template_that_is_not_there_is_not_found(console, pk):
    assert console.post(FILL, {"template": pk}).status_code == 404


def test_a_second_person_reads_and_approves_it(client, settings):
    settings.BROADCAST_APPROVAL_FOR = ["ALL"]
    client.force_login(operator(*VERBS, "broadcasts.send_broadcast"))
    row = {
        "translations_language": ["de"],
        "translations_title": ["Guten Morgen"],
        "translations_content": ["Der Laden ist auf."],
    }
    response = client.post(f"{LIST}add/", written(**row), follow=True)
    assert "It starts when a second person approves it." in response.content.decode()
    series = Series.objects.get()
    page = client.get(page_of(series)).content.decode()
    assert "Paused · Waits for approval" in page
    assert not [verb for verb in ("approve", "resume") if f"/{verb}/" in page]
    assert client.get(page_of(series, "approve")).status_code == 403
    client.force_login(operator("broadcasts.view_series", "broadcasts.approve_broadcast"))
    page = client.get(page_of(series)).content.decode()
    assert "Der Laden ist auf." in page
    assert page_of(series, "approve") in page
    question = client.get(page_of(series, "approve")).content.decode()
    assert all(words in question for words in ('value="1"', "*Hi*", "Der Laden ist auf."))
    unseen = client.post(page_of(series, "approve"), {"confirmed": "yes"}, follow=True)
    assert "Not done." in unseen.content.decode()
    answer = {"confirmed": "yes", "version": 2}
    other = client.post(page_of(series, "approve"), answer, follow=True).content.decode()
    assert "Not done." in other
    assert state_of(series) == State.PAUSED
    client.post(page_of(series, "approve"), answer | {"version": 1})
    assert state_of(series) == State.RUNNING


def test_its_own_author_is_refused_in_words(client, settings):
    settings.BROADCAST_APPROVAL_FOR = ["ALL"]
    permissions = (*VERBS, "broadcasts.send_broadcast", "broadcasts.approve_broadcast")
    client.force_login(operator(*permissions))
    client.post(f"{LIST}add/", written())
    series = Series.objects.get()
    answer = {"confirmed": "yes", "version": 1}
    page = client.post(page_of(series, "approve"), answer, follow=True).content.decode()
    assert "a second person must approve it" in page
    page = client.post(page_of(series, "resume"), {"confirmed": "yes"}, follow=True)
    assert "A second person approves it, and it starts." in page.content.decode()
    assert state_of(series) == State.PAUSED


def test_a_second_person_says_what_has_to_change(client, settings):
    settings.BROADCAST_APPROVAL_FOR = ["ALL"]
    author = operator(*VERBS, "broadcasts.send_broadcast", "broadcasts.change_broadcast")
    series = start(author, title="Daily", cron="0 9 * * *", zone="Europe/Berlin")
    client.force_login(operator("broadcasts.view_series", "broadcasts.approve_broadcast"))
    page = client.get(page_of(series)).content.decode()
    assert all(page_of(series, verb) in page for verb in ("approve", "reject", "comment"))
    answer = {"confirmed": "yes", "version": 1}
    silent = client.post(page_of(series, "reject"), answer)
    assert "This field is required" in silent.content.decode()
    client.post(page_of(series, "comment"), answer | {"comment": "Who asked for this?"})
    said = client.post(page_of(series, "reject"), answer | {"comment": "At ten."}, follow=True)
    assert all(
        word in said.text for word in ("Paused · Rejected", "Who asked for this?", "At ten.")
    )
    client.force_login(author)
    page = client.get(page_of(series)).content.decode()
    assert "At ten." in page
    assert all(page_of(series, verb) in page for verb in ("resume", "comment"))
    step = series.approval_steps.latest("id")
    client.force_login(User.objects.create_superuser("boss", password="x"))
    shown = client.get(f"/admin/broadcasts/approvalstep/{step.pk}/change/")
    assert page_of(series) in shown.text


@pytest.mark.parametrize("verb", ["reject", "comment"])
def test_who_takes_no_part_says_nothing(client, verb):
    series = daily()
    client.force_login(operator("broadcasts.view_series"))
    answer = {"confirmed": "yes", "version": 1, "comment": "No."}
    assert client.post(page_of(series, verb), answer).status_code == 403
    assert not series.approval_steps.exists()
