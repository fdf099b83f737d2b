"""Clients of other makers: each a program that follows the stream of `reader`.

It prints a line for each event: its name, its id or `-`, its data; and it ends when it is told to
stay away.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from tests.npm import node
from tests.servers import find_program

HERE = Path(__file__).parent


def curl() -> list[str]:
    find_program("curl", "curl")
    return [str(find_program("bash", "bash")), str(HERE / "curl.sh")]


def httpx_sse() -> list[str]:
    return [sys.executable, str(HERE / "httpx_client.py")]


def eventsource() -> list[str]:
    return node(HERE, "eventsource.js")


def fetch_event_source() -> list[str]:
    return node(HERE, "fetch-event-source.js")


CLIENTS: dict[str, Callable[[], list[str]]] = {
    "curl": curl,
    "httpx-sse": httpx_sse,
    "eventsource": eventsource,
    "fetch-event-source": fetch_event_source,
}
"""Commands that lack the server's address; raise `MissingError`."""
