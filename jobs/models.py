from datetime import timedelta

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from jobs.registry import PeriodicJob, periodic_jobs


class Job(models.Model):
    """The state of a periodic job for all nodes; its lease is the row."""

    name = models.CharField(_("name"), max_length=100, primary_key=True)
    paused_at = models.DateTimeField(_("paused"), null=True, blank=True)
    requested_at = models.DateTimeField(_("run requested"), null=True, blank=True)
    last_slot = models.DateTimeField(_("last slot"), null=True, blank=True)
    holder = models.CharField(_("holder"), max_length=200, blank=True)
    token = models.PositiveBigIntegerField(_("fencing token"), default=0)
    since = models.DateTimeField(_("since"), null=True, blank=True)
    until = models.DateTimeField(_("until"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)
    # Since the job exists: runs are deleted after a while, and a counter must never go down.
    runs_succeeded = models.PositiveBigIntegerField(_("succeeded"), default=0, editable=False)
    runs_failed = models.PositiveBigIntegerField(_("failed"), default=0, editable=False)
    runs_lost = models.PositiveBigIntegerField(_("lost"), default=0, editable=False)
    runs_missed = models.PositiveBigIntegerField(_("missed"), default=0, editable=False)
    items_done = models.PositiveBigIntegerField(_("items"), default=0, editable=False)
    items_failed = models.PositiveBigIntegerField(_("failed items"), default=0, editable=False)
    items_skipped = models.PositiveBigIntegerField(_("skipped items"), default=0, editable=False)
    seconds_run = models.FloatField(_("seconds run"), default=0, editable=False)
    seconds_of_last_run = models.FloatField(_("seconds of the last run"), null=True, editable=False)
    last_success_at = models.DateTimeField(_("last success"), null=True, editable=False)

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        ordering = ["name"]
        permissions = [("steer_job", "Can run, pause and release jobs")]

    def __str__(self) -> str:
        return self.name

    @property
    def declared(self) -> PeriodicJob | None:
        """What the code says of it; None for a job that the code no longer has."""
        return periodic_jobs.get(self.name)


class RunStatus(models.TextChoices):
    RUNNING = "RUNNING", _("Running")
    SUCCEEDED = "SUCCEEDED", _("Succeeded")
    FAILED = "FAILED", _("Failed")
    LOST = "LOST", _("Lost")
    MISSED = "MISSED", _("Missed")


class Run(models.Model):
    """What became of one slot of a job. Unique: a slot runs once, whatever clocks say."""

    job = models.ForeignKey(
        Job, verbose_name=_("job"), on_delete=models.CASCADE, related_name="runs"
    )
    slot = models.DateTimeField(_("slot"))
    status = models.CharField(_("status"), max_length=10, choices=RunStatus.choices)
    node = models.CharField(_("node"), max_length=200, blank=True)
    token = models.PositiveBigIntegerField(_("fencing token"), default=0)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    items = models.PositiveIntegerField(_("items"), default=0)
    failed_items = models.PositiveIntegerField(_("failed items"), default=0)
    skipped_items = models.PositiveIntegerField(_("skipped items"), default=0)
    reason = models.CharField(_("reason"), max_length=300, blank=True)
    error = models.CharField(_("error"), max_length=500, blank=True)
    traceback = models.TextField(_("traceback"), blank=True)

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        ordering = ["-slot"]
        constraints = [
            models.UniqueConstraint(fields=["job", "slot"], name="jobs_one_run_per_slot"),
            models.UniqueConstraint(
                fields=["job"],
                condition=models.Q(status=RunStatus.RUNNING),
                name="jobs_one_run_at_a_time",
            ),
        ]
        indexes = [
            models.Index(fields=["job", "-slot"], name="jobs_run_history"),
            models.Index(fields=["-slot"], name="jobs_run_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.job_id} {self.slot:%Y-%m-%d %H:%M:%S}"

    @property
    def duration(self) -> timedelta | None:
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at
