"""The console of a second person."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import Settings

from broadcasts.approvals import approve, comment, request
from broadcasts.models import ApprovalStep, Broadcast
from broadcasts.services import edit
from tests.factories import DraftFactory, UserFactory, operator

pytestmark = pytest.mark.django_db

LIST = "/admin/broadcasts/broadcast/"
READS = ["broadcasts.view_broadcast", "broadcasts.view_approvalstep"]
WRITES = [*READS, *(f"broadcasts.{verb}_broadcast" for verb in ("add", "change", "send"))]
APPROVES = [*READS, "broadcasts.approve_broadcast"]


@pytest.fixture(autouse=True)
def everyone_needs_it(settings: Settings) -> None:
    settings.BROADCAST_APPROVAL_FOR = ["ALL"]


@pytest.fixture
def composer() -> User:
    return operator(*WRITES)


@pytest.fixture
def approver() -> User:
    return operator(*APPROVES)


@pytest.fixture
def draft(composer: User) -> Broadcast:
    return DraftFactory.create(sender=composer, title="Big news", content="All of it.")


def console(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def page(draft: Broadcast, verb: str = "change") -> str:
    return f"{LIST}{draft.pk}/{verb}/"


def say(user: User, draft: Broadcast, verb: str, **fields: Any) -> Any:
    answer = {"confirmed": "yes", "version": draft.version} | fields
    return console(user).post(page(draft, f"approval/{verb}"), answer, follow=True)


def standing(draft: Broadcast) -> tuple[str, str]:
    draft.refresh_from_db()
    return draft.status, draft.approval


def buttons(user: User, draft: Broadcast) -> list[str]:
    card = console(user).get(page(draft)).context["approval"]
    return [str(button["text"]) for button in card["buttons"]]


def test_a_broadcast_goes_out_after_a_second_person_approved(
    composer: User, approver: User, draft: Broadcast
) -> None:
    instead = console(composer).get(page(draft, "send"), follow=True)
    assert instead.redirect_chain[-1][0] == page(draft, "approval/request")
    assert "It needs an approval first. It is for everyone." in instead.text
    assert "Whoever may approve sees it" in say(composer, draft, "request", comment="Please").text
    assert standing(draft) == ("DRAFT", "REQUESTED")

    overview = console(approver).get(reverse("admin:index")).text
    assert "Waiting for approval" in overview
    shown = console(approver).get(page(draft))
    assert "As its readers see it" in shown.text
    assert 'name="_save"' not in shown.text
    assert "Please" in shown.text
    assert "Approved." in say(approver, draft, "approve", comment="Go").text
    assert standing(draft) == ("DRAFT", "APPROVED")

    console(composer).post(page(draft, "send"), {"confirmed": "yes", "version": 1})
    assert standing(draft) == ("ACTIVE", "APPROVED")
    said = [entry.get_change_message() for entry in LogEntry.objects.order_by("id")]
    assert [words.split()[0] for words in said] == ["Asked", "Approved.", "Sent:"]


def test_a_post_that_skips_the_question_sends_nothing(composer: User, draft: Broadcast) -> None:
    response = console(composer).post(page(draft, "send"), {"confirmed": "yes"}, follow=True)
    assert "It needs an approval before it can be sent" in response.text
    chosen = {"_selected_action": [draft.pk], "action": "send_selected", "confirmed": "yes"}
    assert "It needs an approval" in console(composer).post(LIST, chosen, follow=True).text
    assert standing(draft) == ("DRAFT", "NONE")


def test_what_waits_already_is_said_to_wait(composer: User, draft: Broadcast) -> None:
    request(draft, composer)
    response = console(composer).get(page(draft, "send"), follow=True)
    assert response.redirect_chain[-1][0] == page(draft)
    assert "It waits for somebody&#x27;s approval" in response.text


def test_one_does_not_approve_ones_own(draft: Broadcast) -> None:
    both = operator(*WRITES, "broadcasts.approve_broadcast")
    request(edit(draft, editor=both, title="Mine"), both)
    assert buttons(both, draft) == ["Comment", "Withdraw"]
    assert "a second person must approve it" in say(both, draft, "approve").text
    assert standing(draft) == ("DRAFT", "REQUESTED")


def test_a_rejection_says_why(composer: User, approver: User, draft: Broadcast) -> None:
    request(draft, composer)
    assert "This field is required" in say(approver, draft, "reject").text
    say(approver, draft, "reject", comment="The link is wrong.")
    assert standing(draft) == ("DRAFT", "REJECTED")
    shown = console(composer).get(page(draft)).text
    assert "The link is wrong." in shown
    assert "Rejected" in shown


def test_who_read_another_version_approves_nothing(
    composer: User, approver: User, draft: Broadcast
) -> None:
    request(draft, composer)
    question = console(approver).get(page(draft, "approval/approve")).text
    assert 'name="version" value="1"' in question
    assert draft.content in question
    unseen = console(approver).post(
        page(draft, "approval/approve"), {"confirmed": "yes"}, follow=True
    )
    assert "changed it meanwhile" in unseen.text
    request(edit(draft, editor=composer, title="Worse"), composer)
    assert "changed it meanwhile" in say(approver, draft, "approve", version=1).text
    assert standing(draft) == ("DRAFT", "REQUESTED")


def test_a_change_makes_an_approval_void(composer: User, approver: User, draft: Broadcast) -> None:
    approve(request(draft, composer), approver)
    client = console(composer)
    assert "A change makes it void." in client.get(page(draft)).text
    form = {"title": "Other", "priority": 20, "audience": "ALL", "version": 1, "_send": "1"}
    assert client.post(page(draft), form, follow=True).redirect_chain[-1][0] == page(
        draft, "approval/request"
    )
    assert standing(draft) == ("DRAFT", "NONE")


def test_saving_it_unchanged_in_order_to_send_it_leaves_the_approval(
    composer: User, approver: User, draft: Broadcast
) -> None:
    edit(draft, content="one\ntwo")
    approve(request(draft, composer), approver)
    form = {"title": draft.title, "content": "one\r\ntwo", "priority": 20, "audience": "ALL"}
    client = console(composer)
    response = client.post(page(draft), form | {"version": 2, "_send": "1"}, follow=True)
    assert response.redirect_chain == [(page(draft, "send"), 302)]
    client.post(page(draft, "send"), {"confirmed": "yes", "version": 2})
    assert standing(draft) == ("ACTIVE", "APPROVED")


def test_each_is_offered_what_they_may_do(composer: User, approver: User, draft: Broadcast) -> None:
    viewer = operator(*READS)
    assert [buttons(user, draft) for user in (viewer, composer, approver)] == [
        [],
        ["Ask for approval", "Comment"],
        ["Comment"],
    ]
    request(draft, composer)
    assert [buttons(user, draft) for user in (viewer, composer, approver)] == [
        [],
        ["Comment", "Withdraw"],
        ["Approve", "Reject", "Comment", "Withdraw"],
    ]
    approve(draft, approver)
    assert buttons(approver, draft) == ["Comment", "Withdraw"]


def test_a_question_alone_decides_nothing(composer: User, approver: User, draft: Broadcast) -> None:
    request(draft, composer)
    for verb in ("approve", "reject", "withdraw", "comment"):
        for ask in (console(approver).get, console(approver).post):
            assert ask(page(draft, f"approval/{verb}")).status_code == 200
    assert standing(draft) == ("DRAFT", "REQUESTED")
    assert ApprovalStep.objects.count() == 1
    assert console(approver).get(page(draft, "approval/praise")).status_code == 404


def test_a_comment_and_a_withdrawal_are_history(
    composer: User, approver: User, draft: Broadcast
) -> None:
    request(draft, composer)
    say(approver, draft, "comment", comment="<b>Why</b> today?")
    say(composer, draft, "withdraw")
    shown = console(composer).get(page(draft)).text
    assert "&lt;b&gt;Why&lt;/b&gt; today?" in shown
    rows = console(approver).get("/admin/broadcasts/approvalstep/?q=why").context["cl"]
    assert [row.decision for row in rows.result_list] == ["COMMENTED"]
    assert standing(draft) == ("DRAFT", "NONE")


def test_the_list_says_where_a_draft_stands_and_filters_by_it(
    composer: User, approver: User, draft: Broadcast
) -> None:
    DraftFactory.create(title="Another")
    request(draft, composer)
    response = console(approver).get(f"{LIST}?approval__exact=REQUESTED")
    assert [row.title for row in response.context["cl"].result_list] == ["Big news"]
    assert "Draft · Waits for approval" in response.text


def test_a_long_history_is_cut_and_leads_to_all_of_it(draft: Broadcast, approver: User) -> None:
    for number in range(25):
        comment(draft, approver, f"Comment {number}")
    card = console(approver).get(page(draft)).context["approval"]
    assert len(card["steps"]) == 20
    assert len(console(approver).get(card["more"]).context["cl"].result_list) == 25


def test_the_history_costs_the_same_for_2_and_for_20(draft: Broadcast, approver: User) -> None:
    client = console(approver)
    for path in ("/admin/broadcasts/approvalstep/", page(draft)):
        counts = []
        for more in (2, 18):
            for _ in range(more):
                comment(draft, UserFactory.create(), "Hm")
            client.get(path)
            with CaptureQueriesContext(connection) as queries:
                client.get(path)
            counts.append(len(queries))
        assert counts[0] == counts[1], path


def test_without_rules_nothing_of_it_is_shown(
    composer: User, draft: Broadcast, settings: Settings
) -> None:
    settings.BROADCAST_APPROVAL_FOR = []
    assert console(composer).get(page(draft)).context["approval"] is None
    assert "Waiting for approval" not in console(composer).get(reverse("admin:index")).text


# People from a file


def upload(user: User, content: bytes) -> Any:
    file = SimpleUploadedFile("people.csv", content)
    return console(user).post(f"{LIST}people/", {"file": file}).json()


def test_a_file_of_people_is_answered_with_who_was_not_found(composer: User) -> None:
    ann = UserFactory.create(username="ann")
    answer = upload(composer, b"Login;Name\r\nann;Ann\r\nbob;Bob\r\nann;Ann\r\n")
    assert answer["ids"] == [str(ann.pk)]
    assert [(one["line"], one["value"]) for one in answer["missing"]] == [(3, "bob")]
    assert answer["said"] == ("1 person was added. 1 line named somebody again. 1 was not found.")
    assert "Windows-1252" in upload(composer, "ann\nbjörn\n".encode("cp1252"))["said"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"a,b\nc,d\n"])
def test_a_file_that_is_no_list_is_answered_with_what_to_do(composer: User, content: bytes) -> None:
    answer = upload(composer, content)
    assert list(answer) == ["error"]


def test_without_a_file_one_is_asked_for(composer: User) -> None:
    assert "Choose" in console(composer).post(f"{LIST}people/").json()["error"]


def test_a_draft_goes_with_its_history(draft: Broadcast, approver: User) -> None:
    person = operator(*WRITES, "broadcasts.delete_broadcast")
    comment(draft, approver, "Who wrote this?")
    question = console(person).get(page(draft, "delete"))
    assert question.context["perms_lacking"] == set()
    console(person).post(page(draft, "delete"), {"post": "yes"})
    assert not Broadcast.objects.exists()
