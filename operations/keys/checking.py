"""Whether a key is good now: one look at its row for each request, and nothing kept in between.

So what was disabled, deleted or rotated is refused by the next request, in every process. Written
as ORM queries are, that look would cost more than everything else; its SQL is made once, and
PostgreSQL plans it once a connection: planning took it three times as long as looking.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import sha256
from typing import Any

import psycopg
from django.contrib.auth.models import User
from django.db import DEFAULT_DB_ALIAS, NotSupportedError, ProgrammingError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, ExpressionWrapper, F, Q, QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from operations.keys.models import ApiKey
from operations.keys.secrets import digest_of, matches, parse

OF_KEY = ("id", "key_id", "scopes", "limit_minute", "limit_hour", "limit_day")
OF_SECRET = ("digest", "old_digest", "overlaps", "enabled", "expired")
# In the order of the model. The others are fetched when somebody asks for them.
OF_OWNER = (
    *("id", "is_superuser", "username", "first_name", "last_name"),
    *("email", "is_staff", "is_active"),
)
ANY = "ak_0000000000000000"


@dataclass(slots=True)
class Holder:
    """A key that is good, and who it acts as."""

    pk: int
    key_id: str
    scopes: frozenset[str]
    limits: tuple[int | None, int | None, int | None]
    """A minute, an hour, a day; None: as the settings say."""
    owner: User


@dataclass(slots=True)
class Refused(Exception):
    """The message says what to do. `key_id` is empty for a key that is none of ours."""

    code: str
    message: str
    key_id: str = ""

    def __str__(self) -> str:
        return self.message


@sensitive_variables()
def check(text: str) -> Holder:
    """Raises `Refused`."""
    written = parse(text)
    if written is None:
        raise _unknown()
    return _checked(_row(written.key_id), written.secret)


@sensitive_variables()
def check_each(texts: Sequence[str]) -> list[Holder | Refused]:
    """As many as there are, in one query."""
    written = [parse(text) for text in texts]
    rows = _rows().filter(key_id__in=[one.key_id for one in written if one])
    found = {row[1]: row for row in rows}
    checked: list[Holder | Refused] = []
    for one in written:
        try:
            if one is None:
                raise _unknown()
            checked.append(_checked(found.get(one.key_id), one.secret))
        except Refused as refused:
            checked.append(refused)
    return checked


def _row(key_id: str) -> Any:
    """None, when there is none."""
    database = connections[DEFAULT_DB_ALIAS]  # once: `connection` looks for it at each word
    statement = _statement(database.vendor)
    is_watched = database.queries_logged or database.execute_wrappers
    # A plan that is gone would take the transaction with it, which is its owner's.
    if database.vendor == "postgresql" and not (is_watched or database.in_atomic_block):
        # A migration changed what it returns, or somebody between here and the database forgot it.
        try:
            return _planned(database, statement, key_id)
        except (NotSupportedError, ProgrammingError):
            pass
    with database.cursor() as cursor:
        cursor.execute(statement, (key_id,))
        return cursor.fetchone()


def _planned(database: BaseDatabaseWrapper, statement: str, key_id: str) -> Any:
    """Asked of libpq itself: the cursors of Django and psycopg would take longer than the look."""
    database.close_if_health_check_failed()
    database.ensure_connection()
    with database.wrap_database_errors:
        raw, plan = database.connection, _plan_of(statement)
        try:
            rows = raw.look_at_api_key  # how its rows are read; None: it keeps no plan
        except AttributeError:
            raw.look_at_api_key = None
            prepared = raw.pgconn.prepare(plan, statement.replace("%s", "$1").encode())
            _raise_for(prepared, ExecStatus.COMMAND_OK)
            rows = raw.look_at_api_key = Transformer(raw)
        if rows is None:
            raise NotSupportedError("This connection keeps no plan.")
        found = raw.pgconn.exec_prepared(plan, [key_id.encode()])
        if found.status != ExecStatus.TUPLES_OK:
            raw.look_at_api_key = None
            _raise_for(found, ExecStatus.TUPLES_OK)
        rows.set_pgresult(found)
        return rows.load_row(0, tuple) if found.ntuples else None


def _raise_for(result: PGresult, expected: ExecStatus) -> None:
    if result.status != expected:
        error = error_from_result(result)
        # Of a connection that broke nobody says why.
        raise error if error.sqlstate else psycopg.OperationalError(str(error))


def _rows() -> "QuerySet[ApiKey, tuple[Any, ...]]":
    owner = [F(f"owner__{name}") for name in OF_OWNER]
    # By the clock of the database; NULL, and so not true, where there is no such moment.
    overlaps = ExpressionWrapper(Q(old_until__gt=Now()), BooleanField())
    expired = ExpressionWrapper(Q(expires_at__lte=Now()), BooleanField())
    rows = ApiKey.objects.order_by().annotate(overlaps=overlaps, expired=expired)
    return rows.values_list(*OF_KEY, *OF_SECRET, *owner)


@cache
def _statement(vendor: str) -> str:
    sql, params = _rows().filter(key_id=ANY).query.sql_with_params()
    assert params == (ANY,), params
    return sql


@cache
def _plan_of(statement: str) -> bytes:
    """Its name, which no other statement has: a pooler may show one connection to two versions."""
    return f"look_at_api_key_{sha256(statement.encode()).hexdigest()[:16]}".encode()


@sensitive_variables()
def _checked(row: tuple[Any, ...] | None, secret: str) -> Holder:
    if row is None:
        raise _unknown()
    pk, key_id, scopes, minute, hour, day, digest, old_digest, overlaps, enabled, expired, *of = row
    given = digest_of(secret)
    if not matches(given, digest) and not (overlaps and matches(given, old_digest)):
        raise Refused("invalid_api_key", _unknown().message, key_id)
    if expired:
        message = _("This API key has expired: its owner makes a new one.")
        raise Refused("api_key_expired", message, key_id)
    if not enabled:
        message = _("This API key is disabled: ask its owner or an administrator.")
        raise Refused("api_key_disabled", message, key_id)
    owner = User.from_db(DEFAULT_DB_ALIAS, OF_OWNER, of)
    if not owner.is_active:
        message = _("The account of the owner of this API key is not active.")
        raise Refused("api_key_owner_inactive", message, key_id)
    return Holder(pk, key_id, _scopes(scopes), (minute, hour, day), owner)


def _unknown() -> Refused:
    """The same for a name and for a secret that is wrong."""
    return Refused("invalid_api_key", _("This API key is not valid: check that it is whole."))


@lru_cache(maxsize=64)
def _scopes_of(text: str) -> frozenset[str]:
    return frozenset(json.loads(text))


def _scopes(value: Any) -> frozenset[str]:
    """As text where the converter of the field did not see it."""
    return _scopes_of(value) if isinstance(value, str) else frozenset(value)
