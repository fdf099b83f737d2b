"""Pieces: each carton by itself, from the purchase until it is used up."""

from datetime import date, timedelta

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models.functions import Now, RowNumber
from django.utils.translation import gettext_lazy as _

from domains.pantry.models.goods import Variant, Warehouse
from domains.pantry.models.trees import Location

SOON = timedelta(days=7)
MOST_PIECES = 500
"""That are put away at once: more is a slip of the finger."""


class Freshness(models.TextChoices):
    FRESH = "", _("Fresh")
    SOON = "SOON", _("Expires soon")
    EXPIRED = "EXPIRED", _("Expired")


FIRST_TO_USE = (
    models.F("opened_on").asc(nulls_last=True),
    models.F("frozen_on").asc(nulls_first=True),
    models.F("expires_on").asc(nulls_last=True),
    models.F("pk").asc(),
)


class PieceQuerySet(models.QuerySet["Piece"]):
    def here(self) -> "PieceQuerySet":
        return self.filter(consumed_at=None)

    def in_stock(self, on: date) -> "PieceQuerySet":
        """What stock means everywhere: not opened, not consumed, not expired on that day."""
        return self.here().filter(opened_on=None).exclude(_expired(on))

    def expired(self, on: date) -> "PieceQuerySet":
        return self.here().filter(_expired(on))

    def expiring(self, on: date, within: timedelta = SOON) -> "PieceQuerySet":
        """On that day or in as many days after it; what has expired before is not."""
        return self.here().filter(_expiring(on, within))

    def changed(self, on: date) -> "PieceQuerySet":
        """Those whose freshness is another than the one that was last announced."""
        freshness = models.Case(
            models.When(_expired(on), then=models.Value(Freshness.EXPIRED.value)),
            models.When(_expiring(on, SOON), then=models.Value(Freshness.SOON.value)),
            default=models.Value(Freshness.FRESH.value),
            output_field=models.CharField(),
        )
        fresh = self.here().annotate(freshness=freshness)
        return fresh.exclude(freshness=models.F("announced"))

    def first_to_use(self) -> "PieceQuerySet":
        """What is open first, then what expires first; frozen pieces can wait."""
        return self.here().order_by(*FIRST_TO_USE)

    def first_of_each(self, count: int) -> "PieceQuerySet":
        """So many of each variant, the first to use; of one that has many, others lose none."""
        order = list(FIRST_TO_USE)
        place = models.Window(RowNumber(), partition_by="variant", order_by=order)
        return self.first_to_use().alias(place=place).filter(place__lte=count)


def _expired(on: date) -> models.Q:
    """Nothing expires while it is frozen."""
    return models.Q(expires_on__lt=on, expires_on__isnull=False, frozen_on__isnull=True)


def _expiring(on: date, within: timedelta) -> models.Q:
    return models.Q(expires_on__range=(on, on + within), frozen_on__isnull=True)


class Piece(models.Model):
    variant = models.ForeignKey(
        Variant, models.CASCADE, related_name="pieces", verbose_name=_("variant")
    )
    location = models.ForeignKey(
        Location, models.SET_NULL, verbose_name=_("place"), null=True, blank=True
    )
    warehouse = models.ForeignKey(
        Warehouse, models.SET_NULL, verbose_name=_("shop"), null=True, blank=True
    )
    article_number = models.CharField(_("article number"), max_length=100, blank=True)
    price = models.DecimalField(
        _("price"),
        max_digits=9,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
    )
    has_deposit = models.BooleanField(_("deposit"), default=False)
    purchased_on = models.DateField(_("purchased"), null=True, blank=True)
    expires_on = models.DateField(
        _("expires"), null=True, blank=True, help_text=_("The last day on which it is good.")
    )
    frozen_on = models.DateField(
        _("frozen"), null=True, blank=True, help_text=_("While it is, it does not expire.")
    )
    opened_on = models.DateField(_("opened"), null=True, blank=True)
    consumed_at = models.DateTimeField(_("used up"), null=True, blank=True, editable=False)
    wasted = models.BooleanField(_("thrown away"), default=False, editable=False)
    announced = models.CharField(
        _("announced"),
        max_length=10,
        choices=Freshness.choices,
        default=Freshness.FRESH,
        blank=True,
        editable=False,
    )
    """The freshness that was last told, so that only a change of it is told again."""
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)

    objects = PieceQuerySet.as_manager()

    class Meta:
        verbose_name = _("piece")
        verbose_name_plural = _("pieces")
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(wasted=False) | models.Q(consumed_at__isnull=False),
                name="pantry_piece_wasted_is_gone",
                violation_error_message=_("What was thrown away is gone."),
            )
        ]
        indexes = [
            models.Index(
                fields=["variant", "expires_on"],
                name="pantry_piece_stock",
                condition=models.Q(consumed_at=None, opened_on=None),
            ),
            models.Index(
                fields=["expires_on", "id"],
                name="pantry_piece_expiry",
                condition=models.Q(consumed_at=None, frozen_on=None),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.variant} #{self.pk}"

    def freshness_on(self, on: date) -> Freshness:
        """As `PieceQuerySet` says it, for a row that is at hand."""
        if self.consumed_at or self.frozen_on or not self.expires_on or self.expires_on > on + SOON:
            return Freshness.FRESH
        return Freshness.EXPIRED if self.expires_on < on else Freshness.SOON


class Kitchen(Piece):
    """The page for who stands in the kitchen; no rows of its own."""

    class Meta:
        proxy = True
        verbose_name = _("kitchen")
        verbose_name_plural = _("kitchen")
        default_permissions = ("view",)
