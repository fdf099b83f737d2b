"""django-q2's queue: in Redis while it is there, in the database when it is not."""

import logging
from typing import Any

from django.conf import settings
from django.utils.functional import cached_property
from django_q.brokers.orm import ORM
from redis import Redis, RedisError

from jobs.redis import connect

logger = logging.getLogger(__name__)

WAIT = 1  # seconds that Redis holds an empty answer
TIMEOUT = WAIT + 1.0  # seconds for Redis to answer


class RedisBroker(ORM):  # type: ignore[misc]
    """A Redis that is away makes a tick a little later; it neither loses nor stops one.

    What Redis hands out is not acknowledged: the tick of a worker that was killed is gone, and the
    next minute's stands for it.
    """

    def enqueue(self, task: str) -> Any:
        try:
            return self.redis.rpush(self.redis_key, task)
        except RedisError as error:
            logger.warning("Redis is away, the task is queued in the database: %s", error)
            return super().enqueue(task)

    def dequeue(self) -> Any:
        try:
            found = self.redis.blpop([self.redis_key], WAIT)
        except RedisError:
            return super().dequeue()
        if found:
            return [(None, found[1])]
        return super().dequeue() if super().queue_size() else None

    def queue_size(self) -> int:
        waiting: int = super().queue_size()
        try:
            return waiting + int(self.redis.llen(self.redis_key))
        except RedisError:
            return waiting

    def purge_queue(self) -> Any:
        try:
            self.redis.delete(self.redis_key)
        except RedisError as error:
            logger.warning("Redis is away, its queue was not emptied: %s", error)
        return super().purge_queue()

    def info(self) -> str:
        return "Redis, else the database"

    @property
    def redis_key(self) -> str:
        return f"django_q:{self.list_key}:q"

    @cached_property
    def redis(self) -> Redis:
        return connect(settings.REDIS_URL, TIMEOUT)
