"""Fields that operators and readers share."""

from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from broadcasts.languages import LONGEST_TITLE
from broadcasts.models import Template
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


class TranslationSerializer(serializers.Serializer[Any]):
    title = serializers.CharField(max_length=LONGEST_TITLE)
    content = serializers.CharField(default="", allow_blank=True, trim_whitespace=False)


class TranslationsField(serializers.DictField):
    """A title and a content by language."""

    child = TranslationSerializer()


class FromTemplate(serializers.Serializer[Any]):
    """Takes what is not given from a template, whose fields are filled in."""

    title = serializers.CharField(
        max_length=LONGEST_TITLE, required=False, help_text="Needed unless there is a template."
    )
    template = serializers.PrimaryKeyRelatedField(
        queryset=Template.objects.all(),
        required=False,
        help_text="Whose title, content and translations are taken where none is given.",
    )
    values = serializers.DictField(
        child=serializers.CharField(),
        required=False,
        help_text="What its fields are filled with: all of them, and no other.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        template, values = attrs.pop("template", None), attrs.pop("values", {})
        if template:
            attrs = template.use(values) | attrs
        elif values:
            raise serializers.ValidationError({"template": [_("Say whose fields these are.")]})
        if not self.instance and "title" not in attrs:
            raise serializers.ValidationError({"title": [_("Write one, or name a template.")]})
        validated: dict[str, Any] = super().validate(attrs)
        return validated


def _storable(text: str) -> bool:
    if not 1 <= len(text) <= LONGEST_TARGET or "\x00" in text:
        return False
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
