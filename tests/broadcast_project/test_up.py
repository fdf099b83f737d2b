import os
import signal
import socket
import subprocess
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.conftest import Spawn
from tests.processes import Environment, Spawned
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.processes


def parts(up: Spawned) -> dict[str, int]:
    """The children of `up` by the command that they run, with their pids."""
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in listing.stdout.splitlines()]
    return {
        row[row.index(manage) + 1]: int(row[0])
        for row in rows
        if row[1] == str(up.pid)
        for manage in row
        if manage.endswith("manage.py")
    }


def members(group: int) -> list[str]:
    """What runs in the process group of a part."""
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pgid=,stat=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(maxsplit=2) for line in listing.stdout.splitlines()]
    return [row[2] for row in rows if row[0] == str(group) and not row[1].startswith("Z")]


def status(port: int, path: str = "/admin/login/") -> int:
    return answer(port, path)[0]


def answer(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("localhost", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except ConnectionError:
        return 0, ""
    finally:
        connection.close()


@pytest.fixture
def up(spawn: Spawn, live_database: Environment, free_port: int) -> Spawned:
    up = spawn(["up", "--port", str(free_port)], live_database | {"DEBUG": "true"})
    wait_until(
        lambda: up.process.poll() is not None or "Log in as" in up.output(), message="up is up"
    )
    assert up.process.poll() is None
    wait_until(lambda: set(parts(up)) == {"web", "relay", "qcluster"}, message="all parts run")
    return up


def test_up_serves_and_says_where_to_look(up: Spawned, free_port: int) -> None:
    assert status(free_port) == 200
    assert f"http://localhost:{free_port}/admin/" in up.output()
    assert "admin/admin" in up.output()
    assert f"http://localhost:{free_port}/blog" in answer(free_port, "/sitemap-posts.xml")[1]


def test_up_starts_a_killed_web_server_again(up: Spawned, free_port: int) -> None:
    killed = parts(up)["web"]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: parts(up).get("web", killed) != killed)
    wait_until(lambda: status(free_port) == 200)
    assert "web was ended by SIGKILL; starts again in 0.5 s" in up.output()


def test_ctrl_c_stops_everything_and_is_a_success(up: Spawned) -> None:
    groups = parts(up).values()
    up.send(signal.SIGINT)
    assert up.wait() == 0
    wait_until(lambda: not any(members(group) for group in groups))
    assert "is killed" not in up.output()


def test_nothing_outlives_a_killed_up(up: Spawned) -> None:
    groups = parts(up).values()
    os.kill(up.pid, signal.SIGKILL)
    wait_until(lambda: not any(members(group) for group in groups))


def test_up_says_that_its_port_is_taken_before_it_starts_anything(
    spawn: Spawn, live_database: Environment
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        up = spawn(["up", "--port", str(port)], live_database | {"DEBUG": "true"})
        assert up.wait() == 1
    assert up.output() == (
        f"CommandError: Port {port} is taken: stop what listens there or choose another"
        f" with PORT={port + 1} make run\n"
    )


def test_up_refuses_demo_logins_outside_debug(
    spawn: Spawn, live_database: Environment, free_port: int
) -> None:
    assert spawn(["demo"], live_database | {"DEBUG": "true"}).wait() == 0
    up = spawn(["up", "--port", str(free_port)], live_database)
    assert up.wait() == 1
    assert "known passwords: admin, user-001, user-002," in up.output()


def test_a_production_start_collects_static_files_and_shows_no_logins(
    spawn: Spawn, live_database: Environment, free_port: int
) -> None:
    up = spawn(["up", "--port", str(free_port)], live_database)
    wait_until(
        lambda: up.process.poll() is not None or "Stop with" in up.output(), message="up is up"
    )
    assert "admin/admin" not in up.output()
    assert "No operator yet" in up.output()
    assert (Path(live_database["VAR_DIR"]) / "static" / "admin").is_dir()
