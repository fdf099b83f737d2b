"""`python -m benchmarks NAME [--quick] [--postgres] [--redis]`: a table, then one line of JSON.

A benchmark is a module with `run(quick)`. It gets a migrated database of its own, which is deleted
afterwards; what the checkout has under `var/` is never touched.
"""

import argparse
import os
import pkgutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path

import django
from django.core.management import call_command

from benchmarks.reports import Report
from tests.servers import Postgres, Redis, temporary

NO_BENCHMARKS = {"__main__", "reports", "stock_settings"}


def main() -> None:
    names = [
        module.name
        for module in pkgutil.iter_modules([str(Path(__file__).parent)])
        if not module.ispkg
    ]
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("name", choices=sorted(set(names) - NO_BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL of its own")
    parser.add_argument("--redis", action="store_true", help="with a Redis of its own")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # as Ctrl-C: servers end, too
    cache = temporary(Redis) if options.redis else nullcontext("")
    with cache as redis_url, database(postgres=options.postgres, redis_url=redis_url):
        report: Report = import_module(f"benchmarks.{options.name}").run(quick=options.quick)
        report.figures["database"] = "PostgreSQL" if options.postgres else "SQLite"
        report.figures["cache"] = "Redis" if options.redis else "memory"
        print(report.table())
        print(report.json())


@contextmanager
def database(*, postgres: bool, redis_url: str) -> Iterator[None]:
    """Django with an empty database; the environment says which before settings are read."""
    server = temporary(Postgres) if postgres else nullcontext("")
    with tempfile.TemporaryDirectory(prefix="broadcast-benchmark-") as var, server as url:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "broadcast_project.settings",
            "DATABASE_URL": url or f"sqlite:///{var}/db.sqlite3",
            "VAR_DIR": var,
            "SECRET_KEY": "for benchmarks only",
            "DEBUG": "false",
            "HTTPS": "false",
            "LOG_LEVEL": "WARNING",
            "REDIS_URL": redis_url,
        }
        django.setup()
        call_command("migrate", verbosity=0)
        yield
        django.db.connections.close_all()


if __name__ == "__main__":
    main()
