"""What a rule asks of an event's data: a field by its path, an operator, and a value."""

import math
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from django.db import models
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from broadcasts.texts import PATH

MISSING = object()
MOST = 20  # conditions of a rule
LONGEST = 1_000  # characters of a value
SHAPE = {"field", "operator", "value"}

Condition = dict[str, Any]


class Operator(models.TextChoices):
    EQUALS = "equals", gettext_lazy("is")
    NOT = "not", gettext_lazy("is not")
    CONTAINS = "contains", gettext_lazy("contains")
    GREATER = "greater", gettext_lazy("is greater than")
    LESS = "less", gettext_lazy("is less than")
    IN = "in", gettext_lazy("is one of")
    EXISTS = "exists", gettext_lazy("is there")


def look_up(data: Any, path: str) -> Any:
    """`item.name`, or `items.0.name` in a list; `MISSING` when it is not there."""
    for part in path.split("."):
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and part.isdecimal() and int(part) < len(data):
            data = data[int(part)]
        else:
            return MISSING
    return data


def leaves(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every field that a text can show, with its value; of a list of objects the first ones."""
    if isinstance(data, dict):
        for name, inner in data.items():
            yield from leaves(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(data, list) and any(isinstance(item, (dict, list)) for item in data):
        for number, item in enumerate(data[:3]):
            yield from leaves(item, f"{path}.{number}")
    elif path and PATH.fullmatch(path):
        yield path, data


def problem_of(conditions: Any) -> str:
    """What is wrong with them, in a sentence; nothing when all is well."""
    if not isinstance(conditions, list) or not all(isinstance(one, dict) for one in conditions):
        return _("Conditions are a list, each with a field, an operator and a value.")
    if len(conditions) > MOST:
        return _("At most %(most)s conditions: make two rules of it.") % {"most": MOST}
    for number, condition in enumerate(conditions, 1):
        if problem := _problem_of(condition):
            return _("Condition %(number)s: %(problem)s") % {"number": number, "problem": problem}
    return ""


def _problem_of(condition: Condition) -> str:
    if unknown := set(condition) - SHAPE:
        return _("%(names)s: it has a field, an operator and a value.") % {
            "names": ", ".join(sorted(map(str, unknown)))
        }
    path, operator = condition.get("field"), condition.get("operator")
    if not isinstance(path, str) or not PATH.fullmatch(path):
        return _("“%(path)s” is no field: write its name, or a path such as item.name.") % {
            "path": path or ""
        }
    if operator not in Operator.values:
        return _("“%(operator)s” is no operator: choose one of %(all)s.") % {
            "operator": operator or "",
            "all": ", ".join(Operator.values),
        }
    return _problem_of_value(Operator(operator), condition.get("value"))


def _problem_of_value(operator: Operator, value: Any) -> str:
    if operator == Operator.EXISTS:
        return "" if value in (None, "") else _("“is there” takes no value: leave it empty.")
    if operator == Operator.IN:
        good = isinstance(value, list) and value and all(_is_plain(item) for item in value)
        return "" if good else _("“is one of” takes a list of values.")
    if not _is_plain(value):
        return _("Write a value: a text, a number, true or false.")
    if operator in (Operator.GREATER, Operator.LESS) and _measure(value) is None:
        return _("“%(value)s” is neither a number nor a moment such as 2030-01-31T12:00:00Z.") % {
            "value": value
        }
    return ""


def _is_plain(value: Any) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, (str, int, float)) and 0 < len(str(value)) <= LONGEST


def holds(condition: Condition, data: Any) -> bool:
    """Values are compared as what the event has: the text "5" is the number 5 there."""
    actual = look_up(data, condition["field"])
    value = condition.get("value")
    match Operator(condition["operator"]):
        case Operator.EXISTS:
            return actual is not MISSING and actual is not None
        case Operator.EQUALS:
            return _same(actual, value)
        case Operator.NOT:
            return not _same(actual, value)
        case Operator.IN:
            return any(_same(actual, one) for one in value or ())
        case Operator.CONTAINS:
            if isinstance(actual, list):
                return any(_same(item, value) for item in actual)
            return isinstance(actual, str) and str(value) in actual
        case Operator.GREATER:
            return _compare(actual, value) > 0
        case Operator.LESS:
            return _compare(actual, value) < 0


def _same(actual: Any, value: Any) -> bool:
    if isinstance(actual, bool):
        return str(value).lower() == str(actual).lower()
    if isinstance(actual, (int, float)):
        return _number(value) == actual
    if isinstance(actual, str):
        return actual == (str(value).lower() if isinstance(value, bool) else str(value))
    return False


def _compare(actual: Any, value: Any) -> int:
    """1, 0 or -1; 0 as well for what cannot be compared."""
    one, other = _measure(actual), _measure(value)
    if one is None or other is None or isinstance(one, datetime) != isinstance(other, datetime):
        return 0
    return (one > other) - (one < other)  # type: ignore[operator]


def _measure(value: Any) -> float | datetime | None:
    number = _number(value)
    return _moment(value) if number is None else number


def _number(value: Any) -> float | None:
    """Exact as long as it is a whole one."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    with suppress(ValueError):
        return int(value) if not isinstance(value, float) else value
    with suppress(ValueError, OverflowError):
        number = float(value)
        return number if math.isfinite(number) else None
    return None


def _moment(value: Any) -> datetime | None:
    """A day is its first moment, and one without a zone is of UTC."""
    if not isinstance(value, str):
        return None
    with suppress(ValueError):
        if day := parse_date(value):
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
    with suppress(ValueError):
        if moment := parse_datetime(value):
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


def in_words(condition: Condition) -> str:
    value = condition.get("value")
    shown = ", ".join(map(str, value)) if isinstance(value, list) else value
    words = f"{condition['field']} {Operator(condition['operator']).label}"
    return words if shown in (None, "") else f"{words} {shown}"
