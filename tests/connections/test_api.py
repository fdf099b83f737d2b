from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from connections.models import Connection
from connections.services import CLOSE
from connections.tokens import read_token
from outbox.models import Event

pytestmark = pytest.mark.django_db


@pytest.fixture
def user() -> User:
    return User.objects.create_user("reader")


@pytest.fixture
def signed_in(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


@pytest.fixture
def operator(client: Client) -> Client:
    operator = User.objects.create_user("operator", is_staff=True)
    operator.user_permissions.add(Permission.objects.get(codename="view_connection"))
    client.force_login(operator)
    return client


def disconnect(client: Client, connection_id: object) -> Any:
    return client.post(
        "/api/user/sse/disconnect",
        {"connection_id": str(connection_id)},
        content_type="application/json",
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [("post", "token"), ("post", "disconnect"), ("get", "connected/reader"), ("get", "stats")],
)
def test_who_is_not_signed_in_gets_401(client: Client, method: str, path: str) -> None:
    assert getattr(client, method)(f"/api/user/sse/{path}").status_code == 401


def test_a_token_is_ones_own_and_says_how_long_it_is_good(signed_in: Client, user: User) -> None:
    answer = signed_in.post("/api/user/sse/token", content_type="application/json").json()
    assert read_token(answer["token"]) == user.pk
    assert answer["expires_in"] == 60


def test_a_token_for_somebody_else_needs_the_permission(operator: Client, user: User) -> None:
    def ask() -> Any:
        return operator.post(
            "/api/user/sse/token", {"user": "reader"}, content_type="application/json"
        )

    assert ask().status_code == 403
    permission = Permission.objects.get(codename="issue_token")
    User.objects.get(username="operator").user_permissions.add(permission)
    assert read_token(ask().json()["token"]) == user.pk
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert ask().status_code == 404


def test_ones_own_stream_can_be_ended(signed_in: Client, user: User) -> None:
    connection = Connection.objects.create(user=user, node="a")
    assert disconnect(signed_in, connection.pk).status_code == 204
    assert Event.objects.get(type=CLOSE).data["connection_id"] == str(connection.pk)


def test_somebody_elses_stream_cannot_be_ended(signed_in: Client) -> None:
    other = Connection.objects.create(user=User.objects.create_user("other"), node="a")
    assert disconnect(signed_in, other.pk).status_code == 404
    assert Connection.objects.active().get() == other
    assert not Event.objects.exists()


@pytest.mark.parametrize(("given", "status"), [(uuid4(), 404), ("no id", 400)])
def test_an_unknown_stream_is_an_error_that_says_so(
    signed_in: Client, given: object, status: int
) -> None:
    answer = disconnect(signed_in, given)
    assert (answer.status_code, answer.json()["status"]) == (status, status)


def test_a_person_sees_whether_they_are_connected(signed_in: Client, user: User) -> None:
    Connection.objects.create(user=user, node="a")
    for name in (user.pk, user.username):
        answer = signed_in.get(f"/api/user/sse/connected/{name}").json()
        assert answer == {"user": "reader", "connected": True, "connections": 1}


def test_others_are_only_for_operators_to_see(signed_in: Client) -> None:
    User.objects.create_user("other")
    assert signed_in.get("/api/user/sse/connected/other").status_code == 403
    assert signed_in.get("/api/user/sse/stats").status_code == 403


def test_an_operator_sees_who_is_connected_where(operator: Client, user: User) -> None:
    for node in "aab":
        Connection.objects.create(user=user, node=node)
    assert operator.get("/api/user/sse/connected/reader").json()["connections"] == 3
    answer = operator.get("/api/user/sse/stats").json()
    assert (answer["connections"], answer["users"], answer["nodes"]) == (3, 1, {"a": 2, "b": 1})


def test_an_unknown_person_is_404(operator: Client) -> None:
    assert operator.get("/api/user/sse/connected/nobody").status_code == 404


@pytest.mark.parametrize("name", ["%00", "9" * 30, "9" * 5_000])
def test_what_can_be_nobodys_name_or_id_is_404(operator: Client, name: str) -> None:
    assert operator.get(f"/api/user/sse/connected/{name}").status_code == 404
