"""Who does what is being done, and by which door they came in.

A service says what was done, in the transaction of the change: `did("job.paused", job)`. Who did it
stands in the context, put there by the door; what a process does by itself nobody did.
"""

import getpass
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Field, Model
from django.dispatch import Signal
from django.http import HttpRequest

ADMIN, API, PAGE, STREAM, COMMAND, JOB = DOORS = (
    "admin",
    "api",
    "page",
    "stream",
    "command",
    "job",
)
LONGEST = 200  # characters of a value that was changed

acted = Signal()
"""A person did something: `actor`, `action`, `subject` (a row), `detail`. Who receives it writes in
the same transaction, and what it raises undoes the change."""


@dataclass(frozen=True)
class Actor:
    door: str
    user_id: int | None = None
    name: str = ""
    """Of the user; of the person at the operating system, for a command; of a job."""
    via: str = ""
    """The API key, the command, the run of the job."""
    address: str = ""


_acting: ContextVar[Callable[[], Actor] | None] = ContextVar("acting", default=None)


def acting() -> Actor | None:
    """Who does what this code is at; None for what a process does by itself."""
    ask = _acting.get()
    return ask() if ask else None


@contextmanager
def acting_as(actor: Actor | Callable[[], Actor] | None) -> Iterator[None]:
    """A function is asked when something is done: who sends a request is known only by then."""
    before = _acting.set((lambda: actor) if isinstance(actor, Actor) else actor)
    try:
        yield
    finally:
        _acting.reset(before)


def did(action: str, subject: Model, /, **detail: Any) -> None:
    """Whoever acts did this, such as `broadcast.cancelled`; nothing if nobody does, or a job.

    Call it in the transaction of the change, and before a row that is deleted has lost its key.
    `detail` is JSON without secrets.
    """
    actor = acting()
    if actor and actor.door != JOB:
        acted.send(type(subject), actor=actor, action=action, subject=subject, detail=detail)


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], names: Iterable[str] | None = None
) -> dict[str, list[Any]]:
    """What changed, by name: old and new, long texts cut."""
    names = before if names is None else names
    pairs = {name: (before.get(name), after.get(name)) for name in names}
    return {name: [short(old), short(new)] for name, (old, new) in pairs.items() if old != new}


def changes(before: Model, after: Model) -> dict[str, list[Any]]:
    """What of a row's editable fields is another now."""
    fields = [field for field in before._meta.concrete_fields if field.editable]
    return differences(*({f.name: value_of(row, f) for f in fields} for row in (before, after)))


def value_of(row: Model, field: "Field[Any, Any]") -> Any:
    """As it is stored, whatever it was set to."""
    return field.to_python(field.value_from_object(row))


def short(value: Any) -> Any:
    """As JSON has it, and as short as a line of a list."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):  # of names, of which there may be a million
        value = ", ".join([*map(str, value[:20]), *(["…"] if len(value) > 20 else [])])
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def at_the_terminal(command: str) -> Actor:
    """Whoever runs a management command."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # in a container, of a number without a name
        name = f"uid {os.getuid()}"
    return Actor(COMMAND, name=name, via=command)


def address_of(request: HttpRequest) -> str:
    """Of who asks; see `address_behind`."""
    peer = str(request.META.get("REMOTE_ADDR") or "")
    return address_behind(peer, request.headers.get("X-Forwarded-For", ""))


def address_behind(peer: str, forwarded: str) -> str:
    """As the outermost of TRUSTED_PROXIES saw it: what stands before that in `X-Forwarded-For`,
    anybody can write."""
    if settings.TRUSTED_PROXIES:
        seen = forwarded.split(",")
        if len(seen) >= settings.TRUSTED_PROXIES:
            return seen[-settings.TRUSTED_PROXIES].strip() or peer
    return peer
