"""Categories and places: trees, in which nothing can be below itself."""

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

SEPARATOR = " › "


class Node(models.Model):
    parent_id: int | None

    name = models.CharField(_("name"), max_length=100)
    parent = models.ForeignKey(
        "self",
        models.PROTECT,
        related_name="children",
        verbose_name=_("within"),
        null=True,
        blank=True,
    )

    class Meta:
        abstract = True
        ordering = ["name", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["parent", "name"],
                name="%(app_label)s_%(class)s_one_of_a_name",
                violation_error_message=_("There is one of this name already."),
            ),
            models.UniqueConstraint(
                fields=["name"],
                condition=models.Q(parent=None),
                name="%(app_label)s_%(class)s_one_root_of_a_name",
                violation_error_message=_("There is one of this name already."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        self._refuse_cycle(_parents(type(self)._default_manager.all()))

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Two moves at once could make a cycle of which each sees half: all rows are locked."""
        with transaction.atomic():
            if self.pk and self.parent_id:
                rows = type(self)._default_manager.select_for_update().order_by("pk")
                self._refuse_cycle(_parents(rows))
            super().save(*args, **kwargs)

    def _refuse_cycle(self, parents: Mapping[int, int | None]) -> None:
        above = self.parent_id
        while above is not None:
            if above == self.pk:
                message = _("It cannot be within itself, nor within what is in it.")
                raise ValidationError({"parent": message})
            above = parents.get(above)

    @classmethod
    def paths(cls) -> dict[int, str]:
        """The names from the root down, for each, by one query."""
        nodes = {node.pk: node for node in cls._default_manager.all()}
        return {pk: SEPARATOR.join(_names(node, nodes)) for pk, node in nodes.items()}

    @classmethod
    def within(cls, pk: int) -> set[int]:
        """This one and all below it, by one query; empty when there is no such."""
        rest = _parents(cls._default_manager.all())
        found = {pk} & rest.keys()
        while more := {child for child, parent in rest.items() if parent in found} - found:
            found |= more
        return found


def _parents(rows: "models.QuerySet[Any]") -> dict[int, int | None]:
    return dict(rows.values_list("pk", "parent_id"))


def _names(node: Node, nodes: Mapping[int, Node]) -> list[str]:
    above = nodes.get(node.parent_id) if node.parent_id else None
    return [*(_names(above, nodes) if above else []), node.name]


class Category(Node):
    class Meta(Node.Meta):
        verbose_name = _("category")
        verbose_name_plural = _("categories")


class Location(Node):
    """Where pieces are kept: a room, a fridge, a shelf of it."""

    class Meta(Node.Meta):
        verbose_name = _("place")
        verbose_name_plural = _("places")
