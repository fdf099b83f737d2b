"""The editor of a text's translations: one block a language."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import ProhibitNullCharactersValidator
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminSelectWidget

from broadcasts.languages import Translated, default_language

Row = dict[str, str]


def language_choices(*more: str) -> list[tuple[str, str]]:
    """Those that Django names, and what is already in use."""
    known = dict(settings.LANGUAGES)
    return [
        (tag, f"{tag} – {known.get(tag, tag)}") for tag in sorted({*known, *filter(None, more)})
    ]


class TranslationsWidget(forms.Widget):
    @property
    def media(self) -> forms.Media:
        return forms.Media(js=["console/translations.js"])

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> list[Row]:
        getlist = getattr(data, "getlist", lambda key: data.get(key, []))
        columns = (getlist(f"{name}_{part}") for part in ("language", "title", "content"))
        return [
            {"language": language, "title": title, "content": content}
            for language, title, content in zip(*columns, strict=False)
        ]

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return False

    def render(
        self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None
    ) -> SafeString:
        rows = value if isinstance(value, list) else rows_of(value or {})
        choices = language_choices(*(row["language"] for row in rows))
        context = {"name": name, "rows": rows, "choices": choices}
        return render_to_string("admin/broadcasts/translations.html", context)


class TranslationsField(forms.Field):
    """What is stored as `translations`."""

    widget = TranslationsWidget

    def clean(self, value: list[Row]) -> dict[str, Row]:
        rows = [row for row in value if row["title"].strip() or row["content"].strip()]
        languages = [row["language"] for row in rows]
        if any("\0" in text for row in rows for text in row.values()):
            raise ValidationError(ProhibitNullCharactersValidator.message)
        if not all(languages):
            raise ValidationError(_("Choose the language of each translation."))
        if len(set(languages)) < len(languages):
            raise ValidationError(_("Translate it into each language once."))
        return {
            row["language"]: {"title": row["title"].strip(), "content": row["content"]}
            for row in rows
        }

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return self.clean(data) != (initial or {})
        except ValidationError:
            return True


def texts_of(composition: Translated) -> list[tuple[str, object]]:
    """What goes out, in each of its languages."""
    return [
        (name_of(text.language), f"{text.title}\n\n{text.content}".strip())
        for text in composition.texts.values()
    ]


def name_of(tag: str) -> str:
    return str(dict(settings.LANGUAGES).get(tag, tag))


def rows_of(translations: Mapping[str, Row]) -> list[Row]:
    return [{"language": language, **text} for language, text in translations.items()]


class LanguageField(forms.ChoiceField):
    def __init__(self, **options: Any) -> None:
        choices = language_choices(settings.LANGUAGE_CODE)
        super().__init__(
            choices=choices, initial=default_language, widget=UnfoldAdminSelectWidget, **options
        )


class TranslatedForm(forms.ModelForm):  # type: ignore[type-arg]
    """What all forms of a text in several languages have."""

    language = LanguageField(
        label=gettext_lazy("Language"),
        required=False,
        help_text=gettext_lazy(
            "Of title and content above: read by all whose language is not below."
        ),
    )
    translations = TranslationsField(label=gettext_lazy("In other languages"), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "language" in self.fields:
            field = self.fields["language"]
            assert isinstance(field, LanguageField)
            field.choices = language_choices(settings.LANGUAGE_CODE, self.instance.language)
