"""A stream through nginx as it comes, which buffers and compresses; read by curl."""

import subprocess
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.conftest import NewNginx, Spawn, skip_or_fail
from tests.pages import Site
from tests.processes import Environment
from tests.servers import MissingError, find_program
from tests.sse import token_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

HEARTBEAT = 0.5  # seconds
READ_TIMEOUT = 6  # seconds of silence after which nginx cuts
BUFFER = 4096  # bytes, the smallest that nginx collects before it passes them on
READER_ID = "from django.contrib.auth.models import User; print(User.objects.get().pk)"
ADDRESS = "from connections.models import Connection; print(Connection.objects.get().address)"


def test_events_arrive_at_once_and_heartbeats_keep_an_idle_stream_open(
    live_database: Environment, free_port: int, spawn: Spawn, new_nginx: NewNginx, tmp_path: Path
) -> None:
    env = live_database | {"SSE_HEARTBEAT": str(HEARTBEAT), "SSE_TOKEN_SECONDS": "3600"}
    env |= {"TRUSTED_PROXIES": "2"}
    site = Site(env, free_port, spawn).start()
    nginx = new_nginx(free_port, READ_TIMEOUT)
    query = urlencode({"token": token_of(int(site.code(READER_ID)), env)})
    url = f"{nginx.start()}/api/user/sse/connect?{query}"
    read, headers = tmp_path / "read", tmp_path / "headers"
    try:
        curl = str(find_program("curl", "curl"))
    except MissingError as missing:
        skip_or_fail(missing)
    arguments = [
        curl,
        "--no-buffer",
        "--silent",
        "--compressed",
        "--header",
        "X-Forwarded-For: 203.0.113.9",  # of a proxy before it
        "--dump-header",
        str(headers),
        url,
    ]
    with read.open("wb") as output, subprocess.Popen(arguments, stdout=output) as client:
        try:

            def has(text: str, times: int = 1) -> bool:
                assert client.poll() is None, "nginx has cut the stream"
                return read.read_text().count(text) >= times

            wait_until(lambda: has("event: CONNECTED"), message="the stream has begun")
            assert site.code(ADDRESS).strip() == "203.0.113.9"
            beats = int(2 * READ_TIMEOUT / HEARTBEAT)
            wait_until(lambda: has("event: HEARTBEAT", beats), message="it was idle for long")
            site.send("Fire drill")
            wait_until(lambda: has("Fire drill"), message="the message has arrived")
            assert len(read.read_bytes()) < BUFFER, "it came when a buffer was full"
        finally:
            client.kill()
    assert "content-encoding: gzip" in headers.read_text().lower()
