"""The texts of a rule, filled with what an event says: all of it or nothing."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone, translation
from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _

from broadcasts.conditions import look_up
from broadcasts.languages import Translated
from broadcasts.texts import fill, paths_of
from outbox.consumers import Envelope

MARKS = re.compile(r"([\\`*_\[\]<>&#~|])")  # of Markdown: what an event says is text
FIRST = re.compile(r"^(\d*)(?=[-+=]|[.)](?: |$))")  # of lists and underlines
ADDRESS = re.compile(r"https?://[\w.~:/?#@%&=+,-]+")  # nothing in it is Markdown, as it stands
BLANKS = re.compile(r"\s+")


def data_of(fact: Envelope) -> dict[str, Any]:
    """The event's data, and in `event` what is known of the event itself."""
    names = {"id": "id", "type": "type", "key": "subject", "time": "time"}
    about = {name: fact[said] for name, said in names.items()}
    data: dict[str, Any] = fact["data"]
    return {"event": about} | data


def fill_texts(written: Translated, data: Mapping[str, Any]) -> dict[str, Any]:
    """Raises `ValidationError` that names every field that the event has not."""
    texts = written.texts.values()
    paths = paths_of(*(part for text in texts for part in (text.title, text.content)))
    values = {path: look_up(data, path) for path in paths}
    if missing := [path for path, value in values.items() if not _is_shown(value)]:
        raise ValidationError(
            _("The event has no %(names)s to fill in.") % {"names": ", ".join(missing)}
        )
    filled = {}
    for text in texts:
        with translation.override(text.language):
            words = {path: _in_words(value) for path, value in values.items()}
        escaped = {path: _as_text(value) for path, value in words.items()}
        filled[text.language] = {
            "title": fill(text.title, words),
            "content": fill(text.content, escaped),
        }
    own = filled.pop(written.language)
    return {**own, "language": written.language, "translations": filled}


def _as_text(value: str) -> str:
    """For Markdown: of an address each backslash would be a part."""
    if ADDRESS.fullmatch(value):
        return value
    return FIRST.sub(r"\1\\", MARKS.sub(r"\\\1", value))


def _is_shown(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, (str, int, float)) for item in value)
    return isinstance(value, (str, int, float))


def _in_words(value: Any) -> str:
    """On one line, in the language that is active; a moment by the clocks of TIME_ZONE."""
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, float):
        return number_format(value)
    if isinstance(value, str) and (moment := _moment(value)):
        local = timezone.localtime(moment, timezone.get_default_timezone())
        return f"{date_format(local, 'DATETIME_FORMAT')} {local:%Z}"
    return BLANKS.sub(" ", str(value)).strip()


def _moment(text: str) -> datetime | None:
    try:
        moment = parse_datetime(text) if "T" in text else None
    except ValueError:
        return None
    return moment if moment and moment.tzinfo else None
