"""Databases of their own for processes under test, copied from one that was migrated once."""

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
from django.db import connection
from django.db.models import Model
from psycopg import sql

from tests.processes import environment
from tests.servers import CHECKOUT


@contextmanager
def migrated_template(directory: Path) -> Iterator[str]:
    """What `copy_of` copies: a file's path, or a database's name."""
    if connection.vendor == "sqlite":
        path = directory / "template.sqlite3"
        _migrate(f"sqlite:///{path}", directory)
        yield str(path)
    else:
        with _postgres_database("template1") as name:
            _migrate(_postgres_url(name), directory)
            yield name


@contextmanager
def copy_of(template: str, directory: Path) -> Iterator[str]:
    """The URL of a copy that lasts as long as the block."""
    if connection.vendor == "sqlite":
        yield f"sqlite:///{shutil.copy(template, directory / 'db.sqlite3')}"
    else:
        with _postgres_database(template) as name:
            yield _postgres_url(name)


def prefer_indexes(model: type[Model]) -> None:
    """In this transaction, though reading all rows of a small table is cheaper.

    PostgreSQL plans by what it last counted, which may be what another test had left.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {model._meta.db_table}")
            cursor.execute("SET LOCAL enable_seqscan = off")


def _migrate(url: str, var: Path) -> None:
    command = [sys.executable, "manage.py", "migrate", "--verbosity=0"]
    subprocess.run(command, cwd=CHECKOUT, env=environment(url, var), check=True)


@contextmanager
def _postgres_database(template: str) -> Iterator[str]:
    name = f"live_{uuid.uuid4().hex}"
    _execute("CREATE DATABASE {} TEMPLATE {}", name, template)
    try:
        yield name
    finally:
        _execute("DROP DATABASE {} WITH (FORCE)", name)


def _execute(statement: str, *names: str) -> None:
    with psycopg.connect(_postgres_url("postgres"), autocommit=True) as postgres:
        postgres.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _postgres_url(name: str) -> str:
    server = connection.settings_dict
    login = f"{quote(server['USER'])}:{quote(server['PASSWORD'])}"
    return f"postgres://{login}@{server['HOST']}:{server['PORT'] or 5432}/{name}"
