"""Who a key lets in, and as whom."""

import gc
import logging
import weakref
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection, transaction
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.views.debug import ExceptionReporter
from psycopg.pq import ExecStatus

from connections.admissions import Asking
from connections.tokens import make_token
from operations.keys import services
from operations.keys.authentication import refusals
from operations.keys.checking import Refused, check, check_each
from operations.keys.models import ApiKey
from operations.keys.secrets import KEY, digest_of, parse
from operations.keys.usage import recorder
from tests.factories import UserFactory, operator
from tests.operations.keys.conftest import MESSAGES, code_of
from tests.waiting import wait_until


def refused(written: str) -> str:
    with pytest.raises(Refused) as raised:
        check(written)
    return raised.value.code


def test_a_key_is_shown_once_and_kept_as_a_digest(key: ApiKey, written: str) -> None:
    assert KEY.fullmatch(written)
    secret = written.partition(".")[2]
    kept = ApiKey.objects.values().get()
    assert secret not in str(kept)
    assert kept["digest"] == digest_of(secret)


def test_either_header_makes_the_request_its_owners(owner: User, written: str) -> None:
    for headers in (
        {"x-api-key": written},
        {"authorization": f"Bearer {written}"},
        {"authorization": f"bearer  {written}"},
    ):
        response = Client(headers=headers).get("/api/user/sse/connected/" + owner.username)
        assert (response.status_code, response.json()["user"]) == (200, owner.username)


def test_a_key_needs_one_query(key: ApiKey, written: str) -> None:
    with CaptureQueriesContext(connection) as queries:
        holder = check(written)
    assert len(queries) == 1
    assert (holder.pk, holder.owner.pk) == (key.pk, key.owner_id)
    assert holder.owner.has_perm("broadcasts.view_broadcast") is False
    assert holder.owner.date_joined is not None  # fetched when it is asked for


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite plans nothing")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "harm", ["ALTER TABLE auth_user ALTER first_name TYPE text", "DISCARD ALL"]
)
def test_postgresql_plans_the_look_once_and_does_without_when_the_plan_is_gone(
    key: ApiKey, written: str, harm: str
) -> None:
    restore = "ALTER TABLE auth_user ALTER first_name TYPE varchar(150)"
    count = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%apikey%%'"
    try:
        for _ in range(20):
            assert check(written).pk == key.pk
        with connection.cursor() as cursor:
            cursor.execute(count)
            assert cursor.fetchone() == (1,)
        alter(harm)
        with transaction.atomic():
            assert check(written).pk == key.pk
        for _ in range(3):
            assert check(written).pk == key.pk
        services.disable(key, "by the test")
        assert refused(written) == "api_key_disabled"
    finally:
        alter(restore)
        connection.close()  # its plan is for the other type


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no connections to break")
@pytest.mark.django_db(transaction=True)
def test_a_connection_that_broke_is_told_as_such_and_the_next_one_plans_anew(
    key: ApiKey, written: str
) -> None:
    assert check(written).pk == key.pk
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
    other.close()
    with pytest.raises(OperationalError):
        check(written)
    connection.close_if_unusable_or_obsolete()  # as Django does between two requests
    assert check(written).pk == key.pk


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite plans nothing")
@pytest.mark.django_db(transaction=True)
def test_a_connection_is_not_kept_beyond_its_end(key: ApiKey, written: str) -> None:
    assert check(written).pk == key.pk
    kept = weakref.ref(connection.connection)
    connection.close()
    gc.collect()
    assert kept() is None


def alter(sql: str) -> None:
    """Behind the back of the driver, which remembers what it has prepared."""
    connection.ensure_connection()
    assert connection.connection.pgconn.exec_(sql.encode()).status == ExecStatus.COMMAND_OK


def test_a_key_wins_over_a_session_that_comes_along(owner: User, written: str) -> None:
    client = Client(enforce_csrf_checks=True, headers={"x-api-key": written})
    client.force_login(UserFactory.create())
    assert client.get(f"/api/user/sse/connected/{owner.username}").status_code == 200
    answer = client.post("/api/user/messages/read-all", "{}", content_type="application/json")
    assert answer.status_code == 200


@pytest.mark.parametrize("name", ["api_key", "token", "key", "X-API-Key", "access_token"])
def test_a_key_in_an_address_is_none(written: str, name: str) -> None:
    assert Client().get(MESSAGES, {name: written}).status_code == 401


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
@pytest.mark.parametrize(
    "change",
    [
        lambda written: written[:-1] + ("0" if written[-1] != "0" else "1"),
        lambda written: written[:-1],
        lambda written: written.replace("ak_", "ak_0", 1),
        lambda written: "ak_" + "0" * 16 + written[19:],
        lambda written: written + "\x00",
        lambda written: written.upper(),
        lambda written: "ak_",
    ],
)
def test_what_is_no_key_is_refused(program: Client, written: str, header: str, change: Any) -> None:
    wrong = change(written)
    headers = {header: wrong if header == "x-api-key" else f"Bearer {wrong}"}
    response = Client(headers=headers).get(MESSAGES)
    assert response.status_code == 401
    if wrong.startswith("ak_"):
        assert response.json()["code"] == "invalid_api_key"
        assert response["WWW-Authenticate"] == 'Bearer realm="api"'


def test_the_key_of_a_gateway_is_none_of_ours(owner: User) -> None:
    client = Client(headers={"x-api-key": "of-the-gateway"})
    assert client.get(MESSAGES).json()["code"] == "not_authenticated"
    client.force_login(owner)
    assert client.get(MESSAGES).status_code == 200


def test_a_wrong_secret_is_seen_but_not_counted_for_its_owner(
    key: ApiKey, written: str, caplog: pytest.LogCaptureFixture
) -> None:
    before, used = refusals.counts.copy(), recorder.total.copy()
    refusals.told.clear()
    wrong = written[:-4] + ("0000" if written[-4:] != "0000" else "1111")
    with caplog.at_level(logging.WARNING, "operations.keys.authentication"):
        for _ in range(5):
            Client(headers={"x-api-key": wrong}).get(MESSAGES)
        Client(headers={"x-api-key": "ak_nothing"}).get(MESSAGES)
    assert refusals.counts - before == {"invalid_api_key": 5, "unknown_api_key": 1}
    assert len([r for r in caplog.records if key.key_id in r.getMessage()]) == 1
    assert wrong not in caplog.text
    assert recorder.total == used
    assert not recorder.waiting


def test_disabled_or_deleted_it_is_refused_at_once(
    key: ApiKey, written: str, program: Client
) -> None:
    assert program.get(MESSAGES).status_code == 200
    services.disable(key, "by the test")
    assert code_of(program.get(MESSAGES)) == (401, "api_key_disabled")
    services.enable(key)
    assert program.get(MESSAGES).status_code == 200
    services.delete(key)
    assert code_of(program.get(MESSAGES)) == (401, "invalid_api_key")


def test_one_that_has_expired_is_refused_as_such_before_and_after_the_job_runs(
    key: ApiKey, program: Client
) -> None:
    ApiKey.objects.update(expires_at=timezone.now() + timedelta(hours=1))
    assert program.get(MESSAGES).status_code == 200
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert code_of(program.get(MESSAGES)) == (401, "api_key_expired")
    assert services.end_expired() == 1
    assert code_of(program.get(MESSAGES)) == (401, "api_key_expired")


def test_it_ends_with_the_account_of_its_owner(owner: User, program: Client) -> None:
    User.objects.update(is_active=False)
    assert code_of(program.get(MESSAGES)) == (401, "api_key_owner_inactive")
    owner.delete()
    assert code_of(program.get(MESSAGES)) == (401, "invalid_api_key")


def test_only_who_has_the_secret_is_told_why(key: ApiKey, written: str) -> None:
    services.disable(key, "by the test")
    assert refused(written) == "api_key_disabled"
    assert refused(written[:-1] + ("0" if written[-1] != "0" else "1")) == "invalid_api_key"


def test_rotated_it_works_with_both_secrets_until_the_overlap_ends(
    key: ApiKey, written: str
) -> None:
    new = services.rotate(key, timedelta(hours=1))
    assert new != written
    assert check(new).pk == check(written).pk == key.pk
    newer = services.rotate(key, timedelta(hours=1))
    assert refused(written) == "invalid_api_key"  # two rotations ago
    assert check(newer).pk == check(new).pk
    ApiKey.objects.update(old_until=timezone.now() - timedelta(seconds=1))
    assert refused(new) == "invalid_api_key"
    assert check(newer).pk == key.pk
    newest = services.rotate(key, timedelta(0))
    assert refused(newer) == "invalid_api_key"
    assert check(newest).pk == key.pk


def code(written: str) -> str:
    try:
        check(written)
    except Refused as refused:
        return refused.code
    return ""


def test_it_ends_at_its_moment_and_not_before(key: ApiKey, written: str) -> None:
    over = timezone.now() + timedelta(milliseconds=300)
    ApiKey.objects.update(expires_at=over)
    assert wait_until(lambda: code(written)) == "api_key_expired"
    assert timezone.now() >= over


def test_no_report_of_an_error_has_the_secret(
    key: ApiKey, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    secret = written.partition(".")[2]
    monkeypatch.setattr("operations.keys.checking.matches", broken)
    for headers in ({"x-api-key": written}, {"authorization": f"Bearer {written}"}):
        with pytest.raises(RuntimeError) as raised:
            Client(headers=headers).get(MESSAGES)
        request = RequestFactory().get(MESSAGES, headers=headers)
        report = ExceptionReporter(request, raised.type, raised.value, of_server(raised.tb))
        html = report.get_traceback_html()
        assert "operations/keys/checking.py" in html
        assert secret not in html + report.get_traceback_text()
    asking = Asking("token-1", "session-1", None, "192.0.2.1", "", written)
    said = repr([parse(written), asking])
    assert not any(hidden in said for hidden in (secret, "token-1", "session-1"))


def of_server(trace: Any) -> Any:
    """Without the frames of the test and its client, which know the secret."""
    while not trace.tb_frame.f_code.co_filename.endswith("handlers/exception.py"):
        trace = trace.tb_next
    return trace


def test_many_are_checked_by_one_query(owner: User, key: ApiKey, written: str) -> None:
    others = [services.make(owner, f"Key {n}", ["read"])[1] for n in range(5)]
    wrong = others[0][:-1] + ("0" if others[0][-1] != "0" else "1")
    with CaptureQueriesContext(connection) as queries:
        found = check_each([written, "nothing", wrong, *others, written])
    assert len(queries) == 1
    said = [one.code if isinstance(one, Refused) else one.key_id for one in found]
    names = [other.partition(".")[0] for other in others]
    assert said == [key.key_id, "invalid_api_key", "invalid_api_key", *names, key.key_id]


def test_a_stream_token_and_the_anonymous_are_answered_as_ever(owner: User) -> None:
    token = make_token(owner.pk)
    assert Client(headers={"authorization": f"Bearer {token}"}).get(MESSAGES).status_code == 200
    response = Client().get("/api/admin/broadcasts")
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == 'Session realm="api"'


def test_it_may_do_no_more_than_its_owner(written: str, owner: User, program: Client) -> None:
    assert program.get("/api/admin/broadcasts").status_code == 403
    allowed = operator("broadcasts.view_broadcast")
    _, theirs = services.make(allowed, "Reports", ["read"])
    reader = Client(headers={"x-api-key": theirs})
    assert reader.get("/api/admin/broadcasts").status_code == 200
    assert reader.get("/api/admin/jobs").status_code == 403


def test_the_console_takes_no_key(program: Client) -> None:
    assert program.get("/admin/").status_code == 302
