"""Templates: texts that are used again, with fields to fill in."""

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from broadcasts.languages import Text, Translated
from broadcasts.texts import fields_of, fill, refuse_mismatch


class Template(Translated):
    name = models.CharField(
        _("name"), max_length=100, unique=True, help_text=_("Shown to operators only.")
    )
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("template")
        verbose_name_plural = _("templates")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def fields(self) -> list[str]:
        """Their names, as its texts have them, in all its languages."""
        return fields_of(*(part for text in self.texts.values() for part in _parts(text)))

    def clean(self) -> None:
        problems = self.problems()
        if "translations" not in problems:
            problems |= self._problems_of_fields()
        if problems:
            raise ValidationError(dict[str, Any](problems))

    def _problems_of_fields(self) -> dict[str, str]:
        problems = {}
        for language, text in self.texts.items():
            for field, part in zip(("title", "content"), _parts(text), strict=True):
                try:
                    fields_of(part)
                except ValidationError as error:
                    own = language == self.language
                    where = field if own else "translations"
                    problems[where] = ("" if own else f"{language}: ") + error.message
        return problems

    def fill(self, values: Mapping[str, str]) -> dict[str, Any]:
        """The texts of a broadcast; fields without a value stay in them."""
        translations = {
            language: {name: fill(part, values) for name, part in text.items()}
            for language, text in self.translations.items()
        }
        return {
            "title": fill(self.title, values),
            "content": fill(self.content, values),
            "language": self.language,
            "translations": translations,
        }

    def use(self, values: Mapping[str, str]) -> dict[str, Any]:
        """`fill`, but raises `ValidationError` that names fields that are missing or unknown."""
        refuse_mismatch(self.fields, values)
        return self.fill(values)


def _parts(text: Text) -> tuple[str, str]:
    return text.title, text.content
