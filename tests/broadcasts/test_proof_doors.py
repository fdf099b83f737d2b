"""The proof of a broadcast in the admin and in the API: what it shows, and to whom."""

import csv
import io
from datetime import datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpRequest
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from broadcasts import reminders
from broadcasts.directory import UserServiceUnavailable
from broadcasts.exports import COLUMNS, export
from broadcasts.models import Broadcast, Receipt, Reminder
from broadcasts.receipts import acknowledge, record_deliveries
from jobs.exports import FORMULA, cell
from outbox.models import Event
from tests.factories import ActiveFactory, DraftFactory, GroupFactory, UserFactory, operator

pytestmark = pytest.mark.django_db

ADMIN = "/admin/broadcasts/broadcast"
API = "/api/admin/broadcasts"
VIEW, SEND = "broadcasts.view_broadcast", "broadcasts.send_broadcast"


def signed_in(*permissions: str) -> Client:
    client = Client()
    client.force_login(operator(*permissions))
    return client


@pytest.fixture
def console() -> Client:
    return signed_in(VIEW, SEND)


@pytest.fixture
def people() -> list[User]:
    crew = GroupFactory.create(name="crew")
    people = [UserFactory.create(username=name) for name in ("ann", "bob", "cleo")]
    crew.user_set.add(*people)
    return people


@pytest.fixture
def broadcast(people: list[User]) -> Broadcast:
    broadcast = ActiveFactory.create(
        audience="ROLE", targets=["crew"], requires_acknowledgement=True
    )
    record_deliveries(broadcast.pk, [people[1].pk], timezone.now() + timedelta(seconds=2))
    acknowledge(people[0], [broadcast.pk])
    return broadcast


def test_the_page_leads_to_its_proof_in_the_order_of_time(
    console: Client, broadcast: Broadcast
) -> None:
    page = console.get(f"{ADMIN}/{broadcast.pk}/change/")
    labels = [str(label) for label, *_ in page.context["timeline"]]
    assert labels[0] == "Composed"
    assert labels[-2:] == ["First delivery", "Last delivery so far"]
    assert f'data-proof="{ADMIN}/{broadcast.pk}/proof/"' in page.text


def test_the_proof_shows_times_charts_roles_and_who_has_not_seen_it(
    console: Client, broadcast: Broadcast
) -> None:
    shown = console.get(f"{ADMIN}/{broadcast.pk}/proof/")
    assert [chart["total"] for chart in shown.context["charts"]] == ["2", "1", "1", "1"]
    ((role, shares),) = shown.context["roles"]
    assert role == "crew"
    assert shares == [("2", "100%", 100), ("1", "50%", 50), ("1", "50%", 50), ("1", "50%", 50)]
    assert shown.context["unseen"] == "2"
    assert shown.text.count("<svg") == 4
    assert "Delivered by hour, most: " in shown.text


def test_a_broadcast_that_nobody_has_got_says_so(console: Client) -> None:
    shown = console.get(f"{ADMIN}/{ActiveFactory.create().pk}/proof/")
    assert "Nobody has got it yet" in shown.text
    assert "Export" not in shown.text


def test_a_passing_one_says_whom_it_reached(console: Client, people: list[User]) -> None:
    broadcast = ActiveFactory.create(fire_and_forget=True)
    record_deliveries(broadcast.pk, [people[0].pk], timezone.now())
    numbers = console.get(f"{ADMIN}/{broadcast.pk}/numbers/").json()
    assert [(stage["label"], stage["count"]) for stage in numbers["stages"]] == [
        ("Reached", "1"),
        ("Seen", "0"),
    ]
    assert "reached 1 / " in console.get(f"{ADMIN}/").text


def test_who_has_not_seen_it_is_listed_and_searched(console: Client, broadcast: Broadcast) -> None:
    page = f"{ADMIN}/{broadcast.pk}/unseen/"
    names = [row["person"].username for row in console.get(page).context["people"]]
    assert names == ["bob", "cleo"]
    assert "cleo" not in console.get(page, {"q": "bo"}).text
    assert "Nobody of this name" in console.get(page, {"q": "x" * 300 + "\0"}).text
    assert "There are no more" in console.get(page, {"after": "z\0"}).text


def test_the_list_of_who_has_not_seen_it_is_paged(
    console: Client, broadcast: Broadcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadcasts.admin.proof.PAGE", 1)
    first = console.get(f"{ADMIN}/{broadcast.pk}/unseen/")
    second = console.get(first.context["next_url"])
    assert [row["person"].username for row in second.context["people"]] == ["cleo"]
    assert "next_url" not in second.context


def test_a_directory_that_is_away_is_said(
    console: Client, broadcast: Broadcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> Any:
        raise UserServiceUnavailable("timed out")

    monkeypatch.setattr(reminders, "get_directory", away)
    for view in ("unseen", "proof", "remind"):
        response = console.get(f"{ADMIN}/{broadcast.pk}/{view}/", follow=True)
        assert response.status_code == 200
        assert "directory does not answer" in response.text or "timed out" in response.text
    assert console.get(f"{API}/{broadcast.pk}/unseen").status_code == 503


def test_they_are_reminded_after_a_question_and_a_double_click_reminds_once(
    console: Client, broadcast: Broadcast
) -> None:
    url = f"{ADMIN}/{broadcast.pk}/remind/"
    assert "2 people" in console.get(url).text
    assert not Reminder.objects.exists()
    assert "2 people reminded." in console.post(url, {"confirmed": "yes"}, follow=True).text
    assert "Wait 10 minutes" in console.post(url, {"confirmed": "yes"}, follow=True).text
    assert Reminder.objects.get().people == 2
    assert Event.objects.filter(type="broadcast.reminded").count() == 1
    timeline = console.get(f"{ADMIN}/{broadcast.pk}/change/").context["timeline"]
    assert [detail for label, _, detail in timeline if label == "Reminder"] == [
        f"2 people · {Reminder.objects.get().sender_name}"
    ]


def test_one_reminds_by_the_api(console: Client, broadcast: Broadcast) -> None:
    first = console.post(f"{API}/{broadcast.pk}/remind")
    assert (first.status_code, first.json()["people"]) == (201, 2)
    again = console.post(f"{API}/{broadcast.pk}/remind")
    assert (again.status_code, again.json()["code"]) == (409, "already_reminded")
    draft = console.post(f"{API}/{DraftFactory.create().pk}/remind")
    assert (draft.status_code, draft.json()["code"]) == (409, "invalid_transition")


def test_the_api_tells_the_whole_proof(console: Client, broadcast: Broadcast) -> None:
    reminders.remind(broadcast, None)
    stats = console.get(f"{API}/{broadcast.pk}/stats").json()
    assert (stats["targeted"], stats["delivered"], stats["acknowledged"]) == (3, 2, 1)
    assert stats["delivered_at_once"] == 2
    assert 1 < stats["p95_seconds"] < 3
    assert stats["publication"]["events"] == 1
    assert sum(bar["counts"]["delivered"] for bar in stats["bars"]) == 2
    assert stats["roles"] == [
        {"name": "crew", "counts": {"delivered": 2, "seen": 1, "read": 1, "acknowledged": 1}}
    ]
    assert [reminder["people"] for reminder in stats["reminders"]] == [2]


def test_the_api_pages_through_who_has_not_seen_it(console: Client, broadcast: Broadcast) -> None:
    first = console.get(f"{API}/{broadcast.pk}/unseen?limit=1").json()
    assert (first["count"], first["after"], first["people"][0]["username"]) == (2, "bob", "bob")
    second = console.get(f"{API}/{broadcast.pk}/unseen?limit=1&after=bob").json()
    assert (second["after"], second["people"][0]["username"]) == (None, "cleo")
    assert console.get(f"{API}/{broadcast.pk}/unseen?limit=0").status_code == 400


def rows_of(response: Any) -> list[dict[str, str]]:
    text = b"".join(response.streaming_content).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("path", [f"{API}/%s/export", f"{ADMIN}/%s/export/"])
def test_the_receipts_are_exported(console: Client, broadcast: Broadcast, path: str) -> None:
    response = console.get(path % broadcast.pk, headers={"Accept": "text/csv"})
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["X-Total-Count"] == "2"
    rows = {row["username"]: row for row in rows_of(response)}
    assert list(rows["ann"]) == list(COLUMNS)
    assert datetime.fromisoformat(rows["ann"]["acknowledged_at"]).tzinfo
    assert (rows["bob"]["status"], rows["bob"]["acknowledged_at"]) == ("DELIVERED", "")


@pytest.mark.parametrize("start", FORMULA)
def test_what_a_spreadsheet_would_run_is_text(start: str) -> None:
    assert cell(f"{start}cmd|' /C calc'!A0").startswith("'")


def test_an_export_holds_a_batch_of_rows_and_costs_a_query_for_each(
    broadcast: Broadcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadcasts.exports.BATCH", 1)
    with CaptureQueriesContext(connection) as queries:
        chunks = iter(export(HttpRequest(), broadcast, mark=False))
        next(chunks)
        assert len(queries) == 1
        assert len(list(chunks)) == 2
    assert len(queries) == 3


@pytest.mark.django_db(transaction=True)
def test_an_export_is_streamed_by_an_asynchronous_server(broadcast: Broadcast) -> None:
    client = AsyncClient()
    client.force_login(operator(VIEW))

    async def fetch() -> bytes:
        response: Any = await client.get(f"{API}/{broadcast.pk}/export")
        assert response.is_async
        return b"".join([chunk async for chunk in response.streaming_content])

    assert async_to_sync(fetch)().count(b"\r\n") == 3


READS = {"proof": f"{ADMIN}/%s/proof/", "unseen": f"{ADMIN}/%s/unseen/"}
READS |= {"export": f"{ADMIN}/%s/export/", "api export": f"{API}/%s/export"}
READS |= {"api stats": f"{API}/%s/stats", "api unseen": f"{API}/%s/unseen"}


@pytest.mark.parametrize("path", READS.values(), ids=READS)
def test_who_may_see_a_broadcast_may_see_its_proof_and_nobody_else(
    client: Client, broadcast: Broadcast, path: str
) -> None:
    path %= broadcast.pk
    in_admin = path.startswith(ADMIN)
    assert client.get(path).status_code == (302 if in_admin else 401)
    assert signed_in().get(path).status_code == 403
    assert signed_in(VIEW).get(path).status_code == 200
    assert signed_in(VIEW).post(path).status_code == 405
    missing = path.replace(f"/{broadcast.pk}/", "/999999/")
    assert signed_in(VIEW).get(missing).status_code == 404


@pytest.mark.parametrize("path", [f"{ADMIN}/%s/remind/", f"{API}/%s/remind"])
def test_who_may_not_send_may_not_remind(client: Client, broadcast: Broadcast, path: str) -> None:
    path %= broadcast.pk
    assert client.post(path, {"confirmed": "yes"}).status_code in (302, 401)
    assert signed_in(VIEW).post(path, {"confirmed": "yes"}).status_code == 403
    assert not Reminder.objects.exists()


@pytest.mark.parametrize("path", [READS["proof"], READS["unseen"], READS["api stats"]])
def test_a_page_costs_the_same_with_2_receipts_and_with_20(
    console: Client, broadcast: Broadcast, path: str
) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert console.get(path % broadcast.pk).status_code == 200
        return len(queries)

    cost()  # content types and such are asked once a process
    few = cost()
    for n in range(18):
        user = UserFactory.create()
        user.groups.add(GroupFactory.create())
        Receipt.objects.create(
            broadcast=broadcast, user=user, delivered_at=timezone.now() + timedelta(hours=n)
        )
    assert cost() == few
    assert few < 25
