"""The registry in Redis: what nodes hold is known there, and rows are history, written in batches.

A connect costs the database no write. A Redis that is away, or empty again, costs only that the
limit of a person is one of each process, until the next heartbeat tells Redis what its node holds.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import InterfaceError, OperationalError
from redis import Redis, RedisError

from connections.models import Connection, ConnectionQuerySet, Node
from connections.registry import DatabaseRegistry, chunks
from jobs.redis import connect

logger = logging.getLogger(__name__)

T = TypeVar("T")

NODES = "sse:nodes"
STREAMS = "sse:streams:"  # and the node: a sorted set of "person:connection", all of one score, so
# that those of a person are counted by their prefix. It lives as long as heartbeats come.
ALIVE = "alive"  # a member of each: its absence says that Redis has lost the others, too

# In one step, so that of two nodes that add a stream of one person one sees the other.
REGISTER = """
local others = 0
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    local streams = ARGV[1] .. node
    if redis.call('EXISTS', streams) == 0 then
        redis.call('SREM', KEYS[1], node)
    else
        others = others + redis.call('ZLEXCOUNT', streams, ARGV[4], ARGV[5])
    end
end
redis.call('SADD', KEYS[1], ARGV[2])
redis.call('ZADD', ARGV[1] .. ARGV[2], 0, ARGV[3])
if redis.call('PTTL', ARGV[1] .. ARGV[2]) < 0 then
    redis.call('PEXPIRE', ARGV[1] .. ARGV[2], ARGV[6])
end
return others
"""


class RedisRegistry(DatabaseRegistry):
    """One of a process; `start` says of which node."""

    def __init__(self) -> None:
        if not settings.REDIS_URL:
            raise ImproperlyConfigured("RedisRegistry needs REDIS_URL.")
        self.redis: Redis = connect(settings.REDIS_URL)
        self.script = self.redis.register_script(REGISTER)
        self.node = ""
        self.held: dict[UUID, int] = {}  # the person of each stream
        self.people: Counter[int] = Counter()
        self.unwritten: list[Connection] = []
        self.behind = False  # Redis was not told all
        # What is held and what Redis is told of it change together; a Redis that is silent keeps
        # the lock for half a second, once in a while.
        self.lock = threading.Lock()
        self.writing = threading.Lock()  # who ends rows waits for those that are being written

    def start(self, node: str) -> None:
        super().start(node)
        with self.lock:
            self.node = node
            self._ask(self._tell_all)

    def register(self, connections: Sequence[Connection]) -> list[int]:
        with self.lock:
            here = []
            for connection in connections:
                here.append(self.people[connection.user_id])
                self.people[connection.user_id] += 1
                self.held[connection.pk] = connection.user_id
            self.unwritten += connections
            everywhere = self._ask(partial(self._add, connections)) or here
        return [max(counts) for counts in zip(here, everywhere, strict=True)]

    def unregister(self, closed: Mapping[UUID, str]) -> None:
        with self.lock:
            people = {pk: self.held.pop(pk) for pk in closed if pk in self.held}
            self.people -= Counter(people.values())
            self._ask(partial(self._remove, people))
        self.flush()  # the rows that are to be ended
        super().unregister(closed)

    def heartbeat(self, node: str, streams: Collection[UUID]) -> None:
        with self.lock:
            self._ask(self._say_alive)
        self._beat(node, streams)

    def stop(self, node: str) -> None:
        with self.lock:
            self._ask(self._leave)
        super().stop(node)

    def holds(self, user_id: int, connection_id: UUID) -> bool:
        member = _member(connection_id, user_id)
        return bool(self._ask(partial(self._is_held, member))) or super().holds(
            user_id, connection_id
        )

    def stale(self, since: datetime) -> ConnectionQuerySet:
        """The rows of dead nodes; those of a living one have no heartbeats of their own."""
        living = Node.objects.living(since).values("name")
        return Connection.objects.stale(since).exclude(node__in=living)

    def flush(self) -> None:
        with self.writing:
            for rows in chunks(self.unwritten):
                self._write(rows)
                with self.lock:
                    del self.unwritten[: len(rows)]

    def _write(self, rows: list[Connection]) -> None:
        try:
            Connection.objects.bulk_create(rows, ignore_conflicts=True)
        except (OperationalError, InterfaceError):  # the database is away: later
            raise
        except Exception:  # one of them: its person was deleted meanwhile
            for row in rows:
                self._write_alone(row)

    def _write_alone(self, row: Connection) -> None:
        try:
            row.save(force_insert=True)
        except Exception as error:  # its stream goes on, or was ended by whoever deleted
            logger.warning("Connection %s is not on record: %s", row.pk, error)

    # What Redis is told

    def _ask(self, question: Callable[[], T]) -> T | None:
        """None when Redis is away; said once."""
        try:
            return question()
        except RedisError as error:
            if not self.behind:
                logger.warning("Limits of people hold in this process only: %s", error)
            self.behind = True
            return None

    def _add(self, connections: Sequence[Connection]) -> list[int]:
        with self.redis.pipeline(transaction=False) as pipeline:
            for connection in connections:
                person = f"{connection.user_id}"
                member = _member(connection.pk, connection.user_id)
                least, most = f"[{person}:", f"({person};"  # the character after the colon
                arguments = (STREAMS, self.node, member, least, most, _timeout())
                self.script(keys=[NODES], args=arguments, client=pipeline)
            return [int(count) for count in pipeline.execute()]

    def _remove(self, people: Mapping[UUID, int]) -> None:
        for members in chunks(map(_member, people, people.values())):
            self.redis.zrem(self._streams, *members)

    def _say_alive(self) -> None:
        with self.redis.pipeline() as pipeline:
            pipeline.zadd(self._streams, {ALIVE: 0})
            pipeline.pexpire(self._streams, _timeout())
            lost, _ = pipeline.execute()
        if lost or self.behind:
            self._tell_all()

    def _tell_all(self) -> None:
        with self.redis.pipeline() as pipeline:
            pipeline.sadd(NODES, self.node)
            pipeline.delete(self._streams)
            pipeline.zadd(self._streams, {ALIVE: 0})
            for members in chunks(map(_member, self.held, self.held.values())):
                pipeline.zadd(self._streams, dict.fromkeys(members, 0))
            pipeline.pexpire(self._streams, _timeout())
            pipeline.execute()
        if self.behind:
            logger.warning("Redis knows the streams of this process again")
        self.behind = False

    def _leave(self) -> None:
        with self.redis.pipeline() as pipeline:
            pipeline.delete(self._streams)
            pipeline.srem(NODES, self.node)
            pipeline.execute()

    def _is_held(self, member: str) -> bool:
        nodes: Any = self.redis.smembers(NODES)
        with self.redis.pipeline(transaction=False) as pipeline:
            for node in nodes:
                pipeline.zscore(STREAMS + node.decode(), member)
            return any(score is not None for score in pipeline.execute())

    @property
    def _streams(self) -> str:
        return STREAMS + self.node


def _member(connection_id: UUID, user_id: int) -> str:
    return f"{user_id}:{connection_id}"


def _timeout() -> int:
    return int(settings.SSE_CLIENT_TIMEOUT * 1_000)
