"""Two people and one draft."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.test import Client
from django.utils import timezone

from broadcasts import editing
from broadcasts.admin import BroadcastAdmin
from broadcasts.models import Broadcast, Editor
from broadcasts.services import ChangedMeanwhile, edit, send
from tests.factories import DraftFactory, GroupFactory, UserFactory, operator
from tests.racing import race

pytestmark = pytest.mark.django_db

LIST = "/admin/broadcasts/broadcast/"
WRITES = [f"broadcasts.{verb}_broadcast" for verb in ("view", "add", "change", "send")]


@pytest.fixture
def ann() -> User:
    return UserFactory.create(username="ann", first_name="Ann", last_name="Lee")


TRANSLATED = {"language": "fr", "title": "Premier", "content": "un"}


@pytest.fixture
def console() -> Client:
    client = Client()
    client.force_login(operator(*WRITES))
    return client


@pytest.fixture
def draft() -> Broadcast:
    return DraftFactory.create(title="First", content="one")


def form(draft: Broadcast, **fields: Any) -> dict[str, Any]:
    written = {"title": draft.title, "content": draft.content, "priority": 20, "audience": "ALL"}
    written |= {"language": draft.language}
    return written | {"version": draft.version, "_save": "1"} | fields


def page(draft: Broadcast, verb: str = "change") -> str:
    return f"{LIST}{draft.pk}/{verb}/"


def stored() -> tuple[str, str, int]:
    row = Broadcast.objects.get()
    return row.title, row.content, row.version


def test_the_second_sees_both_texts_and_keeps_theirs(
    console: Client, draft: Broadcast, ann: User
) -> None:
    edit(Broadcast.objects.get(), editor=ann, title="Theirs")
    response = console.post(page(draft), form(draft, title="Mine", content="two"))
    assert stored() == ("Theirs", "one", 2)
    assert "Not saved: Ann Lee changed it at" in response.text
    assert response.context["theirs"] == [
        {"label": "Title", "theirs": "Theirs", "mine": "Mine"},
        {"label": "Content", "theirs": "one", "mine": "two"},
    ]
    assert 'value="Mine"' in response.text
    assert 'name="version" value="2"' in response.text

    console.post(page(draft), form(draft, title="Mine", content="two", version=2))
    assert stored() == ("Mine", "two", 3)


def test_the_audiences_of_both_are_told_by_name(
    console: Client, draft: Broadcast, ann: User
) -> None:
    role = GroupFactory.create(name="Night shift").name
    edit(Broadcast.objects.get(), editor=ann, audience="SELECTED", targets=[str(ann.pk)])
    mine = form(draft, audience="ROLE", targets_role=[role], priority=40, fire_and_forget="on")
    told = {one["label"]: one for one in console.post(page(draft), mine).context["theirs"]}
    assert told["Audience"]["theirs"] == "Selected people"
    assert (told["Who gets it"]["theirs"], told["Who gets it"]["mine"]) == ("ann", "Night shift")
    assert (told["Priority"]["theirs"], told["Priority"]["mine"]) == ("Normal", "Urgent")
    assert told["Fire and forget"]["mine"] == "Yes"


def test_the_translations_of_both_are_shown(console: Client, draft: Broadcast, ann: User) -> None:
    theirs = {"de": {"title": "Erstes", "content": "eins"}}
    edit(Broadcast.objects.get(), editor=ann, translations=theirs)
    mine = {f"translations_{part}": [word] for part, word in TRANSLATED.items()}
    response = console.post(page(draft), form(draft, **mine))
    assert response.context["theirs"] == [
        {"label": "In other languages", "theirs": "de\nErstes\neins", "mine": "fr\nPremier\nun"}
    ]
    console.post(page(draft), form(draft, **mine, version=2))
    assert list(Broadcast.objects.get().translations) == ["fr"]


def test_who_typed_the_same_is_not_bothered(console: Client, draft: Broadcast, ann: User) -> None:
    edit(Broadcast.objects.get(), editor=ann, title="Same")
    console.post(page(draft), form(draft, title="Same"))
    assert stored() == ("Same", "one", 2)
    assert Broadcast.objects.get().edited_by == ann


def test_what_a_form_cannot_keep_is_no_change(console: Client, draft: Broadcast) -> None:
    roles = [GroupFactory.create(name=name).name for name in ("A", "B")]
    moment = timezone.now() + timedelta(hours=1, microseconds=1)
    edit(draft, audience="ROLE", targets=roles[::-1], scheduled_at=moment, content="a\nb")
    local = timezone.localtime(moment)
    same = {"content": "a\r\nb", "audience": "ROLE", "targets_role": roles}
    same |= {"scheduled_at_0": f"{local:%Y-%m-%d}", "scheduled_at_1": f"{local:%H:%M:%S}"}
    console.post(page(draft), form(draft, **same))
    assert stored()[2] == 2
    assert console.post(page(draft), form(draft, **same, version=1)).status_code == 302


def test_another_mistake_does_not_hide_that_it_was_changed(
    console: Client, draft: Broadcast, ann: User
) -> None:
    invalid = console.post(page(draft), form(draft, title=""))
    assert 'name="version" value="1"' in invalid.text  # what was seen, still
    edit(Broadcast.objects.get(), editor=ann, title="Theirs")
    assert console.post(page(draft), form(draft, title="")).context["theirs"]
    assert stored() == ("Theirs", "one", 2)


def test_a_save_between_the_check_and_the_writing_is_seen_too(
    console: Client, draft: Broadcast, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale, get_object = Broadcast.objects.get(), BroadcastAdmin.get_object
    edit(Broadcast.objects.get(), editor=ann, title="Theirs")

    def read_too_early(*_: Any, **__: Any) -> Broadcast:
        monkeypatch.setattr(BroadcastAdmin, "get_object", get_object)
        return stale

    monkeypatch.setattr(BroadcastAdmin, "get_object", read_too_early)
    response = console.post(page(draft), form(draft, title="Mine"))
    assert "Ann Lee changed it at" in response.text
    assert 'value="Mine"' in response.text
    assert stored() == ("Theirs", "one", 2)


def test_what_was_sent_meanwhile_is_said_and_not_overwritten(
    console: Client, draft: Broadcast
) -> None:
    send(Broadcast.objects.get())
    response = console.post(page(draft), form(draft, title="Mine"), follow=True)
    assert "it is no draft any more" in response.text
    assert stored()[0] == "First"


def test_what_was_changed_since_the_question_is_not_sent(
    console: Client, draft: Broadcast, ann: User
) -> None:
    assert 'name="version" value="1"' in console.get(page(draft, "send")).text
    edit(Broadcast.objects.get(), editor=ann, title="Theirs")
    answer = {"confirmed": "yes", "version": "1"}
    response = console.post(page(draft, "send"), answer, follow=True)
    assert "Ann Lee changed it meanwhile" in response.text
    assert Broadcast.objects.get().status == "DRAFT"


def test_who_has_it_open_is_told_of_the_others(
    console: Client, draft: Broadcast, ann: User
) -> None:
    def ask(version: int = 1) -> dict[str, str]:
        answer: dict[str, str] = console.post(page(draft, "editing"), {"version": version}).json()
        return answer

    assert ask() == {"others": "", "changed": ""}
    editing.join(draft, ann)
    assert ask()["others"] == "Ann Lee has this draft open, too."
    editing.join(draft, UserFactory.create(username="bob"))
    assert ask()["others"] == "Ann Lee, bob have this draft open, too."
    edit(draft, editor=ann, title="Theirs")
    assert ask()["changed"].startswith("Ann Lee changed it at")
    assert ask(version=2)["changed"] == ""
    send(draft)
    assert "it is Active" in ask(version=2)["changed"]


def test_who_closed_the_page_or_saved_is_not_named(
    console: Client, draft: Broadcast, ann: User
) -> None:
    editing.join(draft, ann)
    Editor.objects.update(seen_at=Now() - timedelta(minutes=1))
    assert console.post(page(draft, "editing")).json()["others"] == ""
    assert Editor.objects.count() == 1
    console.post(page(draft), form(draft))
    assert not Editor.objects.exists()


def test_only_who_may_write_is_told_who_writes(draft: Broadcast) -> None:
    client = Client()
    client.force_login(operator("broadcasts.view_broadcast"))
    assert client.post(page(draft, "editing")).status_code == 403
    assert client.get(page(draft, "editing")).status_code == 405


def test_a_copy_in_the_browser_is_known_as_saved_with_its_draft(console: Client) -> None:
    fields = {"title": "Hello", "priority": 20, "audience": "ALL", "copy": "a-1", "_save": "1"}
    console.post(f"{LIST}add/", fields | {"title": ""})
    assert console.get(f"{LIST}add/").context["saved_copies"] == []
    console.post(f"{LIST}add/", fields)
    assert console.get(f"{LIST}add/").context["saved_copies"] == ["a-1"]
    console.post(f"{LIST}add/", fields | {"copy": "</script>"})
    assert console.get(f"{LIST}add/").context["saved_copies"] == ["a-1"]


@pytest.mark.django_db(transaction=True)
def test_of_two_who_save_at_once_one_is_told() -> None:
    for _ in range(8):
        draft = DraftFactory.create()
        read = [Broadcast.objects.get(pk=draft.pk) for _ in range(2)]
        outcomes = race(
            lambda: edit(read[0], title="one"),  # noqa: B023
            lambda: edit(read[1], title="other"),  # noqa: B023
        )
        assert sum(isinstance(outcome, Broadcast) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, ChangedMeanwhile) for outcome in outcomes) == 1
        draft.refresh_from_db()
        assert draft.version == 2
