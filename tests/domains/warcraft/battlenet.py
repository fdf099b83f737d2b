"""Battle.net as far as it is asked: the recorded documents, over a real socket.

`python -m tests.domains.warcraft.battlenet` serves all characters and guilds there could be, for
benchmarks, and prints its port.
"""

import copy
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

ANSWERS = Path(__file__).parent / "answers"
MODIFIED = "Wed, 19 Nov 2025 21:52:00 GMT"
LATER = "Thu, 20 Nov 2025 21:52:00 GMT"
Behaviour = Callable[["Handler"], None]


def recorded(name: str) -> Any:
    return json.loads((ANSWERS / f"{name}.json").read_text())


@dataclass(frozen=True)
class Asked:
    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass
class World:
    """What there is at Battle.net; a test changes it as it likes."""

    documents: dict[str, tuple[Any, str]] = field(default_factory=dict)
    """By path: the body, and when it was modified."""
    behaviours: dict[str, list[Behaviour]] = field(default_factory=dict)
    """By path: what happens instead, each once; the last one for ever if it is `always`."""
    everybody: bool = False
    """Each character and guild that is asked for exists."""
    tokens: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    """Tokens that are good no more."""
    secret: str = "secret"
    expires_in: int = 86_399
    asked: list[Asked] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.documents["/data/wow/playable-class/index"] = recorded("playable-class-index"), ""
        self.documents["/data/wow/playable-race/index"] = recorded("playable-race-index"), ""

    def put(self, path: str, of: str, modified: str = MODIFIED, **changes: Any) -> None:
        self.documents[path] = recorded(of) | changes, modified

    def character(self, name: str, realm: str = "area-52", **changes: Any) -> str:
        """Its path; what it wears and its statistics are the recorded ones."""
        path = f"/profile/wow/character/{realm}/{name.lower()}"
        self.put(path, "character", **{"name": name} | changes)
        self.put(f"{path}/equipment", "equipment")
        self.put(f"{path}/statistics", "statistics")
        self.put(f"{path}/character-media", "character-media")
        return path

    def guild(self, slug: str = "knights-of-dawn", realm: str = "area-52", **changes: Any) -> str:
        path = f"/data/wow/guild/{realm}/{slug}"
        self.put(path, "guild", **changes)
        self.put(f"{path}/roster", "roster")
        return path

    def roster(self, path: str, change: Callable[[list[Any]], object], modified: str) -> None:
        """Of a guild: other members since."""
        body = copy.deepcopy(self.documents[f"{path}/roster"][0])
        change(body["members"])
        self.documents[f"{path}/roster"] = body, modified

    def instead(self, path: str, *behaviours: Behaviour) -> None:
        self.behaviours[path] = list(behaviours)

    def found(self, path: str) -> tuple[Any, str] | None:
        if path in self.documents or not self.everybody:
            return self.documents.get(path)
        kind = {"equipment": "equipment", "statistics": "statistics", "roster": "roster"}
        last = path.rpartition("/")[2]
        if last == "character-media":
            return ANY["character-media"], MODIFIED
        if last in kind:
            return ANY[kind[last]], MODIFIED
        of = "character" if path.startswith("/profile") else "guild"
        return ANY[of] | {"name": last.title()}, MODIFIED

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]


ANY = {path.stem: recorded(path.stem) for path in ANSWERS.glob("*.json")}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Server"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        world = self.server.world
        if self._happens("/token"):
            return
        with world.lock:
            world.counts["token"] += 1
            world.tokens.append(f"token-{len(world.tokens)}")
        if f":{world.secret}" not in self._credentials():
            self.answer(401, recorded("invalid-client"))
        else:
            token = {"access_token": world.tokens[-1], "expires_in": world.expires_in}
            self.answer(200, recorded("token") | token)

    def do_GET(self) -> None:
        world = self.server.world
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        with world.lock:
            world.in_flight += 1
            world.most_in_flight = max(world.most_in_flight, world.in_flight)
            world.counts[path] += 1
            if not world.everybody:
                query = dict(parse_qsl(parts.query))
                world.asked.append(Asked(path, query, dict(self.headers)))
        try:
            if not self._happens(path):
                self._document(path)
        finally:
            with world.lock:
                world.in_flight -= 1

    def _document(self, path: str) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        world = self.server.world
        if token not in world.tokens or token in world.refused:
            return self.answer(401, recorded("invalid-client"))
        found = world.found(path)
        if found is None:
            return self.answer(404, ANY["not-found"])
        body, modified = found
        if modified and self.headers.get("If-Modified-Since") == modified:
            return self.answer(304, None)
        return self.answer(200, body, {"Last-Modified": modified} if modified else {})

    def _happens(self, path: str) -> bool:
        world = self.server.world
        with world.lock:
            waiting = world.behaviours.get(path) or world.behaviours.get("*")
            if not waiting:
                return False
            behaviour = waiting[0] if getattr(waiting[0], "always", False) else waiting.pop(0)
        behaviour(self)
        return True

    def _credentials(self) -> str:
        import base64

        encoded = self.headers.get("Authorization", "").removeprefix("Basic ")
        return base64.b64decode(encoded).decode()

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Type", "application/json;charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def __init__(self, world: World) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.world = world
        self.closing = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # who asked has gone

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(world: World) -> Iterator[Server]:
    with Server(world) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


def answering(status: int, body: Any = None, **headers: str) -> Behaviour:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.answer(status, body or {}, named)


def always(behaviour: Behaviour) -> Behaviour:
    behaviour.always = True  # type: ignore[attr-defined]
    return behaviour


def hang(handler: Handler) -> None:
    handler.server.closing.wait()
    handler.close_connection = True


def break_off(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    handler.close_connection = True


def nonsense(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "7")
    handler.end_headers()
    handler.wfile.write(b"<html/>")


if __name__ == "__main__":
    server = Server(World(everybody=True))
    print(server.server_port, flush=True)
    server.serve_forever()
