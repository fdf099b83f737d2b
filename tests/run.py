"""What `make test` runs: every test on SQLite, and beside it on PostgreSQL; arguments: pytest's.

At once, because tests with processes wait more than they work. What PostgreSQL's run says is shown
when SQLite's has ended, from then on as it comes.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO

from tests.servers import CHECKOUT, MissingError, Postgres, temporary

NO_TESTS = 5  # pytest's exit code
LOOKED_EVERY = 0.5  # seconds
CHUNK = 65_536  # bytes

# A developer's environment and .env must not decide what is tested.
ENVIRONMENT = {"SECRET_KEY": "for tests only", "DEBUG": "false", "HTTPS": "false", "REDIS_URL": ""}

Process = subprocess.Popen[bytes]


def main(arguments: list[str]) -> int:
    outcomes = run(arguments)
    print()
    for name, outcome in outcomes.items():
        print(f"{name}: {outcome or 'passed'}")
    failures = [outcome for outcome in outcomes.values() if outcome.startswith("FAILED")]
    return 1 if failures else 0


def run(arguments: list[str]) -> dict[str, str]:
    """What went wrong on each database: nothing, if all passed."""
    with ExitStack() as stack:
        headline("SQLite")
        sqlite = stack.enter_context(started_on("", arguments))
        said = stack.enter_context(tempfile.TemporaryFile())
        try:
            url = stack.enter_context(postgres())
        except MissingError as missing:
            outcome = "FAILED" if os.environ.get("REQUIRE_SERVICES") == "1" else "skipped"
            return {"SQLite": ended(sqlite), "PostgreSQL": f"{outcome}, {missing}"}
        postgresql = stack.enter_context(started_on(url, arguments, said))
        outcomes = {"SQLite": ended(sqlite)}
        headline("PostgreSQL")
        show(said, postgresql)
        return outcomes | {"PostgreSQL": ended(postgresql)}


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    if url := os.environ.get("TEST_POSTGRES_URL"):
        yield url
    else:
        with temporary(Postgres) as url:
            yield url


@contextlib.contextmanager
def started_on(
    database_url: str, arguments: list[str], said: IO[bytes] | None = None
) -> Iterator[Process]:
    """pytest, on SQLite without a URL; it has ended, and its servers with it, after the block."""
    with tempfile.TemporaryDirectory(prefix="broadcast-var-") as var:
        database = database_url or f"sqlite:///{var}/db.sqlite3"
        own = {"VAR_DIR": var, "DATABASE_URL": database, "TEST_PORTS": "1" if database_url else "0"}
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=CHECKOUT,
            env=os.environ | ENVIRONMENT | own,
            stdin=said and subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        try:
            yield process
        except KeyboardInterrupt:  # which reaches pytest itself
            raise
        except BaseException:  # SIGTERM, or a server that does not start
            process.send_signal(signal.SIGINT)
            raise
        finally:
            process.wait()


def headline(name: str) -> None:
    print(f"\n{name}\n{'=' * len(name)}", flush=True)


def show(said: IO[bytes], process: Process) -> None:
    """What it has said and goes on to say, until it ends."""
    shown, running = 0, True
    while running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LOOKED_EVERY)
        running = process.poll() is None
        while chunk := os.pread(said.fileno(), CHUNK, shown):  # it writes where a seek would go
            shown += len(chunk)
            sys.stdout.buffer.write(chunk)
        sys.stdout.flush()


def ended(process: Process) -> str:
    code = process.wait()
    if code == NO_TESTS:
        return "FAILED, no test was found"
    return f"FAILED, pytest's exit code is {code}" if code else ""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Stopped by SIGTERM"))  # close what is open
    sys.exit(main(sys.argv[1:]))
