from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from domains.pantry.models.goods import Variant
from domains.pantry.models.pieces import MOST_PIECES


class ShoppingList(models.Model):
    name = models.CharField(_("name"), max_length=100)
    created_at = models.DateTimeField(_("made"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("shopping list")
        verbose_name_plural = _("shopping lists")
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.name


class EntryQuerySet(models.QuerySet["Entry"]):
    def open(self) -> "EntryQuerySet":
        return self.filter(purchased_at=None)


class Entry(models.Model):
    list = models.ForeignKey(
        ShoppingList, models.CASCADE, related_name="entries", verbose_name=_("list")
    )
    variant = models.ForeignKey(Variant, models.CASCADE, verbose_name=_("variant"))
    quantity = models.PositiveIntegerField(
        _("quantity"),
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_PIECES)],
    )
    purchased_at = models.DateTimeField(_("bought"), null=True, blank=True, editable=False)

    objects = EntryQuerySet.as_manager()

    class Meta:
        verbose_name = _("entry")
        verbose_name_plural = _("entries")
        ordering = ["variant__item__name", "variant__name", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["list", "variant"],
                condition=models.Q(purchased_at=None),
                name="pantry_entry_once_on_a_list",
                violation_error_message=_("It stands on the list already."),
            ),
            models.CheckConstraint(
                condition=models.Q(quantity__gte=1),
                name="pantry_entry_at_least_one",
                violation_error_message=_("Buy at least one."),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.variant}"
