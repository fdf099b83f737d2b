"""API keys of operations open streams of connections: neither knows of the other."""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from django.dispatch import receiver
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.metrics_core import Metric

from connections.hub import get_hub
from connections.keys import Given, KeyHolder, Keys
from connections.refusals import Refusal, unauthorized
from connections.services import disconnect_keys
from jobs.correlation import correlated
from operations.keys import limits, scopes
from operations.keys.authentication import AWAY, REASONS, away, credential, reached, refusals
from operations.keys.checking import Holder, Refused, check_each
from operations.keys.limits import LimitsUnavailable
from operations.keys.models import ApiKey
from operations.keys.signals import key_cut
from operations.keys.usage import OUTCOMES, recorder


class ApiKeys(Keys):
    def credential(self, x_api_key: str, authorization: str) -> str | None:
        return credential(x_api_key, authorization)

    def identify(self, given: Sequence[Given], path: str) -> list[KeyHolder | Refusal]:
        found = check_each([asked.key for asked in given])
        return [self._admit(one, asked, path) for one, asked in zip(found, given, strict=True)]

    def _admit(self, found: Holder | Refused, asked: Given, path: str) -> KeyHolder | Refusal:
        if isinstance(found, Refused):
            with correlated(asked.correlation_id):
                refusals.note(found, asked.address)
            return unauthorized(found.code, found.message)
        try:
            return KeyHolder(found.pk, found.key_id, found.owner, admit(found, path))
        except Refusal as refusal:
            refusal.counts_for = found.pk
            return refusal

    def count(self, key: int, status: int) -> None:
        recorder.count(key, status)


def admit(holder: Holder, path: str) -> dict[str, str]:
    """To the stream at `path`, and what its answer says of the limits. Raises `Refusal`."""
    try:
        verdict = limits.take(holder)
    except LimitsUnavailable as error:
        wait = {"Retry-After": str(AWAY)}
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "limits_unavailable", away(), wait) from error
    headers = verdict.headers()
    if not verdict.allowed:
        headers["Retry-After"] = str(verdict.retry_after)
        raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, "limit_reached", reached(verdict), headers)
    if not scopes.opens(holder.scopes, "GET", path):
        raise Refusal(HTTPStatus.FORBIDDEN, "scope_missing", scopes.refusal("GET", path), headers)
    return headers


@receiver(key_cut)
def cut_streams(keys: Sequence[ApiKey], reason: str, reconnect: bool, **_: Any) -> None:
    owners = {key.key_id: key.owner_id for key in keys}
    disconnect_keys(owners, reason=reason, reconnect=reconnect)


def metrics() -> Iterator[Metric]:
    """What this process counted; no query."""
    node = get_hub().node
    requests = Counter(
        "broadcast_api_key_requests", "Requests by API keys.", labels=["node", "outcome"]
    )
    for outcome in OUTCOMES:
        requests.add_metric([node, outcome], recorder.total[outcome])
    refused = Counter(
        "broadcast_api_key_refusals", "API keys that were refused.", labels=["node", "reason"]
    )
    for reason in REASONS:
        refused.add_metric([node, reason], refusals.counts[reason])
    yield from (requests, refused)
