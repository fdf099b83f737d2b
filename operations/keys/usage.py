"""What keys are used for: counted by the answer, carried to rows exactly once.

Where each use is between its answer and its row:

- With Redis it is added to one hash, `api-keys:live`, before the answer leaves. What a process
  could not be sure to have added it adds again under the same number, and Redis adds it once.
- API_KEY_STATS_SYNC renames that hash to a batch with an id, writes the batch as a row with that
  id, and deletes it from Redis. Whoever finds it there once more finds its row, too.
- Without Redis, or while it is away, each process writes such rows itself, every FLUSH.
- A row is applied to its keys and marked as applied in one transaction.
"""

import atexit
import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection
from django.db.models.functions import Now
from redis import Redis, RedisError

from jobs import clock
from jobs.leases import fenced, from_now
from jobs.progress import advance, expect
from jobs.redis import connect
from operations.keys.models import ApiKey, ApiKeyUsage, UsageBatch

logger = logging.getLogger(__name__)

Counts = Mapping[str, int]
"""By `<key>:<day>:<outcome>` how often, by `<key>:last` when (Unix time in ms)."""

SUCCEEDED, FAILED_4XX, FAILED_5XX = OUTCOMES = ("succeeded", "failed_4xx", "failed_5xx")
LAST = "last"
FLUSH = 0.25  # seconds between two rows of a process
BATCHES = 200  # applied in a transaction
KEPT = timedelta(hours=1)  # for which it is remembered that a batch was applied
LATE = timedelta(minutes=15)  # after which a batch that waits is behind, not on its way

LIVE = "api-keys:live"
NAMES = "api-keys:batches"  # a set of those that were renamed, so that nobody has to look for them
BATCH = "api-keys:batch:"
SEEN = "api-keys:seen:"  # and the process: the number of the last counts that it added
FORGET = 86_400  # seconds after which a process that adds nothing is forgotten

ADD = """
if tonumber(redis.call('GET', KEYS[2]) or '0') >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
for i = 3, #ARGV, 2 do
    if string.sub(ARGV[i], -5) ~= ':last' then
        redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
    elseif tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '0') < tonumber(ARGV[i + 1]) then
        redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    end
end
return 1
"""

# It may come twice, when its first answer was lost: never over what was renamed before.
RENAME = """
local batch = ARGV[1] .. ARGV[2]
if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('EXISTS', batch) == 0 then
    redis.call('RENAME', KEYS[1], batch)
    redis.call('SADD', KEYS[2], ARGV[2])
end
return redis.call('SMEMBERS', KEYS[2])
"""


def outcome_of(status: int) -> str:
    if status < 400:
        return SUCCEEDED
    return FAILED_4XX if status < 500 else FAILED_5XX


@cache
def _client(url: str) -> Redis:
    return connect(url)


@cache
def _script(url: str, text: str) -> Any:
    return _client(url).register_script(text)


def _run(text: str, keys: list[str], args: list[Any]) -> Any:
    return _script(settings.REDIS_URL, text)(keys=keys, args=args)


class Recorder:
    """Counts of one process that are in neither Redis nor a row yet."""

    def __init__(self) -> None:
        self.name = uuid4().hex
        self.number = 0
        self.lock = threading.Lock()
        self.waiting: Counter[str] = Counter()
        self.sending = threading.Lock()
        self.doubtful: dict[str, int] | None = None  # Redis did not say whether it has them
        self.away = False
        self.writing = threading.Lock()
        self.unwritten: UsageBatch | None = None  # the same of the database
        self.in_background = True
        self.writer: threading.Thread | None = None
        self.total: Counter[str] = Counter()  # by outcome, since the process began

    def count(self, key: int, status: int) -> None:
        """An answer to a request by this key was given, or a stream begun."""
        outcome = outcome_of(status)
        now = time.time()
        day = datetime.fromtimestamp(now, UTC).date()
        with self.lock:
            self.total[outcome] += 1
            self.waiting[f"{key}:{day}:{outcome}"] += 1
            last = f"{key}:{LAST}"
            self.waiting[last] = max(self.waiting[last], int(now * 1_000))
        if not (settings.REDIS_URL and self.to_redis()):
            self._write_soon()

    def _take(self) -> dict[str, int]:
        with self.lock:
            taken, self.waiting = dict(self.waiting), Counter()
        return taken

    def to_redis(self) -> bool:
        """All that waits, in one step: who comes while another sends goes with the next.

        False when Redis is away: what it may have taken is kept until it says so.
        """
        with self.sending:
            try:
                if self.doubtful:
                    self._send()
                self.doubtful = self._take()
                if self.doubtful:
                    self.number += 1
                    self._send()
            except RedisError as error:
                if not self.away:
                    logger.warning("Uses of API keys go to rows while Redis is away: %s", error)
                self.away = True
                return False
            self.away = False
            return True

    def _send(self) -> None:
        assert self.doubtful is not None
        counts = [part for pair in self.doubtful.items() for part in pair]
        _run(ADD, [LIVE, SEEN + self.name], [self.number, FORGET, *counts])
        self.doubtful = None

    def to_rows(self) -> None:
        """All that waits, as one row; raises what the database raises, and then keeps it."""
        with self.writing:
            if self.unwritten is None and (counts := self._take()):
                self.unwritten = UsageBatch(counts=counts)
            if self.unwritten:
                UsageBatch.objects.written([self.unwritten])
                self.unwritten = None

    def _write_soon(self) -> None:
        with self.lock:
            if self.in_background and (self.writer is None or not self.writer.is_alive()):
                self.writer = threading.Thread(target=self._write, name="key-usage", daemon=True)
                self.writer.start()

    def _write(self) -> None:
        """As long as there is something to write."""
        while True:
            time.sleep(FLUSH)
            try:
                if self.doubtful:
                    self.to_redis()
                self.to_rows()
            except Exception as error:  # the database may be back in a moment
                logger.warning("Uses of API keys wait for the database: %s", error)
            finally:
                connection.close()
            with self.lock:
                if not (self.waiting or self.unwritten or self.doubtful):
                    self.writer = None
                    return

    def close(self) -> None:
        """The process ends in order."""
        try:
            if settings.REDIS_URL and not self.to_redis() and self.doubtful:
                logger.error("Uses of API keys are lost, unless Redis has them: %s", self.doubtful)
            while self.waiting or self.unwritten:
                self.to_rows()
        except Exception as error:
            logger.error("Uses of API keys are lost: %s", error)


recorder = Recorder()
atexit.register(recorder.close)


# The job


def sync() -> int:
    """Bring what was counted to the rows of its keys; how many batches were applied."""
    fetched = not settings.REDIS_URL or _fetched()
    applied = 0
    expect(UsageBatch.objects.waiting().count())
    while count := apply():
        applied += count
        advance(count)
    if fetched:  # else Redis may still have a batch of which only its row tells that it was applied
        with fenced():
            UsageBatch.objects.filter(applied_at__lt=clock.now() - KEPT).delete()
    return applied


def _fetched() -> bool:
    try:
        fetch()
    except RedisError as error:
        logger.warning("What Redis has counted of API keys has to wait: %s", error)
        return False
    return True


def fetch() -> None:
    """Make rows of what is in Redis: also of batches that somebody left who died."""
    redis = _client(settings.REDIS_URL)
    names = _run(RENAME, [LIVE, NAMES], [BATCH, str(uuid4())])
    for name in sorted(one.decode() for one in names):
        counts: Any = redis.hgetall(BATCH + name)
        if counts:
            row = UsageBatch(UUID(name), {k.decode(): int(n) for k, n in counts.items()})
            with fenced():
                UsageBatch.objects.written([row])
        with redis.pipeline() as pipeline:
            pipeline.delete(BATCH + name)
            pipeline.srem(NAMES, name)
            pipeline.execute()


def apply() -> int:
    """Add some of the batches that wait to their keys; how many, 0 at the end."""
    with fenced():
        waiting = UsageBatch.objects.waiting().order_by("created_at")
        batches = list(waiting.select_for_update(skip_locked=True)[:BATCHES])
        add(usage_of(batch.counts for batch in batches))
        ids = [batch.pk for batch in batches]
        UsageBatch.objects.filter(pk__in=ids).update(applied_at=Now(), counts={})
    return len(batches)


@dataclass
class Usage:
    last: int = 0
    days: defaultdict[date, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))


def usage_of(counted: Iterable[Counts]) -> dict[int, Usage]:
    """By key, what several batches say together."""
    usage: defaultdict[int, Usage] = defaultdict(Usage)
    for counts in counted:
        for name, number in counts.items():
            key, *rest = name.split(":")
            if rest == [LAST]:
                usage[int(key)].last = max(usage[int(key)].last, number)
            else:
                day, outcome = rest
                usage[int(key)].days[date.fromisoformat(day)][outcome] += number
    return usage


def add(usage: Mapping[int, Usage]) -> None:
    """To the rows of the keys that are there still; what a deleted one did goes with it.

    The lock of a key is also that of its days: who holds it reads, adds and writes.
    """
    keys = ApiKey.objects.select_for_update().filter(pk__in=usage).order_by("pk")
    found = {key.pk: key for key in keys.only("pk", "last_used_at", *OUTCOMES)}
    for pk, key in found.items():
        for outcome, count in sum(usage[pk].days.values(), Counter()).items():
            setattr(key, outcome, getattr(key, outcome) + count)
        last = datetime.fromtimestamp(usage[pk].last / 1_000, UTC)
        key.last_used_at = max(key.last_used_at or last, last)
    ApiKey.objects.bulk_update(found.values(), [*OUTCOMES, "last_used_at"], batch_size=100)
    days = {day for pk in found for day in usage[pk].days}
    rows = {(r.key_id, r.day): r for r in ApiKeyUsage.objects.filter(key__in=found, day__in=days)}
    old: list[ApiKeyUsage] = []
    new: list[ApiKeyUsage] = []
    for pk, day, counts in _days(found, usage):
        row = rows.get((pk, day)) or ApiKeyUsage(key_id=pk, day=day)
        (old if row.pk else new).append(row)
        for outcome, count in counts.items():
            setattr(row, outcome, getattr(row, outcome) + count)
    ApiKeyUsage.objects.bulk_update(old, OUTCOMES, batch_size=100)
    ApiKeyUsage.objects.bulk_create(new, batch_size=500)


def _days(
    keys: Iterable[int], usage: Mapping[int, Usage]
) -> Iterator[tuple[int, date, Counter[str]]]:
    for pk in keys:
        for day, counts in usage[pk].days.items():
            yield pk, day, counts


def behind() -> int:
    """Batches that wait for longer than a run or two of the job would explain."""
    return UsageBatch.objects.waiting().filter(created_at__lt=from_now(-LATE)).count()
