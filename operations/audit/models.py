"""Who did what, when, from where. Rows are written once: the database itself refuses the rest."""

from datetime import datetime
from typing import Any, Never

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Door(models.TextChoices):
    ADMIN = "admin", _("Admin")
    API = "api", _("API")
    PAGE = "page", _("Page")
    STREAM = "stream", _("Stream")
    COMMAND = "command", _("Command")
    JOB = "job", _("Job")


class AppendOnly(TypeError):
    """Entries are neither changed nor deleted; AUDIT_RETENTION deletes what is old."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class AuditEntryQuerySet(models.QuerySet["AuditEntry"]):
    def before(self, moment: datetime) -> "AuditEntryQuerySet":
        return self.filter(at__lt=moment)

    def update(self, **kwargs: Any) -> Never:
        raise AppendOnly

    def bulk_update(self, *args: Any, **kwargs: Any) -> Never:
        raise AppendOnly

    def delete(self) -> Never:
        raise AppendOnly

    def forget(self, moment: datetime) -> int:
        """Delete those of this queryset, which lie before `moment`; how many.

        Declared in the same transaction: the triggers let go what lies before it, and no more.
        """
        with transaction.atomic():
            Forgetting.objects.create(before=moment)
            deleted, _rows = super().delete()
            Forgetting.objects.all().delete()
        return deleted


class AuditEntry(models.Model):
    """One thing that a person did. It names people and subjects as they were called then."""

    at = models.DateTimeField(_("when"), db_default=Now(), db_index=True)
    action = models.CharField(_("action"), max_length=60)
    door = models.CharField(_("door"), max_length=10, choices=Door.choices)
    # No foreign key: who is deleted has done it all the same.
    user_id = models.BigIntegerField(_("account"), null=True)
    person = models.CharField(_("person"), max_length=150, blank=True)
    via = models.CharField(_("through"), max_length=200, blank=True)
    address = models.CharField(_("address"), max_length=100, blank=True)
    subject_type = models.CharField(_("kind"), max_length=100, blank=True)
    subject_id = models.CharField(_("key"), max_length=100, blank=True)
    subject = models.CharField(_("subject"), max_length=200, blank=True)
    detail = models.JSONField(_("detail"), default=dict, encoder=DjangoJSONEncoder)
    correlation_id = models.CharField(_("correlation id"), max_length=64, blank=True)

    objects = AuditEntryQuerySet.as_manager()

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit")
        ordering = ["-id"]
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["action", "-id"], name="operations_audit_action"),
            models.Index(fields=["person", "-id"], name="operations_audit_person"),
            models.Index(fields=["user_id", "-id"], name="operations_audit_account"),
            models.Index(
                fields=["subject_type", "subject_id", "-id"], name="operations_audit_subject"
            ),
            models.Index(fields=["correlation_id"], name="operations_audit_correlation"),
        ]

    def __str__(self) -> str:
        return f"{self.action}: {self.subject}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnly
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Never:
        raise AppendOnly


class Forgetting(models.Model):
    """Up to when AUDIT_RETENTION deletes; there only while it does."""

    before = models.DateTimeField(_("before"))

    class Meta:
        verbose_name = _("forgetting")
        verbose_name_plural = _("forgettings")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.before}"
