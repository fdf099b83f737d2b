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
from django.views.csrf import csrf_failure
from drf_spectacular.generators import SchemaGenerator
from rest_framework.exceptions import Throttled, ValidationError

from broadcast_project import errors
from broadcast_project.logs import Correlated
from broadcasts.directory import UserServiceUnavailable
from domains.links.models import Link
from jobs.correlation import correlated
from tests.factories import UserFactory, operator

BROADCASTS = "/api/admin/broadcasts"
READ = "/api/user/messages/read"


def shape_of(response: Any) -> dict[str, Any]:
    assert response["Content-Type"] == "application/json"
    body: dict[str, Any] = response.json()
    assert set(body) - {"fields"} == {"status", "code", "message", "path", "request_id"}
    assert body["status"] == response.status_code
    assert body["message"]
    assert body["request_id"] == response["X-Request-ID"]
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


@pytest.mark.parametrize(
    "query",
    [
        "foodfolio/details?item=999999999999999999999999999999",
        "foodfolio/items?category=9223372036854775808",
        "blog/comments?post=1e49",
        "blog/posts?since=0001-01-01T00:00:00%2B14:00",
        "links/1/stats?until=0001-01-01",
        "warcraft/characters?race=9223372036854775808",
    ],
)
def test_what_no_column_holds_is_the_callers_fault(admin_client: Client, query: str) -> None:
    Link.objects.create(pk=1, original_url="https://example.org", short_code="abc")
    response = admin_client.get(f"/api/{query}")
    assert response.status_code in (200, 400)
    if response.status_code == 400:
        assert shape_of(response)["code"] == "out_of_range"


def test_ids_of_a_body_that_no_column_holds_are_no_failure_of_the_server(
    admin_client: Client,
) -> None:
    """PostgreSQL finds none of them, SQLite refuses to look."""
    body = {"ids": [10**30], "status": "SPAM"}
    response = admin_client.post("/api/blog/comments/moderate", body, "application/json")
    assert response.status_code in (200, 400)
    assert response.json().get("changed", 0) == 0


def test_half_of_a_surrogate_pair_is_no_text(admin_client: Client) -> None:
    """Neither a database nor the answer that quotes it could hold it."""
    body = {"name": "a", "title": "a", "content": "a", "pattern": "\ud800"}
    response = admin_client.post("/api/admin/rules", body, "application/json")
    assert response.status_code == 400
    assert "surrogate" in shape_of(response)["message"]


def test_nul_in_what_is_stored_as_json_is_no_failure_of_the_server(admin_client: Client) -> None:
    """PostgreSQL refuses it, SQLite does not."""
    condition = {"field": "a", "operator": "equals", "value": "\0"}
    body = {"name": "a", "title": "a", "content": "a", "pattern": "link.*"}
    body |= {"conditions": [condition]}  # type: ignore[dict-item]
    response = admin_client.post("/api/admin/rules", body, "application/json")
    assert response.status_code in (201, 400)


def test_who_may_not_see_a_page_is_told_whom_to_ask(client: Client, reader: User) -> None:
    client.force_login(operator("twitch.view_stream"))
    response = client.get("/admin/twitch/stream/add/")
    assert response.status_code == 403
    assert "Ask an administrator" in response.text
    assert 'href="/"' in response.text


@pytest.mark.parametrize(
    "path",
    [
        "pantry/piece/add/?variant=abc",
        "blog/post/add/?categories=abc",
        "operations/auditentry/export/csv/?at__year=abc",
        "warcraft/character/refresh/?asked=9999-12-31T23:59:59-23:00",
    ],
)
def test_a_page_of_the_console_that_is_asked_for_nonsense_is_a_400(
    admin_client: Client, path: str
) -> None:
    response = admin_client.get(f"/admin/{path}")
    assert response.status_code == 400
    assert "could not be read" in response.text


def test_a_choice_that_no_row_can_be_is_a_400(admin_client: Client) -> None:
    fields = {"variant": "nonsense", "count": "1"}
    assert admin_client.post("/admin/pantry/piece/add/", fields).status_code == 400


def test_a_page_of_the_console_that_breaks_is_no_400(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*args: object, **kwargs: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("domains.links.admin.numbers", crash)
    link = Link.objects.create(original_url="https://example.org", short_code="abcdef")
    admin_client.raise_request_exception = False
    assert admin_client.get(f"/admin/links/link/{link.pk}/stats/").status_code == 500


@pytest.mark.django_db
def test_a_form_of_another_session_says_what_to_do() -> None:
    response = Client(enforce_csrf_checks=True).post("/login", {"username": "ann"})
    assert response.status_code == 403
    assert "load the page again" in response.text


def test_a_page_that_breaks_stays_a_page(
    client: Client, reader: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*args: object, **kwargs: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("domains.blog.views.months", crash)
    client.raise_request_exception = False
    response = client.get("/blog")
    assert response.status_code == 500
    assert "Something broke here" in response.text
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("template", "handler"),
    [
        ("400.html", lambda request: errors.bad_request(request, SuspiciousOperation())),
        ("403.html", lambda request: errors.permission_denied(request, PermissionDenied())),
        ("403_csrf.html", csrf_failure),
        ("404.html", lambda request: errors.not_found(request, Http404())),
        ("500.html", errors.server_error),
    ],
)
def test_a_page_of_an_error_shows_the_id_to_tell_support(template: str, handler: Any) -> None:
    request = RequestFactory().get("/x")
    request.user = User()
    with correlated("tell-me"):
        page = handler(request).content.decode()
    assert "tell-me" in page
    assert "broadcast/inbox.css" in page  # one of ours, not what Django has for emergencies


def test_what_breaks_says_so_with_the_id_that_is_in_the_log(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("broadcasts.views.SignIn.dispatch", broken)
    client.raise_request_exception = False
    caplog.handler.addFilter(Correlated())
    response = client.get("/login", headers={"X-Request-ID": "mine"})
    assert response.status_code == 500
    assert (response["X-Request-ID"], "mine" in response.content.decode()) == ("mine", True)
    logged = [vars(r) for r in caplog.records if r.name == "django.request"]
    assert [line["correlation_id"] for line in logged] == ["mine"]
