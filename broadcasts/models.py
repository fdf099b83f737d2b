import uuid
from datetime import datetime, time, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection, connections, models
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from broadcasts.languages import LONGEST_TAG, Translated
from broadcasts.quiet import EVERY_DAY, ZONES, QuietHours, Window, next_moment, zone_of
from jobs import correlation, tracing
from outbox.models import Priority

PASSED = timedelta(minutes=5)  # for clients to say that they showed what left, or is in no inbox


class Status(models.TextChoices):
    DRAFT = "DRAFT", _("Draft")
    SCHEDULED = "SCHEDULED", _("Scheduled")
    IN_PROGRESS = "IN_PROGRESS", _("In progress")
    ACTIVE = "ACTIVE", _("Active")
    SENT = "SENT", _("Sent")
    EXPIRED = "EXPIRED", _("Expired")
    CANCELLED = "CANCELLED", _("Cancelled")
    FAILED = "FAILED", _("Failed")


class Audience(models.TextChoices):
    ALL = "ALL", _("Everyone")
    ROLE = "ROLE", _("Roles")
    PRODUCT = "PRODUCT", _("Products")
    SELECTED = "SELECTED", _("Selected people")


class Approval(models.TextChoices):
    """Whether a second person agreed to what a draft says now; a change of it begins anew."""

    NONE = "NONE", _("Not asked for")
    REQUESTED = "REQUESTED", _("Waits for approval")
    APPROVED = "APPROVED", _("Approved")
    REJECTED = "REJECTED", _("Rejected")


class ProductManager(models.Manager["Product"]):
    def get_by_natural_key(self, slug: str) -> "Product":
        return self.get(slug=slug)


class Product(models.Model):
    """What people subscribe to; the default directory knows who does."""

    slug = models.SlugField(_("slug"), max_length=100, unique=True)
    name = models.CharField(_("name"), max_length=200)
    subscribers = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        verbose_name=_("subscribers"),
        related_name="products",
        blank=True,
    )

    objects = ProductManager()

    class Meta:
        verbose_name = _("product")
        verbose_name_plural = _("products")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def natural_key(self) -> tuple[str]:
        return (self.slug,)


class JSONLength(models.Func):
    """How many items a JSON list has, without fetching it."""

    function = "JSON_ARRAY_LENGTH"
    output_field = models.IntegerField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, function="JSONB_ARRAY_LENGTH", **context)


class BroadcastQuerySet(models.QuerySet["Broadcast"]):
    def due(self, at: datetime | Now) -> "BroadcastQuerySet":
        """Scheduled and at their moment (or past it), unless a failed attempt waits."""
        return self.filter(status=Status.SCHEDULED, scheduled_at__lte=at).filter(
            models.Q(next_attempt_at=None) | models.Q(next_attempt_at__lte=at)
        )

    def awaiting_approval(self) -> "BroadcastQuerySet":
        return self.filter(status=Status.DRAFT, approval=Approval.REQUESTED)

    def in_progress(self) -> "BroadcastQuerySet":
        return self.filter(status=Status.IN_PROGRESS)

    def resumable(self, at: datetime) -> "BroadcastQuerySet":
        """Being prepared, unless a failed attempt waits."""
        return self.in_progress().filter(
            models.Q(next_attempt_at=None) | models.Q(next_attempt_at__lte=at)
        )

    def overdue(self, at: datetime | Now) -> "BroadcastQuerySet":
        """Not over yet although their expiry has passed."""
        return self.filter(
            status__in=[Status.SCHEDULED, Status.IN_PROGRESS, Status.ACTIVE], expires_at__lte=at
        )

    def visible(self, at: datetime | Now) -> "BroadcastQuerySet":
        """In inboxes: active, and not past an expiry that the job has yet to notice."""
        return self.filter(status=Status.ACTIVE).filter(
            models.Q(expires_at=None) | models.Q(expires_at__gt=at)
        )

    def lately_shown(self, at: datetime) -> "BroadcastQuerySet":
        """What clients may say they showed: active, or over so lately that they may not know."""
        lately = at - PASSED
        ended = models.Q(status__in=[Status.EXPIRED, Status.CANCELLED], finished_at__gt=lately)
        return self.filter(
            models.Q(status=Status.ACTIVE)
            | models.Q(status=Status.SENT, expires_at__gt=lately)
            | (ended & models.Q(activated_at__isnull=False))
        )

    def passed(self, at: datetime) -> "BroadcastQuerySet":
        """Sent to who was connected, reaching nobody any more, and not settled yet."""
        return self.filter(status=Status.SENT, finished_at=None, expires_at__lte=at - PASSED)

    def with_target_count(self) -> "BroadcastQuerySet":
        """Annotated with `target_count`; the targets themselves may be 100,000 and stay behind."""
        return self.annotate(target_count=JSONLength("targets")).defer("targets")

    def addressed_to(self, user_id: int, channels: list[str]) -> "BroadcastQuerySet":
        """By one of the channels, or by name."""
        by_channel = Address.objects.filter(channel__in=channels).values("broadcast_id")
        by_name = Receipt.objects.filter(
            user_id=user_id, broadcast__audience=Audience.SELECTED
        ).values("broadcast_id")
        return self.filter(models.Q(id__in=by_channel) | models.Q(id__in=by_name))

    def with_receipt_of(self, user_id: int) -> "models.QuerySet[Any]":
        """Annotated with the person's stamps: `seen_at`, `read_at`, `acknowledged_at`, …"""
        mine = models.FilteredRelation("receipts", condition=models.Q(receipts__user_id=user_id))
        return self.annotate(
            mine=mine,
            seen_at=models.F("mine__seen_at"),
            read_at=models.F("mine__read_at"),
            acknowledged_at=models.F("mine__acknowledged_at"),
            dismissed_at=models.F("mine__dismissed_at"),
        )

    def inbox(
        self, user_id: int, channels: list[str], at: datetime | Now
    ) -> "models.QuerySet[Any]":
        """What the person sees, without an order."""
        return (
            self.visible(at)
            .addressed_to(user_id, channels)
            .with_receipt_of(user_id)
            .filter(dismissed_at=None)
        )


class Composition(Translated):
    """What an operator composes: a broadcast, or the pattern of those that a series makes."""

    category = models.CharField(_("category"), max_length=100, blank=True)
    priority = models.PositiveSmallIntegerField(
        _("priority"), choices=Priority.choices, default=Priority.NORMAL
    )
    reference = models.CharField(
        _("reference"), max_length=500, blank=True, help_text=_("Ticket, CVE, change number.")
    )
    audience = models.CharField(
        _("audience"), max_length=10, choices=Audience.choices, default=Audience.ALL
    )
    targets = models.JSONField(
        _("targets"),
        default=list,
        blank=True,
        help_text=_("Role names, product slugs or user ids; empty for everyone."),
    )
    fire_and_forget = models.BooleanField(
        _("fire and forget"),
        default=False,
        help_text=_("Shown to who is connected now, kept in no inbox."),
    )
    force_logoff = models.BooleanField(
        _("force logoff"),
        default=False,
        help_text=_("Signs the addressed people out; only with fire and forget."),
    )
    requires_acknowledgement = models.BooleanField(
        _("requires acknowledgement"),
        default=False,
        db_default=False,  # for processes of the version before, while they run beside this one
        help_text=_("Its readers are asked to acknowledge it, and cannot dismiss it before."),
    )

    class Meta:
        abstract = True

    def problems(self) -> dict[str, str]:
        problems = super().problems()
        if not isinstance(self.targets, list) or not all(
            isinstance(target, str) for target in self.targets
        ):
            problems["targets"] = str(_("Targets must be a list of strings."))
        elif self.audience == Audience.ALL and self.targets:
            problems["targets"] = str(_("Everyone needs no targets: leave them empty."))
        elif self.audience != Audience.ALL and not self.targets:
            problems["targets"] = str(_("Name at least one target, or choose everyone."))
        elif len(set(self.targets)) < len(self.targets):
            problems["targets"] = str(_("Each target may be named once."))
        return problems

    def clean(self) -> None:
        if problems := self.problems():
            raise ValidationError(dict[str, Any](problems))


class Broadcast(Composition):
    scheduled_at = models.DateTimeField(
        _("scheduled at"), null=True, blank=True, help_text=_("Empty or past means now.")
    )
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)

    shorten_links = models.BooleanField(
        _("shorten links"),
        default=False,
        db_default=False,
        help_text=_("When it is sent, so that its page shows who clicked."),
    )

    status = models.CharField(
        _("status"), max_length=20, choices=Status.choices, default=Status.DRAFT, editable=False
    )
    sender = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("sender"),
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="broadcasts_sent",
    )
    sender_name = models.CharField(_("sender name"), max_length=200, blank=True, editable=False)
    series = models.ForeignKey(
        "broadcasts.Series",
        verbose_name=_("series"),
        on_delete=models.PROTECT,
        null=True,
        editable=False,
        related_name="broadcasts",
        db_index=False,  # its unique constraint begins with it
    )
    occurrence = models.DateTimeField(_("occurrence"), null=True, editable=False)
    external_id = models.CharField(
        _("external id"), max_length=200, null=True, blank=True, unique=True, editable=False
    )
    correlation_id = models.UUIDField(
        _("correlation id"), default=uuid.uuid4, editable=False, db_index=True
    )
    """Its name among clients, the same in all that they are told of it."""
    caused_by = models.CharField(
        _("set off by"),
        max_length=correlation.LENGTH,
        default=correlation.inherited_id,
        db_default="",
        blank=True,
        editable=False,
    )
    """The correlation id of who sent it: what its clock does later belongs to that."""
    traceparent = models.CharField(
        _("trace"),
        max_length=tracing.LENGTH,
        default=tracing.traceparent,
        db_default="",
        blank=True,
        editable=False,
    )
    is_test = models.BooleanField(  # of an operator, to nobody but themselves
        _("test"), default=False, db_default=False, editable=False
    )
    targeted = models.PositiveIntegerField(_("targeted"), null=True, editable=False)
    progress = models.PositiveIntegerField(_("prepared recipients"), default=0, editable=False)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0, editable=False)
    next_attempt_at = models.DateTimeField(_("next attempt"), null=True, editable=False)
    last_error = models.TextField(_("last error"), blank=True, editable=False)
    cancel_reason = models.CharField(_("cancel reason"), max_length=500, blank=True, editable=False)
    activated_at = models.DateTimeField(_("activated at"), null=True, editable=False)
    finished_at = models.DateTimeField(_("finished at"), null=True, editable=False)
    reminded_at = models.DateTimeField(_("reminded at"), null=True, editable=False)
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)
    version = models.PositiveIntegerField(_("version"), default=1, db_default=1, editable=False)
    edited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("edited by"),
        on_delete=models.SET_NULL,
        null=True,
        editable=False,
        related_name="+",
    )
    approval = models.CharField(
        _("approval"),
        max_length=10,
        choices=Approval.choices,
        default=Approval.NONE,
        db_default=Approval.NONE,
        editable=False,
    )

    objects = BroadcastQuerySet.as_manager()

    class Meta:
        verbose_name = _("broadcast")
        verbose_name_plural = _("broadcasts")
        ordering = ["-id"]
        permissions = [
            ("send_broadcast", "Can send, schedule and cancel broadcasts"),
            ("approve_broadcast", "Can approve and reject broadcasts of others"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(expires_at=None)
                | models.Q(scheduled_at=None)
                | models.Q(expires_at__gt=models.F("scheduled_at")),
                name="broadcasts_expiry_after_schedule",
                violation_error_message=_("The expiry must lie after the scheduled moment."),
            ),
            models.CheckConstraint(
                condition=models.Q(force_logoff=False) | models.Q(fire_and_forget=True),
                name="broadcasts_logoff_is_fire_and_forget",
                violation_error_message=_("Force logoff needs fire and forget."),
            ),
            models.CheckConstraint(
                condition=models.Q(requires_acknowledgement=False)
                | models.Q(fire_and_forget=False),
                name="broadcasts_acknowledgement_needs_inbox",
                violation_error_message=_(
                    "What is kept in no inbox cannot be acknowledged: choose either fire and "
                    "forget or acknowledgement."
                ),
            ),
            models.CheckConstraint(
                condition=~models.Q(status=Status.SCHEDULED) | models.Q(scheduled_at__isnull=False),
                name="broadcasts_scheduled_has_moment",
                violation_error_message=_("A scheduled broadcast needs its moment."),
            ),
            models.CheckConstraint(
                condition=~models.Q(status__in=[Status.ACTIVE, Status.SENT])
                | models.Q(activated_at__isnull=False),
                name="broadcasts_active_has_moment",
            ),
            models.UniqueConstraint(
                fields=["series", "occurrence"], name="broadcasts_one_broadcast_per_occurrence"
            ),
        ]
        indexes = [
            models.Index(
                fields=["scheduled_at"],
                name="broadcasts_due",
                condition=models.Q(status=Status.SCHEDULED),
            ),
            models.Index(
                fields=["expires_at"],
                name="broadcasts_overdue",
                condition=models.Q(
                    status__in=[Status.SCHEDULED, Status.IN_PROGRESS, Status.ACTIVE]
                ),
            ),
            models.Index(
                fields=["id"],
                name="broadcasts_in_progress",
                condition=models.Q(status=Status.IN_PROGRESS),
            ),
            models.Index(
                fields=["expires_at"],
                name="broadcasts_passing",
                condition=models.Q(status=Status.SENT, finished_at=None),
            ),
            models.Index(fields=["status", "-activated_at"], name="broadcasts_inbox_order"),
            models.Index(
                fields=["reminded_at"],
                name="broadcasts_reminded",
                condition=models.Q(reminded_at__isnull=False),
            ),
            models.Index(
                fields=["occurrence"],
                name="broadcasts_occurrence_due",
                condition=models.Q(status=Status.SCHEDULED, series__isnull=False),
            ),
            models.Index(
                fields=["id"],
                name="broadcasts_awaiting_approval",
                condition=models.Q(status=Status.DRAFT, approval=Approval.REQUESTED),
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def is_mandatory(self) -> bool:
        """Nobody's preferences keep it back."""
        return self.priority == Priority.URGENT or self.force_logoff or self.is_test


class Decision(models.TextChoices):
    REQUESTED = "REQUESTED", _("Approval asked for")
    COMMENTED = "COMMENTED", _("Comment")
    APPROVED = "APPROVED", _("Approved")
    REJECTED = "REJECTED", _("Rejected")
    WITHDRAWN = "WITHDRAWN", _("Withdrawn")


class ApprovalStep(models.Model):
    """Who said what about a version of a draft or of a series, and when."""

    broadcast = models.ForeignKey(
        Broadcast,
        verbose_name=_("broadcast"),
        on_delete=models.CASCADE,
        null=True,
        related_name="approval_steps",
    )
    series = models.ForeignKey(
        "broadcasts.Series",
        verbose_name=_("series"),
        on_delete=models.CASCADE,
        null=True,
        related_name="approval_steps",
    )
    version = models.PositiveIntegerField(_("version"))
    decision = models.CharField(_("step"), max_length=10, choices=Decision.choices)
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("person"),
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
    )
    person_name = models.CharField(_("name"), max_length=200)
    comment = models.CharField(_("comment"), blank=True, max_length=2_000)
    created_at = models.DateTimeField(_("when"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("approval step")
        verbose_name_plural = _("approval steps")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(broadcast=None) ^ models.Q(series=None),
                name="broadcasts_approval_step_of_one",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_decision_display()}: {self.person_name}"


class Editor(models.Model):
    """Somebody who has a draft open in the console, for the others who open it."""

    broadcast = models.ForeignKey(Broadcast, on_delete=models.CASCADE, related_name="editors")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    seen_at = models.DateTimeField(_("seen"))

    class Meta:
        verbose_name = _("editor")
        verbose_name_plural = _("editors")
        constraints = [
            models.UniqueConstraint(
                fields=["broadcast", "user"], name="broadcasts_one_editor_per_person"
            )
        ]

    def __str__(self) -> str:
        return f"{self.user_id} → {self.broadcast_id}"


class Address(models.Model):
    """A channel that a published broadcast addresses, for the inboxes of its readers."""

    broadcast = models.ForeignKey(Broadcast, on_delete=models.CASCADE, related_name="addresses")
    channel = models.CharField(_("channel"), max_length=200)

    class Meta:
        verbose_name = _("address")
        verbose_name_plural = _("addresses")
        constraints = [
            models.UniqueConstraint(
                fields=["channel", "broadcast"], name="broadcasts_one_address_per_channel"
            )
        ]

    def __str__(self) -> str:
        return self.channel


class ReceiptStatus(models.TextChoices):
    PENDING = "PENDING", _("Pending")
    DELIVERED = "DELIVERED", _("Delivered")
    SEEN = "SEEN", _("Seen")
    READ = "READ", _("Read")
    SUPERSEDED = "SUPERSEDED", _("Superseded")
    FAILED = "FAILED", _("Failed")


LISTED = {  # not IN (SELECT unnest(...)): with stale statistics that becomes a nested loop
    "postgresql": "auth_user.id = ANY(%s::bigint[])",
    "sqlite": "auth_user.id IN (SELECT value FROM json_each(%s))",
}


def listed(ids: list[int]) -> RawSQL:
    """Users with one of these ids, however many: one parameter, where each id as its own makes a
    text to parse."""
    vendor = connection.vendor
    text = ",".join(map(str, ids))  # psycopg takes seconds for a list of a million
    given = f"{{{text}}}" if vendor == "postgresql" else f"[{text}]"
    return RawSQL(LISTED[vendor], [given], output_field=models.BooleanField())  # noqa: S611


class ReceiptQuerySet(models.QuerySet["Receipt"]):
    def create_for(self, broadcast_id: int, users: models.QuerySet[Any, Any]) -> None:
        """Those that are missing, in one statement; `bulk_create` needs a model instance each."""
        people = users.annotate(
            to_broadcast=models.Value(broadcast_id), to_status=models.Value(ReceiptStatus.PENDING)
        )
        columns = people.values_list("to_broadcast", "pk", "to_status").order_by()
        select, params = columns.query.sql_with_params()
        with connections[self.db].cursor() as cursor:
            cursor.execute(
                f"INSERT INTO broadcasts_receipt (broadcast_id, user_id, status) {select}"
                " ON CONFLICT DO NOTHING",
                params,
            )


class Receipt(models.Model):
    """What happened to one broadcast at one person; for SELECTED, also that it is for them."""

    # An index of their own would be a third more work for each row: those of Meta begin with them.
    broadcast = models.ForeignKey(
        Broadcast,
        verbose_name=_("broadcast"),
        on_delete=models.CASCADE,
        related_name="receipts",
        db_index=False,
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        related_name="receipts",
        db_index=False,
    )
    status = models.CharField(
        _("status"),
        max_length=10,
        choices=ReceiptStatus.choices,
        default=ReceiptStatus.PENDING,
    )
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)
    delivered_at = models.DateTimeField(_("delivered"), null=True, blank=True)
    seen_at = models.DateTimeField(_("seen"), null=True, blank=True)
    read_at = models.DateTimeField(_("read"), null=True, blank=True)
    acknowledged_at = models.DateTimeField(_("acknowledged"), null=True, blank=True)
    dismissed_at = models.DateTimeField(_("dismissed"), null=True, blank=True)

    objects = ReceiptQuerySet.as_manager()

    class Meta:
        verbose_name = _("receipt")
        verbose_name_plural = _("receipts")
        constraints = [
            models.UniqueConstraint(
                fields=["user", "broadcast"], name="broadcasts_one_receipt_per_person"
            )
        ]
        indexes = [
            models.Index(fields=["broadcast", "status"], name="broadcasts_receipt_status"),
        ]

    def __str__(self) -> str:
        return f"{self.broadcast_id} → {self.user_id}"


class Reminder(models.Model):
    """A broadcast sent once more to who has not seen it; written in stretches, by a cursor."""

    broadcast = models.ForeignKey(
        Broadcast,
        verbose_name=_("broadcast"),
        on_delete=models.CASCADE,
        related_name="reminders",
    )
    sender = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("sender"),
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
    )
    sender_name = models.CharField(_("sender name"), max_length=200, blank=True)
    people = models.PositiveIntegerField(_("people"), default=0)
    after = models.CharField(_("last username"), max_length=150, blank=True)
    last_error = models.TextField(_("last error"), blank=True)
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        verbose_name = _("reminder")
        verbose_name_plural = _("reminders")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["broadcast"],
                condition=models.Q(finished_at=None),
                name="broadcasts_one_reminder_at_a_time",
            )
        ]

    def __str__(self) -> str:
        return f"{self.broadcast_id}: {self.people}"


class Email(models.TextChoices):
    NEVER = "NEVER", _("Never")
    DELAYED = "DELAYED", _("When a message has been unread for a while")
    DAILY = "DAILY", _("Once a day")


class Delay(models.IntegerChoices):
    """Minutes for which a message is unread before it is mailed."""

    SHORT = 5, _("5 minutes")
    QUARTER = 15, _("15 minutes")
    HOUR = 60, _("an hour")
    HOURS = 240, _("4 hours")
    DAY = 1_440, _("a day")


class PreferenceQuerySet(models.QuerySet["Preference"]):
    def of(self, user_id: int) -> "Preference | None":
        """Asked with every inbox: nothing but the row."""
        return next(iter(self.filter(pk=user_id)), None)

    def ending(self, at: datetime) -> "PreferenceQuerySet":
        """Those whose quiet hours are over, and what they held is not yet released."""
        return self.filter(quiet_ends_at__lte=at).order_by("quiet_ends_at", "pk")

    def mailed(self) -> "PreferenceQuerySet":
        """Those who want e-mail, and can be sent any."""
        wanted = self.exclude(email=Email.NEVER)
        return wanted.filter(user__is_active=True).exclude(user__email="")


class Preference(models.Model):
    """What a person does not want to be told, or not now; URGENT comes all the same."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="preference",
    )
    muted_categories = models.JSONField(_("muted categories"), default=list, blank=True)
    quiet_start = models.TimeField(_("quiet from"), null=True, blank=True)
    quiet_end = models.TimeField(_("quiet until"), null=True, blank=True)
    quiet_days = models.JSONField(
        _("quiet on"),
        default=list,
        blank=True,
        help_text=_("The days on which they begin, Monday is 0; empty means every day."),
    )
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    language = models.CharField(_("language"), max_length=LONGEST_TAG, blank=True)
    email = models.CharField(_("e-mail"), max_length=10, choices=Email.choices, default=Email.NEVER)
    email_after = models.PositiveSmallIntegerField(
        _("unread for"), choices=Delay.choices, default=Delay.HOUR
    )
    email_at = models.TimeField(_("daily at"), default=time(8))

    # Up to this moment nothing is held any more; null for who never had quiet hours.
    released_to = models.DateTimeField(_("released up to"), null=True, editable=False)
    quiet_ends_at = models.DateTimeField(_("next end of quiet"), null=True, editable=False)
    # What was activated up to this moment was looked at for e-mails.
    mailed_to = models.DateTimeField(_("mailed up to"), null=True, editable=False)
    # The next daily one, or until when there is no reason to look: quiet hours, and what they held.
    email_due_at = models.DateTimeField(_("no e-mail before"), null=True, editable=False)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    objects = PreferenceQuerySet.as_manager()

    class Meta:
        verbose_name = _("preference")
        verbose_name_plural = _("preferences")
        constraints = [
            models.CheckConstraint(
                condition=models.Q(quiet_start=None, quiet_end=None)
                | models.Q(quiet_start__isnull=False, quiet_end__isnull=False),
                name="broadcasts_quiet_has_both_ends",
                violation_error_message=_("Quiet hours need a start and an end, or neither."),
            ),
            models.CheckConstraint(
                condition=models.Q(quiet_start=None) | ~models.Q(quiet_start=models.F("quiet_end")),
                name="broadcasts_quiet_has_length",
                violation_error_message=_("Quiet hours must end at another time than they start."),
            ),
        ]
        indexes = [
            models.Index(
                fields=["quiet_ends_at"],
                name="broadcasts_quiet_ends",
                condition=models.Q(quiet_ends_at__isnull=False),
            ),
            models.Index(
                fields=["email", "email_due_at"],
                name="broadcasts_email_due",
                condition=~models.Q(email=Email.NEVER),
            ),
        ]

    def __str__(self) -> str:
        return str(self.user)

    def clean(self) -> None:
        errors: dict[str, Any] = {}
        muted, days = self.muted_categories, self.quiet_days
        if not isinstance(muted, list) or not all(isinstance(name, str) for name in muted):
            errors["muted_categories"] = _("Muted categories must be a list of names.")
        if not isinstance(days, list) or not all(day in range(7) for day in days):
            errors["quiet_days"] = _("Days are numbers from 0 (Monday) to 6 (Sunday).")
        if self.time_zone not in ZONES:
            errors["time_zone"] = _("There is no such time zone: use a name such as Europe/Berlin.")
        if self.language and self.language not in dict(settings.LANGUAGES):
            errors["language"] = _("Messages cannot be read in that language: use de, en or pt-br.")
        if self.email != Email.NEVER and not self.user.email:
            errors["email"] = _("Your account has no e-mail address: ask an operator to add one.")
        if errors:
            raise ValidationError(errors)

    @property
    def quiet_hours(self) -> QuietHours | None:
        if self.quiet_start is None or self.quiet_end is None:
            return None
        days = frozenset(self.quiet_days) or EVERY_DAY
        return QuietHours(self.quiet_start, self.quiet_end, zone_of(self.time_zone), days)

    def held(self, at: datetime) -> Window | None:
        """From when to when messages are held that are activated at this moment; None: not."""
        if not (hours := self.quiet_hours):
            return None
        window = hours.next(at)
        start = max(window.start, self.released_to or window.start)
        return Window(start, window.end) if start <= at else None

    def next_email(self, after: datetime) -> datetime | None:
        """When the next daily one is due."""
        if self.email != Email.DAILY:
            return None
        return next_moment(self.email_at, zone_of(self.time_zone), after)

    def shown(self, broadcasts: models.QuerySet[Any], held: Window | None) -> models.QuerySet[Any]:
        """Of these broadcasts, those that the person is to see, while others are held."""
        mandatory = models.Q(priority=Priority.URGENT) | models.Q(is_test=True)
        wanted = ~models.Q(category__in=self.muted_categories)
        if held:
            wanted &= models.Q(activated_at__lt=held.start)
        return broadcasts.filter(mandatory | wanted)

    def shows(self, broadcast: Broadcast, held: Window | None) -> bool:
        """The same as `shown`, of one that is there."""
        if broadcast.is_mandatory:
            return True
        is_held = held and broadcast.activated_at and broadcast.activated_at >= held.start
        return not is_held and broadcast.category not in self.muted_categories


class DigestStatus(models.TextChoices):
    PENDING = "PENDING", _("Pending")
    SENT = "SENT", _("Sent")
    OBSOLETE = "OBSOLETE", _("Obsolete")
    FAILED = "FAILED", _("Failed")


class Digest(models.Model):
    """An e-mail to one person about what stayed unread. Its row is written before it is sent."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        related_name="digests",
    )
    status = models.CharField(
        _("status"), max_length=10, choices=DigestStatus.choices, default=DigestStatus.PENDING
    )
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)
    sent_at = models.DateTimeField(_("sent"), null=True, editable=False)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0, editable=False)
    next_attempt_at = models.DateTimeField(_("next attempt"), editable=False)
    last_error = models.TextField(_("last error"), blank=True, editable=False)

    class Meta:
        verbose_name = _("digest")
        verbose_name_plural = _("digests")
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                name="broadcasts_digest_pending",
                condition=models.Q(status=DigestStatus.PENDING),
            ),
            models.Index(fields=["created_at"], name="broadcasts_digest_created"),
        ]

    def __str__(self) -> str:
        return f"{self.pk} → {self.user_id}"


class DigestEntry(models.Model):
    """A broadcast in the e-mail of a person; in one only, ever."""

    digest = models.ForeignKey(Digest, on_delete=models.CASCADE, related_name="entries")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    broadcast = models.ForeignKey(Broadcast, on_delete=models.CASCADE, related_name="+")

    class Meta:
        verbose_name = _("digest entry")
        verbose_name_plural = _("digest entries")
        constraints = [
            models.UniqueConstraint(
                fields=["user", "broadcast"], name="broadcasts_one_digest_per_message"
            )
        ]

    def __str__(self) -> str:
        return f"{self.digest_id}: {self.broadcast_id}"


from broadcasts.rule_models import Outcome, Rule, RuleMatch  # noqa: E402
from broadcasts.series_models import Series, Skip  # noqa: E402
from broadcasts.template_models import Template  # noqa: E402

__all__ = [
    "Address",
    "Approval",
    "ApprovalStep",
    "Audience",
    "Broadcast",
    "BroadcastQuerySet",
    "Composition",
    "Decision",
    "Delay",
    "Digest",
    "DigestEntry",
    "DigestStatus",
    "Editor",
    "Email",
    "JSONLength",
    "Outcome",
    "Preference",
    "Product",
    "Receipt",
    "ReceiptStatus",
    "Reminder",
    "Rule",
    "RuleMatch",
    "Series",
    "Skip",
    "Status",
    "Template",
    "listed",
]
