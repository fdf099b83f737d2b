from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from operations.audit.models import AuditEntry, Forgetting
from operations.debezium.models import Cluster, Connector, ConnectorChange, Task
from operations.keys.models import ApiKey, ApiKeyUsage, UsageBatch

__all__ = [
    "OF_CONNECTORS",
    "OF_JOBS",
    "Alert",
    "AlertQuerySet",
    "ApiKey",
    "ApiKeyUsage",
    "AuditEntry",
    "Backlog",
    "Cluster",
    "Connector",
    "ConnectorChange",
    "Forgetting",
    "Kind",
    "Task",
    "UsageBatch",
]


class Kind(models.TextChoices):
    OVERDUE = "OVERDUE", _("Overdue")
    FAILING = "FAILING", _("Failing")
    BACKLOG = "BACKLOG", _("Growing backlog")
    ENDPOINT = "ENDPOINT", _("Endpoint disabled")
    CONNECTOR = "CONNECTOR", _("Connector down")
    CONNECT = "CONNECT", _("Kafka Connect away")
    WAL = "WAL", _("WAL piles up")


OF_JOBS = [Kind.OVERDUE, Kind.FAILING, Kind.BACKLOG]
OF_CONNECTORS = [Kind.CONNECTOR, Kind.CONNECT, Kind.WAL]


class AlertQuerySet(models.QuerySet["Alert"]):
    def open(self) -> "AlertQuerySet":
        return self.filter(resolved_at=None)

    def resolved(self) -> "AlertQuerySet":
        return self.filter(resolved_at__isnull=False)


class Alert(models.Model):
    """Something that operators should look at, from when it was noticed until it was gone."""

    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    subject = models.CharField(_("subject"), max_length=100)
    message = models.CharField(_("message"), max_length=700)
    raised_at = models.DateTimeField(_("raised"), db_default=Now(), editable=False)
    resolved_at = models.DateTimeField(_("resolved"), null=True, blank=True)

    objects = AlertQuerySet.as_manager()

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        ordering = [models.F("resolved_at").desc(nulls_first=True), "-raised_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject"],
                condition=models.Q(resolved_at=None),
                name="operations_one_open_alert",
                violation_error_message=_("There is such an open alert already."),
            )
        ]

    def __str__(self) -> str:
        return f"{self.subject}: {self.get_kind_display()}"


class Backlog(models.Model):
    """What waited for a job when it was last looked at, and how often in a row it had grown."""

    job = models.CharField(_("job"), max_length=100, primary_key=True)
    count = models.PositiveBigIntegerField(_("count"))
    grown = models.PositiveSmallIntegerField(_("times grown"), default=0)

    class Meta:
        verbose_name = _("backlog")
        verbose_name_plural = _("backlogs")

    def __str__(self) -> str:
        return self.job
