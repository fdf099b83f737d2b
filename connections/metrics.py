"""Connections in numbers for `/metrics`: those of all nodes, and the streams of this process."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import Count
from django.db.models.functions import Now
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.metrics_core import Metric

from connections.counters import counters
from connections.feed import get_feed
from connections.hub import get_hub
from connections.models import Connection, Node

FORGOTTEN = timedelta(hours=1)  # a node that died longer ago is not told of any more


def metrics() -> Iterator[Metric]:
    """Two queries."""
    yield from _of_the_cluster()
    yield from _of_this_process()


def _of_the_cluster() -> Iterator[Metric]:
    connections = Gauge("broadcast_connections", "Registered open streams.", labels=["node"])
    heartbeat = Gauge(
        "broadcast_node_heartbeat_age_seconds", "Since a node last said it lives.", labels=["node"]
    )
    active = dict(Connection.objects.active().order_by().values_list("node").annotate(Count("pk")))
    nodes = Node.objects.filter(stopped_at=None).annotate(now=Now())
    for name, last, now in nodes.values_list("name", "last_heartbeat", "now"):
        if now - last < FORGOTTEN:
            heartbeat.add_metric([name], _seconds(last, now))
            active.setdefault(name, 0)
    for name, count in sorted(active.items()):
        connections.add_metric([name], count)
    yield from (connections, heartbeat)


def _of_this_process() -> Iterator[Metric]:
    hub = get_hub()
    opened = Gauge("broadcast_streams_open", "Streams of this process.", labels=["node"])
    opened.add_metric([hub.node], len(hub.streams) + len(get_feed().streams))
    yield opened
    for name, text, value in (
        ("opened", "Streams that were opened.", counters.opened),
        ("closed", "Streams that ended.", counters.closed),
        ("fallen_behind", "Times that a client read too slowly.", counters.fallen_behind),
        ("resets", "Times that a client was told to refetch.", counters.resets),
    ):
        yield _counter(f"broadcast_streams_{name}", text, hub.node, value)
    yield _counter("broadcast_stream_frames", "Frames written.", hub.node, counters.frames)
    yield _counter("broadcast_stream_bytes", "Bytes of them.", hub.node, counters.bytes)


def _counter(name: str, text: str, node: str, value: int) -> Counter:
    counter = Counter(name, text, labels=["node"])
    counter.add_metric([node], value)
    return counter


def _seconds(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds())
