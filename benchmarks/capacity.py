"""What one web process needs: memory for each idle stream, and CPU for each delivery.

The plan in `docs/operations.md` rests on it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User

from benchmarks.reports import Report
from broadcasts.models import Receipt
from broadcasts.services import compose_and_send
from tests.processes import Spawned
from tests.servers import CHECKOUT, free_port
from tests.sse import token_of
from tests.waiting import wait_until

TICKS = os.sysconf("SC_CLK_TCK")


def run(*, quick: bool) -> Report:
    people, broadcasts = (500, 10) if quick else (4_000, 50)
    User.objects.bulk_create(User(username=f"reader-{n}") for n in range(people))
    pks = list(User.objects.values_list("pk", flat=True))
    port = free_port()
    with (
        process(["web", "--port", str(port)], SSE_CONNECTS_PER_MINUTE="0") as web,
        process(["relay"]) as relay,
        streams(port, broadcasts, [pks[0]]) as first,
    ):
        expect(first, "ready")  # what is loaded once does not belong to a stream
        before, started = memory(web), cpu(web)
        with streams(port, broadcasts, pks[1:]) as clients:
            expect(clients, "ready")
            connecting = cpu(web) - started
            idle = memory(web) - before
            started, relaying = cpu(web), cpu(relay)
            began = time.monotonic()
            for number in range(broadcasts):
                compose_and_send(None, title=f"Number {number}", content="Some *text*.")
            expect(clients, "done")
            took = time.monotonic() - began
            deliveries = broadcasts * people
            wait_until(lambda: delivered() >= deliveries, 120, "all are recorded")
            spent, relaying = cpu(web) - started, cpu(relay) - relaying
    return Report(
        "capacity",
        {
            "streams": people,
            "broadcasts": broadcasts,
            "kib_per_idle_stream": round(idle / people, 1),
            "connect_cpu_ms": round(connecting / people * 1_000, 2),
            "web_cpu_us_per_delivery": round(spent / deliveries * 1_000_000, 1),
            "relay_cpu_ms_per_broadcast": round(relaying / broadcasts * 1_000, 1),
            "deliveries_per_s": round(deliveries / took),
        },
    )


def delivered() -> int:
    return Receipt.objects.exclude(delivered_at=None).count()


@contextmanager
def process(command: list[str], **env: str) -> Iterator[Spawned]:
    log = Path(settings.VAR_DIR) / f"{command[0]}.log"
    spawned = Spawned.start(command, os.environ | env, log)
    try:
        yield spawned
    finally:
        spawned.close()


@contextmanager
def streams(port: int, count: int, people: list[int]) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "benchmarks.peers.clients", str(port), str(count)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=pipe, stdout=pipe, text=True) as clients:
        assert clients.stdin
        key = {"SECRET_KEY": settings.SECRET_KEY}
        clients.stdin.write("\n".join(token_of(pk, key) for pk in people))
        clients.stdin.close()
        try:
            yield clients
        finally:
            clients.kill()


def expect(clients: "subprocess.Popen[str]", word: str) -> None:
    assert clients.stdout
    assert clients.stdout.readline().strip() == word


def memory(spawned: Spawned) -> int:
    """Resident KiB."""
    status = Path(f"/proc/{spawned.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def cpu(spawned: Spawned) -> float:
    """Seconds, of the process and its threads."""
    fields = Path(f"/proc/{spawned.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
