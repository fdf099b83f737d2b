import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from broadcasts.models import Broadcast, Series, Status, Template
from broadcasts.series import end, start
from tests.factories import UserFactory, operator

pytestmark = pytest.mark.django_db

SERIES = "/api/admin/series"
VERBS = [*(f"broadcasts.{verb}_series" for verb in ("view", "add", "change"))]
SEND = "broadcasts.send_broadcast"
DAILY: dict[str, Any] = {"title": "Good morning", "cron": "0 9 * * *", "zone": "Europe/Berlin"}


@pytest.fixture(autouse=True)
def monday() -> Any:
    with time_machine.travel(datetime(2026, 6, 1, 12, tzinfo=UTC), tick=False):
        yield


@pytest.fixture
def boss(client: Client) -> Client:
    client.force_login(operator(*VERBS, SEND))
    return client


def act(
    client: Client, method: str, path: str = "", version: int | None = None, **data: Any
) -> Any:
    body = json.dumps(data, default=str)
    headers = {"If-Match": f'"{version}"'} if version else {}
    url, kind = f"{SERIES}{path}", "application/json"
    return client.generic(method.upper(), url, body, content_type=kind, headers=headers)


def daily() -> Series:
    return start(None, **DAILY)


def test_creating_starts_it(boss):
    response = act(boss, "post", **DAILY, count=3, life="8h", priority="HIGH")
    assert response.status_code == 201, response.content
    body = response.json()
    assert body["upcoming"] == [f"2026-06-0{day}T09:00:00+02:00" for day in (2, 3, 4)]
    assert (body["state"], body["words"], body["next_at"]) == (
        "RUNNING",
        "At 09:00",
        "2026-06-02T07:00:00Z",
    )
    broadcast = Broadcast.objects.get(status=Status.SCHEDULED)
    assert (broadcast.series_id, broadcast.priority) == (body["id"], 30)
    assert boss.get("/api/admin/broadcasts", {"series": body["id"]}).status_code == 403


def test_the_broadcasts_of_a_series_are_found(client):
    client.force_login(operator("broadcasts.view_broadcast"))
    series = daily()
    daily()
    found = client.get("/api/admin/broadcasts", {"series": series.pk}).json()["results"]
    assert [broadcast["series_id"] for broadcast in found] == [series.pk]
    for strange in ("x", "1.5", "9" * 30):
        assert client.get("/api/admin/broadcasts", {"series": strange}).status_code == 200


def test_a_change_is_from_here_on(boss):
    series = daily()
    response = act(boss, "patch", f"/{series.pk}", title="Good evening", cron="0 18 * * *")
    assert response.json()["upcoming"][0] == "2026-06-01T18:00:00+02:00"
    assert series.broadcasts.get().title == "Good evening"


def test_it_is_paused_resumed_and_ended(boss):
    series = daily()
    for verb, state in (("pause", "PAUSED"), ("resume", "RUNNING"), ("end", "ENDED")):
        assert act(boss, "post", f"/{series.pk}/{verb}").json()["state"] == state
    refused = act(boss, "post", f"/{series.pk}/pause")
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_transition")


def test_one_is_skipped(boss):
    series = daily()
    skipped = act(boss, "post", f"/{series.pk}/skip", occurrence="2026-06-02T09:00:00+02:00")
    assert skipped.json()["upcoming"][0] == "2026-06-03T09:00:00+02:00"
    none = act(boss, "post", f"/{series.pk}/skip", occurrence="2026-06-03T09:01:00+02:00")
    assert (none.status_code, list(none.json()["fields"])) == (400, ["occurrence"])


def test_to_delete_is_to_end(boss):
    series = daily()
    assert boss.delete(f"{SERIES}/{series.pk}").status_code == 204
    assert boss.get(f"{SERIES}/{series.pk}").json()["state"] == "ENDED"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cron": "at nine"}, "cron"),
        ({"zone": "Mars/Base"}, "zone"),
        ({"life": "long"}, "life"),
        ({"count": 0}, "count"),
        ({"count": "x"}, "count"),
        ({"starts_on": "tomorrow"}, "starts_on"),
        ({"cron": None}, "cron"),
        ({"audience": "SELECTED", "targets": ["ann"]}, "targets"),
        ({"translations": {"de": {"content": "Hallo"}}}, "translations.de.title"),
        ({"translations": {"Deutsch!": {"title": "Hallo"}}}, "translations"),
        ({"title": None}, "title"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(boss, fields, field):
    response = act(boss, "post", **(DAILY | fields))
    assert (response.status_code, *response.json()["fields"]) == (400, field)
    assert not Series.objects.exists()


def test_a_series_without_a_title_says_so(boss):
    response = act(boss, "post", cron="0 9 * * *")
    assert response.json()["fields"] == {"title": ["Write one, or name a template."]}


def test_its_words_come_from_a_template(boss):
    template = Template.objects.create(name="T", title="{{ who }} opens", content="At {{ when }}.")
    when: dict[str, Any] = {"cron": "0 9 * * *", "template": template.pk}
    missing = act(boss, "post", **when, values={"who": "The shop"})
    assert missing.json()["fields"] == {"values": ["Missing: when."]}
    made = act(boss, "post", **when, values={"who": "The shop", "when": "nine"}).json()
    assert (made["title"], made["content"]) == ("The shop opens", "At nine.")


def test_series_are_filtered_by_state_and_title(boss):
    running = daily()
    ended = end(start(None, **DAILY | {"title": "Good night"}))

    def found(**query: str) -> list[int]:
        return [series["id"] for series in boss.get(SERIES, query).json()["results"]]

    assert (found(state="RUNNING"), found(state="ENDED")) == ([running.pk], [ended.pk])
    assert (found(search="night"), found()) == ([ended.pk], [ended.pk, running.pk])


def test_the_list_costs_the_same_with_1_and_with_20(boss):
    daily()
    boss.get(SERIES)
    with CaptureQueriesContext(connection) as with_one:
        boss.get(SERIES)
    for _ in range(19):
        daily()
    with CaptureQueriesContext(connection) as with_twenty:
        assert len(boss.get(SERIES).json()["results"]) == 20
    assert len(with_twenty) == len(with_one)


CALLS = [
    ("get", ""),
    ("get", "/{pk}"),
    ("post", ""),
    ("patch", "/{pk}"),
    ("delete", "/{pk}"),
    *(("post", f"/{{pk}}/{verb}") for verb in ("pause", "resume", "skip", "end")),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_who_may_not_is_refused(client, method, path):
    path = path.format(pk=daily().pk)
    assert act(client, method, path).status_code == 401
    client.force_login(UserFactory.create())
    assert act(client, method, path).status_code == 403
    client.force_login(operator())
    assert act(client, method, path).status_code == 403
    assert Series.objects.get().paused_at is None


@pytest.mark.parametrize(("method", "path"), CALLS[2:])
def test_a_series_sends_so_that_needs_the_permission_to_send(client, method, path):
    path = path.format(pk=daily().pk)
    client.force_login(operator(*VERBS))
    assert act(client, method, path).status_code == 403
    assert Series.objects.get().ended_at is None


def test_what_is_not_there_is_not_found(boss):
    for method, path in CALLS[1:2] + CALLS[3:]:
        assert act(boss, method, path.format(pk=404), occurrence=SOON).status_code == 404


SOON = datetime(2026, 6, 2, tzinfo=UTC) + timedelta(hours=1)


def test_a_second_person_approves_what_they_have_read(client, settings):
    settings.BROADCAST_APPROVAL_FOR = ["ALL"]
    composer = operator(*VERBS, SEND)
    client.force_login(composer)
    body = act(client, "post", **DAILY).json()
    path = f"/{body['id']}"
    assert (body["state"], body["approval"], body["version"]) == ("PAUSED", "REQUESTED", 1)
    refused = act(client, "post", f"{path}/resume")
    assert (refused.status_code, refused.json()["code"]) == (409, "approval_needed")
    assert act(client, "post", f"{path}/approve").status_code == 403
    client.force_login(operator(*VERBS, SEND, "broadcasts.approve_broadcast"))
    assert act(client, "post", f"{path}/approve").status_code == 428
    changed = act(client, "patch", path, version=1, title="Mine")
    assert changed.headers["ETag"] == '"2"'
    assert act(client, "post", f"{path}/approve", version=1).status_code == 412
    own = act(client, "post", f"{path}/approve", version=2)
    assert (own.status_code, own.json()["code"]) == (403, "own_work")
    client.force_login(operator("broadcasts.approve_broadcast"))
    approved = act(client, "post", f"{path}/approve", version=2)
    assert (approved.status_code, approved.json()["state"]) == (200, "RUNNING")


def test_a_second_person_rejects_it_with_a_reason(client, settings):
    settings.BROADCAST_APPROVAL_FOR = ["ALL"]
    series = start(operator(), **DAILY)
    path = f"/{series.pk}"
    client.force_login(operator("broadcasts.view_series"))
    for verb in ("reject", "comment"):
        assert act(client, "post", f"{path}/{verb}", comment="No.").status_code == 403
    client.force_login(operator("broadcasts.view_series", "broadcasts.approve_broadcast"))
    assert act(client, "post", f"{path}/reject").json()["fields"]["comment"]
    assert act(client, "post", f"{path}/comment", comment="Why?").status_code == 201
    rejected = act(client, "post", f"{path}/reject", comment="At ten.").json()
    assert (rejected["state"], rejected["approval"]) == ("PAUSED", "REJECTED")
    said = act(client, "get", f"{path}/approvals").json()["results"]
    assert [(step["decision"], step["comment"]) for step in said] == [
        ("REJECTED", "At ten."), ("COMMENTED", "Why?"), ("REQUESTED", ""),
    ]  # fmt: skip


def test_what_was_left_out_is_put_back(boss):
    series = daily()
    assert act(boss, "post", f"/{series.pk}/put-back", occurrence=SOON).status_code == 400
    for verb, left in (("skip", 1), ("put-back", 0)):
        body = act(boss, "post", f"/{series.pk}/{verb}", occurrence="2026-06-02T07:00:00Z")
        assert (body.status_code, series.skips.count()) == (200, left)
