"""API keys, as far as streams know of them: asked of a backend by dotted path."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.utils.module_loading import import_string

from connections.refusals import Refusal


@dataclass(frozen=True)
class KeyHolder:
    key: int
    name: str
    user: AbstractUser
    headers: Mapping[str, str] = field(default_factory=dict)
    """What the answer says of its limits."""


class Given(NamedTuple):
    """A key as a request brings it."""

    key: str
    address: str
    correlation_id: str


class Keys(ABC):
    """Used in the threads of the database."""

    @abstractmethod
    def credential(self, x_api_key: str, authorization: str) -> str | None:
        """The key that these headers bring; None when they bring none."""

    @abstractmethod
    def identify(self, given: Sequence[Given], path: str) -> "list[KeyHolder | Refusal]":
        """Whose each key is that asks for the stream at `path`.

        In a bounded number of queries. What it refuses says for which key it is counted.
        """

    @abstractmethod
    def count(self, key: int, status: int) -> None:
        """A key was used: its stream begins, or was refused with this status."""


@cache
def get_keys() -> Keys:
    """The backend that `SSE_API_KEYS` names."""
    keys: Keys = import_string(settings.SSE_API_KEYS)()
    return keys
