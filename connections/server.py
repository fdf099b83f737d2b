"""Daphne with three things that streams need: flow control, an eager write, an announced end.

Daphne hands every write to Twisted, which buffers without a bound and waits for its reactor, and it
has no lifespan. Here a write waits while the socket is full, what the socket takes goes out at
once, and SIGTERM tells every stream before the server stops.
"""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from daphne.server import Server as DaphneServer
from twisted.internet import defer
from twisted.internet.interfaces import IPushProducer
from twisted.internet.tcp import Connection
from twisted.web.http import RESPONSES
from zope.interface import implementer

from connections.hub import Hub

# Twisted knows no 429: it would say "Unknown Status" of it.
RESPONSES.update({s.value: s.phrase.encode() for s in HTTPStatus if s.value not in RESPONSES})


@implementer(IPushProducer)
class Flow:
    """Twisted's word about one socket: it is full, it has drained, it is gone."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.free.set()

    def pauseProducing(self) -> None:  # noqa: N802 (Twisted's interface)
        self.free.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        self.free.set()

    def stopProducing(self) -> None:  # noqa: N802
        self.free.set()


class Server(DaphneServer):  # type: ignore[misc]
    def __init__(self, *args: Any, hubs: Sequence[Hub], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hubs = hubs
        self.failed = False
        self.listening: list[Any] = []

    def kill_all_applications(self) -> Any:
        """Called before the reactor stops: the streams get their last word first.

        Who comes back at once must find another process, or none, which any client tries again:
        many take an answer such as 503 for final.
        """
        for port in self.listening:
            port.stopListening()
        all_told = asyncio.gather(*(hub.shut_down() for hub in self.hubs))
        told = defer.Deferred.fromFuture(all_told)
        return told.addBoth(lambda _: self._kill_the_rest())

    def _kill_the_rest(self) -> Any:
        # Daphne's own version stumbles over a connection that has no application any more.
        self.connections: dict[Any, Any] = {
            protocol: details
            for protocol, details in self.connections.items()
            if "application_instance" in details
        }
        return super().kill_all_applications()

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        scope.setdefault("extensions", {})["broadcast.abort"] = {}
        return super().create_application(protocol, scope)

    def listen_success(self, port: Any) -> None:
        self.listening.append(port)
        super().listen_success(port)

    def listen_error(self, failure: Any) -> None:
        self.failed = True
        super().listen_error(failure)

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        if message["type"] == "broadcast.abort":
            if protocol.channel is not None:
                protocol.channel.forceAbortClient()
            return
        body = message["type"] == "http.response.body"
        # An empty chunk would end the response.
        if body and message.get("more_body") and message.get("body") and _is_eager(protocol):
            _write_now(protocol, message["body"])
            await protocol.flow.free.wait()
            return
        flow = getattr(protocol, "flow", None)
        if body and flow is None and message.get("more_body") and protocol.channel is not None:
            flow = protocol.flow = Flow()
            protocol.registerProducer(flow, True)  # noqa: FBT003
        if body and flow is not None and not message.get("more_body") and protocol.channel:
            protocol.unregisterProducer()
        await super().handle_reply(protocol, message)
        if flow is not None:
            await flow.free.wait()


def _is_eager(protocol: Any) -> bool:
    """Whether the stream has begun and nothing of it waits: what is written now is the next."""
    if not getattr(protocol, "flow", None) or protocol.finished or protocol.channel is None:
        return False
    socket = protocol.channel.transport
    # Chunked: neither HEAD nor a status without a body, to which Twisted writes nothing.
    if not (protocol.startedWriting and protocol.chunked and isinstance(socket, Connection)):
        return False
    waiting = socket.dataBuffer or socket._tempDataBuffer
    return bool(socket.connected and not socket.disconnecting and not waiting)


def _write_now(protocol: Any, body: bytes) -> None:
    """To the socket; by way of the reactor it would cost adding and removing a writer, which is
    more than all the rest. What the socket does not take is Twisted's to write.
    """
    data = b"%x\r\n%b\r\n" % (len(body), body)
    socket = protocol.channel.transport
    sent = socket.writeSomeData(data)
    rest = data[sent:] if isinstance(sent, int) else data  # else it is lost, and Twisted says so
    if rest:
        socket.write(rest)
