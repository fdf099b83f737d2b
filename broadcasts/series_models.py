"""Series: a pattern of broadcasts, and when they go out."""

from datetime import datetime, timedelta

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from broadcasts.models import Approval, Broadcast, Composition, Status
from broadcasts.recurrence import Recurrence, in_words, parse_cron, parse_life, parse_zone


class State(models.TextChoices):
    RUNNING = "RUNNING", _("Running")
    PAUSED = "PAUSED", _("Paused")
    ENDED = "ENDED", _("Ended")


YEARS = range(2000, 2200)  # beyond them clocks and time zones are guesses
RUNNING = models.Q(paused_at=None, ended_at=None)
IN_STATE = {
    State.RUNNING: RUNNING,
    State.PAUSED: models.Q(paused_at__isnull=False, ended_at=None),
    State.ENDED: models.Q(ended_at__isnull=False),
}


def default_zone() -> str:
    return str(settings.TIME_ZONE)


class SeriesQuerySet(models.QuerySet["Series"]):
    def in_state(self, state: str) -> "SeriesQuerySet":
        return self.filter(IN_STATE[State(state)])

    def awaiting_approval(self) -> "SeriesQuerySet":
        return self.in_state(State.PAUSED).filter(approval=Approval.REQUESTED)

    def due(self, at: datetime | Now) -> "SeriesQuerySet":
        """The moment of the occurrence that was made has come: the next is wanted."""
        return self.filter(RUNNING, next_at__lte=at)

    def late(self, at: datetime) -> "SeriesQuerySet":
        """Due, or with an occurrence that waits, since then."""
        waiting = Broadcast.objects.filter(
            status=Status.SCHEDULED, series__isnull=False, occurrence__lte=at
        )
        due = self.due(at)
        return self.filter(
            models.Q(pk__in=due.values("pk")) | models.Q(pk__in=waiting.values("series"))
        )


class Series(Composition):
    cron = models.CharField(
        _("repeats"),
        max_length=100,
        help_text=_("Minute, hour, day of the month, month, day of the week: 0 9 * * mon-fri."),
    )
    zone = models.CharField(
        _("time zone"),
        max_length=64,
        default=default_zone,
        help_text=_("It repeats by the clocks there, in summer as in winter."),
    )
    starts_on = models.DateField(_("first day"), null=True, blank=True, help_text=_("Empty: now."))
    ends_on = models.DateField(_("last day"), null=True, blank=True, help_text=_("Empty: none."))
    count = models.PositiveIntegerField(
        _("at most"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("How many go out before it ends. Empty: any number."),
    )
    life = models.CharField(
        _("each stays"),
        max_length=20,
        blank=True,
        help_text=_("30m, 8h or 7d. Empty: until it is cancelled."),
    )

    paused_at = models.DateTimeField(_("paused"), null=True, editable=False)
    ended_at = models.DateTimeField(_("ended"), null=True, editable=False)
    next_at = models.DateTimeField(_("next"), null=True, editable=False)
    sender = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("sender"),
        on_delete=models.SET_NULL,
        null=True,
        editable=False,
        related_name="series",
    )
    sender_name = models.CharField(_("sender name"), max_length=200, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)
    version = models.PositiveIntegerField(_("version"), default=1, editable=False)
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
        editable=False,
    )

    objects = SeriesQuerySet.as_manager()

    class Meta:
        verbose_name = _("series")
        verbose_name_plural = _("series")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(starts_on=None)
                | models.Q(ends_on=None)
                | models.Q(ends_on__gte=models.F("starts_on")),
                name="broadcasts_series_ends_after_start",
                violation_error_message=_("The last day must not lie before the first."),
            ),
            models.CheckConstraint(
                condition=models.Q(force_logoff=False) | models.Q(fire_and_forget=True),
                name="broadcasts_series_logoff_is_fire_and_forget",
                violation_error_message=_("Force logoff needs fire and forget."),
            ),
            models.CheckConstraint(
                condition=models.Q(requires_acknowledgement=False)
                | models.Q(fire_and_forget=False),
                name="broadcasts_series_acknowledgement_needs_inbox",
                violation_error_message=_(
                    "What is kept in no inbox cannot be acknowledged: choose either fire and "
                    "forget or acknowledgement."
                ),
            ),
        ]
        indexes = [
            models.Index(fields=["next_at"], name="broadcasts_series_due", condition=RUNNING)
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def state(self) -> State:
        if self.ended_at:
            return State.ENDED
        return State.PAUSED if self.paused_at else State.RUNNING

    @property
    def awaits_approval(self) -> bool:
        return self.state == State.PAUSED and self.approval == Approval.REQUESTED

    @property
    def recurrence(self) -> Recurrence:
        return Recurrence(parse_cron(self.cron, self.zone), self.starts_on, self.ends_on)

    @property
    def words(self) -> str:
        return in_words(self.cron)

    @property
    def lifetime(self) -> timedelta | None:
        return parse_life(self.life)

    def local(self, moment: datetime) -> datetime:
        return moment.astimezone(parse_zone(self.zone))

    def problems(self) -> dict[str, str]:
        problems = super().problems()
        for field, parse in (("cron", parse_cron), ("zone", parse_zone), ("life", parse_life)):
            try:
                parse(getattr(self, field))
            except ValueError as error:
                problems[field] = str(error)
        for field in ("starts_on", "ends_on"):
            day = getattr(self, field)
            if day and day.year not in YEARS:
                text = _("Choose a day from %(first)s to %(last)s.")
                problems[field] = text % {"first": YEARS.start, "last": YEARS.stop - 1}
        return problems


class Skip(models.Model):
    """An occurrence that an operator does not want."""

    series = models.ForeignKey(
        Series,
        verbose_name=_("series"),
        on_delete=models.CASCADE,
        related_name="skips",
        db_index=False,
    )
    occurrence = models.DateTimeField(_("occurrence"))
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("skipped occurrence")
        verbose_name_plural = _("skipped occurrences")
        constraints = [
            models.UniqueConstraint(
                fields=["series", "occurrence"], name="broadcasts_one_skip_per_occurrence"
            )
        ]

    def __str__(self) -> str:
        return f"{self.series_id}: {self.occurrence}"
