import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from broadcasts.approvals import comment
from broadcasts.models import Broadcast
from tests.factories import ActiveFactory, DraftFactory, UserFactory, operator

pytestmark = pytest.mark.django_db

BROADCASTS = "/api/admin/broadcasts"
WRITES = [f"broadcasts.{verb}_broadcast" for verb in ("view", "add", "change", "send")]


@pytest.fixture(autouse=True)
def everyone_needs_it(settings: Settings) -> None:
    settings.BROADCAST_APPROVAL_FOR = ["ALL"]


@pytest.fixture
def composer() -> User:
    return operator(*WRITES)


@pytest.fixture
def approver() -> User:
    return operator("broadcasts.view_broadcast", "broadcasts.approve_broadcast")


@pytest.fixture
def draft(composer: User) -> Broadcast:
    return DraftFactory.create(sender=composer)


class Caller:
    """Somebody who uses the API."""

    def __init__(self, user: User) -> None:
        self.client = Client()
        self.client.force_login(user)

    def __call__(self, method: str, path: str, etag: str = "", **data: Any) -> Any:
        headers = {"If-Match": etag} if etag else {}
        body = {} if method == "get" else {"data": json.dumps(data)}
        return getattr(self.client, method)(
            BROADCASTS + path, content_type="application/json", headers=headers, **body
        )


def said(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def test_a_broadcast_goes_out_after_a_second_person_approved(
    composer: User, approver: User, draft: Broadcast
) -> None:
    one, other, at = Caller(composer), Caller(approver), f"/{draft.pk}"
    refused = one("post", f"{at}/send")
    assert said(refused) == (409, "approval_needed")
    assert "It is for everyone. Ask for one." in refused.json()["message"]
    asked = one("post", f"{at}/request-approval", comment="Please").json()
    assert asked == {"id": draft.pk, "status": "DRAFT", "version": 1, "approval": "REQUESTED"}
    waiting = other("get", "?approval=REQUESTED").json()["results"]
    assert [broadcast["id"] for broadcast in waiting] == [draft.pk]
    etag = other("get", at).headers["ETag"]
    answer = other("post", f"{at}/approve", etag)
    assert (answer.json()["approval"], answer.headers["ETag"]) == ("APPROVED", etag)
    assert one("post", f"{at}/send").json()["status"] == "ACTIVE"
    steps = other("get", f"{at}/approvals").json()["results"]
    assert [(step["decision"], step["person_name"], step["comment"]) for step in steps] == [
        ("APPROVED", approver.username, ""),
        ("REQUESTED", composer.username, "Please"),
    ]


def test_what_is_composed_and_sent_at_once_is_not_kept(composer: User) -> None:
    response = Caller(composer)("post", "", title="Hello")
    assert said(response) == (409, "approval_needed")
    assert not Broadcast.objects.exists()


def test_one_does_not_approve_ones_own(draft: Broadcast) -> None:
    everything = operator(*WRITES, "broadcasts.approve_broadcast")
    Broadcast.objects.update(sender=everything)
    both = Caller(everything)
    both("post", f"/{draft.pk}/request-approval")
    response = both("post", f"/{draft.pk}/approve", '"1"')
    assert said(response) == (403, "own_work")
    assert said(both("post", f"/{draft.pk}/send")) == (409, "approval_needed")


def test_an_approval_names_what_was_read(composer: User, approver: User, draft: Broadcast) -> None:
    one, other, at = Caller(composer), Caller(approver), f"/{draft.pk}"
    one("post", f"{at}/request-approval")
    assert said(other("post", f"{at}/approve")) == (428, "version_not_said")
    one("patch", at, title="Replaced")
    one("post", f"{at}/request-approval")
    stale = other("post", f"{at}/approve", '"1"')
    assert said(stale) == (412, "changed_meanwhile")
    assert f"{composer.username} changed it meanwhile" in stale.json()["message"]
    assert other("post", f"{at}/approve", '"2"').status_code == 200


def test_a_rejection_says_why(composer: User, approver: User, draft: Broadcast) -> None:
    other, at = Caller(approver), f"/{draft.pk}"
    Caller(composer)("post", f"{at}/request-approval")
    assert list(other("post", f"{at}/reject").json()["fields"]) == ["comment"]
    assert list(other("post", f"{at}/reject", comment="x" * 2_001).json()["fields"]) == ["comment"]
    assert other("post", f"{at}/reject", comment="Wrong link").json()["approval"] == "REJECTED"
    assert said(other("post", f"{at}/approve", '"1"')) == (409, "invalid_transition")


def test_a_request_is_withdrawn_and_commented_by_who_takes_part(
    composer: User, approver: User, draft: Broadcast
) -> None:
    at = f"/{draft.pk}"
    Caller(composer)("post", f"{at}/request-approval")
    viewer = Caller(operator("broadcasts.view_broadcast"))
    for verb in ("withdraw-approval", "comment"):
        assert viewer("post", f"{at}/{verb}", comment="x").status_code == 403
    for person in (composer, approver):
        assert Caller(person)("post", f"{at}/comment", comment="Hm").status_code == 201
    assert Caller(approver)("post", f"{at}/comment").status_code == 400
    assert Caller(composer)("post", f"{at}/withdraw-approval").json()["approval"] == "NONE"


# Versions


def test_a_change_is_refused_when_somebody_else_was_quicker(draft: Broadcast) -> None:
    one, other = Caller(operator(*WRITES)), Caller(operator(*WRITES))
    etag = one("get", f"/{draft.pk}").headers["ETag"]
    changed = other("patch", f"/{draft.pk}", etag, title="Theirs")
    assert (changed.status_code, changed.headers["ETag"], changed.json()["version"]) == (
        200,
        '"2"',
        2,
    )
    assert said(one("patch", f"/{draft.pk}", etag, title="Mine")) == (412, "changed_meanwhile")
    assert said(one("post", f"/{draft.pk}/send", etag)) == (412, "changed_meanwhile")
    draft.refresh_from_db()
    assert (draft.title, draft.status) == ("Theirs", "DRAFT")
    assert one("patch", f"/{draft.pk}", "*", title="Mine").json()["title"] == "Mine"
    assert one("patch", f"/{draft.pk}", title="Again").json()["version"] == 4


@pytest.mark.parametrize("etag", ["1", 'w/"1"', '"1", "2"', '"0"', '"x"', '"' + "9" * 30 + '"'])
def test_an_if_match_that_is_no_etag_is_a_400(composer: User, draft: Broadcast, etag: str) -> None:
    response = Caller(composer)("patch", f"/{draft.pk}", etag, title="x")
    assert response.status_code == 400
    assert "ETag" in response.json()["message"]


def test_what_a_proxy_that_compresses_made_of_an_etag_is_one(
    composer: User, draft: Broadcast
) -> None:
    changed = Caller(composer)("patch", f"/{draft.pk}", 'W/"1"', title="x")
    assert (changed.status_code, changed.json()["version"]) == (200, 2)


def test_steps_cost_the_same_for_2_and_for_20(draft: Broadcast, approver: User) -> None:
    counts = []
    caller = Caller(approver)
    for more in (2, 18):
        for _ in range(more):
            comment(draft, UserFactory.create(), "Hm")
        with CaptureQueriesContext(connection) as queries:
            assert caller("get", f"/{draft.pk}/approvals").json()["count"] >= more
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_what_is_unknown_or_sent_is_said(composer: User, approver: User, settings: Any) -> None:
    assert Caller(composer)("post", "/999/request-approval").status_code == 404
    settings.BROADCAST_APPROVAL_FOR = []
    sent = ActiveFactory.create()
    response = Caller(approver)("post", f"/{sent.pk}/approve", '"1"')
    assert said(response) == (409, "invalid_transition")
