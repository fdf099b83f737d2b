"""Rules: what is broadcast when an event happens, and what became of each event."""

from datetime import timedelta

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from broadcasts.conditions import problem_of
from broadcasts.models import Approval, Broadcast, Composition
from broadcasts.recurrence import parse_life
from broadcasts.texts import paths_of
from outbox.patterns import ADDRESSED, PATTERN, wanted


class Outcome(models.TextChoices):
    BROADCAST = "BROADCAST", _("Broadcast")
    CONDITION = "CONDITION", _("A condition was not met")
    COOL_DOWN = "COOL_DOWN", _("Cooling down")
    ERROR = "ERROR", _("Error")
    LOOP = "LOOP", _("Caused by a rule")


def is_answerable(event_type: str) -> bool:
    """Whether a rule may answer to it."""
    return event_type.partition(".")[0] not in ADDRESSED


def check_pattern(pattern: str) -> None:
    """Raise `ValidationError` for what is no pattern, and for what would answer to itself."""
    if not PATTERN.fullmatch(pattern):
        text = _now(
            "“%(pattern)s”: write an event type (link.expired), its beginning (link.*) or * for"
            " all."
        )
        raise ValidationError(text % {"pattern": pattern})
    if not is_answerable(pattern):
        text = _now(
            "“%(pattern)s” is what broadcasts themselves cause: a rule that answered to it would"
            " answer to itself."
        )
        raise ValidationError(text % {"pattern": pattern})


class RuleQuerySet(models.QuerySet["Rule"]):
    def live(self) -> "RuleQuerySet":
        return self.filter(LIVE)

    def awaiting_approval(self) -> "RuleQuerySet":
        return self.filter(active=True, approval=Approval.REQUESTED)


LIVE = models.Q(active=True) & ~models.Q(approval=Approval.REQUESTED)


class Rule(Composition):
    name = models.CharField(
        _("name"), max_length=100, unique=True, help_text=_("Shown to operators only.")
    )
    active = models.BooleanField(
        _("active"), default=True, help_text=_("Off: events pass by, and are not made up for.")
    )
    pattern = models.CharField(
        _("event"),
        max_length=100,
        validators=[check_pattern],
        help_text=_("A type such as link.expired, or all that begin so: link.*"),
    )
    conditions = models.JSONField(_("conditions"), default=list, blank=True)
    life = models.CharField(
        _("each stays"),
        max_length=20,
        blank=True,
        help_text=_("30m, 8h or 7d. Empty: until it is cancelled."),
    )
    cool_down = models.CharField(
        _("cool-down"),
        max_length=20,
        blank=True,
        help_text=_("30m, 8h or 7d in which no second one goes out. Empty: none."),
    )
    per_key = models.BooleanField(
        _("for each key"),
        default=False,
        help_text=_("The cool-down is of one thing (the key of the event), not of the rule."),
    )
    since = models.DateTimeField(_("since"), null=True, editable=False)
    """From when on it answers: what happened before is not broadcast."""
    sender = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("sender"),
        on_delete=models.SET_NULL,
        null=True,
        editable=False,
        related_name="rules",
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

    objects = RuleQuerySet.as_manager()

    class Meta:
        verbose_name = _("rule")
        verbose_name_plural = _("rules")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(force_logoff=False) | models.Q(fire_and_forget=True),
                name="broadcasts_rule_logoff_is_fire_and_forget",
                violation_error_message=_("Force logoff needs fire and forget."),
            ),
            models.CheckConstraint(
                condition=models.Q(requires_acknowledgement=False)
                | models.Q(fire_and_forget=False),
                name="broadcasts_rule_acknowledgement_needs_inbox",
                violation_error_message=_(
                    "What is kept in no inbox cannot be acknowledged: choose either fire and "
                    "forget or acknowledgement."
                ),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_live(self) -> bool:
        return self.active and self.approval != Approval.REQUESTED

    @property
    def awaits_approval(self) -> bool:
        return self.active and self.approval == Approval.REQUESTED

    @property
    def lifetime(self) -> timedelta | None:
        return parse_life(self.life)

    @property
    def pause(self) -> timedelta | None:
        """The cool-down."""
        return parse_life(self.cool_down)

    @property
    def fields(self) -> list[str]:
        """The paths that its texts show, in all its languages."""
        return paths_of(
            *(part for text in self.texts.values() for part in (text.title, text.content))
        )

    def wants(self, event_type: str) -> bool:
        return is_answerable(event_type) and wanted([self.pattern], event_type)

    def problems(self) -> dict[str, str]:
        problems = super().problems()
        for field in ("life", "cool_down"):
            try:
                parse_life(getattr(self, field))
            except ValueError as error:
                problems[field] = str(error)
        if self.per_key and not self.cool_down:
            problems["per_key"] = _now("Write a cool-down as well, or leave this out.")
        if problem := problem_of(self.conditions):
            problems["conditions"] = problem
        if "translations" not in problems:
            problems |= self._problems_of_fields()
        return problems

    def _problems_of_fields(self) -> dict[str, str]:
        problems = {}
        for language, text in self.texts.items():
            for field, part in (("title", text.title), ("content", text.content)):
                try:
                    paths_of(part)
                except ValidationError as error:
                    own = language == self.language
                    where = field if own else "translations"
                    problems[where] = ("" if own else f"{language}: ") + error.message
        return problems


class RuleMatch(models.Model):
    """What a rule did about an event; written once, in the transaction of its broadcast."""

    rule = models.ForeignKey(
        Rule,
        verbose_name=_("rule"),
        on_delete=models.CASCADE,
        related_name="matches",
        db_index=False,
    )
    event_id = models.UUIDField(_("event id"))
    type = models.CharField(_("type"), max_length=100)
    key = models.CharField(_("key"), max_length=200)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome.choices)
    note = models.TextField(_("why"), blank=True)
    broadcast = models.OneToOneField(
        Broadcast,
        verbose_name=_("broadcast"),
        on_delete=models.SET_NULL,
        null=True,
        related_name="rule_match",
    )
    created_at = models.DateTimeField(_("when"), db_default=Now())

    class Meta:
        verbose_name = _("match of a rule")
        verbose_name_plural = _("matches of rules")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "event_id"], name="broadcasts_one_match_per_event"
            )
        ]
        indexes = [
            models.Index(
                fields=["rule", "-created_at"],
                name="broadcasts_rule_broadcasts",
                condition=models.Q(outcome=Outcome.BROADCAST),
            ),
            models.Index(fields=["rule", "-id"], name="broadcasts_match_of_rule"),
            models.Index(fields=["created_at"], name="broadcasts_match_age"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.key}"
