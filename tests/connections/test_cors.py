"""The user API, asked by pages of other sites."""

from typing import Any

import pytest
from django.test import Client

from connections.tokens import make_token
from tests.factories import ActiveFactory, UserFactory

pytestmark = pytest.mark.django_db

MESSAGES = "/api/user/messages"
SHOP = "https://shop.example"


@pytest.fixture(autouse=True)
def allowed(settings: Any) -> None:
    settings.SSE_ALLOW_ORIGINS = [SHOP]


def preflight(client: Client, path: str, origin: str) -> Any:
    return client.options(path, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})


def test_a_preflight_is_answered_without_a_session(client: Client) -> None:
    answer = preflight(client, f"{MESSAGES}/read", SHOP)
    assert answer.status_code == 204
    assert answer["Access-Control-Allow-Origin"] == SHOP
    assert "Authorization" in answer["Access-Control-Allow-Headers"]
    assert "POST" in answer["Access-Control-Allow-Methods"]


def test_another_origin_is_allowed_nothing(client: Client) -> None:
    answer = preflight(client, MESSAGES, "https://other.example")
    assert "Access-Control-Allow-Origin" not in answer
    assert "Origin" in answer["Vary"]


def test_the_api_of_operators_is_for_no_other_site(client: Client) -> None:
    answer = preflight(client, "/api/admin/broadcasts", SHOP)
    assert "Access-Control-Allow-Origin" not in answer


def test_a_token_reads_the_inbox_and_marks_it_read_without_a_cookie() -> None:
    user, message = UserFactory.create(), ActiveFactory.create()
    client = Client(enforce_csrf_checks=True)
    headers = {"Origin": SHOP, "Authorization": f"Bearer {make_token(user.pk)}"}
    inbox = client.get(MESSAGES, headers=headers)
    assert inbox["Access-Control-Allow-Origin"] == SHOP
    assert (inbox.json()["user"], inbox.json()["unread"]) == (user.pk, 1)
    data = {"broadcast_id": message.pk}
    client.post(f"{MESSAGES}/read", data, content_type="application/json", headers=headers)
    assert client.get(MESSAGES, headers=headers).json()["unread"] == 0


def test_an_error_can_be_read_by_the_other_site(client: Client) -> None:
    answer = client.get(MESSAGES, headers={"Origin": SHOP, "Authorization": "Bearer x"})
    assert (answer.status_code, answer["Access-Control-Allow-Origin"]) == (401, SHOP)
    assert "/api/user/sse/token" in answer.json()["message"]


def test_a_token_opens_no_door_of_operators(client: Client) -> None:
    token = make_token(UserFactory.create(is_staff=True, is_superuser=True).pk)
    answer = client.get("/api/admin/broadcasts", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


def test_a_token_makes_no_other_token(client: Client) -> None:
    token = make_token(UserFactory.create().pk)
    headers = {"Authorization": f"Bearer {token}"}
    assert client.post("/api/user/sse/token", headers=headers).status_code == 401
