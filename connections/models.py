import uuid
from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class NodeQuerySet(models.QuerySet["Node"]):
    def living(self, since: datetime) -> "NodeQuerySet":
        return self.filter(stopped_at=None, last_heartbeat__gte=since)


class Node(models.Model):
    """A web process: it holds streams and says every heartbeat that it lives."""

    name = models.CharField(_("name"), max_length=200, unique=True)
    started_at = models.DateTimeField(_("started"), db_default=Now())
    last_heartbeat = models.DateTimeField(_("last heartbeat"), db_default=Now())
    stopped_at = models.DateTimeField(_("stopped"), null=True, blank=True)

    objects = NodeQuerySet.as_manager()

    class Meta:
        verbose_name = _("node")
        verbose_name_plural = _("nodes")

    def __str__(self) -> str:
        return self.name


class ConnectionStatus(models.TextChoices):
    ACTIVE = "ACTIVE", _("Active")
    INACTIVE = "INACTIVE", _("Inactive")


class ConnectionQuerySet(models.QuerySet["Connection"]):
    def active(self) -> "ConnectionQuerySet":
        return self.filter(status=ConnectionStatus.ACTIVE)

    def stale(self, since: datetime) -> "ConnectionQuerySet":
        """Active by their row, but without a heartbeat since then."""
        return self.active().filter(last_heartbeat__lt=since)

    def end(self, reason: str) -> int:
        """Of those that are active, how many."""
        return self.active().update(
            status=ConnectionStatus.INACTIVE, disconnected_at=Now(), reason=reason[:100]
        )


class Connection(models.Model):
    """One open stream of one person."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        related_name="connections",
    )
    node = models.CharField(_("node"), max_length=200)
    channels = models.JSONField(_("channels"), default=list)
    address = models.CharField(_("address"), max_length=100, blank=True)
    user_agent = models.CharField(_("user agent"), max_length=300, blank=True)
    api_key = models.CharField(
        _("API key"),
        max_length=40,
        blank=True,
        default="",
        db_default="",  # for processes of the version before, while they run beside this one
    )
    status = models.CharField(
        _("status"),
        max_length=10,
        choices=ConnectionStatus.choices,
        default=ConnectionStatus.ACTIVE,
    )
    connected_at = models.DateTimeField(_("connected"), db_default=Now())
    last_heartbeat = models.DateTimeField(_("last heartbeat"), db_default=Now())
    last_activity = models.DateTimeField(_("last activity"), db_default=Now())
    disconnected_at = models.DateTimeField(_("disconnected"), null=True, blank=True)
    reason = models.CharField(_("reason"), max_length=100, blank=True)

    objects = ConnectionQuerySet.as_manager()

    class Meta:
        verbose_name = _("connection")
        verbose_name_plural = _("connections")
        ordering = ["-connected_at"]
        permissions = [("issue_token", _("Can issue stream tokens for others"))]
        indexes = [
            models.Index(
                fields=["user"],
                name="connections_active_user",
                condition=models.Q(status=ConnectionStatus.ACTIVE),
            ),
            models.Index(
                fields=["node", "last_heartbeat"],
                name="connections_active_node",
                condition=models.Q(status=ConnectionStatus.ACTIVE),
            ),
            models.Index(
                fields=["disconnected_at"],
                name="connections_inactive",
                condition=models.Q(status=ConnectionStatus.INACTIVE),
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)
