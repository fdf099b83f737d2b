import uuid
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from jobs import correlation, tracing


class Priority(models.IntegerChoices):
    LOW = 10, _("Low")
    NORMAL = 20, _("Normal")
    HIGH = 30, _("High")
    URGENT = 40, _("Urgent")


class EventQuerySet(models.QuerySet["Event"]):
    def pending(self) -> "EventQuerySet":
        """Not known to be published: what waits for a position, or for its mark."""
        # No priority is below 0; but SQLite looks up no side of an OR that compares nothing.
        waiting = models.Q(position=None, parked_at=None, priority__gte=0)
        return self.filter(waiting | _unmarked())

    def unmarked(self) -> "EventQuerySet":
        """Given a position by a relay, and not yet marked as published."""
        return self.filter(_unmarked())

    def published(self) -> "EventQuerySet":
        return self.filter(position__isnull=False, published_at__isnull=False)

    def parked(self) -> "EventQuerySet":
        # Without a position, which their index knows: else all of the log would be read.
        return self.filter(position=None, parked_at__isnull=False)

    def publishable(self, at: datetime) -> "EventQuerySet":
        """Due and without a position, except what an earlier event of its key holds back.

        Held back is what follows an event that failed (or is parked), and what would overtake an
        earlier event of its key by a higher priority: the order within a key is never changed.
        """
        ahead = Event.objects.filter(
            models.Q(attempts__gt=0) | models.Q(priority__lt=models.OuterRef("priority")),
            position=None,
            topic=models.OuterRef("topic"),
            key=models.OuterRef("key"),
            id__lt=models.OuterRef("id"),
        )
        return (
            self.filter(position=None, parked_at=None)
            .filter(models.Q(next_attempt_at=None) | models.Q(next_attempt_at__lte=at))
            .exclude(models.Exists(ahead))
            .order_by("-priority", "id")
        )


def _unmarked() -> models.Q:
    """Costs a query. These are the last positions, so that no index has to know of the mark."""
    marked = Event.objects.published().order_by("-position")
    last = marked.values_list("position", flat=True).first() or 0
    return models.Q(position__gt=last, published_at=None)


class Event(models.Model):
    """What happened, written in the transaction in which it happened; published by the relay."""

    event_id = models.UUIDField(_("event id"), default=uuid.uuid4, unique=True, editable=False)
    type = models.CharField(_("type"), max_length=100)
    topic = models.CharField(_("topic"), max_length=100)
    partition = models.PositiveSmallIntegerField(_("partition"), default=0)
    key = models.CharField(_("key"), max_length=200)
    data = models.JSONField(_("data"))
    channels = models.JSONField(_("channels"), default=list, blank=True)
    part = models.PositiveIntegerField(_("part"), default=0, db_default=0)
    """Of one fact told in several events, because an event holds only so many channels."""
    priority = models.PositiveSmallIntegerField(
        _("priority"), choices=Priority.choices, default=Priority.NORMAL
    )
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)
    position = models.BigIntegerField(_("position"), null=True, blank=True)
    published_at = models.DateTimeField(_("published"), null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    next_attempt_at = models.DateTimeField(_("next attempt"), null=True, blank=True)
    parked_at = models.DateTimeField(_("parked"), null=True, blank=True)
    error = models.TextField(_("error"), blank=True)
    correlation_id = models.CharField(
        _("correlation id"),
        max_length=correlation.LENGTH,
        default=correlation.inherited_id,
        blank=True,
        editable=False,
    )
    """Of the request, the run or the event that set it off."""
    traceparent = models.CharField(
        _("trace"),
        max_length=tracing.LENGTH,
        default=tracing.traceparent,
        blank=True,
        editable=False,
    )
    """W3C: the span in which it was written; empty without tracing."""

    objects = EventQuerySet.as_manager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["-id"]
        # None names `published_at`, not even in a condition: then PostgreSQL can mark an event in
        # its page (a heap-only update) without a write to each index.
        indexes = [
            models.Index(
                fields=["-priority", "id"],
                name="outbox_event_pending",
                condition=models.Q(position=None, parked_at=None),
            ),
            models.Index(
                fields=["topic", "key", "id"],
                name="outbox_event_unpublished_key",
                condition=models.Q(position=None),
            ),
            models.Index(fields=["topic", "position"], name="outbox_event_log"),
            models.Index(fields=["type", "-id"], name="outbox_event_type"),
            models.Index(  # for the page of a broadcast
                fields=["key"],
                name="outbox_event_publication",
                condition=models.Q(type__in=["broadcast.activated", "broadcast.sent"]),
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["position"],
                name="outbox_event_position",
                # Else SQLite would look in it for what has none, instead of in the indexes above.
                condition=models.Q(position__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.key}"

    @property
    def lane(self) -> tuple[str, str]:
        """Whose order is kept."""
        return self.topic, self.key

    def envelope(self) -> dict[str, Any]:
        """CloudEvents 1.0 in its JSON format; the extension `sequence` is the position.

        The extension `part` stands in those that say again, to others, what the first one said;
        `correlationid` and `traceparent` in those of which they are known.
        """
        extensions = {
            "part": str(self.part) if self.part else "",
            "correlationid": self.correlation_id,
            "traceparent": self.traceparent,
        }
        return {name: value for name, value in extensions.items() if value} | {
            "specversion": "1.0",
            "id": str(self.event_id),
            "source": settings.EVENT_SOURCE,
            "type": self.type,
            "subject": self.key,
            "time": self.created_at.isoformat(),
            "datacontenttype": "application/json",
            "sequence": str(self.position),
            "data": self.data,
        }


class LeaderLease(models.Model):
    """Who leads, and the last position given: one row, so that one UPDATE checks and allocates."""

    name = models.CharField(_("name"), max_length=50, primary_key=True)
    holder = models.CharField(_("holder"), max_length=200, blank=True)
    token = models.PositiveBigIntegerField(_("fencing token"), default=0)
    since = models.DateTimeField(_("since"), null=True, blank=True)
    until = models.DateTimeField(_("until"), null=True, blank=True)
    position = models.BigIntegerField(_("position"), default=0)

    class Meta:
        verbose_name = _("leader lease")
        verbose_name_plural = _("leader leases")

    def __str__(self) -> str:
        return self.name


class ConsumerOffset(models.Model):
    """How far a consumer group has read a partition of a topic of the `DatabaseLog`."""

    group = models.CharField(_("group"), max_length=100)
    topic = models.CharField(_("topic"), max_length=100)
    partition = models.PositiveSmallIntegerField(_("partition"), default=0)
    offset = models.BigIntegerField(_("offset"), default=0)

    class Meta:
        verbose_name = _("consumer offset")
        verbose_name_plural = _("consumer offsets")
        constraints = [
            models.UniqueConstraint(
                fields=["group", "topic", "partition"], name="outbox_one_offset_per_partition"
            )
        ]

    def __str__(self) -> str:
        return f"{self.group} {self.topic}/{self.partition}"


class DeadLetter(models.Model):
    """An event that could not be published (source `relay`) or consumed (source: the group)."""

    RELAY = "relay"

    source = models.CharField(_("source"), max_length=100)
    event_id = models.UUIDField(_("event id"))
    type = models.CharField(_("type"), max_length=100)
    topic = models.CharField(_("topic"), max_length=100)
    partition = models.PositiveSmallIntegerField(_("partition"), default=0)
    position = models.BigIntegerField(_("position"), null=True, blank=True)
    key = models.CharField(_("key"), max_length=200)
    payload = models.JSONField(_("payload"))
    error = models.TextField(_("error"))
    traceback = models.TextField(_("stack trace"), blank=True)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=1)
    failed_at = models.DateTimeField(_("failed"), db_default=Now())

    class Meta:
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")
        ordering = ["-failed_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["source", "event_id"], name="outbox_one_dead_letter_per_source"
            )
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.key}"
