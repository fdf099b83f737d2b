"""Tasks that do nothing, drained by `manage.py qcluster`: what the queue itself costs.

Peer, in the same run and in turn: django-q2 as it comes, with the same number of workers.
"""

import os
import statistics
from contextlib import ExitStack
from pathlib import Path

from django.conf import settings
from django_q.brokers.orm import ORM
from django_q.tasks import async_task

from benchmarks.reports import Report, seconds
from jobs.broker import RedisBroker
from tests.processes import Spawned
from tests.servers import MissingError, Redis, temporary
from tests.waiting import wait_until

ROUNDS = 2
SETTINGS = {"stock": "benchmarks.stock_settings"}


def touch() -> None:
    """One byte a task; an append is atomic, whichever process does it."""
    with (Path(settings.VAR_DIR) / "touched").open("ab") as file:
        file.write(b".")


def run(*, quick: bool) -> Report:
    count = 200 if quick else 2_000
    with ExitStack() as stack:
        queues = {"stock": "", "ours": ""}
        skipped = []
        try:
            queues["ours_on_redis"] = stack.enter_context(temporary(Redis))
        except MissingError as missing:
            skipped.append(f"ours_on_redis: {missing}")
        rates: dict[str, list[float]] = {name: [] for name in queues}
        for _ in range(ROUNDS):
            for name, redis_url in queues.items():
                rates[name].append(count / drain(name, redis_url, count))
    per_second = {name: statistics.median(found) for name, found in rates.items()}
    return Report(
        "drain",
        {"tasks": count, "workers": settings.QCLUSTER_WORKERS}
        | {f"{name}_per_s": round(rate) for name, rate in per_second.items()},
        {
            f"{name}_to_stock": round(rate / per_second["stock"], 1)
            for name, rate in per_second.items()
            if name != "stock"
        },
        skipped,
    )


def drain(name: str, redis_url: str, count: int) -> float:
    """Seconds from the first task to the last; the start of the processes is not counted."""
    settings.REDIS_URL = redis_url
    broker = (RedisBroker if redis_url else ORM)(list_key="broadcast")
    for _ in range(count):
        async_task("benchmarks.drain.touch", broker=broker)
    touched = Path(settings.VAR_DIR) / "touched"
    touched.write_bytes(b"")
    env = os.environ | {
        "REDIS_URL": redis_url,
        "DJANGO_SETTINGS_MODULE": SETTINGS.get(name, "broadcast_project.settings"),
    }
    cluster = Spawned.start(["qcluster"], env, Path(settings.VAR_DIR) / f"{name}.log")
    try:
        wait_until(lambda: touched.stat().st_size, 60, "the first task")
        early = touched.stat().st_size
        took = seconds(
            lambda: wait_until(lambda: touched.stat().st_size >= count, 300, "the last task")
        )
    finally:
        cluster.close()
    assert touched.stat().st_size == count
    return took * count / (count - early)
