"""The outbox in numbers for `/metrics`: facts of the cluster."""

from collections.abc import Iterator

from django.db.models import Count
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.metrics_core import Metric

from outbox.backlog import backlog
from outbox.models import DeadLetter


def metrics() -> Iterator[Metric]:
    """Six statements, whatever the outbox holds."""
    state = backlog()
    yield Gauge("broadcast_outbox_pending", "Events that wait to be published.", state.depth)
    yield Gauge(
        "broadcast_outbox_oldest_pending_age_seconds",
        "How long the oldest of them waits; 0 when none does.",
        state.oldest_pending_seconds or 0,
    )
    yield Gauge("broadcast_outbox_parked", "Events that could not be published.", state.parked)
    yield Gauge("broadcast_outbox_head_position", "The position of the last event.", state.position)
    yield Gauge("broadcast_outbox_relay_leads", "1 while a relay leads.", bool(state.leader))
    letters = Gauge("broadcast_outbox_dead_letters", "Dead letters by source.", labels=["source"])
    by_source = dict(DeadLetter.objects.order_by().values_list("source").annotate(Count("pk")))
    for source, count in ({DeadLetter.RELAY: 0} | by_source).items():
        letters.add_metric([source], count)
    yield letters
