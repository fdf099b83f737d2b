"""Each job of the domains on 100,000 rows that it has to work on.

The cases are those of `benchmarks/filling/*.py`. Each gets a fresh database, is filled by one
process and run by another: `peak_growth_mb` is what its memory grows by at most while it runs.
`mapped_growth_mb` of it are pages of SQLite's file, which it maps (at most 128 MB, `mmap_size` of
the settings) and which the system takes back when it needs them: they grow with the database, and
not with what the job holds. `seconds` tell of the machine as well: compare `cpu_seconds` where
others are at work on it.
"""

import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.reports import Report
from tests.databases import copy_of, migrated_template

ROWS, QUICK = 100_000, 5_000
FILLING = Path(__file__).parent / "filling"
CHECKOUT = FILLING.parent.parent


def run(*, quick: bool) -> Report:
    rows = QUICK if quick else ROWS
    figures: dict[str, Any] = {"rows": rows}
    skipped: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        with migrated_template(path) as template:
            for app, job in cases():
                try:
                    measured = measure(app, job, rows, template, path)
                except subprocess.CalledProcessError as error:
                    skipped.append(f"{job}: {error}")
                else:
                    figures |= {f"{job}_{name}": value for name, value in measured.items()}
    return Report("domains", figures, skipped=skipped)


def cases() -> Iterator[tuple[str, str]]:
    """App and job of each."""
    for module in pkgutil.iter_modules([str(FILLING)]):
        if not module.name.startswith("_"):
            for job in import_module(f"benchmarks.filling.{module.name}").FILL:
                yield module.name, job


def measure(app: str, job: str, rows: int, template: str, directory: Path) -> dict[str, float]:
    with copy_of(template, directory) as url:
        env = os.environ | {"DATABASE_URL": url}
        command = [sys.executable, "-m", "benchmarks.filling"]
        case = [app, job, str(rows)]
        subprocess.run([*command, "fill", *case], cwd=CHECKOUT, env=env, check=True)
        ran = subprocess.run(
            [*command, "run", *case], cwd=CHECKOUT, env=env, check=True, stdout=subprocess.PIPE
        )
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found
