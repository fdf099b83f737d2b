"""A Redis that is away costs one of its askers a moment, and the others nothing."""

import logging
import socket
import time
from collections.abc import Iterator

import pytest
from redis import RedisError

from jobs import redis as redis_client
from jobs.redis import TIMEOUT, connect, options
from tests import servers


@pytest.fixture(autouse=True)
def forgotten() -> None:
    redis_client._breakers.clear()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """It takes connections and answers none, as a host behind a firewall does."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield int(listening.getsockname()[1])


def seconds_of_a_call(url: str) -> float:
    client = connect(url)
    began = time.monotonic()
    with pytest.raises(RedisError):
        client.get("a")
    client.close()
    return time.monotonic() - began


def test_who_is_silent_is_waited_for_once(
    silent_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"redis://127.0.0.1:{silent_port}"
    first, *others = [seconds_of_a_call(url) for _ in range(100)]
    assert TIMEOUT <= first < 2 * TIMEOUT
    assert sum(others) < TIMEOUT
    assert len(caplog.records) == 1


def test_who_refuses_is_not_waited_for(free_port: int) -> None:
    assert seconds_of_a_call(f"redis://127.0.0.1:{free_port}") < TIMEOUT


def test_one_that_is_back_is_used_again(
    redis_server: servers.Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(redis_client, "PAUSE", 0.2)
    url = redis_server.start()
    with connect(url) as client:
        client.set("a", 1)
        redis_server.stop()
        for _ in range(3):
            with pytest.raises(RedisError):
                client.get("a")
        redis_server.start()
        time.sleep(0.2)
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
