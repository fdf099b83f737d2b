"""Texts with named fields, like `{{ product }}`: found and filled, and nothing else is done."""

import re
from collections.abc import Iterable, Mapping

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

FIELD = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
PATH = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*", re.ASCII)


def fields_of(*texts: str) -> list[str]:
    """The names, each once, in order. Raises `ValidationError` for what is no field."""
    no_name = _(
        "“%(text)s” is no field: write {{ name }}, with at most 40 letters, digits "
        "and underscores, a letter first."
    )
    return list(dict.fromkeys(name for text in texts for name in _names(text, NAME, no_name)))


def paths_of(*texts: str) -> list[str]:
    """`fields_of` a text whose fields lie in other fields, such as `{{ item.name }}`."""
    no_path = _("“%(text)s” is no field of an event: write {{ name }} or {{ item.name }}.")
    return list(dict.fromkeys(name for text in texts for name in _names(text, PATH, no_path)))


def _names(text: str, allowed: re.Pattern[str], refusal: str) -> Iterable[str]:
    for found in FIELD.finditer(text):
        name = found[1].strip()
        if not allowed.fullmatch(name):
            raise ValidationError(refusal % {"text": found[0]})
        yield name
    rest = FIELD.sub("", text)
    for brackets in ("{{", "}}"):
        if brackets in rest:
            raise ValidationError(
                _("A field is not closed, or not opened: write {{ name }} around “%(text)s”.")
                % {"text": _around(brackets, rest)}
            )


def _around(brackets: str, text: str) -> str:
    at = text.index(brackets)
    return text[max(at - 15, 0) : at + 15].strip()


def fill(text: str, values: Mapping[str, str]) -> str:
    """What has no value stays as it is."""
    return FIELD.sub(lambda found: values.get(found[1].strip(), found[0]), text)


def refuse_mismatch(names: Iterable[str], values: Mapping[str, str]) -> None:
    """Raises `ValidationError` that names what is missing, and what is unknown."""
    missing = [name for name in names if not values.get(name, "").strip()]
    unknown = [name for name in values if name not in names]
    problems = []
    if missing:
        problems.append(_("Missing: %(names)s.") % {"names": ", ".join(missing)})
    if unknown:
        problems.append(_("Not in this template: %(names)s.") % {"names": ", ".join(unknown)})
    if problems:
        raise ValidationError({"values": " ".join(problems)})
