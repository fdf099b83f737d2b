"""Deliveries in numbers for `/metrics`: facts of the cluster, the same whichever process is asked.

They are sent by processes that nobody scrapes, so what was sent is counted in rows.
"""

from collections.abc import Iterator

from django.db.models import Count, Min, Q
from django.db.models.functions import Now
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import SummaryMetricFamily as Summary
from prometheus_client.metrics_core import Metric

from deliveries.models import TRIP, Delivery, Endpoint, Kind, State, Tally


def metrics() -> Iterator[Metric]:
    """Three queries."""
    yield from _sent()
    yield from _waiting()
    yield from _endpoints()


def _sent() -> Iterator[Metric]:
    ended = Counter("broadcast_deliveries", "Deliveries that ended.", labels=["kind", "outcome"])
    took = Summary(
        "broadcast_delivery_attempt_duration_seconds",
        "How long attempts took.",
        labels=["kind", "outcome"],
    )
    tallies = {tally.kind: tally for tally in Tally.objects.all()}
    for kind in Kind.values:
        tally = tallies.get(kind, Tally())
        for outcome in ("delivered", "failed", "dead"):
            ended.add_metric([kind, outcome], getattr(tally, outcome))
        for outcome in ("succeeded", "failed"):
            count = getattr(tally, f"attempts_{outcome}")
            took.add_metric([kind, outcome], count, getattr(tally, f"seconds_{outcome}"))
    yield from (ended, took)


def _waiting() -> Iterator[Metric]:
    backlog = Gauge("broadcast_deliveries_waiting", "What waits.", labels=["kind"])
    late = Gauge("broadcast_deliveries_late_seconds", "How late the latest is.", labels=["kind"])
    takes = Q(endpoint__state=State.ACTIVE, endpoint__failures=0) & (
        Q(endpoint__not_before=None) | Q(endpoint__not_before__lte=Now())
    )
    waiting = Delivery.objects.waiting().order_by().values_list("endpoint__kind", Now())
    counted = waiting.annotate(count=Count("pk"), first=Min("next_attempt_at", filter=takes))
    found = {
        kind: (count, max((now - first).total_seconds(), 0) if first else 0)
        for kind, now, count, first in counted
    }
    for kind in Kind.values:
        count, seconds = found.get(kind, (0, 0))
        backlog.add_metric([kind], count)
        late.add_metric([kind], seconds)
    yield from (backlog, late)


def _endpoints() -> Iterator[Metric]:
    endpoints = Gauge("broadcast_endpoints", "Endpoints by state.", labels=["kind", "state"])
    failing = Gauge("broadcast_endpoints_failing", "Those that take nothing.", labels=["kind"])
    rows = Endpoint.objects.order_by().values_list("kind", "state")
    found = {
        (kind, state): (count, broken)
        for kind, state, count, broken in rows.annotate(
            count=Count("pk"), broken=Count("pk", filter=Q(failures__gte=TRIP))
        )
    }
    for kind in Kind.values:
        for state in State.values:
            endpoints.add_metric([kind, state], found.get((kind, state), (0, 0))[0])
        failing.add_metric([kind], found.get((kind, State.ACTIVE), (0, 0))[1])
    yield from (endpoints, failing)
