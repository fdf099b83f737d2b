"""`python -m benchmarks.filling fill|run APP JOB ROWS`: a step of `benchmarks domains`.

Each is a process of its own, so that what filling needs is not counted with the job.
"""

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import django

from benchmarks.filling import fill, make_ready

STATUS = Path("/proc/self/status")


def main(step: str, app: str, job: str, rows: str) -> None:
    django.setup()
    if step == "fill":
        fill(app, job, int(rows))
    else:
        make_ready(app, job)
        print(json.dumps(run(job)))


def run(job: str) -> dict[str, float]:
    """What one run of the job took; the job itself, without its lease and its row."""
    from jobs.registry import Outcome, periodic_jobs

    function = periodic_jobs[job].run
    with counted() as statements:
        forget_peak()
        before, mapped = memory_mb("VmRSS"), memory_mb("RssFile")
        start, used = time.perf_counter(), time.process_time()
        done = function()
        took, cpu = time.perf_counter() - start, time.process_time() - used
        peak, mapped = memory_mb("VmHWM"), memory_mb("RssFile") - mapped
    items = done.items if isinstance(done, Outcome) else done
    return {
        "items": items,
        "seconds": round(took, 2),
        "cpu_seconds": round(cpu, 2),
        "items_per_s": round(items / took),
        "statements": statements[0],
        "peak_growth_mb": round(peak - before, 1),
        "mapped_growth_mb": round(mapped, 1),
    }


@contextmanager
def counted() -> Iterator[list[int]]:
    from django.db import connection

    statements = [0]

    def count(execute, sql, params, many, context):
        statements[0] += 1
        return execute(sql, params, many, context)

    connection.ensure_connection()
    with connection.execute_wrapper(count):
        yield statements


def memory_mb(kind: str) -> float:
    """`VmRSS` is what it has now, `RssFile` the pages of files in it, `VmHWM` the most since
    `forget_peak`.
    """
    (kilobytes,) = re.findall(rf"^{kind}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    return int(kilobytes) / 1_024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main(*sys.argv[1:])
