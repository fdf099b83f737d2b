"""`GET /api/user/sse/connect`: from a request to a stream."""

import asyncio
import contextlib
import logging
import random
import re
from collections.abc import Iterable
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID, uuid4

from channels.consumer import AsyncConsumer
from django.conf import settings
from django.core.signing import BadSignature
from django.http import parse_cookie

from connections import cors, grip
from connections.admissions import Admitted, Asking, Identified, count, identify
from connections.hub import Hub, get_hub
from connections.keys import get_keys
from connections.refusals import ConnectLimit, Refusal, full, unauthorized, unavailable
from connections.screening import get_screening
from connections.stream import CLIENT_GONE, Stream
from connections.tokens import bearer_of
from connections.wire import encode
from jobs.acting import STREAM, Actor, acting_as, address_behind
from jobs.correlation import HEADER, correlated, correlation_id, requested_id
from outbox.topics import BROADCASTS

logger = logging.getLogger(__name__)

ID_HEADERS = (HEADER, "traceparent")
POSITION = re.compile(r"[0-9]{1,19}")  # of more digits `int` may raise
MAX_POSITION = 2**63 - 1
ALLOWED = "GET, HEAD, OPTIONS"
GONE = -1  # a position that no log has
RETRY_SPREAD = (1_000, 4_000)  # milliseconds; clients of a server that died must not return as one


_limit = ConnectLimit()


def headers_of(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, str]:
    """Those that came more than once are joined, as Django does: a proxy may add a line."""
    headers: dict[bytes, str] = {}
    for name, value in pairs:
        text, separator = value.decode("latin-1"), "; " if name == b"cookie" else ","
        headers[name] = f"{headers[name]}{separator}{text}" if name in headers else text
    return headers


class StreamConsumer(AsyncConsumer):  # type: ignore[misc]
    """One request, one stream. No channel layer: the log brings everything."""

    for_other_sites = True

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.scope, self.base_send, self.started = scope, send, False
        self.headers = headers_of(scope["headers"])
        self.query = parse_qs(scope["query_string"].decode("latin-1"))
        named = {name: self.headers.get(name.lower().encode(), "") for name in ID_HEADERS}
        # Else it would be the doing of whoever started the server.
        with correlated(requested_id(named)), acting_as(Actor(STREAM, address=self.address)):
            task = asyncio.create_task(self.answer())
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def answer(self) -> None:
        try:
            await self.connect()
        except Refusal as refusal:
            await self.refuse(refusal)
        except Exception:  # the server would leave the client waiting for ever
            logger.exception("A stream ended by an error")
            if self.started:
                await self.write(b"", more=False)
            else:
                await self.refuse(unavailable())

    async def refuse(self, refusal: Refusal) -> None:
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        await self.start(refusal.status, headers | refusal.headers)
        await self.write(refusal.body(), more=False)

    async def connect(self) -> None:
        if self.scope["method"] == "OPTIONS":
            await self.start(HTTPStatus.NO_CONTENT, {"Allow": ALLOWED})
            await self.write(b"", more=False)
            return
        if self.scope["method"] not in ("GET", "HEAD"):
            raise Refusal(
                HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "Use GET.", {"Allow": ALLOWED}
            )
        await self.open()

    async def open(self) -> None:
        hub = get_hub()
        self.refuse_when_full(len(hub.streams))
        proxied = grip.is_proxied(self.headers)
        held = self.scope.get("url_route", {}).get("kwargs", {}).get("held")
        if (proxied or held) and not grip.is_signed(self.headers):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "invalid_grip_signature",
                "The signature of the proxy is not by GRIP_KEY, or has expired.",
            )
        if not proxied:  # else the address is the proxy's
            _limit.check(self.address)
        after = self.last_event_id()
        await hub.start()
        if held:
            await self.go_on(hub, held)
            return
        after = await self.known(hub, after)
        if self.scope["method"] == "HEAD":
            found = await hub.in_database(self.identify)
            await self.start(HTTPStatus.OK, {**self.stream_headers(), **found.headers})
            await self.write(b"", more=False)
            return
        if not (proxied and await self.hand_over(hub, after)):
            await self.stream(hub, after)

    async def known(self, hub: Hub, after: int | None) -> int | None:
        """A position from the future, as after a restore, is as one that is gone."""
        if after is not None and after > hub.head and after > await hub.in_database(hub.log.head):
            return GONE
        return after

    async def stream(self, hub: Hub, after: int | None) -> None:
        asked_at = hub.head
        admitted = await hub.admissions.request(self.asking())
        await self.follow(hub, admitted, asked_at, after)

    async def follow(self, hub: Hub, admitted: Admitted, asked_at: int, after: int | None) -> None:
        connection, others, screen, headers = admitted
        try:
            recovered = after is not None and await self.can_replay(hub, after)
        except BaseException:
            hub.closed[connection.pk] = CLIENT_GONE
            raise
        position = after if after is not None and recovered else hub.head
        stream = Stream(
            hub,
            connection.pk,
            connection.user_id,
            connection.channels,
            position,
            screen,
            connection.api_key,
        )
        hub.add(stream, asked_at)
        try:
            await self.start(HTTPStatus.OK, {**self.stream_headers(), **headers})
            if others >= settings.SSE_MAX_CONNECTIONS_PER_USER:
                stream.reason = "connection limit"
                await self.write(limit_reached(), more=False)
                return
            await self.write(connected(hub, stream.id, position, hub.head, recovered=recovered))
            if after is not None and not recovered:
                stream.reset()
            await stream.run(self.write)
            await self.write(b"", more=False)
        except asyncio.CancelledError:
            if "broadcast.abort" in self.scope.get("extensions", {}):
                await self.base_send({"type": "broadcast.abort"})
            raise
        finally:
            hub.remove(stream, stream.reason)

    async def can_replay(self, hub: Hub, after: int) -> bool:
        if after < 0 or hub.head - after > settings.SSE_REPLAY_LIMIT:
            return False
        if hub.ring.after(after) is not None:
            return True
        return await hub.in_database(hub.log.replay, BROADCASTS, after, 1) is not None

    # Streams that a proxy holds

    async def hand_over(self, hub: Hub, after: int | None) -> bool:
        """Have the proxy hold the stream, and say what was missed; False if it cannot hold it."""
        if self.asking().api_key:  # the proxy could not tell its streams from the person's others
            return False
        # Asked before the channels: if these change meanwhile, the proxy is told after it.
        told = await hub.in_database(grip.published)
        found = await hub.in_database(self.identify)
        user, channels = found.user, found.channels
        if len(channels) >= settings.GRIP_MAX_CHANNELS or await self.is_screened(hub, user.pk):
            return False  # what the proxy is told is the same for all whom it is for
        recovered = after is not None and await self.can_replay(hub, after)
        position = after if after is not None and recovered else told
        link = grip.Link(user.pk, str(uuid4()), told, position)
        body = connected(hub, link.connection_id, position, told, recovered=recovered)
        if after is not None and not recovered:
            body += grip.reset(position)
        page = await grip.missed(hub, channels, link, told)
        if page is None or len(page.body) > grip.FIRST_PAGE_BYTES:
            page = grip.Page(b"", position, whole=False)
        link = replace(link, position=page.position)
        held = grip.hold(channels, link, whole=page.whole)
        await self.answer_proxy(body + page.body, held)
        return True

    async def go_on(self, hub: Hub, held: str) -> None:
        """The proxy asks for what a stream that it holds has missed."""
        try:
            link = grip.moved_on(grip.Link.read(held), self.headers)
        except BadSignature as error:
            raise unauthorized("invalid_token", "The link is not one of ours.") from error
        told = await hub.in_database(grip.published)
        channels = await hub.in_database(grip.channels_of_holder, link)
        too_many = channels is None or len(channels) >= settings.GRIP_MAX_CHANNELS
        if channels is None or too_many or await self.is_screened(hub, link.user_id):
            await self.answer_proxy(b"", {})  # it ends; who comes back is told why
            return
        page = await grip.missed(hub, channels, link, told)
        if page is None:
            position = max(told, link.position)
            page = grip.Page(grip.reset(position), position)
        link = replace(link, position=page.position)
        if page.closed:  # an answer without a link ends the stream
            await self.answer_proxy(page.body + grip.farewell(page.closed), {})
        elif page.whole:
            await self.answer_proxy(page.body, grip.hold(channels, link))
        else:
            await self.answer_proxy(page.body, grip.ask_again(link))

    async def is_screened(self, hub: Hub, user_id: int) -> bool:
        return bool(await hub.in_database(get_screening().screens_of, [user_id]))

    async def answer_proxy(self, body: bytes, instructions: dict[str, str]) -> None:
        await self.start(HTTPStatus.OK, self.stream_headers() | instructions)
        await self.write(body, more=False)

    # Who asks for what, in a thread of the database

    def identify(self) -> Identified:
        """Raises `Refusal`."""
        (found,) = identify([self.asking()])
        count([found])
        if isinstance(found, Refusal):
            raise found
        return found

    def asking(self) -> Asking:
        cookies = parse_cookie(self.headers.get(b"cookie", ""))
        wanted = [*self.query.get("user", []), *self.query.get("userId", [])]
        authorization = self.headers.get(b"authorization", "")
        api_key = get_keys().credential(self.headers.get(b"x-api-key", ""), authorization)
        token = bearer_of(authorization) or next(iter(self.query.get("token", [])), None)
        return Asking(
            api_key=api_key,
            token=None if api_key else token,
            session=cookies.get(settings.SESSION_COOKIE_NAME),
            wanted=next(iter(wanted), None),
            address=self.address,
            user_agent=self.headers.get(b"user-agent", ""),
        )

    def last_event_id(self) -> int | None:
        given = [
            self.headers.get(b"last-event-id"),
            *self.query.get("last_event_id", []),
            *self.query.get("lastEventId", []),  # the client library of django-eventstream
        ]
        text = next((text for text in given if text), None)
        if text is None:
            return None
        if not (POSITION.fullmatch(text) and int(text) <= MAX_POSITION):
            raise Refusal(
                HTTPStatus.BAD_REQUEST,
                "invalid_last_event_id",
                f"Last-Event-ID must be a position such as 42, not {text[:50]!r}: "
                "leave it out, and fetch anew what you show.",
            )
        return int(text)

    def refuse_when_full(self, streams: int) -> None:
        if get_hub().stopping.is_set() or streams >= settings.SSE_MAX_CONNECTIONS:
            raise full()

    @property
    def address(self) -> str:
        client = self.scope.get("client")
        forwarded = self.headers.get(b"x-forwarded-for", "")
        return address_behind(str(client[0]) if client else "", forwarded)

    # What is answered

    def stream_headers(self) -> dict[str, str]:
        return {
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-cache, no-store, no-transform",
            "X-Accel-Buffering": "no",
        }

    async def start(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.started = True
        preflight = self.scope["method"] == "OPTIONS"
        headers |= {"Vary": "Authorization, Cookie, Origin", HEADER: correlation_id()}
        if self.for_other_sites:
            headers |= cors.headers_for(self.headers.get(b"origin", ""), preflight=preflight)
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.base_send(
            {"type": "http.response.start", "status": status.value, "headers": pairs}
        )

    async def write(self, body: bytes, *, more: bool = True) -> None:
        await self.base_send({"type": "http.response.body", "body": body, "more_body": more})


def connected(
    hub: Hub, connection_id: UUID | str, position: int, head: int, *, recovered: bool
) -> bytes:
    # The id is where the replay starts, not where live began: a client that is cut in the
    # middle of the replay asks again for the rest.
    data = {
        "connection_id": str(connection_id),
        "node": hub.node,
        "recovered": recovered,
        "position": head,
        "heartbeat": settings.SSE_HEARTBEAT,
    }
    retry = f"retry: {random.randint(*RETRY_SPREAD)}\n".encode()  # noqa: S311 (jitter)
    return retry + encode("CONNECTED", data, position)


def limit_reached() -> bytes:
    limit = settings.SSE_MAX_CONNECTIONS_PER_USER
    message = f"You have {limit} streams open: close one. Your inbox has every message."
    return encode("CONNECTION_LIMIT_REACHED", {"limit": limit, "message": message})
