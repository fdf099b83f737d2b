"""Servers that fan events out over Server-Sent Events: ours, and others, each as it is at its best.

Each is a context manager that yields what runs: `Served`. One whose program is missing raises
`MissingError`, which says how to get it.
"""

import base64
import hmac
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlencode

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from broadcasts.models import Product
from outbox.services import emit
from tests.processes import Spawned
from tests.servers import CHECKOUT, MissingError, Pushpin, find_program
from tests.servers.programs import START_TIMEOUT, is_free, lasting_ports
from tests.sse import token_of
from tests.waiting import wait_until

BUILT = CHECKOUT / "var" / "peers"
"""Where `make peers` puts what it builds."""
Publish = Callable[[dict[str, str], str], None]
"""The data of an event, and its channel."""
Paths = Callable[[list[list[str]]], list[str]]
"""Given the channels of each client: `all`, `c0` and so on, or `p0`, which is its own alone."""


@dataclass
class Served:
    """A server that runs: where clients connect, and how an event is published to a channel."""

    port: int
    pid: int
    publish: Publish
    paths: Paths
    relay: int | None = None
    """The process that publishes, where that is another one."""


MOST_PEOPLE = 11_000
Peer = Callable[[Path], AbstractContextManager[Served]]
"""Given an empty directory."""


# Ours


@contextmanager
def web(directory: Path) -> Iterator[Served]:
    with ours(directory, lambda port: ["manage.py", "web", "--port", str(port)]) as served:
        yield served


@contextmanager
def uvicorn(directory: Path) -> Iterator[Served]:
    with ours(directory, lambda port: uvicorn_of("broadcast_project.asgi", port)) as served:
        yield served


@contextmanager
def uvicorn_httptools(directory: Path) -> Iterator[Served]:
    if find_spec("httptools") is None:
        raise MissingError("make peers installs httptools")

    def command(port: int) -> list[str]:
        return uvicorn_of("broadcast_project.asgi", port, http="httptools")

    with ours(directory, command) as served:
        yield served


@contextmanager
def ours(directory: Path, arguments: Callable[[int], list[str]]) -> Iterator[Served]:
    env = {"SSE_CONNECTS_PER_MINUTE": "0", "SSE_TOKEN_SECONDS": "86400"}
    [port] = lasting_ports(1)
    with (
        program(directory, "server", [sys.executable, *arguments(port)], env) as server,
        program(directory, "relay", [sys.executable, "manage.py", "relay"]) as relay,
    ):
        wait_for(port, server)
        yield Served(port, server.pid, emitted, own_paths, relay.pid)


def emitted(data: dict[str, str], channel: str) -> None:
    with transaction.atomic():
        emit("benchmark.tick", "benchmark", data, channels=[own_channel(channel)])


def own_channel(name: str) -> str:
    if name.startswith("p"):
        return f"user-{own_people()[int(name[1:])]}"
    return name if name == "all" else f"product-{name}"


@cache
def own_people() -> list[int]:
    """A person each, who may have four streams at most."""
    missing = range(User.objects.count(), MOST_PEOPLE)
    User.objects.bulk_create(User(username=f"reader-{n}") for n in missing)
    return list(User.objects.order_by("pk").values_list("pk", flat=True)[:MOST_PEOPLE])


def own_paths(channels: list[list[str]]) -> list[str]:
    pks = own_people()[: len(channels)]
    products = {
        name: Product.objects.get_or_create(slug=name, name=name)[0].pk
        for name in {name for names in channels for name in names if name.startswith("c")}
    }
    subscribes = Product.subscribers.through
    subscribes.objects.all().delete()
    subscribes.objects.bulk_create(
        subscribes(product_id=products[name], user_id=pk)
        for pk, names in zip(pks, channels, strict=True)
        for name in names
        if name in products
    )
    key = {"SECRET_KEY": settings.SECRET_KEY}
    return [f"/api/user/sse/connect?token={token_of(pk, key)}" for pk in pks]


def uvicorn_of(module: str, port: int, http: str = "h11") -> list[str]:
    """As it comes without its extras, unless told otherwise, whatever is installed."""
    options = ["--http", http, "--loop", "asyncio"]
    options += ["--log-level", "warning", "--timeout-graceful-shutdown", "1"]
    return ["-m", "uvicorn", f"{module}:application", "--port", str(port), *options]


# Others

NGINX = """
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
error_log {directory}/error.log;
pid {directory}/nginx.pid;
events {{ worker_connections 60000; }}
http {{
    access_log off;
    client_max_body_size 1m;
    client_body_buffer_size 1m;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    nchan_shared_memory_size 512m;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location ~ ^/events/(.+)$ {{
            nchan_subscriber eventsource;
            nchan_subscriber_first_message newest;
            nchan_channel_id_split_delimiter ",";
            nchan_channel_id $1;
        }}
        location ~ ^/publish/(.+)$ {{
            nchan_publisher;
            nchan_channel_id $1;
            nchan_message_buffer_length 10000;
            nchan_message_timeout 1h;
        }}
    }}
}}
"""


@contextmanager
def nchan(directory: Path) -> Iterator[Served]:
    """With one worker process, as one web process is compared with it."""
    packages = "nginx-light libnginx-mod-nchan"
    nginx = find_program("nginx", packages, Path("/usr/sbin"))
    modules = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
    if not modules.exists():
        raise MissingError(f"no nchan found; apt-get install {packages}")
    [port] = lasting_ports(1)
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(module=modules, directory=directory, port=port))
    directory.chmod(0o755)
    command = [str(nginx), "-c", str(config), "-e", str(directory / "error.log")]
    with program(directory, "nginx", command) as server:
        wait_for(port, server)
        publish = posted(port, "/publish/{channel}")
        yield Served(port, server.pid, publish, each("/events/{}", ","))


@contextmanager
def mercure(directory: Path) -> Iterator[Served]:
    hub = built("mercure")
    key = "the key by which a publisher signs"
    [port] = lasting_ports(1)
    command = [str(hub), f"127.0.0.1:{port}", str(directory / "bolt.db")]
    with program(directory, "mercure", command, {"PUBLISHER_KEY": key}) as server:
        wait_for(port, server)
        path = "/.well-known/mercure"
        headers = {
            "Authorization": f"Bearer {signed({'mercure': {'publish': ['*']}}, key)}",
            "Content-Type": "application/x-www-form-urlencoded",
        }

        def form(data: str, channel: str) -> str:
            return urlencode({"topic": channel, "data": data})

        publish = posted(port, path, form, headers)
        yield Served(port, server.pid, publish, each(path + "?topic={}", "&topic="))


@contextmanager
def centrifugo(directory: Path) -> Iterator[Served]:
    server_program = built("centrifugo")
    [port] = lasting_ports(1)
    config = directory / "config.json"
    channel = {
        "allow_subscribe_for_client": True,
        "allow_subscribe_for_anonymous": True,
        "history_size": 10_000,
        "history_ttl": "1h",
    }
    config.write_text(
        json.dumps(
            {
                "http_server": {"address": "127.0.0.1", "port": port},
                "http_api": {"key": "benchmark"},
                "client": {"allow_anonymous_connect_without_token": True},
                "channel": {"without_namespace": channel},
                "uni_sse": {"enabled": True},
                "log": {"level": "error"},
            }
        )
    )
    with program(directory, "centrifugo", [str(server_program), "-c", str(config)]) as server:
        wait_for(port, server)

        def request(data: str, channel: str) -> str:
            return json.dumps({"channel": channel, "data": json.loads(data)})

        def paths(channels: list[list[str]]) -> list[str]:
            subscribed = [json.dumps({"subs": {name: {} for name in names}}) for names in channels]
            return [f"/connection/uni_sse?cf_connect={quote(text)}" for text in subscribed]

        publish = posted(port, "/api/publish", request, {"X-API-Key": "benchmark"})
        yield Served(port, server.pid, publish, paths)


@contextmanager
def pushpin(directory: Path) -> Iterator[Served]:
    """In front of a server that only says which channel a stream is held to."""

    class Holder(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", "0")
            self.send_header("Grip-Hold", "stream")
            self.send_header("Grip-Channel", self.path.rpartition("/")[2])
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    class Backend(ThreadingHTTPServer):
        request_queue_size = 4096
        daemon_threads = True

    with Backend(("127.0.0.1", 0), Holder) as backend, ExitStack() as stack:
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        stack.callback(backend.shutdown)
        server = Pushpin(directory / "pushpin", backend.server_port)
        stack.callback(server.stop)
        server.start()

        def items(data: str, channel: str) -> str:
            formats = {"http-stream": {"content": f"data: {data}\n\n"}}
            return json.dumps({"items": [{"channel": channel, "formats": formats}]})

        publish = posted(server.control, "/publish/", items)
        yield Served(server.http, server.runner.pid, publish, each("/events/{}", ","))


@contextmanager
def eventstream_daphne(directory: Path) -> Iterator[Served]:
    def command(port: int) -> list[str]:
        module = "benchmarks.peers.eventstream_site:application"
        return ["-m", "daphne", "-v", "0", "--access-log", os.devnull, "-p", str(port), module]

    with eventstream(directory, command) as served:
        yield served


@contextmanager
def eventstream_uvicorn(directory: Path) -> Iterator[Served]:
    module = "benchmarks.peers.eventstream_site"
    with eventstream(directory, lambda port: uvicorn_of(module, port)) as served:
        yield served


@contextmanager
def eventstream(directory: Path, arguments: Callable[[int], list[str]]) -> Iterator[Served]:
    env = {"EVENTSTREAM_DATABASE": str(directory / "db.sqlite3")}
    setup = [sys.executable, "-m", "benchmarks.peers.eventstream_site"]
    subprocess.run(setup, cwd=CHECKOUT, env=os.environ | env, check=True, timeout=START_TIMEOUT)
    [port] = lasting_ports(1)
    with program(directory, "server", [sys.executable, *arguments(port)], env) as server:
        wait_for(port, server)
        yield Served(port, server.pid, posted(port, "/publish"), each("/events/"))


OURS: dict[str, Peer] = {"web": web, "uvicorn": uvicorn, "uvicorn_httptools": uvicorn_httptools}
PEERS: dict[str, Peer] = {
    "nchan": nchan,
    "pushpin": pushpin,
    "centrifugo": centrifugo,
    "mercure": mercure,
    "eventstream_daphne": eventstream_daphne,
    "eventstream_uvicorn": eventstream_uvicorn,
}


# What they need


@contextmanager
def program(
    directory: Path, name: str, command: list[str], env: dict[str, str] | None = None
) -> Iterator[Spawned]:
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=os.environ | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    spawned = Spawned(name, process, log)
    try:
        yield spawned
    finally:
        spawned.close()


def wait_for(port: int, server: Spawned) -> None:
    wait_until(lambda: not is_free(port) or server.process.poll() is not None, START_TIMEOUT)
    if server.process.poll() is not None:
        raise RuntimeError(f"{server.name} ended while it started: {server.output()}")


def built(name: str) -> Path:
    found = BUILT / name
    if not found.exists():
        raise MissingError("make peers builds it, with Go 1.26 or newer")
    return found


def each(path: str, separator: str = ",") -> Paths:
    """The path of each client, with its channels in it."""
    return lambda channels: [path.format(separator.join(names)) for names in channels]


def posted(
    port: int,
    path: str,
    body: Callable[[str, str], str] = lambda data, channel: data,
    headers: dict[str, str] | None = None,
) -> Publish:
    """Publish by POST, over one connection as long as the server keeps it.

    `body` is given the data and the channel, which `path` may name as `{channel}`.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json"} | (headers or {})

    def publish(data: dict[str, str], channel: str) -> None:
        content, place = body(json.dumps(data), channel).encode(), path.format(channel=channel)
        try:
            connection.request("POST", place, content, headers)
            response = connection.getresponse()
        except (HTTPException, ConnectionError):  # it was idle for too long
            connection.close()
            connection.request("POST", place, content, headers)
            response = connection.getresponse()
        answer = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{place} answered {response.status}: {answer[:200]!r}")

    return publish


def signed(claims: dict[str, object], key: str) -> str:
    """A JSON Web Token."""

    def encoded(part: bytes) -> str:
        return base64.urlsafe_b64encode(part).decode().rstrip("=")

    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    text = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    return f"{text}.{encoded(hmac.digest(key.encode(), text.encode(), 'sha256'))}"
