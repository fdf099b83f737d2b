"""`/api/admin/broadcasts`: what operators do."""

import re
from typing import Any, cast

import django_filters
from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Q
from django.db.models.functions import Now
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    extend_schema,
    extend_schema_field,
)
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from broadcasts import services
from broadcasts.api.approvals import IF_MATCH, ApprovalActions, etag_of, version_seen
from broadcasts.api.fields import (
    PRIORITIES,
    FromTemplate,
    PriorityField,
    TargetsField,
    TranslationsField,
)
from broadcasts.api.proof import ProofMixin, StatisticsSerializer
from broadcasts.directory import ids_in
from broadcasts.models import (
    Approval,
    Audience,
    Broadcast,
    BroadcastQuerySet,
    Receipt,
    ReceiptStatus,
    Status,
)
from broadcasts.receipts import statistics_of
from outbox.models import Priority

MOST_TARGETS = 1_000  # shown with one broadcast
USER_ID = re.compile(r"[1-9][0-9]{0,17}")


class BroadcastSerializer(serializers.ModelSerializer[Broadcast]):
    """A broadcast in a list: without its content and targets, which may be long."""

    priority = PriorityField()
    target_count = serializers.IntegerField()
    statistics = serializers.SerializerMethodField()

    class Meta:
        model = Broadcast
        fields = [
            "id",
            "correlation_id",
            "external_id",
            "title",
            "category",
            "priority",
            "reference",
            "series_id",
            "audience",
            "target_count",
            "fire_and_forget",
            "force_logoff",
            "requires_acknowledgement",
            "shorten_links",
            "status",
            "version",
            "approval",
            "sender_name",
            "scheduled_at",
            "expires_at",
            "activated_at",
            "finished_at",
            "reminded_at",
            "created_at",
            "updated_at",
            "progress",
            "attempts",
            "next_attempt_at",
            "last_error",
            "cancel_reason",
            "statistics",
        ]

    @extend_schema_field(StatisticsSerializer)
    def get_statistics(self, broadcast: Broadcast) -> Any:
        return StatisticsSerializer(self.context["statistics"][broadcast.pk]).data


class BroadcastDetailSerializer(BroadcastSerializer):
    translations = TranslationsField()
    targets = serializers.SerializerMethodField(help_text=f"The first {MOST_TARGETS}.")
    targets_truncated = serializers.SerializerMethodField()

    class Meta(BroadcastSerializer.Meta):
        fields = [
            *BroadcastSerializer.Meta.fields,
            "content",
            "language",
            "translations",
            "targets",
            "targets_truncated",
        ]

    def get_targets(self, broadcast: Broadcast) -> list[str]:
        return list(broadcast.targets[:MOST_TARGETS])

    def get_targets_truncated(self, broadcast: Broadcast) -> bool:
        return len(broadcast.targets) > MOST_TARGETS


class AudienceSerializer(serializers.Serializer[Any]):
    audience = serializers.ChoiceField(choices=Audience.choices, default=Audience.ALL)
    targets = TargetsField(
        required=False, help_text="Role names, product slugs or user ids; none for everyone."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        audience = attrs.get("audience", getattr(self.instance, "audience", None))
        targets = attrs.get("targets", getattr(self.instance, "targets", []))
        wrong = [target for target in targets if not USER_ID.fullmatch(target)]
        if audience == Audience.SELECTED and wrong:
            message = _("These are no user ids: %(wrong)s.") % {"wrong": ", ".join(wrong[:10])}
            raise serializers.ValidationError({"targets": [message]})
        return attrs


class PreviewRequestSerializer(AudienceSerializer):
    search = serializers.CharField(default="", allow_blank=True, max_length=200)


class PersonSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(allow_null=True)
    username = serializers.CharField()
    name = serializers.CharField()


class PreviewSerializer(serializers.Serializer[Any]):
    """How many people an audience has, and a sample of those that `search` finds."""

    count = serializers.IntegerField()
    people = PersonSerializer(many=True)


class DraftSerializer(AudienceSerializer, serializers.ModelSerializer[Broadcast]):
    priority = PriorityField(default=Priority.NORMAL)
    translations = TranslationsField(required=False)
    external_id = serializers.CharField(
        max_length=200,
        required=False,
        allow_null=True,
        help_text="Your own id for it: a second broadcast with the same one is refused.",
    )

    class Meta:
        model = Broadcast
        fields = [
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
            "shorten_links",
            "scheduled_at",
            "expires_at",
            "external_id",
        ]

    def validate_shorten_links(self, value: bool) -> bool:
        if value and not settings.LINK_SHORTENER:
            raise serializers.ValidationError(_("Nothing shortens links here: leave it off."))
        return value


class ComposeSerializer(FromTemplate, DraftSerializer):
    send = serializers.BooleanField(
        default=True, help_text="False keeps a draft; else it goes out now, or at `scheduled_at`."
    )

    class Meta(DraftSerializer.Meta):
        fields = [*DraftSerializer.Meta.fields, "template", "values", "send"]


class SendSerializer(serializers.Serializer[Any]):
    scheduled_at = serializers.DateTimeField(
        required=False, allow_null=True, default=None, help_text="Empty or past means now."
    )


class CancelSerializer(serializers.Serializer[Any]):
    reason = serializers.CharField(default="", allow_blank=True, max_length=500)


class DeliverySerializer(serializers.ModelSerializer[Receipt]):
    """What happened to the broadcast at one person."""

    username = serializers.CharField(source="user.username")
    name = serializers.CharField(source="user.get_full_name")

    class Meta:
        model = Receipt
        fields = [
            "id",
            "user_id",
            "username",
            "name",
            "status",
            "created_at",
            "delivered_at",
            "seen_at",
            "read_at",
            "acknowledged_at",
            "dismissed_at",
        ]


class BroadcastFilter(django_filters.FilterSet):
    filter = django_filters.ChoiceFilter(
        method="of_kind",
        choices=[("all", "All"), ("active", "Active"), ("scheduled", "Scheduled")],
        empty_label=None,
        help_text="`active`: in inboxes now; `scheduled`: waiting for their moment.",
    )
    status = django_filters.MultipleChoiceFilter(choices=Status.choices)
    audience = django_filters.MultipleChoiceFilter(choices=Audience.choices)
    priority = django_filters.MultipleChoiceFilter(choices=PRIORITIES, method="of_priority")
    approval = django_filters.MultipleChoiceFilter(choices=Approval.choices)
    category = django_filters.CharFilter()
    series = django_filters.CharFilter(
        method="of_series", help_text="Those that the series with this id made."
    )
    created_after = django_filters.IsoDateTimeFilter("created_at", "gte")
    created_before = django_filters.IsoDateTimeFilter("created_at", "lt")
    scheduled_after = django_filters.IsoDateTimeFilter("scheduled_at", "gte")
    scheduled_before = django_filters.IsoDateTimeFilter("scheduled_at", "lt")
    search = django_filters.CharFilter(
        method="with_words",
        help_text="Each word in the title, the content, the reference or the sender's name.",
    )

    def of_kind(self, broadcasts: BroadcastQuerySet, _: str, value: str) -> BroadcastQuerySet:
        if value == "active":
            return broadcasts.visible(Now())
        return broadcasts.filter(status=Status.SCHEDULED) if value == "scheduled" else broadcasts

    def of_series(self, broadcasts: BroadcastQuerySet, _: str, value: str) -> BroadcastQuerySet:
        return broadcasts.filter(series_id__in=ids_in([value]))

    def of_priority(
        self, broadcasts: BroadcastQuerySet, _: str, names: list[str]
    ) -> BroadcastQuerySet:
        return broadcasts.filter(priority__in=[Priority[n] for n in names]) if names else broadcasts

    def with_words(self, broadcasts: BroadcastQuerySet, _: str, value: str) -> BroadcastQuerySet:
        for word in value.split()[:10]:
            broadcasts = broadcasts.filter(
                Q(title__icontains=word)
                | Q(content__icontains=word)
                | Q(reference__icontains=word)
                | Q(sender_name__icontains=word)
            )
        return broadcasts


class DeliveryFilter(django_filters.FilterSet):
    status = django_filters.MultipleChoiceFilter(choices=ReceiptStatus.choices)
    search = django_filters.CharFilter(
        "user__username", "icontains", help_text="Part of the username."
    )


EXAMPLE = OpenApiExample(
    "Maintenance for two products",
    request_only=True,
    value={
        "title": "Maintenance tonight",
        "content": "The shop is **read-only** from 22:00 to 23:00.",
        "category": "maintenance",
        "priority": "HIGH",
        "reference": "CHG-1042",
        "audience": "PRODUCT",
        "targets": ["shop", "checkout"],
        "scheduled_at": "2030-01-31T21:00:00Z",
        "expires_at": "2030-01-31T23:00:00Z",
    },
)


@extend_schema(tags=["broadcasts"])
class BroadcastViewSet(ApprovalActions, ProofMixin, GenericViewSet[Broadcast]):
    queryset = Broadcast.objects.all()
    serializer_class = BroadcastDetailSerializer
    filterset_class = BroadcastFilter
    ordering_fields = [
        "id",
        "title",
        "status",
        "priority",
        "created_at",
        "scheduled_at",
        "activated_at",
        "expires_at",
    ]
    lookup_value_converter = "int"
    needs = {
        "list": "broadcasts.view_broadcast",
        "retrieve": "broadcasts.view_broadcast",
        "stats": "broadcasts.view_broadcast",
        "deliveries": "broadcasts.view_broadcast",
        "unseen": "broadcasts.view_broadcast",
        "export": "broadcasts.view_broadcast",
        "remind": "broadcasts.send_broadcast",
        "create": "broadcasts.add_broadcast",
        "preview": "broadcasts.add_broadcast",
        "duplicate": "broadcasts.add_broadcast",
        "partial_update": "broadcasts.change_broadcast",
        "send": "broadcasts.send_broadcast",
        "destroy": "broadcasts.send_broadcast",
        "retry": "broadcasts.send_broadcast",
        **ApprovalActions.needs,
    }

    @extend_schema(responses=BroadcastSerializer(many=True))
    def list(self, request: Request) -> Response:
        """Broadcasts, newest first, with their statistics."""
        found = cast(BroadcastQuerySet, self.filter_queryset(self.get_queryset()))
        page = self.paginate_queryset(
            found.with_target_count().defer("content", "translations", "targets")
        )
        assert page is not None
        context = {"statistics": statistics_of(page)}
        return self.get_paginated_response(
            BroadcastSerializer(page, many=True, context=context).data
        )

    @extend_schema(
        request=ComposeSerializer, responses={201: BroadcastDetailSerializer}, examples=[EXAMPLE]
    )
    def create(self, request: Request) -> Response:
        """Compose a broadcast and send it: now, or at its `scheduled_at`.

        Sending needs the permission `send_broadcast`; `send: false` keeps a draft. What cannot be
        sent is not kept. One whose `expires_at` has passed is kept as EXPIRED and not sent.
        """
        fields = self._checked(ComposeSerializer(data=request.data))
        sends = fields.pop("send")
        if sends and not request.user.has_perm("broadcasts.send_broadcast"):
            self.permission_denied(request, message=_("You may write drafts: add `send: false`."))
        compose = services.compose_and_send if sends else services.compose
        return self._shown(compose(cast(User, request.user), **fields), status.HTTP_201_CREATED)

    def retrieve(self, request: Request, pk: int) -> Response:
        """One broadcast, with its content and its first 1,000 targets."""
        return self._shown(self._broadcast(pk))

    @extend_schema(request=DraftSerializer, parameters=[IF_MATCH])
    def partial_update(self, request: Request, pk: int) -> Response:
        """Change a draft; an approval of what it said before is void.

        With `If-Match`, only if it still is the version that you have seen.
        """
        draft = self._broadcast(pk)
        fields = self._checked(DraftSerializer(draft, data=request.data, partial=True))
        editor, version = cast(User, request.user), version_seen(request)
        return self._shown(services.edit(draft, editor=editor, version=version, **fields))

    @extend_schema(
        parameters=[
            OpenApiParameter("reason", OpenApiTypes.STR, description="Why, for the record.")
        ],
        responses={204: None},
    )
    def destroy(self, request: Request, pk: int) -> Response:
        """Cancel it: it leaves the inboxes and the connected screens."""
        given = request.data or request.query_params
        services.cancel(self._broadcast(pk), **self._checked(CancelSerializer(data=given)))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=SendSerializer, parameters=[IF_MATCH])
    @action(detail=True, methods=["post"])
    def send(self, request: Request, pk: int) -> Response:
        """Send a draft now, or at a moment.

        409 `approval_needed` when a second person must approve it first; its message says why.
        """
        fields = self._checked(SendSerializer(data=request.data))
        draft, version = self._broadcast(pk), version_seen(request)
        return self._shown(services.send(draft, fields["scheduled_at"], version=version))

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: int) -> Response:
        """Prepare a failed broadcast again, from where it stood."""
        return self._shown(services.retry(self._broadcast(pk)))

    @extend_schema(request=None, responses={201: BroadcastDetailSerializer})
    @action(detail=True, methods=["post"])
    def duplicate(self, request: Request, pk: int) -> Response:
        """A new draft with the same words and audience."""
        copy = services.duplicate(self._broadcast(pk), cast(User, request.user))
        return self._shown(copy, status.HTTP_201_CREATED)

    @extend_schema(responses=DeliverySerializer(many=True))
    @action(
        detail=True,
        queryset=Receipt.objects.none(),
        filterset_class=DeliveryFilter,
        ordering_fields=["id", "delivered_at", "seen_at", "read_at", "acknowledged_at"],
    )
    def deliveries(self, request: Request, pk: int) -> Response:
        """What happened at whom.

        Selected people are all listed; of everyone, roles and products those whom something
        reached.
        """
        receipts = self._broadcast(pk).receipts.select_related("user").order_by("id")
        page = self.paginate_queryset(self.filter_queryset(cast(Any, receipts)))
        return self.get_paginated_response(DeliverySerializer(page, many=True).data)

    @extend_schema(
        methods=["GET"], parameters=[PreviewRequestSerializer], responses=PreviewSerializer
    )
    @extend_schema(methods=["POST"], request=PreviewRequestSerializer, responses=PreviewSerializer)
    @action(detail=False, methods=["get", "post"], filterset_class=None, pagination_class=None)
    def preview(self, request: Request) -> Response:
        """Who would get it: how many, and a sample. POST takes what is too long for an address."""
        given = request.query_params if request.method == "GET" else request.data
        fields = self._checked(PreviewRequestSerializer(data=given))
        found = services.preview(fields["audience"], fields.get("targets", []), fields["search"])
        return Response(PreviewSerializer(found).data)

    def _broadcast(self, pk: int) -> Broadcast:
        return get_object_or_404(Broadcast, pk=pk)

    def _checked(self, serializer: serializers.BaseSerializer[Any]) -> dict[str, Any]:
        serializer.is_valid(raise_exception=True)
        return cast(dict[str, Any], serializer.validated_data)

    def _shown(self, broadcast: Broadcast, status: int = 200) -> Response:
        setattr(broadcast, "target_count", len(broadcast.targets))  # noqa: B010
        context = {"statistics": statistics_of([broadcast])}
        data = BroadcastDetailSerializer(broadcast, context=context).data
        return Response(data, status=status, headers=etag_of(broadcast))
