"""One id for all that a request, a run of a job or an event sets off: in logs, events and answers.

It is asked for with `correlation_id()` wherever something is written down, and set only where
something begins.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus
from secrets import token_hex
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.log import log_response

from jobs import tracing

HEADER = "X-Request-ID"
LENGTH = 64  # characters, of those that mean nothing in a log, a header or a page
WELL_FORMED = re.compile(rf"[A-Za-z0-9._-]{{1,{LENGTH}}}")
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-.{2,}")

_current: ContextVar[tuple[str, str]] = ContextVar("correlation", default=("", ""))


def correlation_id() -> str:
    """That of what is done now; empty where nothing said so."""
    return _current.get()[0]


def event_id() -> str:
    """The event that is handled now; empty where it is none."""
    return _current.get()[1]


def inherited_id() -> str:
    """For what is written down: it begins something of its own where nothing set it off."""
    return _current.get()[0] or new_id()


def new_id() -> str:
    return token_hex(16)


@contextmanager
def correlated(name: str, event: object = "") -> Iterator[None]:
    """What is done meanwhile belongs to `name`: also what it awaits, but no thread of its own."""
    token = _current.set((name, str(event)))
    try:
        yield
    finally:
        _current.reset(token)


def well_formed(name: str) -> str:
    """`name` if it may be an id, else nothing."""
    return name if WELL_FORMED.fullmatch(name) else ""


def requested_id(headers: Mapping[str, str]) -> str:
    """What the client, or a proxy before us, calls its request, else a new id.

    `X-Request-ID` is taken when it is well-formed, then the trace of a W3C `traceparent`.
    """
    if name := well_formed(headers.get(HEADER, "")):
        return name
    trace = TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return trace[1] if trace else new_id()


def request_id(request: HttpRequest) -> dict[str, str]:
    """A context processor: pages of errors show it."""
    return {"request_id": correlation_id()}


class Correlation:
    """First of all middleware: whatever answers, its answer names the id."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.answer(request)
        with _asked(request):
            return _answered(request, self.get_response(request))

    async def answer(self, request: HttpRequest) -> HttpResponseBase:
        with _asked(request):
            return _answered(request, await self.get_response(request))


@contextmanager
def _asked(request: HttpRequest) -> Iterator[None]:
    name, method = requested_id(request.headers), str(request.method)
    parent = request.headers.get("traceparent", "")
    about = {"http__request__method": method, "correlation_id": name}
    with correlated(name), tracing.span(method, "server", parent, **about):
        yield


def _answered(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    response[HEADER] = correlation_id()
    path = request.path
    if match := request.resolver_match:
        if token := match.kwargs.get("token"):  # whoever has it may use it
            path = path.replace(token, "…")
        tracing.describe(f"{request.method} {match.route}".strip(), http__route=match.route)
    tracing.describe(url__path=path, http__response__status_code=response.status_code)
    if response.status_code >= HTTPStatus.BAD_REQUEST:  # Django would do it outside, without the id
        log_response(
            "%s: %s",
            response.reason_phrase,
            request.path,
            response=cast(HttpResponse, response),
            request=request,
        )
    return response
