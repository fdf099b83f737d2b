"""`GET /api/events/stream`: the events of all domains by their types, for operators' programs.

A hub of its own, which begins with its first client: the streams of readers neither know of it nor
wait for it. Here the channels of a stream are the patterns that it asks for, and those of an event
are the patterns that ask for it; the channel of the person brings what ends a stream.

It reads the table of events by position: their rows are kept as long as the log, whichever log they
are published to, and only there is one order of all domains.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import AbstractUser
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import ValidationError
from django.core.handlers.asgi import ASGIRequest
from django.db.models import Min, Q
from django.http import HttpResponse
from rest_framework.exceptions import APIException
from rest_framework.views import APIView

from connections import consumers
from connections.admissions import Admitted, Asking, Identified, count
from connections.consumers import StreamConsumer
from connections.hub import Hub, get_hub
from connections.keys import get_keys
from connections.models import Connection, ConnectionQuerySet
from connections.refusals import Refusal, unauthorized
from connections.registry import Registry
from connections.ring import Ring
from connections.services import CLOSE
from outbox.logs import Consumer, DatabaseConsumer, DatabaseLog, Record, record_of
from outbox.models import Event, EventQuerySet
from outbox.patterns import ADDRESSED, check_patterns, patterns_of
from outbox.topics import BROADCASTS

STREAM = "/api/events/stream"
PERMISSION = "outbox.view_event"
FORBIDDEN = f"You may not see events: ask an administrator for {PERMISSION}."
RING = 1_000  # frames; what is older is replayed from the table
RING_BYTES = 8_388_608


class DomainLog(DatabaseLog):
    """All domains as one topic, without what addresses readers."""

    def recorded(self) -> EventQuerySet:
        """Only what is marked: it is marked in the order of the positions."""
        return Event.objects.published()

    def kept(self, topic: str) -> EventQuerySet:
        return self.recorded().filter(~Q(topic=BROADCASTS) | Q(type=CLOSE))

    def head(self) -> int:
        """The position up to which all is marked."""
        allocated = super().head()
        waiting = Event.objects.unmarked().aggregate(first=Min("position"))["first"]
        return allocated if waiting is None else min(allocated, waiting - 1)

    def replay(self, topic: str, after: int, limit: int) -> list[Record] | None:
        records = super().replay(topic, after, limit)
        return None if records is None else [as_told(record) for record in records]

    def tail(self, topic: str, limit: int) -> tuple[list[Record], int]:
        """Nothing: to find the last ones among the events of readers could take a while."""
        return [], self.head()

    def consumer(
        self, topics: Iterable[str], *, group: str | None = None, after: int | None = None
    ) -> Consumer:
        return DomainConsumer(self)


class DomainConsumer(DatabaseConsumer):
    def __init__(self, log: DomainLog) -> None:
        super().__init__([], None, 0)
        self.log = log
        self.position = log.head()

    def _next(self, limit: int) -> list[Record]:
        head = self.log.head()  # before the look: what is not of a domain is looked at once
        events = self.log.kept("").filter(position__gt=self.position, position__lte=head)
        records = [as_told(record_of(event)) for event in events.order_by("position")[:limit]]
        self.position = records[-1].position if len(records) == limit else head
        return records


def as_told(record: Record) -> Record:
    """To whom it goes, and the whole envelope; what ends streams stays as it is."""
    if record.type == CLOSE:
        return record
    return replace(record, channels=patterns_of(record.type), value={"data": record.value})


class Unregistered(Registry):
    """Streams of which no row is kept: nobody's inbox depends on them."""

    def start(self, node: str) -> None: ...

    def register(self, connections: Sequence[Connection]) -> list[int]:
        return [0] * len(connections)

    def unregister(self, closed: Mapping[UUID, str]) -> None: ...

    def heartbeat(self, node: str, streams: Collection[UUID]) -> None: ...

    def touch(self, streams: Collection[UUID]) -> None: ...

    def stop(self, node: str) -> None: ...

    def holds(self, user_id: int, connection_id: UUID) -> bool:
        return False

    def stale(self, since: datetime) -> ConnectionQuerySet:
        return Connection.objects.none()

    def flush(self) -> None: ...


class Feed(Hub):
    log = DomainLog()
    registry = Unregistered()

    def __init__(self) -> None:
        super().__init__(get_hub().node)
        self.ring = Ring(RING, RING_BYTES)

    async def _start(self) -> None:
        await self._begin()  # the seams of django-eventstream are the readers'


class FeedConsumer(StreamConsumer):
    for_other_sites = False

    async def open(self) -> None:
        feed = get_feed()
        self.refuse_when_full(len(feed.streams) + len(get_hub().streams))
        consumers._limit.check(self.address)
        after, patterns = self.last_event_id(), self.patterns()
        await feed.start()
        asked_at = feed.head
        found = await feed.in_database(operator_of, self.scope, self.asking())
        user, key = found.user, found.by.name if found.by else ""
        if self.scope["method"] == "HEAD":
            await self.start(HTTPStatus.OK, {**self.stream_headers(), **found.headers})
            await self.write(b"", more=False)
            return
        mine = Connection(id=uuid4(), user_id=user.pk, channels=[*patterns, f"user-{user.pk}"])
        mine.api_key = key
        others = sum(stream.user_id == user.pk for stream in feed.streams.values())
        admitted = Admitted(mine, others, None, found.headers)
        await self.follow(feed, admitted, asked_at, await self.known(feed, after))

    def patterns(self) -> list[str]:
        """What `?types=blog.*,link.expired` asks for; everything if it asks for nothing."""
        given = [*self.query.get("types", []), *self.query.get("event_types", [])]
        patterns = [part.strip() for text in given for part in text.split(",") if part.strip()]
        patterns = patterns or ["*"]
        try:
            check_patterns(patterns)
        except ValidationError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, "invalid_types", str(error.message)) from error
        for pattern in patterns:
            if pattern.partition(".")[0] in ADDRESSED:
                raise Refusal(
                    HTTPStatus.BAD_REQUEST,
                    "invalid_types",
                    f"{pattern[:100]} is not of this stream: readers get broadcasts from "
                    "/api/user/sse/connect.",
                )
        return patterns


def operator_of(scope: dict[str, Any], asked: Asking) -> Identified:
    """Who may see events, as the API knows them, or by an API key. Raises `Refusal`.

    A token for streams does not do: it is a person's own, and others may make it for them.
    """
    found: Identified | Refusal
    if asked.api_key:
        (holder,) = get_keys().identify([asked.given], STREAM)
        found = holder if isinstance(holder, Refusal) else Identified(holder.user, [], holder)
    else:
        found = Identified(_signed_in(scope), [])
    if isinstance(found, Identified) and not may_see_events(found.user):
        counts_for = found.by.key if found.by else None
        headers = {**found.headers}
        found = Refusal(HTTPStatus.FORBIDDEN, "forbidden", FORBIDDEN, headers, counts_for)
    count([found])
    if isinstance(found, Refusal):
        raise found
    return found


def may_see_events(user: AbstractUser) -> bool:
    return user.is_staff and user.has_perm(PERMISSION)


def _signed_in(scope: dict[str, Any]) -> AbstractUser:
    request = ASGIRequest(scope, BytesIO())
    for middleware in (SessionMiddleware, AuthenticationMiddleware):
        middleware(lambda _: HttpResponse()).process_request(request)
    try:
        user = APIView().initialize_request(request).user
    except APIException as error:
        raise unauthorized("not_authenticated", str(error.detail)) from error
    if not user.is_authenticated:
        raise unauthorized("not_authenticated", "Sign in, or send credentials of the API.")
    found: AbstractUser = user
    return found


_feed: Feed | None = None


def get_feed() -> Feed:
    """The feed of this process."""
    global _feed
    if _feed is None:
        _feed = Feed()
    return _feed
