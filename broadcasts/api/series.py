"""`/api/admin/series`: broadcasts that recur."""

from collections.abc import Callable
from typing import Any, cast

import django_filters
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from broadcasts import approvals
from broadcasts import series as services
from broadcasts.api.approvals import (
    IF_MATCH,
    ApprovalStepSerializer,
    ReasonSerializer,
    SaidSerializer,
    VersionNotSaid,
    etag_of,
    version_seen,
)
from broadcasts.api.fields import FromTemplate, PriorityField, TargetsField, TranslationsField
from broadcasts.api.operators import MOST_TARGETS, AudienceSerializer
from broadcasts.models import ApprovalStep, Series
from broadcasts.series_models import SeriesQuerySet, State
from outbox.models import Priority

PATTERN = [
    "title",
    "content",
    "language",
    "translations",
    "category",
    "priority",
    "reference",
    "audience",
    "targets",
    "fire_and_forget",
    "force_logoff",
    "requires_acknowledgement",
]
WHEN = ["cron", "zone", "starts_on", "ends_on", "count", "life"]


class SeriesSerializer(serializers.ModelSerializer[Series]):
    """A series in a list: without its content and targets, which may be long."""

    priority = PriorityField()
    state = serializers.ChoiceField(choices=State.choices)
    words = serializers.CharField(help_text="When it repeats, in English.")

    class Meta:
        model = Series
        fields = [
            "id",
            "title",
            "category",
            "priority",
            "reference",
            "audience",
            "fire_and_forget",
            "force_logoff",
            "requires_acknowledgement",
            *WHEN,
            "words",
            "state",
            "version",
            "approval",
            "next_at",
            "paused_at",
            "ended_at",
            "sender_name",
            "created_at",
            "updated_at",
        ]


class SeriesDetailSerializer(SeriesSerializer):
    translations = TranslationsField()
    targets = serializers.SerializerMethodField(help_text=f"The first {MOST_TARGETS}.")
    upcoming = serializers.SerializerMethodField(
        help_text=f"The next {services.SHOWN}, by the clocks of its zone; of a paused one, what "
        "would go out."
    )

    class Meta(SeriesSerializer.Meta):
        fields = [
            *SeriesSerializer.Meta.fields,
            "content",
            "language",
            "translations",
            "targets",
            "upcoming",
        ]

    def get_targets(self, series: Series) -> list[str]:
        return list(series.targets[:MOST_TARGETS])

    @extend_schema_field(serializers.ListField(child=serializers.DateTimeField()))
    def get_upcoming(self, series: Series) -> list[str]:
        if series.state == State.ENDED:
            return []
        return [series.local(moment).isoformat() for moment in services.upcoming(series)]


class SeriesDraftSerializer(FromTemplate, AudienceSerializer, serializers.ModelSerializer[Series]):
    priority = PriorityField(default=Priority.NORMAL)
    translations = TranslationsField(required=False)
    targets = TargetsField(
        required=False, help_text="Role names, product slugs or user ids; none for everyone."
    )

    class Meta:
        model = Series
        fields = [*PATTERN, *WHEN, "template", "values"]


class OccurrenceSerializer(serializers.Serializer[Any]):
    occurrence = serializers.DateTimeField()


class SeriesFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(method="in_state", choices=State.choices)
    search = django_filters.CharFilter("title", "icontains", help_text="Part of the title.")

    def in_state(self, series: SeriesQuerySet, _: str, value: str) -> SeriesQuerySet:
        return series.in_state(value)


DECISIONS = ("approve", "reject", "comment")
EXAMPLE = OpenApiExample(
    "Every working day",
    request_only=True,
    value={
        "title": "Good morning",
        "content": "The shop opens at **10:00**.",
        "audience": "ROLE",
        "targets": ["Moderators"],
        "cron": "0 9 * * mon-fri",
        "zone": "Europe/Berlin",
        "ends_on": "2030-12-31",
        "life": "8h",
    },
)


@extend_schema(tags=["series"])
class SeriesViewSet(GenericViewSet[Series]):
    """What changes a series needs the permission `send_broadcast` as well: it sends."""

    queryset = Series.objects.all()
    serializer_class = SeriesDetailSerializer
    filterset_class = SeriesFilter
    ordering_fields = ["id", "title", "next_at", "created_at"]
    lookup_value_converter = "int"
    needs = {
        "list": "broadcasts.view_series",
        "retrieve": "broadcasts.view_series",
        "create": "broadcasts.add_series",
        "partial_update": "broadcasts.change_series",
        "destroy": "broadcasts.change_series",
        "pause": "broadcasts.change_series",
        "resume": "broadcasts.change_series",
        "approve": "broadcasts.approve_broadcast",
        "reject": "broadcasts.approve_broadcast",
        "comment": "broadcasts.view_series",
        "approvals": "broadcasts.view_series",
        "put_back": "broadcasts.change_series",
        "skip": "broadcasts.change_series",
        "end": "broadcasts.change_series",
    }

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        sends = request.method not in SAFE_METHODS and self.action not in DECISIONS
        if sends and not request.user.has_perm("broadcasts.send_broadcast"):
            self.permission_denied(request, message=_("A series sends: you may not send."))

    @extend_schema(responses=SeriesSerializer(many=True))
    def list(self, request: Request) -> Response:
        """Series, newest first."""
        rows = cast(QuerySet[Series], self.filter_queryset(self.get_queryset()))
        page: Any = self.paginate_queryset(rows.defer("content", "translations", "targets"))
        return self.get_paginated_response(SeriesSerializer(page, many=True).data)

    @extend_schema(
        request=SeriesDraftSerializer, responses={201: SeriesDetailSerializer}, examples=[EXAMPLE]
    )
    def create(self, request: Request) -> Response:
        """Start a series: its first occurrence waits as a broadcast when this is answered.

        Where a second person must approve it, it is PAUSED and its `approval` REQUESTED.
        """
        fields = self._checked(SeriesDraftSerializer(data=request.data))
        series = services.start(cast(User, request.user), **fields)
        return self._shown(series, status.HTTP_201_CREATED)

    def retrieve(self, request: Request, pk: int) -> Response:
        """One series, with its content, its first 1,000 targets and what comes next."""
        return self._shown(self.get_object())

    @extend_schema(request=SeriesDraftSerializer, parameters=[IF_MATCH])
    def partial_update(self, request: Request, pk: int) -> Response:
        """Change it from here on: what has gone out stays, and what lies ahead follows.

        An approval of what it said before is void.
        """
        series = self.get_object()
        fields = self._checked(SeriesDraftSerializer(series, data=request.data, partial=True))
        editor, version = cast(User, request.user), version_seen(request)
        return self._shown(services.change(series, editor=editor, version=version, **fields))

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: int) -> Response:
        """End it for good, as `end` does; it is kept with what it sent."""
        services.end(self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: int) -> Response:
        """Nothing goes out until it is resumed, and what falls into the pause never does."""
        return self._done(services.pause)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: int) -> Response:
        """Go on with the next occurrence from now.

        409 `approval_needed` when a second person must approve it, which starts it.
        """
        person = cast(User, request.user)
        return self._done(lambda series: services.resume(series, person))

    @extend_schema(request=SaidSerializer, parameters=[IF_MATCH])
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: int) -> Response:
        """Approve what somebody else has composed, which starts it. `If-Match` is required: it
        says what you read."""
        if (version := version_seen(request)) is None:
            raise VersionNotSaid(
                _("Send If-Match with the ETag of the version that you have read.")
            )
        said = self._checked(SaidSerializer(data=request.data))["comment"]
        person = cast(User, request.user)
        return self._done(lambda series: services.approve(series, person, said, version))

    @extend_schema(request=ReasonSerializer, parameters=[IF_MATCH])
    @action(detail=True, methods=["post"])
    def reject(self, request: Request, pk: int) -> Response:
        """Reject what waits; the comment says why. It stays paused."""
        said = self._checked(ReasonSerializer(data=request.data))["comment"]
        person, version = cast(User, request.user), version_seen(request)
        return self._done(lambda series: services.reject(series, person, said, version))

    @extend_schema(request=ReasonSerializer, responses={201: ApprovalStepSerializer})
    @action(detail=True, methods=["post"])
    def comment(self, request: Request, pk: int) -> Response:
        """Say something about it; that decides nothing."""
        person = cast(User, request.user)
        if not approvals.takes_part(person):
            self.permission_denied(request)
        said = self._checked(ReasonSerializer(data=request.data))["comment"]
        step = approvals.comment(self.get_object(), person, said)
        return Response(ApprovalStepSerializer(step).data, status.HTTP_201_CREATED)

    @extend_schema(responses=ApprovalStepSerializer(many=True))
    @action(
        detail=True,
        queryset=ApprovalStep.objects.none(),
        filterset_class=None,
        ordering_fields=["id"],
    )
    def approvals(self, request: Request, pk: int) -> Response:
        """What was said about it, newest first."""
        series = get_object_or_404(Series.objects.defer("content", "targets"), pk=pk)
        steps = series.approval_steps.order_by("-id")
        page = self.paginate_queryset(self.filter_queryset(cast(Any, steps)))
        return self.get_paginated_response(ApprovalStepSerializer(page, many=True).data)

    @extend_schema(request=OccurrenceSerializer)
    @action(detail=True, methods=["post"])
    def skip(self, request: Request, pk: int) -> Response:
        """Leave out one of the next 50."""
        occurrence = self._checked(OccurrenceSerializer(data=request.data))["occurrence"]
        return self._done(lambda series: services.skip(series, occurrence))

    @extend_schema(request=OccurrenceSerializer)
    @action(detail=True, methods=["post"], url_path="put-back")
    def put_back(self, request: Request, pk: int) -> Response:
        """Let one go out after all that was left out and lies ahead."""
        occurrence = self._checked(OccurrenceSerializer(data=request.data))["occurrence"]
        return self._done(lambda series: services.put_back(series, occurrence))

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def end(self, request: Request, pk: int) -> Response:
        """End it for good; what has gone out stays."""
        return self._done(services.end)

    def _done(self, verb: Callable[[Series], Series]) -> Response:
        return self._shown(verb(self.get_object()))

    def _checked(self, serializer: serializers.BaseSerializer[Any]) -> dict[str, Any]:
        serializer.is_valid(raise_exception=True)
        return cast(dict[str, Any], serializer.validated_data)

    def _shown(self, series: Series, status: int = 200) -> Response:
        data = SeriesDetailSerializer(series).data
        return Response(data, status=status, headers=etag_of(series))
