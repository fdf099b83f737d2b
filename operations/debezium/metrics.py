"""Connectors in numbers for `/metrics`, as the last check found them: facts of the cluster."""

from collections.abc import Iterator

from django.conf import settings
from django.db.models import Count
from django.db.models.functions import Now
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.metrics_core import Metric

from operations.debezium.models import Cluster, Connector, State, Task

NAME = ["connector"]


def metrics() -> Iterator[Metric]:
    """Three queries; the gauges of Connect itself only once it was asked. None unless watched."""
    if not settings.DEBEZIUM_URL:
        return
    yield from _connect()
    up = Gauge("broadcast_connector_up", "1 when it does what it should.", labels=NAME)
    state = Gauge("broadcast_connector_state", "1 for its state.", labels=[*NAME, "state"])
    tasks = Gauge("broadcast_connector_tasks", "Its tasks.", labels=[*NAME, "state"])
    restarts = Counter("broadcast_connector_restarts", "Restarts.", labels=NAME)
    kept = Gauge("broadcast_connector_slot_retained_bytes", "WAL kept for it.", labels=NAME)
    lag = Gauge("broadcast_connector_slot_lag_bytes", "WAL it has yet to confirm.", labels=NAME)
    read = Gauge("broadcast_connector_slot_active", "1 while its slot is read.", labels=NAME)
    counted = Task.objects.order_by().values_list("connector", "state").annotate(Count("pk"))
    counts: dict[int, dict[str, int]] = {}
    for connector, of, number in counted:
        counts.setdefault(connector, {})[of] = number
    for row in Connector.objects.defer("trace"):
        up.add_metric([row.name], not row.problem)
        state.add_metric([row.name, row.state], 1)
        none = {State.RUNNING.value: 0, State.FAILED.value: 0}  # there from the start, for rules
        for of, number in (none | counts.get(row.pk, {})).items():
            tasks.add_metric([row.name, of], number)
        restarts.add_metric([row.name], row.restarts_total)
        figures = ((kept, row.slot_retained), (lag, row.slot_lag), (read, row.slot_active))
        for gauge, value in figures:
            if value is not None:
                gauge.add_metric([row.name], value)
    yield from (up, state, tasks, restarts, kept, lag, read)


def _connect() -> Iterator[Metric]:
    up = Gauge("broadcast_connect_up", "1 when Kafka Connect answered.")
    age = Gauge("broadcast_connect_check_age_seconds", "Since Kafka Connect was asked.")
    if cluster := Cluster.objects.annotate(now=Now()).first():
        up.add_metric([], not cluster.error)
        age.add_metric([], (cluster.now - cluster.checked_at).total_seconds())
    yield from (up, age)
