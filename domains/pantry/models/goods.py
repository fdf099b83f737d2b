"""What can be in the pantry, whether or not there is any of it."""

from datetime import date
from typing import Any

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Coalesce, Now
from django.utils.text import slugify
from django.utils.translation import gettext_lazy as _

from domains.pantry.models.trees import Category


class Level(models.TextChoices):
    """How the stock of a variant stands."""

    ENOUGH = "", _("Enough")
    LOW = "LOW", _("Low")
    EMPTY = "EMPTY", _("Empty")


class Named(models.Model):
    name = models.CharField(_("name"), max_length=100, unique=True)

    class Meta:
        abstract = True
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Company(Named):
    class Meta(Named.Meta):
        verbose_name = _("company")
        verbose_name_plural = _("companies")


class ItemType(Named):
    class Meta(Named.Meta):
        verbose_name = _("type")
        verbose_name_plural = _("types")


class Warehouse(Named):
    """A shop, or whatever pieces come from."""

    class Meta(Named.Meta):
        verbose_name = _("shop")
        verbose_name_plural = _("shops")


class Size(models.Model):
    value = models.DecimalField(
        _("value"), max_digits=9, decimal_places=3, validators=[MinValueValidator(0)]
    )
    unit = models.CharField(_("unit"), max_length=20)

    class Meta:
        verbose_name = _("size")
        verbose_name_plural = _("sizes")
        ordering = ["unit", "value"]
        constraints = [
            models.UniqueConstraint(
                fields=["value", "unit"],
                name="pantry_size_once",
                violation_error_message=_("There is this size already."),
            )
        ]

    def __str__(self) -> str:
        return f"{self.value.normalize():f} {self.unit}"


class Item(models.Model):
    """A product, of which there are variants: milk."""

    name = models.CharField(_("name"), max_length=200)
    slug = models.SlugField(_("slug"), max_length=220, unique=True, blank=True)
    category = models.ForeignKey(
        Category, models.SET_NULL, verbose_name=_("category"), null=True, blank=True
    )
    company = models.ForeignKey(
        Company, models.SET_NULL, verbose_name=_("company"), null=True, blank=True
    )
    type = models.ForeignKey(
        ItemType, models.SET_NULL, verbose_name=_("type"), null=True, blank=True
    )
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("item")
        verbose_name_plural = _("items")
        ordering = ["name", "pk"]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self.slug:
            self.slug = self._free_slug()
        super().save(*args, **kwargs)

    def _free_slug(self) -> str:
        slug = slugify(self.name) or "item"
        taken = set(
            Item.objects.filter(slug__startswith=slug)
            .exclude(pk=self.pk)
            .values_list("slug", flat=True)
        )
        numbers = range(2, len(taken) + 3)
        return next(s for s in (slug, *(f"{slug}-{n}" for n in numbers)) if s not in taken)


class VariantQuerySet(models.QuerySet["Variant"]):
    def with_stock(self, on: date) -> Any:
        """`stock` (pieces) and its `level` on that day."""
        from domains.pantry.models.pieces import Piece  # it knows its variant

        pieces = Piece.objects.in_stock(on).filter(variant=models.OuterRef("pk")).order_by()
        counted = pieces.values("variant").annotate(count=models.Count("pk")).values("count")
        return self.annotate(
            stock=Coalesce(models.Subquery(counted), 0),
            level=models.Case(
                models.When(stock=0, then=models.Value(Level.EMPTY.value)),
                models.When(stock__lt=models.F("min_sku"), then=models.Value(Level.LOW.value)),
                default=models.Value(Level.ENOUGH.value),
                output_field=models.CharField(),
            ),
        )

    def short(self, on: date) -> Any:
        """Less than wanted; what nobody wants any of (a minimum of 0) is never short."""
        return self.with_stock(on).filter(stock__lt=models.F("min_sku"))

    def overstocked(self, on: date) -> Any:
        return self.with_stock(on).filter(stock__gt=models.F("max_sku"))

    def changed(self, on: date) -> Any:
        """Those whose level is another than the one that was last announced."""
        return self.with_stock(on).exclude(level=models.F("announced"))


class Variant(models.Model):
    """What is bought and counted: a carton of a litre, with its barcode."""

    item = models.ForeignKey(Item, models.CASCADE, related_name="variants", verbose_name=_("item"))
    name = models.CharField(_("name"), max_length=200)
    size = models.ForeignKey(Size, models.SET_NULL, verbose_name=_("size"), null=True, blank=True)
    barcode = models.CharField(
        _("barcode"),
        max_length=48,
        unique=True,
        null=True,
        blank=True,
        validators=[
            RegexValidator(r"^[0-9A-Za-z-]+$", _("Write its digits and letters, without blanks."))
        ],
    )
    min_sku = models.PositiveIntegerField(
        _("minimum"), default=0, help_text=_("With fewer pieces in stock it is low.")
    )
    max_sku = models.PositiveIntegerField(
        _("maximum"),
        null=True,
        blank=True,
        help_text=_("Up to so many are put on the shopping list; empty: up to the minimum."),
    )
    is_normally_frozen = models.BooleanField(
        _("normally frozen"), default=False, help_text=_("New pieces go into the freezer.")
    )
    announced = models.CharField(
        _("announced"),
        max_length=10,
        choices=Level.choices,
        default=Level.ENOUGH,
        blank=True,
        editable=False,
    )
    """The level that was last told, so that only a change of it is told again."""
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)

    objects = VariantQuerySet.as_manager()

    class Meta:
        verbose_name = _("variant")
        verbose_name_plural = _("variants")
        ordering = ["item__name", "name", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["item", "name"],
                name="pantry_variant_one_of_a_name",
                violation_error_message=_("The item has a variant of this name already."),
            ),
            models.CheckConstraint(
                condition=models.Q(max_sku=None) | models.Q(max_sku__gte=models.F("min_sku")),
                name="pantry_variant_maximum_above_minimum",
                violation_error_message=_("The maximum is at least the minimum."),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.item.name}, {self.name}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.barcode = self.barcode or None  # several have none
        super().save(*args, **kwargs)

    @property
    def aim(self) -> int:
        """So many pieces a purchase fills it up to."""
        return self.min_sku if self.max_sku is None else self.max_sku
