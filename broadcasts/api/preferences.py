"""`/api/user/preferences`: what a person does not want to be told, or not now."""

from typing import Any, cast

from django.contrib.auth.models import User
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from broadcasts.languages import LONGEST_TAG
from broadcasts.models import Delay, Email, Preference
from broadcasts.preferences import categories_of, prefer, preference_of
from connections.authentication import OWN
from jobs import clock

MOST_CATEGORIES = 200
DEFAULTS = Preference()


class LocalTime(serializers.TimeField):
    """Of the wall of the person, to the minute."""

    def __init__(self, **options: Any) -> None:
        super().__init__(format="%H:%M", input_formats=["%H:%M", "%H:%M:%S"], **options)


class PreferencesSerializer(serializers.Serializer[Preference]):
    muted_categories = serializers.ListField(
        child=serializers.CharField(max_length=100),
        max_length=MOST_CATEGORIES,
        default=list,
        help_text="Not shown, not counted, not sent; except what is mandatory (URGENT).",
    )
    quiet_start = LocalTime(
        allow_null=True,
        default=None,
        help_text="From then on messages are held, except what is mandatory; null for never.",
    )
    quiet_end = LocalTime(
        allow_null=True, default=None, help_text="Then they arrive; may be on the next day."
    )
    quiet_days = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=6),
        max_length=7,
        default=list,
        help_text="The days on which quiet hours begin, Monday is 0; empty for every day.",
    )
    time_zone = serializers.CharField(
        max_length=64, default=DEFAULTS.time_zone, help_text="IANA name, such as Europe/Berlin."
    )
    language = serializers.CharField(
        max_length=LONGEST_TAG,
        allow_blank=True,
        default="",
        help_text="To read messages in, such as `de`; empty: as Accept-Language says.",
    )
    email = serializers.ChoiceField(choices=Email.choices, default=Email.NEVER)
    email_after = serializers.ChoiceField(
        choices=Delay.choices,
        default=DEFAULTS.email_after,
        help_text="With DELAYED: minutes for which a message was unread.",
    )
    email_at = LocalTime(default=DEFAULTS.email_at, help_text="With DAILY.")

    categories = serializers.SerializerMethodField(help_text="Of the messages you were ever sent.")
    held_until = serializers.SerializerMethodField(
        help_text="The end of the quiet hours that are on now; null when there are none."
    )

    def get_categories(self, preference: Preference) -> list[str]:
        return sorted({*categories_of(preference.user), *preference.muted_categories})

    def get_held_until(self, preference: Preference) -> str | None:
        held = preference.held(clock.now())
        return held.end.isoformat() if held else None


def without_repeats(attrs: dict[str, Any]) -> dict[str, Any]:
    lists = {name: sorted(set(value)) for name, value in attrs.items() if isinstance(value, list)}
    return attrs | lists


@extend_schema(
    tags=["preferences"],
    request=PreferencesSerializer,
    responses=PreferencesSerializer,
    examples=[
        OpenApiExample(
            "Nights and weekends of Berlin",
            value={"quiet_start": "22:00", "quiet_end": "07:00", "time_zone": "Europe/Berlin"},
            request_only=True,
        )
    ],
)
class Preferences(APIView):
    authentication_classes = OWN

    def get(self, request: Request) -> Response:
        """What you prefer."""
        return shown(preference_of(cast(User, request.user)))

    def put(self, request: Request) -> Response:
        """Replace it all: what is left out becomes the default."""
        return self._change(request, partial=False)

    def patch(self, request: Request) -> Response:
        """Change what is given."""
        return self._change(request, partial=True)

    def _change(self, request: Request, *, partial: bool) -> Response:
        chosen = PreferencesSerializer(data=request.data, partial=partial)
        chosen.is_valid(raise_exception=True)
        return shown(prefer(cast(User, request.user), **without_repeats(chosen.validated_data)))


def shown(preference: Preference) -> Response:
    return Response(PreferencesSerializer(preference).data)
