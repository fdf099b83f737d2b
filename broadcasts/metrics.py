"""Broadcasts in numbers for `/metrics`: from the rows; receipts as this process stamped them.

Receipts may be millions, and an index for each of their stamps would slow the one write that grows
with every message to every person. So nobody counts the rows: each statement that stamps says how
many it stamped, and the process adds that up.
"""

from collections.abc import Iterator

from django.db.models import Count
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.metrics_core import Metric

from broadcasts.contents import outcomes
from broadcasts.models import Broadcast, Status
from broadcasts.receipts import stamped
from connections.hub import get_hub


def metrics() -> Iterator[Metric]:
    """One query, answered by an index."""
    broadcasts = Gauge("broadcast_broadcasts", "Broadcasts by status.", labels=["status"])
    by_status = dict(Broadcast.objects.order_by().values_list("status").annotate(Count("pk")))
    for status in Status.values:
        broadcasts.add_metric([status], by_status.get(status, 0))
    yield broadcasts
    receipts = Counter("broadcast_receipts", "Receipts stamped.", labels=["node", "stage"])
    for stage, count in stamped.counts.items():
        receipts.add_metric([get_hub().node, stage], count)
    yield receipts
    asked = Counter("broadcast_content_cache", "Contents asked for.", labels=["node", "outcome"])
    for outcome, count in outcomes.items():
        asked.add_metric([get_hub().node, outcome], count)
    yield asked
