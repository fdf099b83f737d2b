"""Why a stream is not opened: what the client is told, and how it may be put right."""

import json
import random
import time
from dataclasses import dataclass, field
from http import HTTPStatus

from django.conf import settings

from jobs.correlation import correlation_id


@dataclass
class Refusal(Exception):
    status: HTTPStatus
    code: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)
    counts_for: int | None = None
    """The API key that was used, if any."""

    def body(self) -> bytes:
        error = {
            "status": self.status.value,
            "code": self.code,
            "message": self.message,
            "request_id": correlation_id(),
        }
        return json.dumps(error).encode()


class ConnectLimit:
    """At most SSE_CONNECTS_PER_MINUTE connects an address and minute; 0 is no limit."""

    def __init__(self) -> None:
        self.minute = 0
        self.counts: dict[str, int] = {}

    def check(self, address: str) -> None:
        minute = int(time.time() // 60)
        if minute != self.minute:
            self.minute, self.counts = minute, {}
        self.counts[address] = self.counts.get(address, 0) + 1
        most = settings.SSE_CONNECTS_PER_MINUTE
        if most and self.counts[address] > most:
            raise Refusal(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too_many_connects",
                f"More than {most} connects a minute from {address}: wait a minute.",
                {"Retry-After": str(60 - int(time.time()) % 60)},
            )


def unauthorized(code: str, message: str) -> Refusal:
    return Refusal(HTTPStatus.UNAUTHORIZED, code, message, {"WWW-Authenticate": "Session"})


def unavailable() -> Refusal:
    return Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "unavailable",
        "The stream cannot be opened now: try again in a moment. Your inbox has every message.",
        {"Retry-After": "5"},
    )


def full() -> Refusal:
    return Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "too_many_connections",
        "This server holds as many streams as it may: try again in a moment.",
        {"Retry-After": str(random.randint(1, 5))},  # noqa: S311 (jitter)
    )
