"""An HTTP server for deliveries that answers as badly as it is told, by path."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Behaviour = Callable[["Handler"], None]
CHUNK = b"x" * 1_000_000
GIGABYTE = 1_000_000_000


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    """By their names as they were sent."""
    body: str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.received.append(Received(self.path, dict(self.headers), body))
        self.server.behaviours.get(self.path.partition("?")[0], answer(200, "ok"))(self)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 200

    def __init__(self, address: str, certificate: Path | None) -> None:
        super().__init__((address, 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.received: list[Received] = []
        self.behaviours: dict[str, Behaviour] = {}
        self.sent = 0
        """Bytes of an endless answer that left."""
        self.closing = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # who asked has gone

    def url(self, path: str = "/") -> str:
        return f"http://{self.server_address[0]!s}:{self.server_port}{path}"

    def ids(self, path: str = "/") -> list[str]:
        return [received.id for received in list(self.received) if received.path == path]


@contextmanager
def receiver(address: str = "127.0.0.1", certificate: Path | None = None) -> Iterator[Server]:
    with Server(address, certificate) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


def answer(status: int, body: str = "", headers: dict[str, str] | None = None) -> Behaviour:
    def behave(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body.encode())))
        handler.end_headers()
        handler.wfile.write(body.encode())

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """One after the other; the last one from then on."""
    left = list(behaviours)

    def behave(handler: Handler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return behave


def hang(handler: Handler) -> None:
    handler.server.closing.wait()
    handler.close_connection = True


def break_off_early(handler: Handler) -> None:
    """In the middle of the headers."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-")
    handler.close_connection = True


def break_off_halfway(handler: Handler) -> None:
    """In the middle of the body."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 50)
    handler.close_connection = True


def flood(handler: Handler) -> None:
    """A gigabyte, or what of it is taken."""
    handler.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {GIGABYTE}\r\n\r\n".encode())
    while handler.server.sent < GIGABYTE and not handler.server.closing.is_set():
        handler.wfile.write(CHUNK)
        handler.server.sent += len(CHUNK)
