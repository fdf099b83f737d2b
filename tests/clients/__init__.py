"""Clients of other makers: each a program that follows the stream of `reader`.

It prints a line for each event: its name, its id or `-`, its data; and it ends when it is told to
stay away.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.servers import CHECKOUT, MissingError, find_program

HERE = Path(__file__).parent
FETCH_TIMEOUT = 300  # seconds


def curl() -> list[str]:
    find_program("curl", "curl")
    return [str(find_program("bash", "bash")), str(HERE / "curl.sh")]


def httpx_sse() -> list[str]:
    return [sys.executable, str(HERE / "httpx_client.py")]


def eventsource() -> list[str]:
    return _node("eventsource.js")


def fetch_event_source() -> list[str]:
    return _node("fetch-event-source.js")


CLIENTS: dict[str, Callable[[], list[str]]] = {
    "curl": curl,
    "httpx-sse": httpx_sse,
    "eventsource": eventsource,
    "fetch-event-source": fetch_event_source,
}
"""Commands that lack the server's address; raise `MissingError`."""


def _node(script: str) -> list[str]:
    node = find_program("node", "nodejs")
    return [str(node), str(_packages() / script)]


def _packages() -> Path:
    """The scripts beside what npm has fetched for them, once a checkout."""
    sources = [HERE / "package.json", *sorted(HERE.glob("*.js"))]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    ready = CHECKOUT / "build" / f"clients-{digest}"
    if not ready.exists():
        _fetch(sources, ready)
    return ready


def _fetch(sources: list[Path], target: Path) -> None:
    npm = find_program("npm", "npm")
    new = target.with_suffix(f".{os.getpid()}")  # another run may be fetching as well
    new.mkdir(parents=True)
    for source in sources:
        shutil.copy(source, new)
    options = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    command = [str(npm), "install", *options]
    result = subprocess.run(command, cwd=new, capture_output=True, timeout=FETCH_TIMEOUT)
    if result.returncode:
        shutil.rmtree(new)
        raise MissingError(f"npm could not fetch what {HERE / 'package.json'} lists")
    try:
        new.rename(target)
    except OSError:  # the other run was first
        shutil.rmtree(new)
