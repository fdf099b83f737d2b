"""How often a key may ask: a minute, an hour and a day, each a window that its first request opens.

In Redis the three are one atomic script, by Redis's clock. Without `REDIS_URL` each process counts
for itself. A refused request takes nothing.
"""

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.conf import settings
from redis import RedisError

from jobs.redis import connect
from operations.keys.checking import Holder

WINDOWS = {"minute": 60, "hour": 3_600, "day": 86_400}  # seconds
MOST_LOCAL = 30_000  # windows that a process remembers before it forgets those that are over

TAKE = """
local answer = {1}
for i, key in ipairs(KEYS) do
    local used = tonumber(redis.call('GET', key) or '0')
    local left = redis.call('PTTL', key)
    if left < 0 then left = tonumber(ARGV[2 * i]) * 1000 end
    if used >= tonumber(ARGV[2 * i - 1]) then answer[1] = 0 end
    answer[2 * i] = used
    answer[2 * i + 1] = left
end
if answer[1] == 1 then
    for i, key in ipairs(KEYS) do
        answer[2 * i] = redis.call('INCR', key)
        if answer[2 * i] == 1 then redis.call('PEXPIRE', key, answer[2 * i + 1]) end
    end
end
return answer
"""


class LimitsUnavailable(Exception):
    """Redis is away, and API_KEY_LIMITS_WITHOUT_REDIS says to refuse."""


@dataclass(frozen=True, slots=True)
class Window:
    name: str
    limit: int
    used: int
    left: float
    """Seconds until it begins anew."""

    @property
    def remaining(self) -> int:
        return max(self.limit - self.used, 0)


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool
    windows: list[Window]

    @property
    def retry_after(self) -> int:
        """Seconds until all of the windows that are used up have begun anew."""
        return max((_up(w.left) for w in self.windows if not w.remaining), default=0)

    @property
    def reached(self) -> Window:
        """The window that is used up for longest."""
        return max((w for w in self.windows if not w.remaining), key=lambda window: window.left)

    def headers(self) -> dict[str, str]:
        """Of draft-ietf-httpapi-ratelimit-headers; none without limits."""
        if not self.windows:
            return {}
        policy = (f'"{w.name}";q={w.limit};w={WINDOWS[w.name]}' for w in self.windows)
        state = (f'"{w.name}";r={w.remaining};t={_up(w.left)}' for w in self.windows)
        return {"RateLimit-Policy": ", ".join(policy), "RateLimit": ", ".join(state)}


def take(holder: Holder) -> Verdict:
    """Count a request against the limits of its key. Raises `LimitsUnavailable`."""
    limits = dict(limits_of(holder))
    if not limits:
        return Verdict(True, [])  # noqa: FBT003
    if not settings.REDIS_URL:
        return local.take(holder.pk, limits)
    try:
        return _in_redis(holder.pk, limits)
    except RedisError as error:
        if settings.API_KEY_LIMITS_WITHOUT_REDIS == "refuse":
            raise LimitsUnavailable from error
        return local.take(holder.pk, limits)


def limits_of(holder: Holder) -> Iterator[tuple[str, int]]:
    """By window, where there is one: 0 is none."""
    usual = (settings.API_KEY_LIMIT_MINUTE, settings.API_KEY_LIMIT_HOUR, settings.API_KEY_LIMIT_DAY)
    for name, own, default in zip(WINDOWS, holder.limits, usual, strict=True):
        if limit := default if own is None else own:
            yield name, limit


@cache
def _script(url: str) -> Any:
    return connect(url).register_script(TAKE)


def _in_redis(pk: int, limits: dict[str, int]) -> Verdict:
    keys = [f"api-key:{{{pk}}}:{name}" for name in limits]
    arguments = [number for name in limits for number in (limits[name], WINDOWS[name])]
    allowed, *found = _script(settings.REDIS_URL)(keys=keys, args=arguments)
    windows = [
        Window(name, limit, found[2 * i], found[2 * i + 1] / 1_000)
        for i, (name, limit) in enumerate(limits.items())
    ]
    return Verdict(bool(allowed), windows)


class Local:
    """The windows of one process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.windows: dict[tuple[int, str], tuple[int, float]] = {}
        self.most = MOST_LOCAL

    def take(self, pk: int, limits: dict[str, int]) -> Verdict:
        now = time.monotonic()
        with self.lock:
            if len(self.windows) > self.most:
                self.windows = {key: one for key, one in self.windows.items() if one[1] > now}
                # Else, with that many that are not over, each request would look through them.
                self.most = max(MOST_LOCAL, 2 * len(self.windows))
            found = {name: self._window(pk, name, now) for name in limits}
            allowed = all(used < limits[name] for name, (used, _) in found.items())
            if allowed:
                found = {name: (used + 1, ends) for name, (used, ends) in found.items()}
                self.windows |= {(pk, name): window for name, window in found.items()}
        windows = [
            Window(name, limits[name], used, ends - now) for name, (used, ends) in found.items()
        ]
        return Verdict(allowed, windows)

    def _window(self, pk: int, name: str, now: float) -> tuple[int, float]:
        used, ends = self.windows.get((pk, name), (0, 0.0))
        return (used, ends) if ends > now else (0, now + WINDOWS[name])


local = Local()


def _up(seconds: float) -> int:
    return max(math.ceil(seconds), 1)
