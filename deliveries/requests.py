"""What is sent to an endpoint, and what its answer means: one pair of functions for each kind."""

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from django.utils import timezone
from standardwebhooks import Webhook

from deliveries import discord
from deliveries.models import Delivery, Endpoint, Kind
from jobs import tracing

USER_AGENT = "Broadcast-Webhooks/1"
GONE = {Kind.WEBHOOK: {410}, Kind.DISCORD: {404, 410}}
"""Of Discord, 404 is a webhook that was deleted; it blocks who goes on asking."""
BUSY = {429, 503}
LONGEST_WAIT = timedelta(days=1)  # that an answer can ask for


@dataclass(frozen=True, slots=True)
class Request:
    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; without a status nothing did, and `error` says why."""

    status: int | None = None
    headers: dict[str, str] | None = None  # names in lower case
    body: str = ""
    error: str = ""

    @property
    def succeeded(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def fault(self) -> str:
        """Why it is no success; empty: it is one."""
        if self.succeeded:
            return ""
        return f"answered {self.status}" if self.status else self.error


def build_request(endpoint: Endpoint, delivery: Delivery, at: datetime) -> Request:
    headers = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
    if endpoint.kind == Kind.DISCORD:
        message = json.dumps(discord.message_of(json.loads(delivery.body)), ensure_ascii=False)
        headers["Content-Type"] = "application/json"
        return Request(discord.address(endpoint.url), headers, message.encode())
    headers["Content-Type"] = "application/cloudevents+json; charset=utf-8"
    if trace := tracing.traceparent():
        headers["traceparent"] = trace
    headers |= signatures(endpoint.signing_secrets(at), delivery, at)
    return Request(endpoint.url, headers, delivery.body.encode())


def signatures(secrets: list[str], delivery: Delivery, at: datetime) -> dict[str, str]:
    """Standard Webhooks, signed with each secret; and the headers of older receivers, with one.

    Those sign the body alone, keyed with the text of the secret as it is shown, `whsec_` included.
    """
    identifier, moment = str(delivery.event_id), at.astimezone(UTC)
    signed = [Webhook(secret).sign(identifier, moment, delivery.body) for secret in secrets]
    digest = hmac.new(secrets[0].encode(), delivery.body.encode(), hashlib.sha256).hexdigest()
    timestamp = str(int(moment.timestamp()))
    return {
        "webhook-id": identifier,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signed),
        "X-Webhook-Event": delivery.type,
        "X-Webhook-Delivery": str(delivery.pk),
        "X-Webhook-Attempt": str(delivery.attempts + 1),
        "X-Webhook-Timestamp": timestamp,
        "X-Webhook-Signature": digest,
        "X-Webhook-Signature-256": f"sha256={digest}",
    }


def is_gone(kind: str, answer: Answer) -> bool:
    return answer.status in GONE[Kind(kind)]


def wait_of(kind: str, answer: Answer) -> timedelta | None:
    """How long an endpoint that is busy asks us to stay away; None: it asks for nothing."""
    if answer.status not in BUSY:
        return None
    asked = discord.retry_after(answer.body) if kind == Kind.DISCORD else None
    wait = _retry_after(answer) if asked is None else asked
    return wait and min(max(wait, timedelta()), LONGEST_WAIT)


def pause_of(kind: str, answer: Answer) -> timedelta | None:
    """How long Discord takes no more, as it says beforehand."""
    headers = answer.headers or {}
    if kind != Kind.DISCORD or headers.get("x-ratelimit-remaining") != "0":
        return None
    return seconds(headers.get("x-ratelimit-reset-after", ""))


def concerns_all(kind: str, answer: Answer) -> bool:
    """Whether it is Discord's limit for all that comes from here, not that of one webhook."""
    headers = answer.headers or {}
    return kind == Kind.DISCORD and (
        discord.is_global(answer.body)
        or "x-ratelimit-global" in headers
        or headers.get("x-ratelimit-scope") == "global"
    )


def _retry_after(answer: Answer) -> timedelta | None:
    """Seconds, or a date."""
    text = (answer.headers or {}).get("retry-after", "")
    if (wait := seconds(text)) is not None:
        return wait
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC) - timezone.now()


def seconds(text: object) -> timedelta | None:
    try:
        return timedelta(seconds=float(str(text)))
    except (ValueError, OverflowError):  # no number, NaN, or more than there is
        return None
