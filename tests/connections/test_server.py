import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from daphne.server import Server as DaphneServer
from twisted.web.http import Request
from twisted.web.test.requesthelper import DummyChannel

from connections import server
from connections.server import Flow, Server


class Socket:
    """As Twisted's, with its names."""

    connected = 1
    disconnecting = False
    dataBuffer = b""  # noqa: N815
    _tempDataBuffer: tuple[bytes, ...] = ()  # noqa: N815

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def writeSomeData(self, data: bytes) -> int:  # noqa: N802 (Twisted's interface)
        self.sent.append(data)
        return len(data)


@pytest.mark.parametrize(
    ("body", "chunked", "eager"),
    [(b"data", True, True), (b"", True, False), (b"data", False, False)],
    ids=["an event", "an empty part, which would end the response", "the answer to HEAD"],
)
def test_only_a_chunk_with_something_in_it_goes_out_by_itself(
    body: bytes, chunked: bool, eager: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_to_daphne: list[Any] = []

    async def handle_reply(self: Any, protocol: Any, message: Any) -> None:
        left_to_daphne.append(message)

    monkeypatch.setattr(DaphneServer, "handle_reply", handle_reply)
    monkeypatch.setattr(server, "Connection", Socket)
    socket = Socket()
    protocol = SimpleNamespace(
        flow=Flow(),
        finished=0,
        startedWriting=1,
        chunked=chunked,
        channel=SimpleNamespace(transport=socket),
    )
    message = {"type": "http.response.body", "body": body, "more_body": True}
    asyncio.run(Server.handle_reply(object.__new__(Server), protocol, message))
    assert socket.sent == ([b"4\r\ndata\r\n"] if eager else [])
    assert left_to_daphne == ([] if eager else [message])


def test_what_is_too_many_is_said_in_words() -> None:
    request = Request(DummyChannel())  # type: ignore[arg-type]
    request.setResponseCode(429)
    assert request.code_message == b"Too Many Requests"
