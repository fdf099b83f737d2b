"""`/api/admin/api-keys`: who may call this system as whom, and what they did."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import django_filters
from django.conf import settings
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import ModelViewSet

from jobs import clock
from jobs.intervals import parse_duration
from operations.keys import services
from operations.keys.figures import DAYS, days_of
from operations.keys.models import ApiKey, ApiKeyQuerySet, ApiKeyUsage, State
from operations.keys.scopes import Scope

MOST_DAYS = 366
LONGEST_OVERLAP = timedelta(days=30)
OF_SETTINGS = "Null: as the settings say; 0: none."


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    """A key, without its secret, and what it was used for."""

    owner = serializers.SlugRelatedField(
        slug_field="username",
        queryset=User.objects.all(),
        required=False,
        help_text="As whom it acts; you, if left out. Of others only a superuser makes keys.",
    )
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=Scope.choices),
        validators=ApiKey._meta.get_field("scopes").validators,
        help_text="Of `stream`, `publish`, `read` and `admin`.",
    )
    state = serializers.SerializerMethodField()
    limit_minute = serializers.IntegerField(
        min_value=0, max_value=2**31 - 1, allow_null=True, required=False, help_text=OF_SETTINGS
    )
    limit_hour = serializers.IntegerField(
        min_value=0, max_value=2**31 - 1, allow_null=True, required=False, help_text=OF_SETTINGS
    )
    limit_day = serializers.IntegerField(
        min_value=0, max_value=2**31 - 1, allow_null=True, required=False, help_text=OF_SETTINGS
    )
    total = serializers.IntegerField(read_only=True, help_text="Requests that were answered.")

    class Meta:
        model = ApiKey
        fields = [
            "id",
            "key_id",
            "name",
            "description",
            "owner",
            "scopes",
            "state",
            "reason",
            "expires_at",
            "old_until",
            "limit_minute",
            "limit_hour",
            "limit_day",
            "created_at",
            "last_used_at",
            "total",
            "succeeded",
            "failed_4xx",
            "failed_5xx",
        ]
        read_only_fields = [
            "key_id",
            "reason",
            "old_until",
            "created_at",
            "last_used_at",
            "succeeded",
            "failed_4xx",
            "failed_5xx",
        ]

    def get_state(self, key: ApiKey) -> State:
        return key.state(self.context.get("now") or clock.now())

    def validate_owner(self, owner: User) -> User:
        if self.instance:
            raise serializers.ValidationError(_("A key keeps its owner: make another one."))
        return owner

    def validate_expires_at(self, at: datetime | None) -> datetime | None:
        if at and at <= clock.now():
            raise serializers.ValidationError(_("This is over: choose a moment to come."))
        return at

    def create(self, validated_data: dict[str, Any]) -> ApiKey:
        owner = validated_data.pop("owner", self.context["request"].user)
        services.check_may_hold(self.context["request"].user, owner.pk)
        key, self.written = services.make(owner, **validated_data)
        key.refresh_from_db()
        return key

    def update(self, instance: ApiKey, validated_data: dict[str, Any]) -> ApiKey:
        person, scopes = self.context["request"].user, validated_data.get("scopes", [])
        services.check_may_give(person, instance.owner_id, scopes, instance.scopes)
        services.edit(instance, **validated_data)
        return instance


class MadeApiKeySerializer(ApiKeySerializer):
    api_key = serializers.CharField(help_text="Shown now, and never again.", read_only=True)

    class Meta(ApiKeySerializer.Meta):
        fields = [*ApiKeySerializer.Meta.fields, "api_key"]


class OverlapField(serializers.DurationField):
    def to_internal_value(self, value: Any) -> timedelta:
        try:
            return parse_duration(str(value))  # as settings have it
        except ValueError:
            return super().to_internal_value(value)


class RotationSerializer(serializers.Serializer[Any]):
    overlap = OverlapField(
        required=False,
        min_value=timedelta(0),
        max_value=LONGEST_OVERLAP,
        help_text="How long the old secret works: `24h`, seconds, or `HH:MM:SS`. 0: it ends now,"
        " and so do its streams. API_KEY_ROTATION_OVERLAP, if left out.",
    )


class UsageQuery(serializers.Serializer[Any]):
    days = serializers.IntegerField(min_value=1, max_value=MOST_DAYS, default=DAYS)


class RotatedSerializer(serializers.Serializer[Any]):
    api_key = serializers.CharField(help_text="Shown now, and never again.")
    old_until = serializers.DateTimeField(allow_null=True)


class UsageSerializer(serializers.ModelSerializer[ApiKeyUsage]):
    class Meta:
        model = ApiKeyUsage
        fields = ["day", "total", "succeeded", "failed_4xx", "failed_5xx"]

    total = serializers.IntegerField()


class ApiKeyFilter(django_filters.FilterSet):
    owner = django_filters.CharFilter(field_name="owner__username")
    scope = django_filters.ChoiceFilter(choices=Scope.choices, method="with_scope")
    state = django_filters.ChoiceFilter(choices=State.choices, method="in_state")
    search = django_filters.CharFilter(
        method="with_words", help_text="Each word in name, description or key."
    )

    def with_scope(self, keys: QuerySet[ApiKey], _: str, value: str) -> QuerySet[ApiKey]:
        return having(keys, value)

    def in_state(self, keys: ApiKeyQuerySet, _: str, value: str) -> QuerySet[ApiKey]:
        return keys.in_state(value, clock.now())

    def with_words(self, keys: QuerySet[ApiKey], _: str, value: str) -> QuerySet[ApiKey]:
        for word in value.split()[:10]:
            keys = keys.filter(
                Q(name__icontains=word) | Q(description__icontains=word) | Q(key_id__icontains=word)
            )
        return keys


def having(keys: "QuerySet[ApiKey]", scope: str) -> "QuerySet[ApiKey]":
    """Scopes are words that are part of no other; SQLite looks into no list."""
    return keys.filter(scopes__icontains=f'"{scope}"')


@extend_schema(tags=["API keys"])
class ApiKeyViewSet(ModelViewSet[ApiKey]):
    """Keys of programs; made and steered by people: no key does it, whatever its scopes."""

    queryset = ApiKey.objects.select_related("owner")
    serializer_class = ApiKeySerializer
    filterset_class = ApiKeyFilter
    ordering_fields = ["id", "name", "created_at", "expires_at", "last_used_at", "succeeded"]
    lookup_value_converter = "int"
    http_method_names = ["get", "post", "patch", "delete"]
    needs = {
        "list": "operations.view_apikey",
        "retrieve": "operations.view_apikey",
        "usage": "operations.view_apikey",
        "create": "operations.add_apikey",
        "partial_update": "operations.change_apikey",
        "rotate": "operations.change_apikey",
        "disable": "operations.change_apikey",
        "enable": "operations.change_apikey",
        "destroy": "operations.delete_apikey",
    }

    def get_serializer_context(self) -> dict[str, Any]:
        context = dict(super().get_serializer_context())
        return context | {"now": clock.now()} if self.action == "list" else context

    @extend_schema(responses={201: MadeApiKeySerializer})
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Make one; the answer alone has the whole key."""
        serializer = ApiKeySerializer(data=request.data, context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        self._note(serializer.save(), ADDITION, _("Made"))
        answer = {**serializer.data, "api_key": serializer.written}
        return Response(answer, status=status.HTTP_201_CREATED)

    def perform_update(self, serializer: BaseSerializer[ApiKey]) -> None:
        self._note(serializer.save(), CHANGE, _("Changed"))

    def perform_destroy(self, instance: ApiKey) -> None:
        self._note(instance, DELETION, _("Deleted"))
        services.delete(instance)

    @extend_schema(request=RotationSerializer, responses=RotatedSerializer)
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, pk: int) -> Response:
        """A new secret; the old one works for `overlap` longer. Only its owner, or a superuser."""
        given = RotationSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        key = self.get_object()
        services.check_may_hold(request.user, key.owner_id)
        overlap = given.validated_data.get("overlap", settings.API_KEY_ROTATION_OVERLAP)
        written = services.rotate(key, overlap)
        self._note(key, CHANGE, _("Rotated"))
        return Response(RotatedSerializer({"api_key": written, "old_until": key.old_until}).data)

    @extend_schema(request=None, responses=ApiKeySerializer)
    @action(detail=True, methods=["post"])
    def disable(self, request: Request, pk: int) -> Response:
        """From the next request on, in every process; its streams end."""

        def disable(key: ApiKey) -> None:
            services.disable(key, f"by {request.user.get_username()}")

        return self._steer(disable, _("Disabled"))

    @extend_schema(request=None, responses=ApiKeySerializer)
    @action(detail=True, methods=["post"])
    def enable(self, request: Request, pk: int) -> Response:
        """It works again; one that has expired needs a later expiry first."""
        return self._steer(services.enable, _("Enabled"))

    @extend_schema(
        responses=UsageSerializer(many=True),
        parameters=[OpenApiParameter("days", int, description=f"1 to {MOST_DAYS}; {DAYS}.")],
        filters=False,
    )
    @action(detail=True, pagination_class=None, filterset_class=None)
    def usage(self, request: Request, pk: int) -> Response:
        """How its requests were answered, by day of UTC; the oldest first, today last."""
        asked = UsageQuery(data=request.query_params)
        asked.is_valid(raise_exception=True)
        key = self.get_object()
        found = days_of([key], asked.validated_data["days"])[key.pk]
        return Response(UsageSerializer(found, many=True).data)

    def _steer(self, steer: Callable[[ApiKey], None], noted: str) -> Response:
        key = self.get_object()
        steer(key)
        self._note(key, CHANGE, noted)
        return Response(self.get_serializer(key).data)

    def _note(self, key: ApiKey, flag: int, noted: str) -> None:
        """For the history in the admin."""
        person: Any = self.request.user.pk
        LogEntry.objects.log_actions(person, [key], flag, change_message=noted, single_object=True)
