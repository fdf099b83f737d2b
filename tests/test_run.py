from collections.abc import Callable
from pathlib import Path

import pytest

from tests import run
from tests.servers import MissingError, Server


@pytest.fixture
def without_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    def temporary(make: Callable[[Path], Server]) -> None:
        raise MissingError("no initdb found; apt-get install postgresql")

    monkeypatch.delenv("TEST_POSTGRES_URL", raising=False)
    monkeypatch.setattr(run, "temporary", temporary)


@pytest.mark.usefixtures("without_postgres")
@pytest.mark.parametrize(("required", "outcome"), [("", "skipped"), ("1", "FAILED")])
def test_a_missing_server_is_skipped_or_a_failure_and_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, required: str, outcome: str
) -> None:
    monkeypatch.setenv("REQUIRE_SERVICES", required)
    assert run.run_on_postgres([]) == (f"{outcome}, no initdb found; apt-get install postgresql")


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [(("", ""), 0), (("", "skipped, ..."), 0), (("", "FAILED, ..."), 1), (("FAILED, ...", ""), 1)],
)
def test_the_exit_code_tells_whether_any_database_failed(
    monkeypatch: pytest.MonkeyPatch, outcomes: tuple[str, str], code: int
) -> None:
    monkeypatch.setattr(run, "run_pytest", lambda *_: outcomes[0])
    monkeypatch.setattr(run, "run_on_postgres", lambda *_: outcomes[1])
    assert run.main([]) == code


@pytest.mark.processes
def test_a_run_without_any_test_is_a_failure() -> None:
    arguments = ["--quiet", "-k", "matches_nothing", "tests/test_architecture.py"]
    assert run.run_pytest("SQLite", "", arguments) == "FAILED, no test was found"
