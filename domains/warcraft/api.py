"""`/api/warcraft`: characters, guilds and rosters, and what the game calls races and classes."""

import copy
from typing import Any, TypeVar, cast

import django_filters
from django.conf import settings
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.throttling import BaseThrottle, UserRateThrottle
from rest_framework.viewsets import ModelViewSet, ReadOnlyModelViewSet

from domains.warcraft import services
from domains.warcraft.models import (
    Character,
    Equipment,
    Faction,
    Guild,
    GuildMember,
    PlayableClass,
    Race,
    Region,
    RosterChange,
    Statistics,
    Status,
    Tracked,
    TrackedQuerySet,
)
from domains.warcraft.names import realm_slug

T = TypeVar("T", bound=Tracked)
IDENTITY = ["id", "name", "realm", "region", "realm_slug", "name_slug"]
STATE = ["status", "synced_at", "next_try_at", "failures", "last_error", "is_asked", "asked_at"]
TOO_MANY = OpenApiResponse(description="WARCRAFT_REFRESHES_PER_MINUTE; see `Retry-After`.")


class RefreshThrottle(UserRateThrottle):
    scope = "warcraft-refresh"

    def get_rate(self) -> str:
        return f"{settings.WARCRAFT_REFRESHES_PER_MINUTE}/min"


class TrackedSerializer(serializers.ModelSerializer[T]):
    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """What must be unique is made of what was sent, and is no field of it."""
        model: type[Tracked] = self.Meta.model
        row = copy.copy(self.instance) if isinstance(self.instance, Tracked) else model()
        for name, value in attrs.items():
            setattr(row, name, value)
        row.validate_constraints()
        return attrs

    def update(self, instance: T, validated_data: dict[str, Any]) -> T:
        for name, value in validated_data.items():
            setattr(instance, name, value)
        services.readdress(instance)
        return instance


class CharacterSerializer(TrackedSerializer[Character]):
    """What is null was not synced yet."""

    playable_class = serializers.StringRelatedField[Any](allow_null=True)
    race = serializers.StringRelatedField[Any](allow_null=True)
    faction = serializers.StringRelatedField[Any](allow_null=True)

    class Meta:
        model = Character
        fields = [
            *IDENTITY,
            "level",
            "item_level",
            "playable_class",
            "race",
            "faction",
            "specialization",
            "guild_name",
            "achievement_points",
            "last_login_at",
            "thumbnail",
            *STATE,
        ]
        read_only_fields = [name for name in fields if name not in ("name", "realm", "region")]


class GuildSerializer(TrackedSerializer[Guild]):
    faction = serializers.StringRelatedField[Any](allow_null=True)

    class Meta:
        model = Guild
        fields = [*IDENTITY, "faction", "member_count", "achievement_points", *STATE]
        read_only_fields = [name for name in fields if name not in ("name", "realm", "region")]


class EquippedItemSerializer(serializers.Serializer[Any]):
    slot = serializers.CharField()
    item_id = serializers.IntegerField()
    name = serializers.CharField()
    quality = serializers.CharField()
    level = serializers.IntegerField()


class EquipmentSerializer(serializers.Serializer[Any]):
    items = EquippedItemSerializer(many=True)
    changed_at = serializers.DateTimeField(allow_null=True)


class CharacterStatisticsSerializer(serializers.Serializer[Any]):
    values = serializers.DictField(help_text="As Battle.net names them.")
    changed_at = serializers.DateTimeField(allow_null=True)


class MemberSerializer(serializers.ModelSerializer[GuildMember]):
    playable_class = serializers.StringRelatedField[Any](allow_null=True)
    race = serializers.StringRelatedField[Any](allow_null=True)

    class Meta:
        model = GuildMember
        fields = [
            "id",
            "name",
            "realm_slug",
            "rank",
            "level",
            "playable_class",
            "race",
            "joined_at",
            "left_at",
        ]


class RosterChangeSerializer(serializers.ModelSerializer[RosterChange]):
    member_name = serializers.CharField(source="member.name")

    class Meta:
        model = RosterChange
        fields = ["id", "kind", "member", "member_name", "before", "after", "at"]


class FactionSerializer(serializers.ModelSerializer[Faction]):
    class Meta:
        model = Faction
        fields = ["key", "name"]


class RaceSerializer(serializers.ModelSerializer[Race]):
    class Meta:
        model = Race
        fields = ["id", "name"]


class PlayableClassSerializer(serializers.ModelSerializer[PlayableClass]):
    class Meta:
        model = PlayableClass
        fields = ["id", "name"]


class TrackedFilter(django_filters.FilterSet):
    region = django_filters.MultipleChoiceFilter(choices=Region.choices)
    realm = django_filters.CharFilter(method="of_realm", help_text="Its name or its slug.")
    status = django_filters.MultipleChoiceFilter(choices=Status.choices)
    faction = django_filters.CharFilter(help_text="Its key: HORDE, ALLIANCE.")
    search = django_filters.CharFilter(field_name="name", lookup_expr="icontains")

    def of_realm(self, rows: QuerySet[Any], _: str, value: str) -> QuerySet[Any]:
        return rows.filter(realm_slug=realm_slug(value))


class CharacterFilter(TrackedFilter):
    guild = django_filters.CharFilter(field_name="guild_name", lookup_expr="iexact")
    playable_class = django_filters.NumberFilter()
    race = django_filters.NumberFilter()
    min_level = django_filters.NumberFilter(field_name="level", lookup_expr="gte")
    min_item_level = django_filters.NumberFilter(field_name="item_level", lookup_expr="gte")


def needs_of(noun: str, **others: str) -> dict[str, str]:
    verbs = {
        "list": "view",
        "retrieve": "view",
        "create": "add",
        "partial_update": "change",
        "destroy": "delete",
        "refresh": "change",
    }
    return {name: f"warcraft.{verb}_{noun}" for name, verb in verbs.items()} | others


class TrackedViewSet(ModelViewSet[T]):
    lookup_value_converter = "int"
    http_method_names = ["get", "post", "patch", "delete"]
    ordering_fields = ["id", "name", "realm", "status", "synced_at", "next_try_at"]
    ordering_fields += ["achievement_points"]

    def get_throttles(self) -> list[BaseThrottle]:
        return [RefreshThrottle()] if self.action == "refresh" else []

    def perform_update(self, serializer: BaseSerializer[T]) -> None:
        """Under another name it is asked for anew; what was known stays until then."""
        serializer.save()

    def _refresh(self) -> Response:
        row = self.get_object()
        services.refresh(cast(TrackedQuerySet, self.get_queryset()).filter(pk=row.pk))
        row.refresh_from_db()
        return Response(self.get_serializer(row).data, status=status.HTTP_202_ACCEPTED)


@extend_schema(tags=["warcraft"])
class CharacterViewSet(TrackedViewSet[Character]):
    """Characters that are followed, and what Battle.net says of them."""

    queryset = Character.objects.select_related("playable_class", "race", "faction")
    serializer_class = CharacterSerializer
    filterset_class = CharacterFilter
    ordering_fields = [*TrackedViewSet.ordering_fields, "level", "item_level", "last_login_at"]
    needs = needs_of(
        "character", equipment="warcraft.view_character", statistics="warcraft.view_character"
    )

    @extend_schema(request=None, responses={202: CharacterSerializer, 429: TOO_MANY})
    @action(detail=True, methods=["post"])
    def refresh(self, request: Request, pk: int) -> Response:
        """Ask Battle.net for all of it at once; `is_asked` becomes false when it answered."""
        return self._refresh()

    @extend_schema(responses=EquipmentSerializer)
    @action(detail=True)
    def equipment(self, request: Request, pk: int) -> Response:
        """What it wears."""
        found = Equipment.objects.filter(pk=self.get_object().pk).first()
        return Response(EquipmentSerializer(found or {"items": [], "changed_at": None}).data)

    @extend_schema(responses=CharacterStatisticsSerializer)
    @action(detail=True)
    def statistics(self, request: Request, pk: int) -> Response:
        found = Statistics.objects.filter(pk=self.get_object().pk).first()
        return Response(
            CharacterStatisticsSerializer(found or {"values": {}, "changed_at": None}).data
        )


@extend_schema(tags=["warcraft"])
class GuildViewSet(TrackedViewSet[Guild]):
    """Guilds that are followed."""

    queryset = Guild.objects.select_related("faction")
    serializer_class = GuildSerializer
    filterset_class = TrackedFilter
    ordering_fields = [*TrackedViewSet.ordering_fields, "member_count"]
    needs = needs_of("guild", roster="warcraft.view_guild", changes="warcraft.view_guild")

    @extend_schema(request=None, responses={202: GuildSerializer, 429: TOO_MANY})
    @action(detail=True, methods=["post"])
    def refresh(self, request: Request, pk: int) -> Response:
        """Ask Battle.net for all of it at once; `is_asked` becomes false when it answered."""
        return self._refresh()

    @extend_schema(responses=MemberSerializer(many=True), filters=False)
    @action(detail=True, filterset_class=None, ordering_fields=["rank", "name", "level"])
    def roster(self, request: Request, pk: int) -> Response:
        """Who is in it now."""
        members = self._guild(pk).members.current().select_related("playable_class", "race")
        return self._pages(members, MemberSerializer)

    @extend_schema(responses=RosterChangeSerializer(many=True), filters=False)
    @action(detail=True, filterset_class=None, ordering_fields=["id"])
    def changes(self, request: Request, pk: int) -> Response:
        """Who joined and left, and other ranks and names; the newest first."""
        changes = self._guild(pk).changes.select_related("member")
        return self._pages(changes, RosterChangeSerializer)

    def _guild(self, pk: int) -> Guild:
        """Not in the order that is asked for: that is of its rows."""
        return get_object_or_404(self.get_queryset(), pk=pk)

    def _pages(self, rows: QuerySet[Any], serializer: type[BaseSerializer[Any]]) -> Response:
        page = self.paginate_queryset(self.filter_queryset(rows))
        return self.get_paginated_response(serializer(page, many=True).data)


class NamesViewSet(ReadOnlyModelViewSet[Any]):
    needs = {"list": "warcraft.view_character", "retrieve": "warcraft.view_character"}


@extend_schema(tags=["warcraft"])
class FactionViewSet(NamesViewSet):
    """Factions that were seen."""

    queryset = Faction.objects.all()
    serializer_class = FactionSerializer


@extend_schema(tags=["warcraft"])
class RaceViewSet(NamesViewSet):
    """Races that were seen."""

    queryset = Race.objects.all()
    serializer_class = RaceSerializer
    lookup_value_converter = "int"


@extend_schema(tags=["warcraft"])
class PlayableClassViewSet(NamesViewSet):
    """Classes that were seen."""

    queryset = PlayableClass.objects.all()
    serializer_class = PlayableClassSerializer
    lookup_value_converter = "int"
