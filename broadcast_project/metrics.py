"""`GET /metrics`: what Prometheus scrapes.

Computed when it is asked. What the cluster is comes from the database, so that every process says
the same and none has to share files; what one process did carries the name of its node.
"""

import secrets
from collections.abc import Iterator
from http import HTTPStatus
from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import broadcasts.metrics
import connections.metrics
import deliveries.metrics
import jobs.metrics
import operations.debezium.metrics
import operations.metrics
import outbox.metrics
from broadcast_project import keys

SOURCES = (
    jobs.metrics,
    outbox.metrics,
    connections.metrics,
    broadcasts.metrics,
    deliveries.metrics,
    operations.metrics,
    keys,
    operations.debezium.metrics,
)
FORWARDED = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via")


class Collected(Collector):
    def collect(self) -> Iterator[Metric]:
        for source in SOURCES:
            yield from source.metrics()


registry = CollectorRegistry()
registry.register(Collected())


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    if settings.METRICS_TOKEN:
        if not _has_token(request):
            return _refused(HTTPStatus.UNAUTHORIZED, "Send METRICS_TOKEN as Authorization: Bearer.")
    elif not _is_local(request) and not request.user.is_staff:
        return _refused(
            HTTPStatus.FORBIDDEN, "Sign in as staff, ask from this machine, or set METRICS_TOKEN."
        )
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry), content_type=content_type)


def _has_token(request: HttpRequest) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    matches = secrets.compare_digest(token.strip().encode(), settings.METRICS_TOKEN.encode())
    return scheme.lower() == "bearer" and matches


def _is_local(request: HttpRequest) -> bool:
    """From this machine, and not through a proxy on it, behind which anybody may be."""
    if any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:  # a Unix socket has no address
        return False


def _refused(status: HTTPStatus, text: str) -> HttpResponse:
    response = HttpResponse(f"{text}\n", status=status, content_type="text/plain; charset=utf-8")
    if status == HTTPStatus.UNAUTHORIZED:
        response["WWW-Authenticate"] = 'Bearer realm="metrics"'
    return response
