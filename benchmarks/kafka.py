"""From the commit to Kafka: throughput, and latency at 1,000 events a second.

The relay is a process held to one core. Peers, in the same run, each with its own outbox and the
same broker: django-jaiminho and pgqueuer. Each record is seen by a reader in a process of its own.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.db import connection, transaction

from benchmarks.reports import Report
from outbox.kafka_topics import create_topics, topic_name
from outbox.models import Event
from outbox.services import build_event, emit_all
from outbox.topics import partitions_of
from tests.processes import Spawned
from tests.servers import CHECKOUT, Kafka, MissingError, temporary
from tests.waiting import wait_until

Moments = dict[str, tuple[float, float]]
"""By key: when a record was produced, and when the reader had it."""
PEERS = {"jaiminho": 0.05, "pgqueuer": 1.0}
"""How many events each gets, beside ours: one that takes them one by one needs fewer."""
RATE = 1_000  # events a second
PER_TRANSACTION = 10


def run(*, quick: bool) -> Report:
    if connection.vendor != "postgresql":
        raise SystemExit("This benchmark is of PostgreSQL: add --postgres.")
    count, seconds = (5_000, 3) if quick else (50_000, 10)
    try:
        with temporary(Kafka) as servers:
            os.environ["KAFKA_BOOTSTRAP_SERVERS"] = settings.KAFKA_BOOTSTRAP_SERVERS = servers
            return report(count, seconds)
    except MissingError as missing:
        raise SystemExit(f"This benchmark needs a Kafka: {missing}") from missing


def report(count: int, seconds: int) -> Report:
    rates: dict[str, list[float]] = {"relay": []}
    skipped = []
    for peer in PEERS:
        if find_spec(peer):
            rates[peer] = []
        else:
            skipped.append(f"{peer}: make peers installs it")
    for _ in range(2):  # in turn, so that a noisy minute is nobody's alone
        rates["relay"].append(relay_rate(count))
        for peer in rates.keys() - {"relay"}:
            rates[peer].append(peer_rate(peer, round(count * PEERS[peer])))
    latency = sorted(relay_latency(seconds))
    best = {name: max(found) for name, found in rates.items()}
    cuts = statistics.quantiles(latency, n=100)
    return Report(
        "kafka",
        {
            "events": count,
            **{f"{name}_per_s": round(rate) for name, rate in best.items()},
            "at_1000_per_s_p50_ms": round(cuts[49] * 1_000, 1),
            "at_1000_per_s_p99_ms": round(cuts[98] * 1_000, 1),
            "at_1000_per_s_max_ms": round(latency[-1] * 1_000, 1),
        },
        {f"relay_to_{p}": round(best["relay"] / r, 1) for p, r in best.items() if p != "relay"},
        skipped,
    )


def relay_rate(count: int) -> float:
    """Events a second, of a backlog that is there when the relay starts."""
    prefix_topics()
    for start in range(0, count, 500):
        with transaction.atomic():
            emit_all([event(n) for n in range(start, min(start + 500, count))])
    with relay():
        return rate_of(collected("link", count))


def relay_latency(seconds: int) -> Iterator[float]:
    """Seconds from the commit until the reader has it, for each event."""
    prefix_topics()
    count = seconds * RATE
    committed: dict[str, float] = {}
    with relay(), collector("link", count + 1) as reading:
        with transaction.atomic():
            emit_all([event(count)])
        wait_until(lambda: not Event.objects.pending().exists(), 60, "the relay runs")
        begin = time.monotonic() + 1
        for start in range(0, count, PER_TRANSACTION):
            time.sleep(max(0, begin + start / RATE - time.monotonic()))
            with transaction.atomic():
                emit_all([event(n) for n in range(start, start + PER_TRANSACTION)])
            now = time.time()
            committed |= {f"key-{n}": now for n in range(start, start + PER_TRANSACTION)}
        seen = moments_of(reading)
    # The commit returns after others can see it, so that a record may even be earlier than that.
    yield from (max(0.0, seen[key][1] - at) for key, at in committed.items())


def peer_rate(peer: str, count: int) -> float:
    topic = f"{peer}-{uuid4().hex[:8]}"
    settings.KAFKA_TOPIC_PREFIX = ""
    create_topics([topic])
    script = [sys.executable, "-m", f"benchmarks.peers.{peer}_relay"]
    subprocess.run([*script, "fill", str(count), topic], cwd=CHECKOUT, check=True)
    with collector(topic, count) as reading:
        with one_core():
            subprocess.run([*script, "relay"], cwd=CHECKOUT, check=True, timeout=300)
        return rate_of(moments_of(reading))


def event(number: int) -> Any:
    return build_event("link.expired", f"key-{number}", {"link_id": number})


def prefix_topics() -> None:
    """Topics of its own for each measurement, made before it begins."""
    settings.KAFKA_TOPIC_PREFIX = os.environ["KAFKA_TOPIC_PREFIX"] = f"{uuid4().hex[:8]}-"
    create_topics(["link"])


@contextmanager
def relay() -> Iterator[None]:
    with one_core():
        process = Spawned.start(["relay"], dict(os.environ), Path(settings.VAR_DIR) / "relay.log")
    try:
        yield
    finally:
        process.close()


@contextmanager
def one_core() -> Iterator[None]:
    """For what is started within the block."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def collected(topic: str, count: int) -> Moments:
    with collector(topic, count) as reading:
        return moments_of(reading)


@contextmanager
def collector(topic: str, count: int) -> Iterator["subprocess.Popen[str]"]:
    arguments = [settings.KAFKA_BOOTSTRAP_SERVERS, topic_name(topic), str(partitions_of(topic))]
    command = [sys.executable, "-m", "benchmarks.peers.collector", *arguments, str(count)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def moments_of(reading: "subprocess.Popen[str]") -> Moments:
    assert reading.stdout
    lines = (line.split() for line in reading.stdout)
    return {key: (float(produced), float(came)) for key, produced, came in lines}


def rate_of(seen: Moments) -> float:
    produced = [moment for moment, _ in seen.values()]
    return (len(seen) - 1) / (max(produced) - min(produced))
