import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Report:
    """What a benchmark found; the names of the figures say their units."""

    name: str
    figures: dict[str, Any]
    ratios: dict[str, float] = field(default_factory=dict)
    """Against a peer that was measured in the same run, so that they hold on any machine."""
    skipped: list[str] = field(default_factory=list)

    def table(self) -> str:
        rows = [*self.figures.items(), *((name, f"{r} x") for name, r in self.ratios.items())]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value}" for name, value in rows]
        return "\n".join([self.name, *lines, *(f"skipped: {what}" for what in self.skipped)])

    def json(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class Times:
    """Milliseconds of something that was done many times."""

    values: Sequence[float]

    @property
    def p50(self) -> float:
        return round(statistics.median(self.values), 2)

    @property
    def p95(self) -> float:
        return round(statistics.quantiles(self.values, n=20, method="inclusive")[-1], 2)

    @property
    def p99(self) -> float:
        return round(statistics.quantiles(self.values, n=100, method="inclusive")[-1], 2)


def times(items: Sequence[Any], action: Callable[[Any], object]) -> Times:
    action(items[0])  # what is done once a process is not measured
    values = []
    for item in items:
        start = time.perf_counter()
        action(item)
        values.append((time.perf_counter() - start) * 1_000)
    return Times(values)


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
