"""How far a run has come: its job says so here; a bar, the console and the API show it.

Outside of a run nobody listens, so that services may call it whoever calls them.
"""

from collections.abc import Collection, Iterator
from typing import TypeVar

from jobs.leases import current_lease

T = TypeVar("T")


def expect(count: int) -> None:
    """So many items more are there to handle."""
    if lease := current_lease():
        lease.advance(0, count)


def advance(count: int = 1) -> None:
    """So many items more are handled."""
    if lease := current_lease():
        lease.advance(count)


def track(items: Collection[T]) -> Iterator[T]:
    """The items; each is handled when the next one is asked for."""
    expect(len(items))
    for item in items:
        yield item
        advance()
