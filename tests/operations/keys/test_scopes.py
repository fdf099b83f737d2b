"""Who may do what: every call of the API, with a key of each scope."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from operations.keys import services
from operations.keys.models import ApiKey
from operations.keys.scopes import AREAS, Scope, opening
from tests.operations.keys.conftest import code_of
from tests.test_architecture import CHECKOUT

pytestmark = pytest.mark.django_db

OWN_READS = {"stream", "read"}
OPERATORS_READ = {"read", "admin"}
DOMAINS = ("blog", "foodfolio", "links", "twitch", "warcraft")
PUBLISHED = ("broadcasts", "series", "templates", *DOMAINS)


def expected(method: str, path: str) -> set[str]:
    """Said once more, in other words than the table of the code."""
    reads = method == "get"
    match path.split("/")[2:]:
        case ["schema" | "docs"]:
            return set(Scope.values)
        case ["user", "sse", "stats"]:
            return OPERATORS_READ
        case ["user", "sse", "connected", _]:
            return OWN_READS
        case ["user", "sse", *_]:
            return {"stream"}
        case ["user", *_]:
            return OWN_READS if reads else {"stream"}
        case ["admin", "api-keys", *_]:
            return OPERATORS_READ if reads else set()
        case ["admin", "broadcasts" | "series", _, "approve" | "reject"]:
            return {"admin"}
        case ["admin", noun, *_] | [noun, *_] if noun in PUBLISHED:
            return {"publish", "admin", "read"} if reads else {"publish", "admin"}
        case ["admin", *_]:
            return OPERATORS_READ if reads else {"admin"}
    raise AssertionError(f"Say who may call {method} {path}.")


def every_call() -> Iterator[tuple[str, str]]:
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    yield from ((method, path) for path, methods in paths.items() for method in methods)
    yield from (("get", "/api/schema"), ("get", "/api/docs"))


def call(client: Client, method: str, path: str) -> Any:
    address = re.sub(r"\{(id|pk)\}", "1", path).replace("{", "").replace("}", "")
    body = {} if method == "get" else {"data": "{}"}
    return getattr(client, method)(address, content_type="application/json", **body)


@pytest.mark.parametrize("scope", Scope.values)
def test_a_scope_opens_its_calls_and_no_others(scope: str) -> None:
    root = User.objects.create_superuser("root")
    _, written = services.make(root, "Walker", [scope], limit_minute=0, limit_hour=0, limit_day=0)
    client = Client(headers={"x-api-key": written}, raise_request_exception=False)
    calls = list(every_call())
    opened = set()
    for method, path in calls:
        response = call(client, method, path)
        if response.status_code == 403 and response.json()["code"] == "scope_missing":
            continue
        assert response.status_code != 401, (method, path)
        assert response.status_code < 500, (method, path)
        opened.add((method, path))
    assert opened == {(method, path) for method, path in calls if scope in expected(method, path)}
    assert len(calls) > 80


def test_whatever_its_scopes_a_key_makes_no_keys() -> None:
    root = User.objects.create_superuser("root")
    key, written = services.make(root, "All", Scope.values)
    client = Client(headers={"x-api-key": written})
    address = f"/api/admin/api-keys/{key.pk}"
    for verb in ("", "/rotate", "/disable", "/enable"):
        response = client.post(address + verb if verb else "/api/admin/api-keys", {})
        assert code_of(response) == (403, "scope_missing")
        assert response.json()["message"] == "No API key may do this: sign in."
    assert client.delete(address).status_code == 403
    assert client.patch(address).status_code == 403
    assert client.get(address).status_code == 200
    assert ApiKey.objects.count() == 1


def test_an_address_that_the_table_does_not_know_is_closed() -> None:
    for path in (
        "/api/",
        "/api/new",
        "/api/user",
        "/api/admin",
        "/metrics",
        "/admin/",
        "/api/user/",
    ):
        assert opening("GET", path) == opening("POST", path) == frozenset(), path
    assert opening("TRACE", "/api/docs") == frozenset()


def test_it_says_which_scope_is_missing() -> None:
    _, written = services.make(User.objects.create_user("one"), "Reads", ["read"])
    client = Client(headers={"x-api-key": written})
    response = client.post("/api/user/messages/read-all", "{}", "application/json")
    assert code_of(response) == (403, "scope_missing")
    assert response.json()["message"] == "The key needs one of these scopes: stream."


@pytest.mark.parametrize("scopes", [[], ["root"], ["read", "read"], "read", {"read": 1}, None])
def test_scopes_that_are_none_are_refused(scopes: Any) -> None:
    with pytest.raises(ValidationError):
        ApiKey(
            key_id="ak_1",
            name="x",
            owner=User.objects.create_user("one"),
            scopes=scopes,
            digest="0",
        ).full_clean()


def test_the_table_of_the_docs_is_that_of_the_code() -> None:
    text = (Path(CHECKOUT) / "docs" / "api-keys.md").read_text()
    rows = re.findall(r"^\| `(/api/[^`]*)` \| ([^|]*) \| ([^|]*) \|$", text, re.MULTILINE)
    written = [(a.replace("\\", ""), words(reads), words(writes)) for a, reads, writes in rows]
    assert written == [(area.addresses, set(area.reads), set(area.writes)) for area in AREAS]


def words(cell: str) -> set[str]:
    return set(re.findall(r"[a-z]+", cell))
