"""API keys, what they were used for by day, and the batches in which their use is counted."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from operations.keys.scopes import Scope


class State(models.TextChoices):
    ACTIVE = "ACTIVE", _("Active")
    EXPIRED = "EXPIRED", _("Expired")
    DISABLED = "DISABLED", _("Disabled")


def check_scopes(scopes: Any) -> None:
    """Raise `ValidationError` unless it is a list of scopes, each once."""
    if not isinstance(scopes, list) or not scopes:
        raise ValidationError(_("Choose at least one scope: a key without any opens nothing."))
    wrong = [str(scope) for scope in scopes if scope not in Scope.values]
    if wrong or len(set(scopes)) < len(scopes):
        message = _("Scopes are %(scopes)s, each at most once; not %(wrong)s.")
        names = {"scopes": ", ".join(Scope.values), "wrong": ", ".join(wrong or scopes)}
        raise ValidationError(message % names)


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def in_state(self, state: str, at: datetime) -> "ApiKeyQuerySet":
        expired = models.Q(expires_at__lte=at)
        if state == State.EXPIRED:
            return self.filter(expired)
        return self.filter(~expired, enabled=state == State.ACTIVE)

    def expired(self, at: datetime) -> "ApiKeyQuerySet":
        """Still enabled, though over."""
        return self.filter(enabled=True, expires_at__lte=at)

    def overlapped(self, at: datetime) -> "ApiKeyQuerySet":
        """Those whose secret before the rotation has ended."""
        return self.filter(old_until__lte=at)


class ApiKey(models.Model):
    """Lets a program act as its owner, as far as the scopes go."""

    key_id = models.CharField(_("key"), max_length=19, unique=True, editable=False)
    name = models.CharField(_("name"), max_length=100)
    description = models.TextField(_("description"), blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("owner"),
        on_delete=models.CASCADE,
        related_name="api_keys",
        help_text=_("The key acts as this person, as far as its scopes go."),
    )
    scopes = models.JSONField(_("scopes"), validators=[check_scopes])
    digest = models.CharField(max_length=64, editable=False)
    old_digest = models.CharField(max_length=64, editable=False, blank=True)
    old_until = models.DateTimeField(_("old secret works until"), null=True, editable=False)
    enabled = models.BooleanField(_("enabled"), default=True, editable=False)
    reason = models.CharField(_("reason"), max_length=200, blank=True, editable=False)
    expires_at = models.DateTimeField(
        _("expires"), null=True, blank=True, help_text=_("Empty: never.")
    )
    limit_minute = models.PositiveIntegerField(_("requests a minute"), null=True, blank=True)
    limit_hour = models.PositiveIntegerField(_("requests an hour"), null=True, blank=True)
    limit_day = models.PositiveIntegerField(_("requests a day"), null=True, blank=True)
    created_at = models.DateTimeField(_("made"), db_default=Now(), editable=False)
    last_used_at = models.DateTimeField(_("last used"), null=True, editable=False)
    succeeded = models.PositiveBigIntegerField(_("succeeded"), default=0, editable=False)
    failed_4xx = models.PositiveBigIntegerField(_("failed 4xx"), default=0, editable=False)
    failed_5xx = models.PositiveBigIntegerField(_("failed 5xx"), default=0, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["expires_at"],
                name="operations_key_expiry",
                condition=models.Q(enabled=True, expires_at__isnull=False),
            ),
            models.Index(
                fields=["old_until"],
                name="operations_key_overlap",
                condition=models.Q(old_until__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def total(self) -> int:
        return self.succeeded + self.failed_4xx + self.failed_5xx

    def state(self, at: datetime) -> State:
        """Expired, whether or not the job has disabled it for that."""
        if self.expires_at is not None and self.expires_at <= at:
            return State.EXPIRED
        return State.ACTIVE if self.enabled else State.DISABLED


class ApiKeyUsage(models.Model):
    """What a key was used for on one day of UTC."""

    key = models.ForeignKey(
        ApiKey, verbose_name=_("API key"), on_delete=models.CASCADE, related_name="usage"
    )
    day = models.DateField(_("day"))
    succeeded = models.PositiveBigIntegerField(_("succeeded"), default=0)
    failed_4xx = models.PositiveBigIntegerField(_("failed 4xx"), default=0)
    failed_5xx = models.PositiveBigIntegerField(_("failed 5xx"), default=0)

    class Meta:
        verbose_name = _("usage of an API key")
        verbose_name_plural = _("usage of API keys")
        ordering = ["-day", "key"]
        constraints = [
            models.UniqueConstraint(fields=["key", "day"], name="operations_one_usage_a_day")
        ]

    def __str__(self) -> str:
        return f"{self.key_id} {self.day}"

    @property
    def total(self) -> int:
        return self.succeeded + self.failed_4xx + self.failed_5xx


class UsageBatchQuerySet(models.QuerySet["UsageBatch"]):
    def waiting(self) -> "UsageBatchQuerySet":
        return self.filter(applied_at=None)

    def written(self, batches: Iterable["UsageBatch"]) -> None:
        """Each once, however often it is said: its id tells."""
        self.bulk_create(batches, ignore_conflicts=True, batch_size=100)


class UsageBatch(models.Model):
    """Uses that were counted together. It is kept a while after it was applied, so that whoever
    died, or lost the connection, in the middle of handing it over may hand it over again."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    counts = models.JSONField(_("counts"))
    created_at = models.DateTimeField(_("made"), db_default=Now())
    applied_at = models.DateTimeField(_("applied"), null=True)

    objects = UsageBatchQuerySet.as_manager()

    class Meta:
        verbose_name = _("batch of uses")
        verbose_name_plural = _("batches of uses")
        indexes = [
            models.Index(
                fields=["created_at"],
                name="operations_usage_waiting",
                condition=models.Q(applied_at=None),
            ),
            models.Index(
                fields=["applied_at"],
                name="operations_usage_applied",
                condition=models.Q(applied_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)
