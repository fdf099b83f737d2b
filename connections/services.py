"""Verbs on connections. They travel as events of the log, so that they reach the process that
holds the stream, whichever it is, with or without Redis."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from connections.models import Connection, ConnectionQuerySet, ConnectionStatus, Node
from connections.registry import get_registry
from jobs import clock
from jobs.acting import did
from jobs.leases import fenced
from jobs.progress import advance, expect
from outbox.services import build_event, emit_all

CLOSE = "connection.close"
CHUNK = 1_000
BY_OPERATOR = "disconnected by an operator"


@transaction.atomic
def disconnect(connection: Connection, reason: str, *, reconnect: bool = False) -> None:
    """End one stream, on whichever node it is."""
    _disconnect([connection], reason, reconnect=reconnect)


def _disconnect(connections: list[Connection], reason: str, *, reconnect: bool) -> None:
    events = []
    for connection in connections:
        data = {"connection_id": str(connection.pk), "reason": reason, "reconnect": reconnect}
        channel = f"user-{connection.user_id}"
        events.append(build_event(CLOSE, key=channel, data=data, channels=[channel]))
    emit_all(events)
    mark_inactive([connection.pk for connection in connections], reason)


@transaction.atomic
def disconnect_by_operator(connection: Connection) -> None:
    """End the stream of somebody else, whose client does not come back by itself."""
    disconnect(connection, BY_OPERATOR)
    did("connection.disconnected", connection, user_id=connection.user_id)


@transaction.atomic
def disconnect_people(user_ids: Collection[int], *, reason: str, reconnect: bool) -> None:
    """End every stream of these people; with `reconnect` their clients come back at once."""
    people = sorted(user_ids)
    data = {"connection_id": None, "reason": reason, "reconnect": reconnect}
    for start in range(0, len(people), CHUNK):
        channels = [f"user-{pk}" for pk in people[start : start + CHUNK]]
        emit_all([build_event(CLOSE, key="connections", data=data, channels=channels)])


def disconnect_keys(keys: Mapping[str, int], *, reason: str, reconnect: bool) -> None:
    """End the streams that these API keys opened; given with the person of each."""
    data = {"connection_id": None, "reason": reason, "reconnect": reconnect}
    emit_all(
        [
            build_event(
                CLOSE, key=f"user-{pk}", data=data | {"api_key": name}, channels=[f"user-{pk}"]
            )
            for name, pk in keys.items()
        ]
    )


def mark_inactive(ids: Collection[UUID], reason: str) -> int:
    """In the registry; the streams themselves are ended by who holds them."""
    return Connection.objects.filter(pk__in=ids).end(reason)


def sweep_stale() -> int:
    """Close what has had no heartbeat for SSE_CLIENT_TIMEOUT; how many.

    A living node is told to close the stream; the rows of a dead one are marked INACTIVE.
    """
    since = clock.now() - timedelta(seconds=settings.SSE_CLIENT_TIMEOUT)
    stale = get_registry().stale(since)
    expect(stale.count())
    living = Node.objects.living(since).values("name")
    closed = _reconnect(stale.filter(node__in=living), "stale")
    dead = stale.exclude(node__in=living).order_by()
    while ids := list(dead.values_list("pk", flat=True)[:CHUNK]):
        with fenced():
            mark_inactive(ids, "node died")
        advance(len(ids))
        closed += len(ids)
    Node.objects.filter(stopped_at=None, last_heartbeat__lt=since).update(stopped_at=Now())
    return closed


def close_idle() -> int:
    """Close what no process has said to hold for SSE_CLIENT_CLEANUP_INACTIVE_TIMEOUT; how many.

    The net under the sweep: a row whose end was never written lives on by its node's heartbeats.
    """
    since = clock.now() - settings.SSE_CLIENT_CLEANUP_INACTIVE_TIMEOUT
    idle = Connection.objects.active().filter(last_activity__lt=since)
    expect(idle.count())
    return _reconnect(idle, "idle")


def _reconnect(connections: ConnectionQuerySet, reason: str) -> int:
    """End these, in batches; their clients come back by themselves. How many."""
    closed = 0
    while batch := list(connections.order_by()[:CHUNK]):
        with fenced():
            _disconnect(batch, reason, reconnect=True)
        advance(len(batch))
        closed += len(batch)
    return closed


def purge_inactive(batch: int = 5_000) -> int:
    """Delete INACTIVE rows older than CONNECTION_RETENTION_DAYS, in batches; how many."""
    before = clock.now() - timedelta(days=settings.CONNECTION_RETENTION_DAYS)
    old = Connection.objects.filter(
        status=ConnectionStatus.INACTIVE, disconnected_at__lt=before
    ).order_by("disconnected_at")
    expect(old.count())
    deleted = 0
    while ids := list(old.values_list("pk", flat=True)[:batch]):
        with fenced():
            Connection.objects.filter(pk__in=ids).delete()
        advance(len(ids))
        deleted += len(ids)
    Node.objects.filter(stopped_at__lt=before).delete()
    return deleted
