"""`/api/links`: short links, and who follows them."""

from dataclasses import asdict
from datetime import date, timedelta
from typing import Any, cast

import django_filters
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ModelViewSet

from domains.links import services
from domains.links.codes import TYPES, qr_code
from domains.links.models import Click, Link, LinkQuerySet, State
from domains.links.statistics import clicks_by_date, statistics_of
from jobs import clock
from jobs.cursors import Newest

LONGEST_RANGE = 366  # days


class LinkSerializer(serializers.ModelSerializer[Link]):
    """A short address that leads to a long one; its short code and its alias both do."""

    short_url = serializers.CharField(read_only=True)
    custom_alias = serializers.CharField(
        max_length=50, required=False, allow_null=True, allow_blank=True
    )
    state = serializers.SerializerMethodField()

    class Meta:
        model = Link
        fields = [
            "id",
            "short_url",
            "short_code",
            "custom_alias",
            "original_url",
            "title",
            "description",
            "expires_at",
            "is_active",
            "state",
            "reference",
            "click_count",
            "bot_count",
            "created_at",
        ]
        read_only_fields = ["short_code", "click_count", "bot_count", "created_at"]

    def get_state(self, link: Link) -> State:
        return link.state(self.context.get("now") or clock.now())

    def create(self, validated_data: dict[str, Any]) -> Link:
        return services.create(by=cast(User, self.context["request"].user), **validated_data)

    def update(self, instance: Link, validated_data: dict[str, Any]) -> Link:
        return services.edit(instance, **validated_data)


class LinkDaySerializer(serializers.Serializer[Any]):
    day = serializers.DateField(help_text="In the server's time zone.")
    clicks = serializers.IntegerField(help_text="Without bots.")
    bots = serializers.IntegerField()


class LinkShareSerializer(serializers.Serializer[Any]):
    value = serializers.CharField(help_text="Empty: unknown.")
    clicks = serializers.IntegerField()
    share = serializers.FloatField(help_text="Of the clicks of these days, 0 to 1.")


class LinkStatisticsSerializer(serializers.Serializer[Any]):
    """Clicks of people; `total`, `bots` and `readers` are of the link's whole life."""

    total = serializers.IntegerField()
    bots = serializers.IntegerField()
    today = serializers.IntegerField()
    last_7_days = serializers.IntegerField()
    last_30_days = serializers.IntegerField()
    readers = serializers.IntegerField(help_text="People who were signed in here.")
    days = LinkDaySerializer(many=True)
    countries = LinkShareSerializer(
        many=True, help_text="The ten with the most, as all that follow."
    )
    devices = LinkShareSerializer(many=True)
    browsers = LinkShareSerializer(many=True)
    referrers = LinkShareSerializer(many=True)


class ClickSerializer(serializers.ModelSerializer[Click]):
    class Meta:
        model = Click
        fields = [
            "id",
            "clicked_at",
            "address",
            "country",
            "device",
            "browser",
            "referrer",
            "is_bot",
        ]


class LinkRangeSerializer(serializers.Serializer[Any]):
    since = serializers.DateField(required=False, help_text="29 days before `until`.")
    until = serializers.DateField(required=False, help_text="Belongs to it; today.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        until = attrs.get("until") or timezone.localdate()
        since = attrs.get("since") or until - timedelta(days=29)
        if since > until:
            raise serializers.ValidationError({"since": _("This lies after the end.")})
        if (until - since).days >= LONGEST_RANGE:
            message = _("At most %(days)s days at once.") % {"days": LONGEST_RANGE}
            raise serializers.ValidationError({"since": message})
        return {"since": since, "until": until}


class CodeSerializer(serializers.Serializer[Any]):
    type = serializers.ChoiceField(choices=list(TYPES), default="svg")
    scale = serializers.IntegerField(
        default=8, min_value=1, max_value=50, help_text="Pixels a module, of a PNG."
    )


class LinkFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=State.choices, method="in_state")
    reference = django_filters.CharFilter(help_text="What it was made for: `broadcast-7`.")
    search = django_filters.CharFilter(
        method="with_words", help_text="In code, alias, title, or where it leads to."
    )

    def in_state(self, rows: LinkQuerySet, _: str, value: str) -> LinkQuerySet:
        return rows.in_state(value, clock.now())

    def with_words(self, rows: QuerySet[Link], _: str, value: str) -> QuerySet[Link]:
        for word in value.split()[:10]:
            rows = rows.filter(
                Q(short_code=word.lower())
                | Q(custom_alias__icontains=word)
                | Q(title__icontains=word)
                | Q(original_url__icontains=word)
            )
        return rows


@extend_schema(tags=["links"])
class LinkViewSet(ModelViewSet[Link]):
    """Short links: `/s/<code>` or `/s/<alias>` leads to them."""

    queryset = Link.objects.all()
    serializer_class = LinkSerializer
    filterset_class = LinkFilter
    ordering_fields = ["id", "click_count", "expires_at", "created_at"]
    lookup_value_converter = "int"
    http_method_names = ["get", "post", "patch", "delete"]
    needs = {
        "list": "links.view_link",
        "retrieve": "links.view_link",
        "stats": "links.view_link",
        "by_date": "links.view_link",
        "clicks": "links.view_link",
        "qr": "links.view_link",
        "create": "links.add_link",
        "partial_update": "links.change_link",
        "destroy": "links.delete_link",
    }

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "now": clock.now()}

    def perform_create(self, serializer: Any) -> None:
        self._note(serializer.save(), ADDITION, _("Made"))

    def perform_update(self, serializer: Any) -> None:
        self._note(serializer.save(), CHANGE, _("Changed"))

    def perform_destroy(self, instance: Link) -> None:
        self._note(instance, DELETION, _("Deleted"))
        services.delete(instance)

    @extend_schema(parameters=[LinkRangeSerializer], responses=LinkStatisticsSerializer)
    @action(detail=True)
    def stats(self, request: Request, pk: int) -> Response:
        """Clicks of a range of days, by day, country, device, browser and where they came from."""
        found = statistics_of(self.get_object(), **self._range())
        return Response(LinkStatisticsSerializer(asdict(found)).data)

    @extend_schema(parameters=[LinkRangeSerializer], responses=LinkDaySerializer(many=True))
    @action(detail=True, url_path="clicks-by-date", pagination_class=None, filterset_class=None)
    def by_date(self, request: Request, pk: int) -> Response:
        """Every day of the range, also those without a click."""
        days = clicks_by_date(self.get_object(), **self._range())
        return Response(LinkDaySerializer([asdict(day) for day in days], many=True).data)

    @extend_schema(responses=ClickSerializer(many=True))
    @action(detail=True, pagination_class=Newest, filter_backends=[])
    def clicks(self, request: Request, pk: int) -> Response:
        """Single ones, the latest first, as long as they are kept; who it was, they do not say."""
        page: Any = self.paginate_queryset(cast(Any, self.get_object().clicks.all()))
        return self.get_paginated_response(ClickSerializer(page, many=True).data)

    @extend_schema(
        parameters=[CodeSerializer],
        responses={(200, mime): OpenApiTypes.BINARY for mime in TYPES.values()},
    )
    @action(detail=True)
    def qr(self, request: Request, pk: int) -> HttpResponse:
        """The short address as a QR code."""
        asked = CodeSerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        kind = asked.validated_data["type"]
        image = qr_code(self.get_object(), kind, asked.validated_data["scale"])
        return HttpResponse(image, content_type=TYPES[kind])

    def _range(self) -> dict[str, date]:
        asked = LinkRangeSerializer(data=self.request.query_params)
        asked.is_valid(raise_exception=True)
        return cast(dict[str, date], asked.validated_data)

    def _note(self, link: Link, flag: int, noted: str) -> None:
        """For the history in the admin."""
        person: Any = self.request.user.pk
        LogEntry.objects.log_actions(person, [link], flag, change_message=noted, single_object=True)
