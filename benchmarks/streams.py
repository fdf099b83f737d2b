"""Streams of Server-Sent Events: what ours cost and how soon they have an event, beside others.

Each server is measured in turn, some rounds of it, by the same clients (a program in Go) on the
same machine. A figure is the median of the rounds; `~` marks one whose rounds differ by more than
`NOISE`, from which nothing follows. Ours get their events by `emit`, the relay and the log, the
others by their HTTP interface. Receipts are not part of it: `capacity` measures them.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from django.db import connection

from benchmarks.peers.stream_servers import BUILT, OURS, PEERS, Peer, Served
from benchmarks.reports import Report
from tests.servers import MissingError

Figures = dict[str, float]
LOAD = Path(__file__).parent / "peers" / "load"
NOISE = 0.3
TICKS = os.sysconf("SC_CLK_TCK")
FANNED, BURST, MISSED = 20, 200, 50  # events
SIZE = 400  # bytes of padding; about as long as a message
CHANNELS_EACH, OF_A_CHANNEL = 5, 0.4  # channels of a client; the part of all that one reaches
PRIVATE = 2  # rounds, in each of which everybody gets an event of their own
BIG, BIG_SIZE = 60, 80_000  # more than a socket takes for a client that does not read
THREAD_A_CLIENT = {"eventstream_daphne", "eventstream_uvicorn"}
NO_REPLAY = {
    "pushpin": "it keeps nothing: what was missed is asked of the server behind it",
    "centrifugo": "it goes on from an offset in the URL, not from Last-Event-ID",
}


@dataclass
class Sizes:
    """Numbers of clients, and seconds."""

    small: int
    large: int
    idle: int
    rounds: int
    pause: float
    big_pause: float
    settle: float
    patience: float
    """Until what has not come is missing."""
    apart: bool
    """A server for each scenario."""


FULL = Sizes(1_000, 5_000, 10_000, 3, 0.5, 0.25, 1, 60, apart=True)
QUICK = Sizes(100, 500, 1_000, 1, 0.05, 0.025, 0.3, 20, apart=False)


@dataclass
class Comparison(Report):
    """Figures by server: {figure: {server: value}}."""

    noisy: dict[str, list[str]] = field(default_factory=dict)
    rounds: int = 1

    def table(self) -> str:
        tables = {name: row for name, row in self.figures.items() if isinstance(row, dict)}
        names = list(dict.fromkeys(server for row in tables.values() for server in row))
        width = max(len(name) for name in tables)
        lines = [self.name, " ".join(["".ljust(width), *(f"{name:>19}" for name in names)])]
        for name, row in tables.items():
            cells = [self._cell(name, server, row.get(server)) for server in names]
            lines.append(" ".join([name.ljust(width), *cells]))
        others = [f"{name}: {v}" for name, v in self.figures.items() if name not in tables]
        said = "one round: nothing is known of the noise" if self.rounds == 1 else ""
        said = said or f"~ rounds differ by more than {NOISE:.0%}: too noisy to say"
        return "\n".join([*lines, *others, said, *(f"skipped: {what}" for what in self.skipped)])

    def _cell(self, name: str, server: str, value: float | None) -> str:
        mark = "~" if server in self.noisy.get(name, ()) else ""
        return f"{'-' if value is None else f'{mark}{value:g}':>19}"


def run(*, quick: bool) -> Report:
    return compare(OURS | PEERS, QUICK if quick else FULL)


def compare(servers: dict[str, Peer], sizes: Sizes) -> Report:
    try:
        program = build_load()
    except MissingError as missing:
        raise SystemExit(f"The clients of this benchmark are built with Go: {missing}") from missing
    allow_many_sockets()
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    skipped: dict[str, None] = {}
    for number in range(sizes.rounds):  # in turn, so that a noisy minute is nobody's alone
        for name, peer in servers.items():
            print(f"round {number + 1} of {sizes.rounds}: {name}", file=sys.stderr)
            try:
                for measured in measure(name, peer, program, sizes):
                    for figure, value in measured.items():
                        found[figure][name].append(value)
            except MissingError as missing:
                skipped[f"{name}: {missing}"] = None
            except (RuntimeError, OSError) as error:
                skipped[f"{name}: {error}"] = None
            else:
                skipped |= dict.fromkeys(left_out(name, sizes))
    return report(found, list(skipped), sizes)


def measure(name: str, peer: Peer, program: Path, sizes: Sizes) -> Iterator[Figures]:
    """Memory and history of one scenario are not to be another's; `quick` cannot wait for that."""
    few = name in THREAD_A_CLIENT
    idling = [] if few else [partial(idle, sizes.idle)]
    crowds = [partial(crowd, sizes.small)]
    if not few:
        crowds.append(partial(crowd, sizes.large, storms=name not in NO_REPLAY))
    slows = [partial(slow, sizes.small)]
    many = [] if few else [partial(channels, sizes.large), partial(private, sizes.large)]
    kinds = [idling, crowds, slows, many]
    apart = kinds if sizes.apart else [[*chain(*kinds)]]
    for scenarios in filter(None, apart):
        with started(peer) as served:
            for scenario in scenarios:
                yield scenario(served, program, sizes)


def left_out(name: str, sizes: Sizes) -> Iterator[str]:
    if name in THREAD_A_CLIENT:
        yield f"{name}, more than {sizes.small} clients: it has a thread for each"
        yield f"{name}, channels and private: this site of it has one channel"
    if reason := NO_REPLAY.get(name):
        yield f"{name}, storm: {reason}"


@contextmanager
def started(peer: Peer) -> Iterator[Served]:
    with (
        tempfile.TemporaryDirectory(prefix="broadcast-peer-") as directory,
        peer(Path(directory)) as served,
    ):
        yield served


def report(
    found: dict[str, dict[str, list[float]]], skipped: list[str], sizes: Sizes
) -> Comparison:
    figures: dict[str, Any] = {}
    noisy: dict[str, list[str]] = {}
    for figure, row in found.items():
        count = figure.endswith(("missing", "disordered", "duplicates", "ended"))
        choose = max if count else statistics.median
        figures[figure] = {name: round(choose(values), 2) for name, values in row.items()}
        if not count:
            noisy[figure] = [name for name, values in row.items() if is_noisy(values)]
    ratios = {
        f"{figure}: {own} to {peer}": round(row[own] / row[peer], 2)
        for figure, row in figures.items()
        if figure.endswith(("cpu_us", "p99_ms", "storm_s", "idle_kib"))
        for own in OURS.keys() & row.keys()
        for peer in PEERS.keys() & row.keys()
        if row[peer] > 0 and not {own, peer} & set(noisy[figure])
    }
    figures["rounds"] = sizes.rounds
    figures["load_average"] = os.getloadavg()[0]
    return Comparison("streams", figures, ratios, skipped, noisy, sizes.rounds)


def is_noisy(values: list[float]) -> bool:
    return max(values) - min(values) > NOISE * abs(statistics.median(values))


# Scenarios


def idle(clients: int, served: Served, program: Path, sizes: Sizes) -> Figures:
    """Memory for each client, beside the first one: what is loaded once is not a client's."""
    with load(program, served, 1):
        time.sleep(sizes.settle)
        before, threads = memory(served.pid), threads_of(served.pid)
        connections = database_connections() if served.relay else None
        began = cpu(served.pid)
        with load(program, served, clients) as streams:
            time.sleep(2 * sizes.settle)
            held = {}
            if connections is not None:
                more = (database_connections() or 0) - connections
                held = {f"{clients}_more_database_connections": more}
            return held | {
                f"{clients}_idle_kib": (memory(served.pid) - before) / clients,
                f"{clients}_more_threads": threads_of(served.pid) - threads,
                f"{clients}_connect_s": streams.connected["seconds"],
                f"{clients}_connect_cpu_us": (cpu(served.pid) - began) / clients * 1e6,
            }


def crowd(
    clients: int, served: Served, program: Path, sizes: Sizes, *, storms: bool = False
) -> Figures:
    """Events one by one, then back to back, then those that all of them missed."""
    with load(program, served, clients) as streams:
        time.sleep(sizes.settle)
        streams.events = Events(served)
        began = [cpu(served.pid), cpu(streams.process.pid), cpu(served.relay)]
        streams.events.publish(FANNED, pause=sizes.pause)
        fanned = streams.wait(sizes.patience)
        ended = [cpu(served.pid), cpu(streams.process.pid), cpu(served.relay)]
        each = max(fanned["events"], 1) / 1e6
        spent, loading, relaying = (
            (after - before) / each for after, before in zip(ended, began, strict=True)
        )
        figures = {
            "cpu_us": spent,
            **({"relay_cpu_us": relaying} if served.relay else {}),
            "clients_own_cpu_us": loading,
            "p50_ms": fanned["p50_ms"],
            "p99_ms": fanned["p99_ms"],
            "max_ms": fanned["max_ms"],
            "missing": fanned["missing"],
        }
        bursting, before = time.time(), cpu(served.pid)
        streams.events.publish(BURST)
        burst = streams.wait(sizes.patience)
        figures |= {
            "burst_s": burst["last"] - bursting,
            "burst_cpu_us": (cpu(served.pid) - before) / max(burst["events"], 1) * 1e6,
            "burst_missing": burst["missing"],
            "burst_disordered": burst["disordered"],
            "burst_duplicates": burst["duplicates"],
        }
        if storms and not burst["missing"]:
            figures |= storm(streams, served, sizes)
        return {f"{clients}_{name}": value for name, value in figures.items()}


def storm(streams: "Streams", served: Served, sizes: Sizes) -> Figures:
    """From the moment when all come back until the last has what was published meanwhile."""
    streams.say("cut")
    streams.events.publish(MISSED)
    time.sleep(sizes.settle)
    before, asked = cpu(served.pid), transactions()
    back = streams.say("return")
    caught_up = streams.wait(sizes.patience)
    figures = {
        "storm_s": caught_up["last"] - back["began"],
        "storm_connect_s": back["seconds"],
        "storm_cpu_ms": (cpu(served.pid) - before) / len(streams.paths) * 1e3,
        "storm_missing": caught_up["missing"],
        "storm_disordered": caught_up["disordered"],
    }
    if served.relay and asked is not None:
        time.sleep(2 * sizes.settle)  # PostgreSQL counts a little later
        figures["storm_transactions"] = ((transactions() or 0) - asked) / len(streams.paths)
    return figures


def channels(clients: int, served: Served, program: Path, sizes: Sizes) -> Figures:
    """Each client follows five of a dozen channels, each of which reaches two in five of them."""
    count = round(CHANNELS_EACH / OF_A_CHANNEL)
    names = [f"c{n}" for n in range(count)]
    of_each = [[names[(n + k) % count] for k in range(CHANNELS_EACH)] for n in range(clients)]
    figures = spread(served, program, sizes, of_each, names * 2, 2 * CHANNELS_EACH, sizes.pause)
    return {f"{clients}_channels_{name}": value for name, value in figures.items()}


def private(clients: int, served: Served, program: Path, sizes: Sizes) -> Figures:
    """An event for each client alone, back to back."""
    of_each = [[f"p{n}"] for n in range(clients)]
    names = [f"p{n}" for n in range(clients)] * PRIVATE
    figures = spread(served, program, sizes, of_each, names, PRIVATE, pause=0)
    return {f"{clients}_private_{name}": value for name, value in figures.items()}


def spread(
    served: Served,
    program: Path,
    sizes: Sizes,
    of_each: list[list[str]],
    names: list[str],
    expected: int,
    pause: float,
) -> Figures:
    """One event to each of the channels that are named; `expected` of them are a client's."""
    with load(program, served, len(of_each), of_each=of_each) as streams:
        time.sleep(sizes.settle)
        began = cpu(served.pid)
        for channel in names:
            streams.events.publish(1, channel=channel)
            time.sleep(pause)
        seen = streams.wait(sizes.patience, expected)
        return {
            "cpu_us": (cpu(served.pid) - began) / max(seen["events"], 1) * 1e6,
            "p50_ms": seen["p50_ms"],
            "p99_ms": seen["p99_ms"],
            "missing": seen["missing"],
            "disordered": seen["disordered"],
        }


def slow(clients: int, served: Served, program: Path, sizes: Sizes) -> Figures:
    """What the others notice of 1 % that read 1 KB a second and 1 % that read nothing."""
    few = max(clients // 100, 1)
    figures: Figures = {}
    for name, unwilling in (("without_slow", 0), ("with_slow", few)):
        with load(program, served, clients + 2 * unwilling, unwilling) as streams:
            time.sleep(sizes.settle)
            streams.events = Events(served)
            before = memory(served.pid)
            streams.events.publish(BIG, pause=sizes.big_pause, size=BIG_SIZE)
            seen = streams.wait(sizes.patience)
            figures |= {
                f"{name}_p99_ms": seen["p99_ms"],
                f"{name}_missing": seen["missing"],
                f"{name}_mib_more": (memory(served.pid) - before) / 1024,
                f"{name}_ended": seen["ended"],
            }
    return figures


# Clients


@dataclass
class Events:
    """Published to one server, numbered from 1."""

    served: Served
    count: int = 0

    def publish(
        self, count: int, *, pause: float = 0, size: int = SIZE, channel: str = "all"
    ) -> None:
        begin = time.monotonic()
        for number in range(count):
            time.sleep(max(0, begin + number * pause - time.monotonic()))
            self.count += 1
            mark = f"@{self.count}@{time.time_ns()}@"
            self.served.publish({"mark": mark, "padding": "x" * size}, channel)


@dataclass
class Streams:
    """Held by `load/main.go`, which is told what to do line by line."""

    process: "subprocess.Popen[str]"
    paths: list[str]
    connected: dict[str, Any]
    events: Events

    def say(self, *words: object) -> dict[str, Any]:
        return say(self.process, " ".join(map(str, words)))

    def wait(self, patience: float, each: int | None = None) -> dict[str, Any]:
        """Until every client has `each` events: all that were published, unless given."""
        return self.say("await", self.events.count if each is None else each, patience)


@contextmanager
def load(
    program: Path,
    served: Served,
    clients: int,
    unwilling: int = 0,
    of_each: list[list[str]] | None = None,
) -> Iterator[Streams]:
    """`unwilling` clients read slowly, as many read nothing; `of_each` are their channels."""
    paths = served.paths(of_each or [["all"]] * clients)
    pipe = subprocess.PIPE
    with subprocess.Popen([str(program)], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            plan = {"Address": f"127.0.0.1:{served.port}", "Paths": paths, "AtOnce": 50}
            answer = say(process, json.dumps(plan | {"Slow": unwilling, "Stuck": unwilling}))
            if answer["failed"]:
                raise RuntimeError(f"{answer['failed']} of {clients} failed: {answer['error']}")
            yield Streams(process, paths, answer, Events(served))
        finally:
            process.kill()


def say(process: "subprocess.Popen[str]", line: str) -> dict[str, Any]:
    assert process.stdin
    assert process.stdout
    process.stdin.write(line + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError("The clients ended.")
    return dict(json.loads(answer))


def build_load() -> Path:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise MissingError("no go found; install Go 1.22 or newer")
    BUILT.mkdir(parents=True, exist_ok=True)
    program = BUILT / "load"
    subprocess.run([go, "build", "-o", program, "."], cwd=LOAD, check=True, timeout=300)
    return program


# What a server takes


def allow_many_sockets() -> None:
    """Up to the hard limit, for what is started from here, too."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def tree(root: int) -> list[int]:
    """The process and all that it started."""
    children = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it ended meanwhile
            continue
        children[parent].append(int(stat.parent.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def cpu(root: int | None) -> float:
    """Seconds."""
    spent = 0
    for pid in tree(root) if root else ():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        spent += int(fields[11]) + int(fields[12])
    return spent / TICKS


def memory(root: int) -> int:
    """KiB; what processes share is counted once."""
    return sum(number_in(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in tree(root))


def threads_of(root: int) -> int:
    return sum(number_in(f"/proc/{pid}/status", "Threads:") for pid in tree(root))


def number_in(path: str, name: str) -> int:
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def transactions() -> int | None:
    """Of the database so far; on PostgreSQL only."""
    return of_database("xact_commit + xact_rollback")


def database_connections() -> int | None:
    """Of all processes; on PostgreSQL only."""
    return of_database("numbackends")


def of_database(figure: str) -> int | None:
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {figure} FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])
