"""Who asks for a stream, and whether they get it: as many as wait, in the same few statements.

After a restart everybody returns at once. One by one, each would cost a handful of statements.
"""

import asyncio
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import AbstractUser, User
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest

from connections.channels import channels_of_each
from connections.models import Connection
from connections.refusals import Refusal, unauthorized
from connections.registry import get_registry
from connections.screening import Screen, get_screening
from connections.stream import CLIENT_GONE
from connections.tokens import InvalidToken, read_token
from jobs import clock

if TYPE_CHECKING:
    from connections.hub import Hub

AT_ONCE = 2  # batches; what comes meanwhile waits and is the next one
BATCH = 200  # people

Admitted = tuple[Connection, int, Screen | None]
"""The connection as registered, how many others its person has, and what they prefer."""
Identified = tuple[AbstractUser, list[str]]
"""The person and their channels."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What a request says of who asks."""

    token: str | None
    session: str | None
    wanted: str | None
    """Whose stream it names: their id or username."""
    address: str
    user_agent: str


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
            worker = asyncio.create_task(self._work())
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
            user_id=one[0].pk,
            node=node,
            channels=one[1],
            address=asked.address,
            user_agent=asked.user_agent[:300],
            connected_at=now,
            last_heartbeat=now,
            last_activity=now,
        )
        for asked, one in zip(asking, found, strict=True)
        if not isinstance(one, Refusal)
    ]
    screens = get_screening().screens_of([connection.user_id for connection in connections])
    mine = [copy(screens.get(connection.user_id)) for connection in connections]
    admitted = zip(connections, get_registry().register(connections), mine, strict=True)
    return [one if isinstance(one, Refusal) else next(admitted) for one in found]


def identify(asking: Sequence[Asking]) -> list[Identified | Refusal]:
    """A bounded number of queries for those with tokens, and two for each session."""
    people = _people(asking)
    channels = iter(channels_of_each([who for who in people if not isinstance(who, Refusal)]))
    return [who if isinstance(who, Refusal) else (who, next(channels)) for who in people]


def _people(asking: Sequence[Asking]) -> list[AbstractUser | Refusal]:
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
