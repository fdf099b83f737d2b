import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from connections import admissions
from connections.admissions import AT_ONCE, Admitted, Asking, admit
from connections.hub import Hub
from connections.models import Connection
from connections.refusals import Refusal
from connections.registry import get_registry
from connections.tokens import make_token
from tests.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def node() -> None:
    get_registry().start("node")


@pytest.fixture
def people() -> list[User]:
    people = [User.objects.create_user(f"user-{n}") for n in range(30)]
    for name in ("A", "B"):
        Group.objects.create(name=name).user_set.set(people[:10])
    return people


def asking(user: User, token: str = "", wanted: str | None = None) -> Asking:
    return Asking(token or make_token(user.pk), None, wanted, "192.0.2.1", "a browser")


def test_many_are_admitted_by_as_many_statements_as_one(people: list[User]) -> None:
    counts = []
    for some in (people[:1], people):
        with CaptureQueriesContext(connection) as queries:
            admitted = admit("node", [asking(user) for user in some])
        counts.append(len(queries))
        assert [one[0].user_id for one in admitted if not isinstance(one, Refusal)] == [
            user.pk for user in some
        ]
    assert counts[0] == counts[1]
    rows = {row.user_id: row.channels for row in Connection.objects.all()}
    assert rows[people[9].pk] == ["all", f"user-{people[9].pk}", "role-A", "role-B"]
    assert rows[people[10].pk] == ["all", f"user-{people[10].pk}"]


def test_each_is_refused_for_a_reason_of_their_own(people: list[User]) -> None:
    User.objects.filter(pk=people[1].pk).update(is_active=False)
    answers = admit(
        "node",
        [
            asking(people[0]),
            asking(people[1]),
            asking(people[2], token="forged"),
            asking(people[3], wanted="somebody"),
            Asking(None, "no session", None, "", ""),
            asking(people[4], wanted="user-4"),
        ],
    )
    said = [one.code if isinstance(one, Refusal) else one[0].user_id for one in answers]
    assert said == [
        people[0].pk,
        "invalid_token",
        "invalid_token",
        "forbidden",
        "not_authenticated",
        people[4].pk,
    ]
    assert Connection.objects.count() == 2


class Gate:
    """Holds back whoever admits until all have asked; counts the batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, admits: Callable[..., Any]) -> None:
        self.open = threading.Event()
        self.batches: list[int] = []
        self.admits = admits
        monkeypatch.setattr(admissions, "admit", self)

    def __call__(self, node: str, asking: Sequence[Asking]) -> Any:
        self.batches.append(len(asking))
        self.open.wait(PATIENCE)
        return self.admits(node, asking)


def request_all(hub: Hub, gate: Gate, people: list[User]) -> list[Admitted | BaseException]:
    async def go() -> list[Admitted | BaseException]:
        asked = [asyncio.create_task(hub.admissions.request(asking(user))) for user in people]
        while len(hub.admissions.waiting) < len(people) - AT_ONCE:
            await asyncio.sleep(0)
        gate.open.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(go())


def test_who_comes_meanwhile_is_admitted_together(
    people: list[User], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, admit)
    hub = Hub("node")
    answers = request_all(hub, gate, people)
    assert [one[0].user_id for one in answers if isinstance(one, tuple)] == [u.pk for u in people]
    assert sum(gate.batches) == len(people)
    assert len(gate.batches) <= 2 * AT_ONCE
    hub.database.shutdown()


def test_what_is_at_fault_refuses_nobody_else(
    people: list[User], monkeypatch: pytest.MonkeyPatch
) -> None:
    def admits(node: str, asking: Sequence[Asking]) -> Any:
        if any(one.token == bad for one in asking):
            raise ValueError("a name that nobody expected")
        return admit(node, asking)

    bad = make_token(people[7].pk)
    hub = Hub("node")
    answers = request_all(hub, Gate(monkeypatch, admits), people)
    wrong = [n for n, answer in enumerate(answers) if isinstance(answer, Exception)]
    assert wrong == [7]
    hub.database.shutdown()


def test_an_outage_is_told_to_all_at_once(
    people: list[User], monkeypatch: pytest.MonkeyPatch
) -> None:
    def admits(node: str, asking: Sequence[Asking]) -> Any:
        raise OperationalError("the database is away")

    gate = Gate(monkeypatch, admits)
    hub = Hub("node")
    answers = request_all(hub, gate, people)
    assert Counter(type(answer) for answer in answers) == {OperationalError: len(people)}
    assert len(gate.batches) <= 2 * AT_ONCE
    hub.database.shutdown()
