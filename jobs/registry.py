"""What every app declares: periodic jobs, and workers for what must not wait for a tick."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol, TypeVar

from django.conf import settings

from jobs.intervals import Every, Interval, parse_duration, parse_interval

MINUTE = timedelta(minutes=1)


class Misfire(Enum):
    """What becomes of slots that passed while nobody ran the job."""

    COALESCE = "coalesce"  # one run for all of them
    SKIP = "skip"  # none; the next slot runs
    RUN_EACH = "run each"


@dataclass(frozen=True)
class Outcome:
    """What a run did. `failed` items are recorded and do not stop the others."""

    items: int = 0
    failed: int = 0
    skipped: int = 0
    note: str = ""


@dataclass(frozen=True)
class Standing:
    """How a worker stands in the cluster."""

    pending: int
    leader: str | None = None
    """None: it needs none; empty: nobody leads, and what is pending stays so."""
    since: datetime | None = None


Run = Callable[[], "int | Outcome"]
Count = Callable[[], int]


@dataclass(frozen=True)
class PeriodicJob:
    name: str
    run: Run
    every: str
    at_least: timedelta
    at_most: timedelta
    misfire: Misfire
    jitter: timedelta
    backlog: Count | None = None
    enabled: bool = True
    needs: str = ""
    interval: Interval = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", parse_interval(self.every))

    @property
    def is_fast(self) -> bool:
        """Too fast for django-q2, whose scheduler looks twice a minute."""
        return isinstance(self.interval, Every) and self.interval.length < MINUTE

    @property
    def description(self) -> str:
        return first_line(self.run)


def first_line(declared: object) -> str:
    """Of what it says of itself: what operators read."""
    return (declared.__doc__ or "").strip().partition("\n")[0]


class Worker(Protocol):
    """One step after the other, in a thread of its own."""

    wakes_on: str
    """The channel of `jobs.wake.notify` that calls it before its time; SQLite has one for all."""

    def step(self) -> float:
        """Do what there is; after how many seconds to be called again."""

    def stop(self) -> None:
        """Let go of what is held, so that another process can go on at once."""


periodic_jobs: dict[str, PeriodicJob] = {}
workers: dict[str, Callable[[], Worker]] = {}
standings: dict[str, Callable[[], Standing]] = {}
R = TypeVar("R", bound=Run)
W = TypeVar("W", bound=type[Worker])


def periodic(
    name: str,
    *,
    every: str,
    at_least: str = "0s",
    at_most: str = "10m",
    misfire: Misfire = Misfire.COALESCE,
    jitter: str = "0s",
    backlog: Count | None = None,
    needs: str = "",
) -> Callable[[R], R]:
    """Declare a job beside its function, which returns how many items it handled.

    `every` is a duration or a cron expression; `<NAME>_INTERVAL` and `<NAME>_ENABLED` override.
    The lease keeps a second run away for `at_least`, and is another node's after `at_most` when
    its holder has died; a living one renews it. `jitter` delays each run by up to so much.
    `backlog` counts what waits for the job. `needs` is the setting without which it is off.
    """

    def register(run: R) -> R:
        periodic_jobs[name] = PeriodicJob(
            name=name,
            run=run,
            every=every,
            at_least=parse_duration(at_least),
            at_most=parse_duration(at_most),
            misfire=misfire,
            jitter=parse_duration(jitter),
            backlog=backlog,
            enabled=not needs or bool(getattr(settings, needs)),
            needs=needs,
        )
        return run

    return register


def override(name: str, *, every: str | None = None, enabled: bool | None = None) -> None:
    """What the environment says of a job. Raise `ValueError` for an interval that is none."""
    job = periodic_jobs[name]
    changed = replace(
        job,
        every=job.every if every is None else every,
        enabled=job.enabled if enabled is None else enabled,
    )
    if isinstance(changed.interval, Every) and changed.interval.length <= job.at_least:
        # what is asked for more often may run more often
        changed = replace(changed, at_least=changed.interval.length * 0.9)
    periodic_jobs[name] = changed


def worker(name: str, *, standing: Callable[[], Standing] | None = None) -> Callable[[W], W]:
    """Declare what the long-running command repeats without waiting for a tick."""

    def register(cls: W) -> W:
        workers[name] = cls
        if standing:
            standings[name] = standing
        return cls

    return register
