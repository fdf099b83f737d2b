"""Redis while it is there. Who asks while it is away is told so at once and goes on without."""

import logging
import os
from collections import defaultdict
from typing import Any

import pybreaker
from redis import Redis
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisAwayError

logger = logging.getLogger(__name__)

TIMEOUT = 0.5  # seconds for Redis to connect or answer
PAUSE = 5  # seconds for which one that is away is not asked again


class _Log(pybreaker.CircuitBreakerListener):
    """One line when it goes, one when it is back, however many ask."""

    def state_change(self, cb: pybreaker.CircuitBreaker, old_state: Any, new_state: Any) -> None:
        if new_state.name == pybreaker.STATE_CLOSED:
            logger.warning("Redis is back")
        elif old_state.name == pybreaker.STATE_CLOSED:
            logger.warning("Redis is away: the project goes on without, more slowly")


def _breaker() -> pybreaker.CircuitBreaker:
    return pybreaker.CircuitBreaker(
        fail_max=1, reset_timeout=PAUSE, listeners=[_Log()], throw_new_error_on_trip=False
    )


_breakers: defaultdict[str, pybreaker.CircuitBreaker] = defaultdict(_breaker)
os.register_at_fork(after_in_child=_breakers.clear)  # one may be locked, by nobody in the child


class _Guarded:
    """Connects through a circuit breaker. What is connected is used without one: it has no lock
    to wait for, and what is cut or silent connects anew."""

    def connect(self) -> None:
        connection: Any = super()
        if self.is_connected:  # type: ignore[attr-defined]
            return
        breaker = _breakers[str(self.repr_pieces())]  # type: ignore[attr-defined]
        try:
            breaker.call(connection.connect)
        except pybreaker.CircuitBreakerError as error:
            raise RedisAwayError("Redis is away") from error


class _Tcp(_Guarded, Connection):
    pass


class _Tls(_Guarded, SSLConnection):
    pass


class _Local(_Guarded, UnixDomainSocketConnection):
    pass


_BY_SCHEME = {"redis": _Tcp, "rediss": _Tls, "unix": _Local}


def options(url: str, timeout: float | None = None) -> dict[str, Any]:
    """For a pool of connections to this address."""
    return {
        "connection_class": _BY_SCHEME[url.partition(":")[0]],
        "socket_connect_timeout": TIMEOUT,
        "socket_timeout": timeout or TIMEOUT,
    }


def connect(url: str, timeout: float | None = None) -> Redis:
    """A client; it connects when it is used."""
    client: Redis = Redis.from_url(url, **options(url, timeout))
    return client
