"""What every app declares: periodic jobs (ticks of a minute or slower) and workers (faster)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

Run = Callable[[], int]


class Worker(Protocol):
    """One step after the other, in a thread of its own."""

    def step(self) -> float:
        """Do what there is; after how many seconds to be called again (a commit calls sooner)."""

    def stop(self) -> None:
        """Let go of what is held, so that another process can go on at once."""


@dataclass(frozen=True)
class PeriodicJob:
    name: str
    run: Run
    every: str

    @property
    def path(self) -> str:
        return f"{self.run.__module__}.{self.run.__qualname__}"

    @property
    def description(self) -> str:
        return (self.run.__doc__ or "").strip().splitlines()[0]


periodic_jobs: dict[str, PeriodicJob] = {}
workers: dict[str, type[Worker]] = {}
W = TypeVar("W", bound=type[Worker])


def periodic(name: str, *, every: str) -> Callable[[Run], Run]:
    """Declare a job beside its function, which returns the number of items that it handled.

    `every` is a duration (`60s`, `5m`, `1h`, `24h`) or a cron expression.
    """

    def register(run: Run) -> Run:
        periodic_jobs[name] = PeriodicJob(name, run, every)
        return run

    return register


def worker(name: str) -> Callable[[W], W]:
    """Declare what the long-running command repeats faster than a minute."""

    def register(cls: W) -> W:
        workers[name] = cls
        return cls

    return register
