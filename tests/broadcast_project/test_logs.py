"""Lines of the log, by processes of their own: how they are written is settled at the start."""

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.conftest import Spawn
from tests.processes import Environment, Spawned
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

ABOUT = """
import logging, warnings
from uuid import UUID
from jobs.correlation import correlated
with correlated("asked", UUID(int=7)):
    logging.getLogger("here").warning("two\\nlines", extra={"status_code": 404})
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("here").exception("It failed")
warnings.warn("old")
raise SystemError("the end")
"""
EVENT = "00000000-0000-0000-0000-000000000007"


@pytest.fixture
def live(live_database: Environment) -> Environment:
    return live_database | {"LOG_FORMAT": "json"}


def shell(spawn: Spawn, env: Environment) -> Spawned:
    ran = spawn(["shell", "--verbosity=0", "--command", ABOUT], env)
    assert ran.wait() != 0
    return ran


def lines(spawned: Spawned) -> list[dict[str, Any]]:
    return [json.loads(line) for line in spawned.output().splitlines()]


def ask(port: int, path: str, name: str) -> None:
    url = f"http://127.0.0.1:{port}{path}"
    with pytest.raises(HTTPError, match="404") as refused:
        urlopen(Request(url, headers={"X-Request-ID": name}))
    assert refused.value.headers["X-Request-ID"] == name
    refused.value.close()


def test_each_line_is_an_object_whatever_wrote_it(spawn: Spawn, live: Environment) -> None:
    warned, failed, old, end = lines(shell(spawn, live))
    assert warned["time"].endswith("+00:00")
    assert (warned["level"], warned["logger"], warned["message"], warned["status_code"]) == (
        "WARNING", "here", "two\nlines", 404
    )  # fmt: skip
    assert [one["correlation_id"] for one in (warned, failed, old)] == ["asked", "asked", ""]
    assert [one.get("event_id") for one in (warned, failed, old)] == [EVENT, EVENT, None]
    assert "exception" not in warned
    assert failed["exception"].endswith("ValueError: broken")
    assert (old["logger"], "old" in old["message"]) == ("py.warnings", True)
    assert (end["level"], end["exception"][-19:]) == ("CRITICAL", "SystemError: the end"[-19:])


def test_a_line_of_text_has_its_ids_in_brackets(spawn: Spawn, live_database: Environment) -> None:
    assert f"WARNING here [asked event {EVENT}] two\nlines" in shell(spawn, live_database).output()


def test_every_process_obeys(spawn: Spawn, live: Environment, free_port: int) -> None:
    relay = spawn(["relay"], live)
    jobs = spawn(["qcluster"], live)
    web = spawn(["web", "--port", str(free_port)], live)
    job = spawn(["run_job", "RUN_RETENTION"], live)
    wait_until(lambda: "Listening" in web.output(), message="web listens")
    ask(free_port, "/api/nothing", "of-the-api")
    ask(free_port, "/nothing", "of-a-page")
    wait_until(lambda: "of-a-page" in web.output(), message="it is in the log")
    wait_until(lambda: "Running the periodic jobs" in jobs.output(), message="jobs run")
    wait_until(lambda: "OUTBOX_RELAY started" in relay.output(), message="the relay works")
    job.wait()
    for process in (relay, jobs, web):
        process.close()
        for line in lines(process):
            assert {"time", "level", "logger", "message", "correlation_id"} <= line.keys()
    asked = [line for line in lines(web) if line["logger"] == "django.request"]
    assert [line["correlation_id"] for line in asked] == ["of-the-api", "of-a-page"]


def test_daphnes_own_lines_of_access_obey_as_well(
    spawn: Spawn, live: Environment, free_port: int
) -> None:
    server = spawn(["runserver", "--noreload", str(free_port)], live)
    wait_until(lambda: "Listening" in server.output(), message="it listens")
    ask(free_port, "/nothing", "mine")
    wait_until(lambda: "HTTP GET /nothing 404" in server.output(), message="it is in the log")
    written = [line for line in server.output().splitlines() if "HTTP GET /nothing 404" in line]
    assert [json.loads(line)["logger"] for line in written] == ["django.channels.server"]


def test_a_wrong_format_stops_the_start_and_names_the_variable(
    spawn: Spawn, live_database: Environment
) -> None:
    check = spawn(["check"], live_database | {"LOG_FORMAT": "xml"})
    assert check.wait() != 0
    assert "LOG_FORMAT" in check.output()
