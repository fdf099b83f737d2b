"""Who asks for a stream, and whether they get it: as many as wait, in the same few statements.

After a restart everybody returns at once. One by one, each would cost a handful of statements.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import Context
from copy import copy
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import AbstractUser, User
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest

from connections.channels import channels_of_each
from connections.keys import Given, KeyHolder, get_keys
from connections.models import Connection
from connections.refusals import Refusal, unauthorized
from connections.registry import get_registry
from connections.screening import Screen, get_screening
from connections.stream import CLIENT_GONE
from connections.tokens import InvalidToken, read_token
from jobs import clock
from jobs.correlation import correlation_id

if TYPE_CHECKING:
    from connections.hub import Hub

AT_ONCE = 2  # batches; what comes meanwhile waits and is the next one
BATCH = 200  # people
CONNECT = "/api/user/sse/connect"


class Admitted(NamedTuple):
    connection: Connection
    """As registered."""
    others: int
    """How many its person has besides."""
    screen: Screen | None
    """What they prefer."""
    headers: Mapping[str, str] = {}
    """Of their API key."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What a request says of who asks."""

    token: str | None = field(repr=False)
    session: str | None = field(repr=False)
    wanted: str | None
    """Whose stream it names: their id or username."""
    address: str
    user_agent: str
    api_key: str | None = field(default=None, repr=False)
    """From a header: one in an address would end up in logs."""
    correlation_id: str = field(default_factory=correlation_id)

    @property
    def given(self) -> Given:
        return Given(self.api_key or "", self.address, self.correlation_id)


@dataclass(frozen=True, slots=True)
class Identified:
    user: AbstractUser
    channels: list[str]
    by: KeyHolder | None = None
    """The API key, if they came by one."""

    @property
    def headers(self) -> Mapping[str, str]:
        return self.by.headers if self.by else {}


class Admissions:
    """The queue of one process; used on the event loop."""

    def __init__(self, hub: "Hub") -> None:
        self.hub = hub
        self.waiting: list[tuple[Asking, asyncio.Future[Admitted]]] = []
        self.workers: set[asyncio.Task[None]] = set()

    async def request(self, asking: Asking) -> Admitted:
        """Raises `Refusal`. A connection whose client goes meanwhile is ended."""
        answer: asyncio.Future[Admitted] = asyncio.get_running_loop().create_future()
        self.waiting.append((asking, answer))
        if len(self.workers) < AT_ONCE:
            # Of its own: it goes on for others when whom it was started for has gone.
            worker = asyncio.create_task(self._work(), context=Context())
            self.workers.add(worker)
            worker.add_done_callback(self.workers.discard)
        try:
            return await answer
        except asyncio.CancelledError:
            if not answer.cancel() and not answer.exception():
                self._end(answer.result())
            raise

    async def _work(self) -> None:
        while self.waiting:
            batch, self.waiting = self.waiting[:BATCH], self.waiting[BATCH:]
            batch = [waiting for waiting in batch if not waiting[1].cancelled()]
            found = await self._admit([asking for asking, _ in batch])
            for (_, answer), admitted in zip(batch, found, strict=True):
                if isinstance(admitted, Exception):
                    if not answer.cancelled():
                        answer.set_exception(admitted)
                elif answer.cancelled():
                    self._end(admitted)
                else:
                    answer.set_result(admitted)

    async def _admit(self, asking: Sequence[Asking]) -> Sequence[Admitted | Exception]:
        try:
            return await self.hub.in_database(admit, self.hub.node, asking)
        except Exception as error:
            away = isinstance(error, (OperationalError, InterfaceError))
            if away or len(asking) == 1:
                return [error] * len(asking)
            return [(await self._admit([one]))[0] for one in asking]  # one of them is at fault

    def _end(self, admitted: Admitted) -> None:
        self.hub.closed[admitted[0].pk] = CLIENT_GONE


def admit(node: str, asking: Sequence[Asking]) -> list[Admitted | Refusal]:
    found = identify(asking)
    now = clock.now()  # as a value: three defaults a row are most of the work of a large INSERT
    connections = [
        Connection(
            id=uuid4(),
            user_id=one.user.pk,
            node=node,
            channels=one.channels,
            address=asked.address[:100],
            user_agent=asked.user_agent[:300],
            api_key=one.by.name if one.by else "",
            connected_at=now,
            last_heartbeat=now,
            last_activity=now,
        )
        for asked, one in zip(asking, found, strict=True)
        if not isinstance(one, Refusal)
    ]
    screens = get_screening().screens_of([connection.user_id for connection in connections])
    mine = [copy(screens.get(connection.user_id)) for connection in connections]
    headers = [one.headers for one in found if not isinstance(one, Refusal)]
    others = get_registry().register(connections)
    admitted = map(Admitted, connections, others, mine, headers)
    count(found)
    return [one if isinstance(one, Refusal) else next(admitted) for one in found]


def identify(asking: Sequence[Asking]) -> list[Identified | Refusal]:
    """A bounded number of queries for those with tokens or API keys, and two for each session."""
    people = _people(asking)
    channels = iter(channels_of_each([who for who, _ in people if not isinstance(who, Refusal)]))
    return [
        who if isinstance(who, Refusal) else Identified(who, next(channels), by)
        for who, by in people
    ]


def count(found: Sequence[Identified | Refusal]) -> None:
    """Those who came by an API key: streams are counted as they begin, since they may last."""
    for one in found:
        if isinstance(one, Refusal):
            if one.counts_for is not None:
                get_keys().count(one.counts_for, one.status)
        elif one.by:
            get_keys().count(one.by.key, HTTPStatus.OK)


def _people(asking: Sequence[Asking]) -> list[tuple[AbstractUser | Refusal, KeyHolder | None]]:
    given = [asked.given for asked in asking if asked.api_key]
    holders = iter(get_keys().identify(given, CONNECT) if given else ())
    others = iter(_without_keys([asked for asked in asking if not asked.api_key]))
    return [
        _by_key(asked, next(holders)) if asked.api_key else (next(others), None) for asked in asking
    ]


def _by_key(
    asked: Asking, found: KeyHolder | Refusal
) -> tuple[AbstractUser | Refusal, KeyHolder | None]:
    if isinstance(found, Refusal):
        return found, None
    user = _checked(asked, found.user)
    if isinstance(user, Refusal):
        user.counts_for = found.key
        user.headers.update(found.headers)
    return user, found


def _without_keys(asking: Sequence[Asking]) -> list[AbstractUser | Refusal]:
    ids = [_id_of(asked.token) if asked.token else None for asked in asking]
    users = User.objects.filter(is_active=True).in_bulk([n for n in ids if isinstance(n, int)])
    people: list[AbstractUser | Refusal] = []
    for asked, found in zip(asking, ids, strict=True):
        if isinstance(found, Refusal):
            people.append(found)
        elif found is None:
            people.append(_checked(asked, _of_session(asked.session)))
        else:
            people.append(_checked(asked, users.get(found)))
    return people


def _id_of(token: str) -> int | Refusal:
    try:
        return read_token(token)
    except InvalidToken as error:
        return unauthorized("invalid_token", str(error))


def _of_session(key: str | None) -> AbstractUser | None:
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    user: Any = get_user(request)
    return user if user.is_authenticated else None


def _checked(asked: Asking, user: AbstractUser | None) -> AbstractUser | Refusal:
    if user is None and asked.token:
        return unauthorized("invalid_token", "The token is of no active account.")
    if user is None:
        return unauthorized("not_authenticated", "Sign in, or pass ?token= from the token API.")
    if asked.wanted and asked.wanted not in (str(user.pk), user.username):
        return Refusal(
            HTTPStatus.FORBIDDEN, "forbidden", "This is somebody else's stream: ask for yours."
        )
    return user
