import json
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import IntegrityError, OperationalError
from django.http import Http404, HttpRequest
from django.test import Client, RequestFactory
from django.urls import URLPattern, get_resolver
from drf_spectacular.generators import SchemaGenerator
from rest_framework.exceptions import Throttled, ValidationError

from broadcast_project import errors
from broadcasts.directory import UserServiceUnavailable
from tests.factories import UserFactory, operator

BROADCASTS = "/api/admin/broadcasts"
READ = "/api/user/messages/read"


def shape_of(response: Any) -> dict[str, Any]:
    assert response["Content-Type"] == "application/json"
    body: dict[str, Any] = response.json()
    assert set(body) - {"fields"} == {"status", "code", "message", "path"}
    assert body["status"] == response.status_code
    assert body["message"]
    return body


@pytest.fixture
def reader(client: Client, db: None) -> User:
    user = UserFactory.create()
    client.force_login(user)
    return user


@pytest.fixture
def writer(client: Client, db: None) -> User:
    user = operator("broadcasts.add_broadcast")
    client.force_login(user)
    return user


def test_who_is_not_signed_in_gets_401_without_a_dialog_of_the_browser(client: Client) -> None:
    response = client.get("/api/user/messages")
    assert shape_of(response)["code"] == "not_authenticated"
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == 'Bearer realm="api"'


def test_basic_credentials_sign_a_script_in(client: Client, db: None) -> None:
    User.objects.create_user("script", password="secret")
    good = RequestFactory().get("/", headers={"Authorization": "Basic c2NyaXB0OnNlY3JldA=="})
    header = {"Authorization": good.headers["Authorization"]}
    assert client.get("/api/user/messages", headers=header).status_code == 200
    wrong = {"Authorization": "Basic c2NyaXB0Ondyb25n"}
    assert shape_of(client.get("/api/user/messages", headers=wrong))["status"] == 401


def test_a_session_needs_the_csrf_token(reader: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(reader)
    response = client.post(READ, {"broadcast_id": 1}, content_type="application/json")
    assert shape_of(response)["status"] == 403
    assert "CSRF" in response.json()["message"]


def test_half_json_is_a_400_that_says_where_it_broke(client: Client, writer: User) -> None:
    whole = json.dumps({"title": "Half", "content": "of a file"})
    response = client.post(BROADCASTS, whole[: len(whole) // 2], content_type="application/json")
    assert shape_of(response)["code"] == "parse_error"
    assert "column" in response.json()["message"]


@pytest.mark.parametrize("body", [b"[" * 100_000, b"\xff\xfe", b"", b'{"priority": NaN}', b"[]"])
def test_no_body_breaks_the_server(client: Client, writer: User, body: bytes) -> None:
    response = client.post(BROADCASTS, body, content_type="application/json")
    assert shape_of(response)["status"] == 400


def test_a_body_beyond_the_limit_is_a_413(client: Client, writer: User) -> None:
    body = b" " * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
    response = client.post(BROADCASTS, body, content_type="application/json")
    assert shape_of(response)["status"] == 413


def test_a_form_is_a_415(client: Client, writer: User) -> None:
    assert shape_of(client.post(BROADCASTS, {"title": "x"}))["status"] == 415


def test_a_method_that_is_not_there_is_a_405(client: Client, writer: User) -> None:
    response = client.put(BROADCASTS, {}, content_type="application/json")
    assert shape_of(response)["status"] == 405


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("path", ["/api/nothing", "/api/admin/broadcasts/", "/api/"])
def test_an_unknown_address_answers_json_even_in_debug(
    client: Client, settings: Any, path: str, debug: bool
) -> None:
    settings.DEBUG = debug
    assert shape_of(client.get(path))["status"] == 404


def test_an_unknown_page_outside_the_api_stays_a_page(client: Client) -> None:
    response = client.get("/nothing")
    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")


def test_a_crash_answers_json(
    client: Client, reader: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(user: User) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("broadcasts.api.readers.inbox_of", crash)
    client.raise_request_exception = False
    response = client.get("/api/user/messages")
    assert shape_of(response)["status"] == 500
    assert "secret" not in response.json()["message"]


def test_a_directory_that_is_down_is_a_503_with_retry_after(
    client: Client, reader: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(user: User) -> None:
        raise UserServiceUnavailable("down")

    monkeypatch.setattr("broadcasts.receipts.channels_of", down)
    response = client.get("/api/user/messages")
    assert shape_of(response)["code"] == "user_service_unavailable"
    assert (response.status_code, response["Retry-After"]) == (503, "10")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (IntegrityError(), 409),
        (OperationalError(), 503),
        (PermissionDenied(), 403),
        (Http404(), 404),
        (Throttled(wait=3), 429),
    ],
)
def test_each_error_has_its_status(error: Exception, status: int) -> None:
    problem = errors.problem_of(error)
    assert problem is not None
    assert problem.status == status


def test_nested_errors_are_named_by_their_path() -> None:
    problem = errors.problem_of(ValidationError({"a": {"b": ["wrong"]}, "c": [{}, {"d": ["bad"]}]}))
    assert problem is not None
    assert problem.fields == {"a.b": ["wrong"], "c.1.d": ["bad"]}


@pytest.mark.parametrize(
    "handler", [errors.bad_request, errors.permission_denied, errors.not_found]
)
@pytest.mark.parametrize(("path", "kind"), [("/api/x", "application/json"), ("/x", "text/html")])
def test_djangos_own_errors_are_json_under_api_only(handler: Any, path: str, kind: str) -> None:
    request: HttpRequest = RequestFactory().get(path)
    request.user = User()
    assert handler(request, SuspiciousOperation())["Content-Type"].startswith(kind)


def operations() -> list[tuple[str, str]]:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    return [
        (method, path.replace("{id}", "1").replace("{user}", "1"))
        for path, found in schema["paths"].items()
        for method in found
    ]


OPERATIONS = operations()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_operation_is_open_to_the_anonymous(client: Client, method: str, path: str) -> None:
    assert shape_of(getattr(client, method)(path))["status"] == 401


@pytest.mark.parametrize(
    ("method", "path"), [(m, path) for m, path in OPERATIONS if path.startswith("/api/admin/")]
)
@pytest.mark.parametrize("staff", [True, False])
def test_no_operators_operation_is_open_without_its_permission(
    client: Client, db: None, method: str, path: str, staff: bool
) -> None:
    client.force_login(UserFactory.create(is_staff=staff))
    response = getattr(client, method)(path, content_type="application/json")
    assert shape_of(response)["status"] == 403


def test_no_address_of_the_api_ends_with_a_slash() -> None:
    assert OPERATIONS
    assert not [path for _, path in OPERATIONS if path.endswith("/")]


def test_every_operation_describes_its_errors_by_one_component() -> None:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    assert "Error" in schema["components"]["schemas"]
    for found in schema["paths"].values():
        for operation in found.values():
            assert {"400", "401", "403"} <= set(operation["responses"])


def test_the_schema_and_its_page_are_served(client: Client) -> None:
    assert b"openapi: 3" in client.get("/api/schema").content
    page = client.get("/api/docs").content.decode()
    assert "swagger-ui" in page
    assert "://cdn" not in page


def test_the_catch_all_is_the_last_of_the_apis_addresses() -> None:
    patterns = [
        p for p in get_resolver().url_patterns if str(p.pattern).lstrip("^").startswith("api/")
    ]
    last = patterns[-1]
    assert isinstance(last, URLPattern)
    assert last.callback is errors.no_such_address


def test_a_person_who_is_lost_is_shown_the_way(client: Client) -> None:
    response = client.get("/nowhere")
    assert response.status_code == 404
    assert 'href="/"' in response.text


@pytest.mark.django_db
def test_a_form_that_is_too_large_says_so(client: Client) -> None:
    response = client.post("/login", {"username": "x" * 3_000_000})
    assert response.status_code == 400
    assert "too large" in response.text
