import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import run
from tests.servers import CHECKOUT, MissingError, Server
from tests.waiting import PATIENCE, wait_until

NOT_CONNECTED_TO = "postgres://nobody@localhost/nothing"
SAYS_ITS_DATABASE = """
import os

def test_it():
    print("on", os.environ["DATABASE_URL"].partition(":")[0], "a" * 200_000, "to the end")
"""
WAITS = """
import os, pathlib, pytest, time

HERE = pathlib.Path(__file__).with_name(os.environ["DATABASE_URL"].partition(":")[0])

@pytest.fixture
def server():
    HERE.with_suffix(".open").touch()
    yield
    HERE.with_suffix(".closed").touch()

def test_it(server):
    time.sleep(600)
"""


@pytest.fixture
def without_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    def temporary(make: Callable[[Path], Server]) -> None:
        raise MissingError("no initdb found; apt-get install postgresql")

    monkeypatch.delenv("TEST_POSTGRES_URL", raising=False)
    monkeypatch.setattr(run, "temporary", temporary)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No PostgreSQL is started for what asks for none."""
    monkeypatch.setenv("TEST_POSTGRES_URL", NOT_CONNECTED_TO)


@pytest.mark.processes
@pytest.mark.usefixtures("without_postgres")
@pytest.mark.parametrize(("required", "outcome"), [("", "skipped"), ("1", "FAILED")])
def test_a_missing_server_is_skipped_or_a_failure_and_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, required: str, outcome: str
) -> None:
    monkeypatch.setenv("REQUIRE_SERVICES", required)
    said = run.run(["--version"])
    assert said == {
        "SQLite": "",
        "PostgreSQL": f"{outcome}, no initdb found; apt-get install postgresql",
    }


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [(("", ""), 0), (("", "skipped, ..."), 0), (("", "FAILED, ..."), 1), (("FAILED, ...", ""), 1)],
)
def test_the_exit_code_tells_whether_any_database_failed(
    monkeypatch: pytest.MonkeyPatch, outcomes: tuple[str, str], code: int
) -> None:
    both = dict(zip(["SQLite", "PostgreSQL"], outcomes, strict=True))
    monkeypatch.setattr(run, "run", lambda _: both)
    assert run.main([]) == code


@pytest.mark.processes
@pytest.mark.usefixtures("quick")
def test_a_run_without_any_test_is_a_failure() -> None:
    arguments = ["--quiet", "-k", "matches_nothing", "tests/test_architecture.py"]
    missing = "FAILED, no test was found"
    assert run.run(arguments) == {"SQLite": missing, "PostgreSQL": missing}


@pytest.mark.processes
@pytest.mark.usefixtures("quick")
def test_what_both_say_is_shown_one_after_the_other(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    test = tmp_path / "test_it.py"
    test.write_text(SAYS_ITS_DATABASE)
    assert run.run(["--capture=no", str(test)]) == {"SQLite": "", "PostgreSQL": ""}
    said = capfd.readouterr().out
    assert re.findall(r"on (\w+) a+ to the end", said) == ["sqlite", "postgres"]
    assert said.rstrip().splitlines()[-1].count("1 passed") == 1


@pytest.mark.processes
def test_a_server_that_does_not_start_ends_the_run_that_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def temporary(make: Callable[[Path], Server]) -> None:
        wait_until((tmp_path / "sqlite.open").exists)
        raise RuntimeError("initdb: no space left on device")

    test = tmp_path / "test_it.py"
    test.write_text(WAITS)
    monkeypatch.delenv("TEST_POSTGRES_URL", raising=False)
    monkeypatch.setattr(run, "temporary", temporary)
    with pytest.raises(RuntimeError, match="no space left"):
        run.run([str(test)])
    assert (tmp_path / "sqlite.closed").exists()


@pytest.mark.processes
@pytest.mark.parametrize("signaled", [signal.SIGTERM, signal.SIGINT])
def test_who_stops_it_stops_both_and_what_they_started(
    tmp_path: Path, signaled: signal.Signals
) -> None:
    """Each closes what is open: Ctrl-C is for the whole group, a supervisor's word for one."""
    test = tmp_path / "test_it.py"
    test.write_text(WAITS)
    command = [sys.executable, "-m", "tests.run", str(test)]
    started = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=os.environ | {"TEST_POSTGRES_URL": NOT_CONNECTED_TO},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: len(list(tmp_path.glob("*.open"))) == 2)
        if signaled == signal.SIGINT:
            os.killpg(started.pid, signaled)
        else:
            started.send_signal(signaled)
        assert started.wait(PATIENCE)
    finally:
        started.kill()
    assert len(list(tmp_path.glob("*.closed"))) == 2
