"""Connectors and their tasks as Kafka Connect last told them; only services write these."""

from typing import Any

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class State(models.TextChoices):
    """Kafka Connect's own, and MISSING: it is known here and not in Connect."""

    RUNNING = "RUNNING", _("Running")
    FAILED = "FAILED", _("Failed")
    PAUSED = "PAUSED", _("Paused")
    UNASSIGNED = "UNASSIGNED", _("Unassigned")
    RESTARTING = "RESTARTING", _("Restarting")
    STOPPED = "STOPPED", _("Stopped")
    MISSING = "MISSING", _("Missing")


class Cluster(models.Model):
    """Kafka Connect itself: one row, once it was asked."""

    name = models.CharField(_("name"), max_length=10, primary_key=True, default="connect")
    checked_at = models.DateTimeField(_("asked"))
    answered_at = models.DateTimeField(_("answered"), null=True)
    error = models.CharField(_("error"), max_length=500, blank=True)
    note = models.CharField(_("declared connectors"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("Kafka Connect")
        verbose_name_plural = _("Kafka Connect")

    def __str__(self) -> str:
        return self.name


class Connector(models.Model):
    name = models.CharField(_("name"), max_length=249, unique=True)
    state = models.CharField(_("state"), max_length=12, choices=State.choices)
    worker_id = models.CharField(_("worker"), max_length=255, blank=True)
    trace = models.TextField(_("stack trace"), blank=True)
    since = models.DateTimeField(_("since"))
    seen_at = models.DateTimeField(_("last seen"), null=True)
    class_name = models.CharField(_("class"), max_length=255, blank=True)
    database = models.CharField(_("database"), max_length=255, blank=True)

    declared = models.BooleanField(_("declared"), default=False)
    applied = models.CharField(max_length=100, blank=True, editable=False)
    """Digests of what was declared, and of what Connect made of it: not the configuration."""

    problem = models.CharField(_("problem"), max_length=700, blank=True)
    problem_since = models.DateTimeField(_("problem since"), null=True)
    mendable = models.BooleanField(_("a restart may help"), default=True)
    restarts = models.PositiveSmallIntegerField(_("restarts in a row"), default=0)
    restarts_total = models.PositiveIntegerField(_("restarts"), default=0)
    restarted_at = models.DateTimeField(_("last restart"), null=True)
    next_restart_at = models.DateTimeField(_("not restarted before"), null=True)

    slot = models.CharField(_("replication slot"), max_length=64, blank=True)
    slot_active = models.BooleanField(_("slot is read"), null=True)
    slot_retained = models.BigIntegerField(_("WAL kept, bytes"), null=True)
    slot_lag = models.BigIntegerField(_("lag, bytes"), null=True)
    slot_note = models.CharField(_("about the slot"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("connector")
        verbose_name_plural = _("connectors")
        ordering = ["name"]
        permissions = [("steer_connector", "Can restart, pause and resume connectors")]

    def __str__(self) -> str:
        return self.name


class Task(models.Model):
    connector = models.ForeignKey(Connector, on_delete=models.CASCADE, related_name="tasks")
    number = models.PositiveSmallIntegerField(_("task"))
    state = models.CharField(_("state"), max_length=12, choices=State.choices)
    worker_id = models.CharField(_("worker"), max_length=255, blank=True)
    trace = models.TextField(_("stack trace"), blank=True)
    since = models.DateTimeField(_("since"))

    class Meta:
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(
                fields=["connector", "number"], name="operations_one_row_a_task"
            )
        ]

    def __str__(self) -> str:
        return f"{self.connector_id}-{self.number}"


class ConnectorChange(models.Model):
    """What happened to a connector: its states, what was done about it, and by whom."""

    connector = models.ForeignKey(Connector, on_delete=models.CASCADE, related_name="changes")
    task = models.PositiveSmallIntegerField(_("task"), null=True)
    at = models.DateTimeField(_("at"), db_default=Now(), db_index=True)
    what = models.CharField(_("what"), max_length=700)
    trace = models.TextField(_("stack trace"), blank=True)
    by = models.CharField(_("by"), max_length=150, blank=True)

    class Meta:
        verbose_name = _("change of a connector")
        verbose_name_plural = _("changes of connectors")
        ordering = ["-at", "-pk"]

    def __str__(self) -> str:
        return self.what


def tell(connector: Connector, what: object, **fields: Any) -> None:
    """Write it into the history."""
    ConnectorChange.objects.create(connector=connector, what=str(what)[:700], **fields)
