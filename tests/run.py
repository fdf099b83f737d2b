"""What `make test` runs: every test on SQLite, then on PostgreSQL; arguments are for pytest."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from tests.servers import CHECKOUT, MissingError, Postgres, temporary

NO_TESTS = 5  # pytest's exit code

# A developer's environment and .env must not decide what is tested.
ENVIRONMENT = {"SECRET_KEY": "for tests only", "DEBUG": "false", "HTTPS": "false", "REDIS_URL": ""}


def main(arguments: list[str]) -> int:
    outcomes = {
        "SQLite": run_pytest("SQLite", "", arguments),
        "PostgreSQL": run_on_postgres(arguments),
    }
    print()
    for name, outcome in outcomes.items():
        print(f"{name}: {outcome or 'passed'}")
    failures = [outcome for outcome in outcomes.values() if outcome.startswith("FAILED")]
    return 1 if failures else 0


def run_on_postgres(arguments: list[str]) -> str:
    try:
        with postgres() as url:
            return run_pytest("PostgreSQL", url, arguments)
    except MissingError as missing:
        outcome = "FAILED" if os.environ.get("REQUIRE_SERVICES") == "1" else "skipped"
        return f"{outcome}, {missing}"


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    if url := os.environ.get("TEST_POSTGRES_URL"):
        yield url
    else:
        with temporary(Postgres) as url:
            yield url


def run_pytest(name: str, database_url: str, arguments: list[str]) -> str:
    print(f"\n{name}\n{'=' * len(name)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="broadcast-var-") as var:
        database = database_url or f"sqlite:///{var}/db.sqlite3"
        code = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=CHECKOUT,
            env=os.environ | ENVIRONMENT | {"VAR_DIR": var, "DATABASE_URL": database},
        ).returncode
    if code == NO_TESTS:
        return "FAILED, no test was found"
    return f"FAILED, pytest's exit code is {code}" if code else ""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Stopped by SIGTERM"))  # close what is open
    sys.exit(main(sys.argv[1:]))
