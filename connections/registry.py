"""Who is connected where: a backend by dotted path (`SSE_REGISTRY_BACKEND`)."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import TypeVar
from uuid import UUID

from django.conf import settings
from django.db.models import Count
from django.db.models.functions import Now
from django.utils.module_loading import import_string

from connections.models import Connection, ConnectionQuerySet, ConnectionStatus, Node
from jobs.leases import from_now

T = TypeVar("T")


class Registry(ABC):
    @abstractmethod
    def start(self, node: str) -> None:
        """A process of this name has started; what an earlier one of that name held is over."""

    @abstractmethod
    def register(self, connections: Sequence[Connection]) -> list[int]:
        """Add them; for each, how many older ones its person has that are alive, on all nodes."""

    @abstractmethod
    def unregister(self, closed: Mapping[UUID, str]) -> None:
        """Connections that ended, each with its reason."""

    @abstractmethod
    def heartbeat(self, node: str, streams: Collection[UUID]) -> None:
        """The node lives, and so does every connection that it has: one statement each.

        `streams` are all that are open there, to put right what was thought of it while it could
        not say so.
        """

    @abstractmethod
    def touch(self, streams: Collection[UUID]) -> None:
        """Exactly these are open: a row that is never touched belongs to no stream."""

    @abstractmethod
    def stop(self, node: str) -> None:
        """The process has closed its streams and ends."""

    @abstractmethod
    def holds(self, user_id: int, connection_id: UUID) -> bool:
        """Whether some node holds this stream of this person."""

    @abstractmethod
    def stale(self, since: datetime) -> ConnectionQuerySet:
        """Rows that are active, but without a sign of life since then."""

    unwritten: Sequence[Connection] = ()

    @abstractmethod
    def flush(self) -> None:
        """Write the rows of what is `unwritten`, for who does not on `register`."""


class DatabaseRegistry(Registry):
    def start(self, node: str) -> None:
        self._over(node, "node restarted")
        Node.objects.update_or_create(
            name=node,
            defaults={"started_at": Now(), "last_heartbeat": Now(), "stopped_at": None},
        )

    def register(self, connections: Sequence[Connection]) -> list[int]:
        Connection.objects.bulk_create(connections)
        people = {connection.user_id for connection in connections}
        alive = from_now(-timedelta(seconds=settings.SSE_CLIENT_TIMEOUT))
        found = Connection.objects.active().filter(user_id__in=people, last_heartbeat__gte=alive)
        count = dict(found.values_list("user_id").annotate(Count("pk")).order_by())
        others = []
        for connection in reversed(connections):  # the last one has all the others before it
            count[connection.user_id] -= 1
            others.append(count[connection.user_id])
        return others[::-1]

    def unregister(self, closed: Mapping[UUID, str]) -> None:
        by_reason: dict[str, list[UUID]] = {}
        for pk, reason in closed.items():
            by_reason.setdefault(reason, []).append(pk)
        for reason, ids in by_reason.items():
            for chunk in chunks(ids):
                Connection.objects.filter(pk__in=chunk).end(reason)

    def heartbeat(self, node: str, streams: Collection[UUID]) -> None:
        self._beat(node, streams)
        Connection.objects.active().filter(node=node).update(last_heartbeat=Now())

    def _beat(self, node: str, streams: Collection[UUID]) -> None:
        if not Node.objects.filter(name=node, stopped_at=None).update(last_heartbeat=Now()):
            self._revive(node, streams)

    def touch(self, streams: Collection[UUID]) -> None:
        for ids in chunks(streams):
            Connection.objects.filter(pk__in=ids).update(last_activity=Now())

    def _revive(self, node: str, streams: Collection[UUID]) -> None:
        """The sweep took the node for dead, because it could not reach the database."""
        alive = {"last_heartbeat": Now(), "stopped_at": None}
        Node.objects.update_or_create(name=node, defaults=alive)
        for ids in chunks(streams):
            Connection.objects.filter(pk__in=ids).update(
                status=ConnectionStatus.ACTIVE, disconnected_at=None, reason=""
            )

    def stop(self, node: str) -> None:
        self._over(node, "server shutdown")
        Node.objects.filter(name=node).update(stopped_at=Now())

    def _over(self, node: str, reason: str) -> None:
        Connection.objects.filter(node=node).end(reason)

    def holds(self, user_id: int, connection_id: UUID) -> bool:
        return Connection.objects.active().filter(pk=connection_id, user_id=user_id).exists()

    def stale(self, since: datetime) -> ConnectionQuerySet:
        return Connection.objects.stale(since)

    def flush(self) -> None:
        """Nothing: each row was written when it was registered."""


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """At most a thousand at a time, as a statement takes them."""
    remaining = list(items)
    for start in range(0, len(remaining), 1_000):
        yield remaining[start : start + 1_000]


@cache
def get_registry() -> Registry:
    """The backend that `SSE_REGISTRY_BACKEND` names."""
    registry: Registry = import_string(settings.SSE_REGISTRY_BACKEND)()
    return registry
