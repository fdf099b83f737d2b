"""Fields that operators and readers share."""

from typing import Any

from django.http import QueryDict
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from outbox.models import Priority

PRIORITIES = [(priority.name, priority.label) for priority in Priority]
LONGEST_TARGET = 200  # characters
LARGEST_ID = 2**63 - 1


class PriorityField(serializers.ChoiceField):
    """A priority by its name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(choices=PRIORITIES, **options)

    def to_internal_value(self, data: Any) -> Any:
        return Priority[super().to_internal_value(data)]

    def to_representation(self, value: Any) -> str:
        return Priority(value).name


@extend_schema_field({"type": "array", "items": {"type": "string", "maxLength": LONGEST_TARGET}})
class TargetsField(serializers.Field[list[str], Any, list[str], Any]):
    """A list of texts, or of numbers for user ids; a `ListField` needs seconds for 100,000."""

    default_error_messages = {
        "list": "Targets must be a list of role names, product slugs or user ids.",
        "text": f"Each target must be a text of 1 to {LONGEST_TARGET} characters, or a user id.",
    }

    def get_value(self, dictionary: Any) -> Any:
        if isinstance(dictionary, QueryDict) and self.field_name in dictionary:
            return dictionary.getlist(str(self.field_name))
        return super().get_value(dictionary)

    def to_internal_value(self, data: Any) -> list[str]:
        if not isinstance(data, list):
            self.fail("list")
        targets = [str(item) if type(item) is int else item for item in data]
        if not all(isinstance(target, str) and _storable(target) for target in targets):
            self.fail("text")
        return targets

    def to_representation(self, value: list[str]) -> list[str]:
        return value


def _storable(text: str) -> bool:
    if not 1 <= len(text) <= LONGEST_TARGET or "\x00" in text:
        return False
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
