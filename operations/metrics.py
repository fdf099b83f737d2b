"""Operations in numbers for `/metrics`: from the rows."""

from collections.abc import Iterator

from django.db.models import Count, Q
from django.db.models.functions import Now
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.metrics_core import Metric

from operations.keys.models import ApiKey, UsageBatch


def metrics() -> Iterator[Metric]:
    """Two queries."""
    keys = Gauge("broadcast_api_keys", "API keys by state.", labels=["state"])
    over = Q(expires_at__lte=Now())
    found = ApiKey.objects.aggregate(
        ACTIVE=Count("pk", filter=~over & Q(enabled=True)),
        EXPIRED=Count("pk", filter=over),
        DISABLED=Count("pk", filter=~over & Q(enabled=False)),
    )
    for state, count in found.items():
        keys.add_metric([state], count)
    waiting = Gauge(
        "broadcast_api_key_batches_waiting", "Batches of uses that are yet to be applied."
    )
    waiting.add_metric([], UsageBatch.objects.waiting().count())
    yield from (keys, waiting)
