"""The clients of `python -m benchmarks streams` must see what a server does wrong."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.peers.stream_servers import Served, each
from benchmarks.streams import Events, build_load, load
from tests.servers import MissingError
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def program() -> Path:
    try:
        return build_load()
    except MissingError as missing:
        pytest.skip(str(missing))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    heard: list[str | None]
    done: threading.Event


@contextmanager
def served(first: list[int], later: list[int]) -> Iterator[tuple[Served, Server]]:
    """Events as given to whoever comes, and others to whoever comes back."""

    class Handler(BaseHTTPRequestHandler):
        server: Server
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            last_id = self.headers["Last-Event-ID"]
            self.server.heard.append(last_id)
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number in later if last_id else first:
                frame = f'id: {number}\ndata: {{"mark":"@{number}@{time.time_ns()}@"}}\n\n'
                half = len(frame) // 2  # a chunk need not be a frame
                for part in (frame[:half], frame[half:]):
                    self.wfile.write(f"{len(part):x}\r\n{part}\r\n".encode())
            self.server.done.wait()

        def log_message(self, *_: object) -> None: ...

    server = Server(("127.0.0.1", 0), Handler)
    server.heard = []
    server.done = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        port = server.server_port
        yield Served(port, 0, lambda *_: None, each("/events")), server
    finally:
        server.done.set()
        server.shutdown()
        server.server_close()


def test_what_is_missing_comes_twice_or_in_disorder_is_counted(program: Path) -> None:
    with served([1, 2, 4, 4, 3], []) as (server, _), load(program, server, 3) as streams:
        streams.events = Events(server, count=4)
        seen = streams.wait(PATIENCE)
        assert seen["missing"] == 0
        assert seen["disordered"] == 3
        assert seen["duplicates"] == 3
        assert seen["events"] == 12
        assert 0 <= seen["p50_ms"] <= seen["p99_ms"] <= seen["max_ms"] < 5_000
        streams.events.count = 5
        assert streams.wait(0)["missing"] == 3


def test_who_was_cut_comes_back_with_the_last_id(program: Path) -> None:
    with served([1, 2], [3]) as (server, backend), load(program, server, 2) as streams:
        streams.events = Events(server, count=2)
        assert streams.wait(PATIENCE)["missing"] == 0
        streams.say("cut")
        assert streams.say("return")["failed"] == 0
        streams.events.count = 3
        assert streams.wait(PATIENCE)["missing"] == 0
        assert sorted(map(str, backend.heard)) == ["2", "2", "None", "None"]


def test_who_reads_nothing_is_not_waited_for(program: Path) -> None:
    with served([1], []) as (server, _), load(program, server, 4, unwilling=1) as streams:
        streams.events = Events(server, count=1)
        seen = streams.wait(PATIENCE)
        assert (seen["missing"], seen["events"]) == (0, 2)
