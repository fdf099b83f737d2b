"""A second person's word: the gate of everything that goes out."""

import io
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from pytest_django import Settings

from broadcasts import approvals, services
from broadcasts.approvals import OwnWork, approve, comment, reject, request, withdraw
from broadcasts.directory import ModelDirectory, UserServiceUnavailable
from broadcasts.importing import Import, Outcome
from broadcasts.models import Approval, ApprovalStep, Broadcast, Status
from broadcasts.services import (
    ApprovalNeeded,
    ChangedMeanwhile,
    InvalidTransition,
    cancel,
    compose_and_send,
    duplicate,
    edit,
    send,
)
from outbox.models import Event, Priority
from tests.factories import DraftFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def everyone_needs_it(settings: Settings) -> None:
    settings.BROADCAST_APPROVAL_FOR = ["ALL"]


@pytest.fixture
def composer() -> User:
    return UserFactory.create(username="composer", first_name="Cleo", last_name="Park")


@pytest.fixture
def approver() -> User:
    return UserFactory.create(username="approver")


@pytest.fixture
def draft(composer: User) -> Broadcast:
    return DraftFactory.create(sender=composer)


def approved(draft: Broadcast, composer: User, approver: User) -> Broadcast:
    return approve(request(draft, composer), approver)


def events(broadcast: Broadcast) -> list[str]:
    rows = Event.objects.filter(key=f"broadcast-{broadcast.pk}").order_by("id")
    return [kind.removeprefix("broadcast.") for kind in rows.values_list("type", flat=True)]


def test_without_an_approval_it_stays_a_draft_and_the_error_says_what_to_do(
    draft: Broadcast,
) -> None:
    with pytest.raises(ApprovalNeeded, match=r"It is for everyone\. Ask for one"):
        send(draft)
    assert (draft.status, Broadcast.objects.get().status) == (Status.DRAFT, Status.DRAFT)
    assert not Event.objects.exists()


def test_once_approved_it_is_sent(draft: Broadcast, composer: User, approver: User) -> None:
    send(approved(draft, composer, approver))
    assert draft.status == Status.ACTIVE
    assert events(draft) == ["approval.requested", "approval.approved", "scheduled", "activated"]


def test_a_request_alone_or_a_rejection_sends_nothing(
    draft: Broadcast, composer: User, approver: User
) -> None:
    request(draft, composer)
    with pytest.raises(ApprovalNeeded):
        send(draft)
    reject(draft, approver, "Wrong link.")
    with pytest.raises(ApprovalNeeded):
        send(draft)


def test_every_step_is_history_with_its_person_and_words(
    draft: Broadcast, composer: User, approver: User
) -> None:
    request(draft, composer, "Please today")
    comment(draft, approver, "Is the link right?")
    reject(draft, approver, "It is not.")
    edit(draft, editor=composer, content="https://example.org/right")
    request(draft, composer)
    approve(draft, approver)
    withdraw(draft, approver, "One moment")
    steps = ApprovalStep.objects.order_by("id")
    assert [(s.version, s.decision, s.person_name, s.comment) for s in steps] == [
        (1, "REQUESTED", "Cleo Park", "Please today"),
        (1, "COMMENTED", "approver", "Is the link right?"),
        (1, "REJECTED", "approver", "It is not."),
        (2, "REQUESTED", "Cleo Park", ""),
        (2, "APPROVED", "approver", ""),
        (2, "WITHDRAWN", "approver", "One moment"),
    ]


def test_the_history_outlives_the_account(draft: Broadcast, composer: User) -> None:
    request(draft, composer)
    composer.delete()
    assert ApprovalStep.objects.get().person_name == "Cleo Park"


@pytest.mark.parametrize("how", ["composed", "changed", "asked"])
def test_nobody_approves_their_own_work(
    draft: Broadcast, composer: User, approver: User, how: str
) -> None:
    if how == "changed":
        edit(draft, editor=approver, title="Mine")
    person = composer if how == "composed" else approver
    request(draft, approver if how == "asked" else composer)
    with pytest.raises(OwnWork, match="second person"):
        approve(draft, person)
    assert Broadcast.objects.get().approval == Approval.REQUESTED
    assert "approval.approved" not in events(draft)
    assert not ApprovalStep.objects.filter(decision="APPROVED").exists()


def test_a_change_after_the_approval_needs_a_new_one(
    draft: Broadcast, composer: User, approver: User
) -> None:
    approved(draft, composer, approver)
    edit(draft, editor=composer, title="Something else")
    assert draft.approval == Approval.NONE
    with pytest.raises(ApprovalNeeded):
        send(draft)
    with pytest.raises(InvalidTransition, match="Nobody has asked"):
        approve(draft, approver)


def test_who_read_another_version_approves_nothing(
    draft: Broadcast, composer: User, approver: User
) -> None:
    read = Broadcast.objects.get()
    request(edit(draft, editor=composer, title="Replaced"), composer)
    with pytest.raises(ChangedMeanwhile, match="Cleo Park changed it meanwhile"):
        approve(read, approver)
    with pytest.raises(ChangedMeanwhile):
        approve(draft, approver, version=1)
    assert Broadcast.objects.get().approval == Approval.REQUESTED


def test_a_withdrawn_approval_sends_nothing(
    draft: Broadcast, composer: User, approver: User
) -> None:
    withdraw(approved(draft, composer, approver), approver)
    with pytest.raises(ApprovalNeeded):
        send(draft)


def test_what_is_sent_cannot_be_withdrawn_or_decided(
    draft: Broadcast, composer: User, approver: User
) -> None:
    send(approved(draft, composer, approver))
    for verb in (
        lambda: withdraw(draft, approver),
        lambda: request(draft, composer),
        lambda: approve(draft, approver),
        lambda: reject(draft, approver, "Too late"),
    ):
        with pytest.raises(InvalidTransition, match="is Active; only a draft"):
            verb()


def test_it_is_asked_for_and_decided_once(draft: Broadcast, composer: User, approver: User) -> None:
    request(draft, composer)
    with pytest.raises(InvalidTransition, match=r"“Waits for approval” already \(Cleo Park\)"):
        request(draft, composer)
    approve(draft, approver)
    with pytest.raises(InvalidTransition, match=r"“Approved” already \(approver\)"):
        reject(draft, approver, "No")


@pytest.mark.parametrize("words", ["", "  \n"])
def test_a_rejection_and_a_comment_need_words(
    draft: Broadcast, composer: User, approver: User, words: str
) -> None:
    request(draft, composer)
    for verb in (reject, comment):
        with pytest.raises(ValidationError, match="Say why"):
            verb(draft, approver, words)
    with pytest.raises(ValidationError, match="at most 2000"):
        reject(draft, approver, "x" * 2_001)
    assert Broadcast.objects.get().approval == Approval.REQUESTED


def test_a_deleted_draft_is_said_to_be_gone(draft: Broadcast, composer: User) -> None:
    Broadcast.objects.all().delete()
    with pytest.raises(InvalidTransition, match="deleted"):
        request(draft, composer)


def test_a_draft_that_waits_can_be_cancelled(draft: Broadcast, composer: User) -> None:
    cancel(request(draft, composer))
    assert not Broadcast.objects.awaiting_approval().exists()


def test_a_duplicate_is_not_approved(draft: Broadcast, composer: User, approver: User) -> None:
    copy = duplicate(approved(draft, composer, approver), composer)
    assert (copy.approval, copy.version) == (Approval.NONE, 1)


# Rules


@pytest.fixture
def no_rules(settings: Settings) -> None:
    settings.BROADCAST_APPROVAL_FOR = []


@pytest.mark.usefixtures("no_rules")
def test_without_rules_nobody_is_asked(draft: Broadcast) -> None:
    assert send(draft).status == Status.ACTIVE


def people(count: int) -> dict[str, Any]:
    ids = [str(user.pk) for user in UserFactory.create_batch(count)]
    return {"audience": "SELECTED", "targets": ids}


@pytest.mark.usefixtures("no_rules")
def test_more_people_than_the_limit_need_it(settings: Settings, composer: User) -> None:
    settings.BROADCAST_APPROVAL_ABOVE = 2
    assert send(DraftFactory.create(sender=composer, **people(2))).status == Status.ACTIVE
    with pytest.raises(ApprovalNeeded, match="It reaches 3 people, more than 2"):
        send(DraftFactory.create(sender=composer, **people(3)))


@pytest.mark.usefixtures("no_rules")
def test_urgency_needs_it(settings: Settings) -> None:
    settings.BROADCAST_APPROVAL_FOR = ["URGENT"]
    with pytest.raises(ApprovalNeeded, match="It is urgent"):
        send(DraftFactory.create(priority=Priority.URGENT, **people(1)))


@pytest.mark.usefixtures("no_rules")
def test_a_limit_of_none_is_every_broadcast_but_a_test_to_oneself(
    settings: Settings, composer: User
) -> None:
    settings.BROADCAST_APPROVAL_ABOVE = 0
    alone = {"audience": "SELECTED", "targets": [str(composer.pk)]}
    assert send(DraftFactory.create(sender=composer, **alone)).status == Status.ACTIVE
    with pytest.raises(ApprovalNeeded, match="Every broadcast"):
        send(DraftFactory.create(sender=composer, **people(1)))


@pytest.mark.usefixtures("no_rules")
def test_a_directory_that_is_down_is_no_way_around(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, composer: User, approver: User
) -> None:
    class Silent(ModelDirectory):
        def count(self, *_: Any) -> int:
            raise UserServiceUnavailable("timed out")

    settings.BROADCAST_APPROVAL_ABOVE = 1_000
    draft = DraftFactory.create(sender=composer)
    monkeypatch.setattr("broadcasts.approval_rules.get_directory", Silent)
    monkeypatch.setattr(services, "get_directory", Silent)
    with pytest.raises(ApprovalNeeded, match="cannot be counted now"):
        send(draft)
    send(approved(draft, composer, approver))
    assert draft.status == Status.SCHEDULED  # it waits for the directory, as ever


def test_what_was_approved_for_few_is_not_sent_to_all_by_a_change_at_the_last_moment(
    composer: User,
) -> None:
    stale = DraftFactory.create(sender=composer, **people(1))
    edit(Broadcast.objects.get(), audience="ALL", targets=[])
    with pytest.raises(ChangedMeanwhile):
        send(stale)
    assert Broadcast.objects.get().status == Status.DRAFT


def test_composing_and_sending_at_once_keeps_nothing_that_needs_it(composer: User) -> None:
    with pytest.raises(ApprovalNeeded):
        compose_and_send(composer, title="Hello")
    assert not Broadcast.objects.exists()


# Import


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_import_keeps_drafts_and_sends_them_after_the_approval(
    composer: User, approver: User, dry_run: bool
) -> None:
    def run() -> list[Outcome]:
        file = io.BytesIO(b'{"external_id": "one", "title": "Hello"}')
        return [line.outcome for line in Import(sender=composer, dry_run=dry_run).run(file)]

    assert run() == [Outcome.WAITING]
    if not dry_run:
        draft = Broadcast.objects.get()
        assert run() == [Outcome.WAITING]
        approved(draft, composer, approver)
        assert run() == [Outcome.RESUMED]
        draft.refresh_from_db()
        assert draft.status == Status.ACTIVE


def test_who_wrote_it_is_known_by_version(draft: Broadcast, composer: User, approver: User) -> None:
    request(draft, approver)
    edit(draft, editor=composer, title="New")
    assert not approvals.is_own(draft, approver)


def test_another_translation_makes_an_approval_void(
    draft: Broadcast, composer: User, approver: User
) -> None:
    approved(draft, composer, approver)
    edit(draft, editor=composer, translations={"de": {"title": "Neues", "content": ""}})
    assert (draft.approval, draft.version) == (Approval.NONE, 2)
    with pytest.raises(ApprovalNeeded):
        send(draft)
