import contextlib
import resource
import socket
from argparse import ArgumentParser
from typing import Any

from daphne.endpoints import build_endpoint_description_strings
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from connections.feed import get_feed
from connections.hub import get_hub
from connections.server import Server

BACKLOG = 4_096  # clients that return at once; of those that do not fit the network waits seconds


class Command(BaseCommand):
    help = "Serve pages, API and streams with Daphne until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument(
            "--worker",
            help="a name of this process among those that share the port, such as 1",
        )

    def handle(self, *, host: str, port: int, worker: str | None, **options: Any) -> None:
        _allow_many_sockets()
        if worker:
            node, endpoints = f"{port}/{worker}", [_shared(host, port)]
        else:
            tcp = build_endpoint_description_strings(host=host, port=port)
            node, endpoints = str(port), [f"{one}:backlog={BACKLOG}" for one in tcp]
        server = Server(
            application=import_string(settings.ASGI_APPLICATION),
            endpoints=endpoints,
            hubs=[get_hub(f"{settings.NODE_NAME}:{node}"), get_feed()],
            server_name=None,
        )
        server.run()
        if server.failed:
            raise _cannot_listen(host, port)


def _shared(host: str, port: int) -> str:
    """One of several sockets of a port: the kernel gives each new client to one of them."""
    try:
        listening = socket.create_server((host, port), backlog=BACKLOG, reuse_port=True)
    except OSError as error:  # also that of a process that does not share, or of another user
        raise _cannot_listen(host, port) from error
    return f"fd:fileno={listening.detach()}"


def _cannot_listen(host: str, port: int) -> CommandError:
    return CommandError(f"{host}:{port} cannot be listened on: choose another --port.")


def _allow_many_sockets() -> None:
    """Up to the hard limit: each stream is a file descriptor."""
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
