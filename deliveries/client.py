"""HTTP/1.1 to endpoints: guarded, without redirects, and with no trust in what comes back.

httpx's pool looks at all its requests for each one, and its streams send headers and body apart;
here idle connections are a list, and a request is one segment, at a third of the cost.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any

import httpcore
import httpx

from deliveries.guard import connect
from deliveries.requests import Answer, Request

BODY_BYTES = 10_240  # of an answer that are read; its connection is closed where there is more
HEADERS_KEPT = 100
HEADER_LENGTH = 1_000
KEEP_ALIVE = 4.0  # seconds; below the five after which many servers close


class Stream(httpcore.AsyncNetworkStream):
    """What is written leaves with the next read: headers and body together."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.reader: asyncio.StreamReader | None = None
        self.unsent: list[bytes] = []

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        reader = self.reader or await self._open()
        if self.unsent:
            self.writer.write(b"".join(self.unsent))
            self.unsent.clear()
            await self.writer.drain()
        return await reader.read(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.unsent.append(buffer)

    async def aclose(self) -> None:
        if self.reader:
            self.writer.transport.abort()  # nobody is waited for
        else:
            self.connection.close()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """The certificate is to be of the name, whatever address was connected to."""
        await self._open(ssl=ssl_context, server_hostname=server_hostname)
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # of one that is idle: closed by the other side, or out of step
            reader = self.reader
            return bool(reader and (reader.at_eof() or getattr(reader, "_buffer", b"")))
        return self.writer.get_extra_info(info) if self.reader else None

    async def _open(self, **tls: Any) -> asyncio.StreamReader:
        self.reader, self.writer = await asyncio.open_connection(sock=self.connection, **tls)
        return self.reader


class GuardedBackend(httpcore.AsyncNetworkBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return Stream(await connect(host, port))


class Client:
    """Used by one event loop."""

    def __init__(self) -> None:
        self.tls = httpx.create_ssl_context()
        self.network = GuardedBackend()
        self.idle: dict[str, list[httpcore.AsyncHTTPConnection]] = {}

    async def post(self, request: Request, timeout: float) -> Answer:
        """Whatever happens, within `timeout` seconds for all of it."""
        until = asyncio.get_running_loop().time() + timeout
        try:
            return await self._post(request, until)
        except TimeoutError:
            return Answer(error=f"no answer within {timeout:g} s")
        except Exception as error:  # noqa: BLE001, RUF100 (the other side decides what is raised)
            return Answer(error=f"{type(error).__name__}: {error}".rstrip(": "))

    async def _post(self, request: Request, until: float) -> Answer:
        target, host = target_of(request.url)
        own = {"Host": host, "Content-Length": str(len(request.body))}
        headers = [*own.items(), *request.headers.items()]
        connection = await self._connection(target.origin)
        try:
            async with asyncio.timeout_at(until):
                response = await connection.handle_async_request(
                    httpcore.Request("POST", target, headers=headers, content=request.body)
                )
            body, error = await read(response, until)
            if not error:
                await response.aclose()  # read to its end: the connection is idle again
        finally:
            if connection.is_idle():
                self.idle.setdefault(str(target.origin), []).append(connection)
            else:
                with suppress(Exception):
                    await connection.aclose()
        return Answer(response.status, readable(response.headers), body, error)

    async def _connection(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        idle = self.idle.get(str(origin), [])
        while idle:
            connection = idle.pop()
            if connection.is_idle() and not connection.has_expired():
                return connection
            await connection.aclose()
        return httpcore.AsyncHTTPConnection(
            origin,
            ssl_context=self.tls,
            keepalive_expiry=KEEP_ALIVE,
            network_backend=self.network,
        )

    async def close(self) -> None:
        for connections in self.idle.values():
            for connection in connections:
                await connection.aclose()
        self.idle = {}

    async def close_expired(self) -> None:
        for origin, connections in list(self.idle.items()):
            expired = [c for c in connections if c.has_expired() or not c.is_idle()]
            kept = [c for c in connections if c not in expired]
            self.idle[origin] = kept
            if not kept:
                del self.idle[origin]
            for connection in expired:
                await connection.aclose()


@lru_cache(1_000)
def target_of(address: str) -> tuple[httpcore.URL, str]:
    """What httpcore takes, and the header `Host`."""
    url = httpx.URL(address)
    target = httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )
    return target, url.netloc.decode()


async def read(response: httpcore.Response, until: float) -> tuple[str, str]:
    """The beginning of the body, and what kept it from being read to its end.

    The status has been said by then: an answer that breaks off in its body has its outcome.
    """
    body = b""
    error = ""
    try:
        async with asyncio.timeout_at(until):
            async for chunk in response.aiter_stream():
                body += chunk
                if len(body) > BODY_BYTES:
                    error = f"only the first {BODY_BYTES} bytes of the answer were read"
                    break
    except TimeoutError:
        error = "the answer did not end in time"
    except (OSError, httpcore.RemoteProtocolError) as failure:
        error = f"the answer broke off: {failure}".rstrip(": ")
    return body[:BODY_BYTES].decode(errors="replace").replace("\0", "\ufffd"), error


def readable(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    return {
        name.decode("latin-1").lower()[:HEADER_LENGTH]: value.decode("latin-1")[:HEADER_LENGTH]
        for name, value in headers[:HEADERS_KEPT]
    }
