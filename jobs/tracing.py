"""Traces by OpenTelemetry: one from the request that composes to the client that has seen it.

Off unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set, and then not even imported. All else of it is said
by the SDK's own environment (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER`, …).
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

from django.conf import settings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

OFF: AbstractContextManager[None] = nullcontext()
LENGTH = 55  # characters of a `traceparent`
EXITS_EARLY = 10  # before multiprocessing joins the processes that it started


def span(
    name: str, kind: str = "internal", parent: str = "", **attributes: Any
) -> AbstractContextManager[None]:
    """What is done meanwhile, as a part of the trace of `parent`, else of what is done now.

    `parent` is a W3C `traceparent`, `kind` one of OpenTelemetry's. An attribute that is empty is
    left out; of its name `__` becomes a dot.
    """
    return _span(name, kind, parent, attributes) if settings.TRACING else OFF


def record(name: str, kind: str, parent: str, began: int, **attributes: Any) -> None:
    """A span from `began` (`time.time_ns()`) to now, for what is done to many together."""
    if settings.TRACING and parent:
        from opentelemetry.trace import SpanKind

        one = _tracer().start_span(
            name, _context(parent), SpanKind[kind.upper()], _said(attributes), start_time=began
        )
        one.end(max(began, time.time_ns()))


def traceparent() -> str:
    """That of the span that is open now, for whoever goes on with it; empty without one."""
    if not settings.TRACING:
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")


def describe(name: str = "", **attributes: Any) -> None:
    """What is known only now of the span that is open; also a better name."""
    if settings.TRACING:
        from opentelemetry.trace import get_current_span

        current = get_current_span()
        current.set_attributes(_said(attributes))
        if name:
            current.update_name(name)


@contextmanager
def _span(name: str, kind: str, parent: str, attributes: dict[str, Any]) -> Iterator[None]:
    from opentelemetry.trace import SpanKind

    with _tracer().start_as_current_span(
        name, _context(parent), SpanKind[kind.upper()], _said(attributes)
    ):
        yield


def _context(parent: str) -> "Context | None":
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent}) if parent else None


def _said(attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        name.replace("__", "."): value
        for name, value in attributes.items()
        if value not in (None, "")
    }


@cache
def _tracer() -> "Tracer":
    """Made by the first span of a process; spans leave in the background, the last ones at exit."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create(
        {"service.name": settings.OTEL_SERVICE_NAME, "host.name": settings.NODE_NAME}
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    Finalize(None, provider.shutdown, exitpriority=EXITS_EARLY)  # `atexit` is not run by a fork
    return provider.get_tracer("broadcast")
