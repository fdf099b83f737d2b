import base64
import secrets
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from deliveries.guard import Forbidden, check_literal
from jobs import addresses
from outbox.patterns import check_patterns, wanted

TRIP = 5
"""Failures in a row that open an endpoint's circuit: from then on one delivery at a time asks."""

DISCORD_RATE = 2  # a second; it allows five in two seconds


class Kind(models.TextChoices):
    WEBHOOK = "WEBHOOK", _("Webhook")
    DISCORD = "DISCORD", _("Discord")


class State(models.TextChoices):
    ACTIVE = "ACTIVE", _("Active")
    PAUSED = "PAUSED", _("Paused")  # events are collected, and wait
    DISABLED = "DISABLED", _("Disabled")  # nothing is collected


class Status(models.TextChoices):
    PENDING = "PENDING", _("Pending")
    RETRYING = "RETRYING", _("Retrying")
    SUCCESS = "SUCCESS", _("Success")
    FAILED = "FAILED", _("Failed")  # nobody has said yet when it is tried again
    DEAD = "DEAD", _("Dead")


WAITING = [Status.PENDING, Status.RETRYING]
UNDELIVERED = [Status.FAILED, Status.DEAD]


def new_secret() -> str:
    """Of Standard Webhooks: 32 random bytes as base64."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def first_secret() -> list[dict[str, Any]]:
    return [{"value": new_secret(), "until": None}]


def check_url(url: str) -> None:
    """Raise `ValidationError` for what cannot, or must not, be sent to."""
    parsed = addresses.checked(url)
    try:
        check_literal(parsed.host)
    except Forbidden as error:
        raise ValidationError(str(error)) from error


class EndpointQuerySet(models.QuerySet["Endpoint"]):
    def collecting(self) -> "EndpointQuerySet":
        return self.exclude(state=State.DISABLED)

    def ready(self, at: datetime) -> "EndpointQuerySet":
        """Those to which something is due and may be sent."""
        due = Delivery.objects.due(at).filter(endpoint=models.OuterRef("pk"))
        return self.filter(
            models.Q(not_before=None) | models.Q(not_before__lte=at),
            models.Exists(due),
            state=State.ACTIVE,
        )


class Endpoint(models.Model):
    """Where events go to, and how it has answered lately."""

    name = models.CharField(_("name"), max_length=100)
    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices, default=Kind.WEBHOOK)
    url = models.CharField(_("URL"), max_length=1000, validators=[check_url])
    patterns = models.JSONField(
        _("events"),
        validators=[check_patterns],
        help_text=_(
            'Event types or their beginnings: ["broadcast.*", "link.expired"]; ["*"] is all.'
        ),
    )
    description = models.TextField(_("description"), blank=True)
    rate = models.PositiveIntegerField(
        _("rate"), null=True, blank=True, help_text=_("Most deliveries a second; empty: no limit.")
    )
    secrets = models.JSONField(_("secrets"), default=first_secret, editable=False)
    """Each `value` and, of those that were rotated out, `until` when it still signs."""
    state = models.CharField(
        _("state"), max_length=10, choices=State.choices, default=State.ACTIVE, editable=False
    )
    reason = models.CharField(_("reason"), max_length=300, blank=True, editable=False)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0, editable=False)
    failing_since = models.DateTimeField(_("failing since"), null=True, editable=False)
    not_before = models.DateTimeField(_("not before"), null=True, editable=False)
    """Nothing is sent earlier: its circuit is open, its rate is used up, or it asked to wait."""
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)

    objects = EndpointQuerySet.as_manager()

    class Meta:
        verbose_name = _("endpoint")
        verbose_name_plural = _("endpoints")
        ordering = ["name", "pk"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(rate=None) | models.Q(rate__gte=1),
                name="deliveries_rate_lets_something_through",
                violation_error_message=_("A rate is at least 1 a second."),
            )
        ]

    def __str__(self) -> str:
        return self.name

    def wants(self, event_type: str) -> bool:
        return wanted(self.patterns, event_type)

    @property
    def pace(self) -> int | None:
        """Most deliveries a second; of Discord, what a webhook of its may do in the long run."""
        return self.rate or (DISCORD_RATE if self.kind == Kind.DISCORD else None)

    def signing_secrets(self, at: datetime) -> list[str]:
        """The current one first, then those that were rotated out and still sign."""
        return [
            str(secret["value"])
            for secret in self.secrets
            if not (until := secret["until"]) or (parse_datetime(until) or at) > at
        ]

    @property
    def hint(self) -> str:
        """Enough of the current secret to know it by."""
        return f"{self.secrets[0]['value'][:10]}…"

    def circuit(self, at: datetime) -> str:
        """closed, open (nothing is sent for now) or half-open (one delivery at a time asks)."""
        if self.failures < TRIP:
            return "closed"
        return "open" if self.not_before and self.not_before > at else "half-open"


class Retry(models.Model):
    """What somebody sent once more, together; how far it is, its deliveries say."""

    what = models.CharField(_("what"), max_length=300)
    by = models.CharField(_("by"), max_length=150)
    count = models.PositiveIntegerField(_("deliveries"), default=0)
    created_at = models.DateTimeField(_("made"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("retry")
        verbose_name_plural = _("retries")
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.what


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def waiting(self) -> "DeliveryQuerySet":
        return self.filter(next_attempt_at__isnull=False)

    def due(self, at: datetime) -> "DeliveryQuerySet":
        return self.filter(next_attempt_at__lte=at)

    def undelivered(self) -> "DeliveryQuerySet":
        return self.filter(status__in=UNDELIVERED)


class Delivery(models.Model):
    """One event for one endpoint: the row is the queue."""

    endpoint = models.ForeignKey(
        Endpoint, models.CASCADE, related_name="deliveries", verbose_name=_("endpoint")
    )
    event_id = models.UUIDField(_("event id"))
    """Also the `webhook-id`: the same in each attempt, so that a receiver knows what it has."""
    type = models.CharField(_("type"), max_length=100)
    key = models.CharField(_("key"), max_length=200)
    body = models.TextField(_("body"))
    """The CloudEvents envelope as text, so that each attempt signs and sends the same bytes."""
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.PENDING
    )
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    forgiven = models.PositiveIntegerField(_("attempts that do not count"), default=0)
    """Answered by "wait" (429, 503), or made before an operator asked for another round."""
    next_attempt_at = models.DateTimeField(_("next attempt"), null=True, blank=True)
    """While it is being sent: when somebody else may take it, should its sender have died."""
    claimed_by = models.CharField(_("being sent by"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)
    completed_at = models.DateTimeField(_("completed"), null=True, blank=True)
    error = models.TextField(_("last error"), blank=True)
    retry = models.ForeignKey(
        Retry,
        models.SET_NULL,
        related_name="deliveries",
        verbose_name=_("retry"),
        null=True,
        blank=True,
        db_index=False,
    )
    """The last of those that it was part of."""

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint", "event_id"], name="deliveries_one_per_endpoint_and_event"
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=WAITING, next_attempt_at__isnull=False)
                | models.Q(~models.Q(status__in=WAITING), next_attempt_at=None),
                name="deliveries_what_waits_has_its_moment",
            ),
        ]
        indexes = [
            models.Index(
                fields=["endpoint", "next_attempt_at", "id"],
                name="deliveries_queue",
                condition=models.Q(next_attempt_at__isnull=False),
            ),
            models.Index(fields=["endpoint", "status", "completed_at"], name="deliveries_outcomes"),
            models.Index(fields=["status", "-id"], name="deliveries_status"),
            models.Index(fields=["created_at"], name="deliveries_created"),
            models.Index(
                fields=["retry", "status"],
                name="deliveries_of_retry",
                condition=models.Q(retry__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.key}"

    @property
    def counted(self) -> int:
        """Attempts that count against the retries."""
        return self.attempts - self.forgiven


class Attempt(models.Model):
    """One request and what came back; the body of the request is that of the delivery."""

    delivery = models.ForeignKey(Delivery, models.CASCADE, related_name="attempt_set")
    number = models.PositiveIntegerField(_("number"))
    started_at = models.DateTimeField(_("started"))
    duration_ms = models.PositiveIntegerField(_("duration (ms)"))
    url = models.CharField(_("URL"), max_length=1000)
    request_headers = models.JSONField(_("request headers"))
    status = models.PositiveSmallIntegerField(_("response status"), null=True)
    response_headers = models.JSONField(_("response headers"), default=dict)
    response_body = models.TextField(_("response body"), blank=True)
    error = models.TextField(_("error"), blank=True)
    succeeded = models.BooleanField(_("succeeded"))

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(
                fields=["delivery", "number"], name="deliveries_one_attempt_of_a_number"
            )
        ]

    def __str__(self) -> str:
        return f"#{self.number}: {self.status or self.error}"


class TallyQuerySet(models.QuerySet["Tally"]):
    def add(self, kind: str, **counts: float) -> None:
        """Holds the row until the transaction ends: the last thing that one does."""
        sums: dict[str, Any] = {name: models.F(name) + n for name, n in counts.items() if n}
        if sums and not self.filter(kind=kind).update(**sums):
            self.get_or_create(kind=kind)
            self.filter(kind=kind).update(**sums)


class Tally(models.Model):
    """All that was sent, counted beside the rows, so that deleting those takes nothing away."""

    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices, primary_key=True)
    delivered = models.PositiveBigIntegerField(_("delivered"), default=0)
    failed = models.PositiveBigIntegerField(_("failed"), default=0)
    dead = models.PositiveBigIntegerField(_("dead"), default=0)
    attempts_succeeded = models.PositiveBigIntegerField(_("attempts that succeeded"), default=0)
    attempts_failed = models.PositiveBigIntegerField(_("attempts that failed"), default=0)
    seconds_succeeded = models.FloatField(_("seconds of those that succeeded"), default=0)
    seconds_failed = models.FloatField(_("seconds of those that failed"), default=0)

    objects = TallyQuerySet.as_manager()

    class Meta:
        verbose_name = _("tally")
        verbose_name_plural = _("tallies")

    def __str__(self) -> str:
        return self.get_kind_display()
