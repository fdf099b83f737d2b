"""A Redis that is away costs one of its askers a moment, and the others nothing."""

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from redis import RedisError

from jobs import redis as redis_client
from jobs.redis import connect, options
from tests import servers
from tests.waiting import PATIENCE


@pytest.fixture(autouse=True)
def forgotten() -> None:
    redis_client._breakers.clear()


class Silent:
    """It takes connections and answers none, as a host behind a firewall does."""

    def __init__(self, listening: socket.socket) -> None:
        self.listening = listening
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(0)
        self.url = f"redis://127.0.0.1:{listening.getsockname()[1]}"

    def asked(self) -> int:
        """How often so far; each of them waited for the whole time there is."""
        count = 0
        with suppress(BlockingIOError):
            while True:
                self.listening.accept()[0].close()
                count += 1
        return count


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    monkeypatch.setattr(redis_client, "PAUSE", PATIENCE)
    with socket.socket() as listening:
        yield Silent(listening)


def call(url: str) -> None:
    client = connect(url)
    with pytest.raises(RedisError):
        client.get("a")
    client.close()


def test_who_is_silent_is_waited_for_once(silent: Silent, caplog: pytest.LogCaptureFixture) -> None:
    began = time.monotonic()
    call(silent.url)
    assert time.monotonic() - began >= redis_client.TIMEOUT
    for _ in range(99):
        call(silent.url)
    assert silent.asked() == 1
    assert len(caplog.records) == 1


@pytest.mark.usefixtures("patience_with_redis")
def test_who_refuses_is_not_waited_for(free_port: int) -> None:
    began = time.monotonic()
    call(f"redis://127.0.0.1:{free_port}")
    assert time.monotonic() - began < PATIENCE


def test_one_that_is_back_is_used_again(
    redis_server: servers.Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(redis_client, "PAUSE", 0)
    url = redis_server.start()
    with connect(url) as client:
        client.set("a", 1)
        redis_server.stop()
        for _ in range(3):
            with pytest.raises(RedisError):
                client.get("a")
        redis_server.start()
        assert client.get("a") is None
    assert [line.partition(":")[0] for line in caplog.messages] == [
        "Redis is away",
        "Redis is back",
    ]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://a", "Connection"),
        ("rediss://a", "SSLConnection"),
        ("unix:///a", "UnixDomainSocketConnection"),
    ],
)
def test_each_kind_of_address_is_guarded(url: str, kind: str) -> None:
    names = [base.__name__ for base in options(url)["connection_class"].__mro__]
    assert names.index("_Guarded") < names.index(kind)
