"""The database under the web process."""

from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection

import psycopg
import pytest
from django.db import connection

from tests.conftest import Spawn
from tests.processes import Environment
from tests.sse import run_code
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

CREATE = """
from django.contrib.auth.models import User
User.objects.create_user("reader", password="secret")
"""
BREAK = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def test_a_database_that_restarts_fails_no_request_after_it(
    live_database: Environment, free_port: int, spawn: Spawn
) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no connections that break")
    run_code(CREATE, live_database)
    web = spawn(["web", "--port", str(free_port)], live_database)
    wait_until(lambda: "Listening" in web.output(), message="web listens")
    assert ask(free_port, parallel=12) == [200] * 12
    with psycopg.connect(live_database["DATABASE_URL"]) as postgres:
        postgres.execute(BREAK)
    assert ask(free_port, parallel=12) == [200] * 12


def ask(port: int, *, parallel: int) -> list[int]:
    with ThreadPoolExecutor(parallel) as threads:
        return list(threads.map(lambda _: status_of_inbox(port), range(parallel)))


def status_of_inbox(port: int) -> int:
    login = b64encode(b"reader:secret").decode()
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as http:
        http.request("GET", "/api/user/messages", headers={"Authorization": f"Basic {login}"})
        return http.getresponse().status
