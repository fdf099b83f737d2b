"""`/api/admin/endpoints`, `deliveries` and `retries`: where events go to, and what came of it."""

from collections.abc import Callable
from typing import Any, cast

import django_filters
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import ModelViewSet, ReadOnlyModelViewSet

from deliveries import services
from deliveries.figures import Figures, Progress, figures_of, progress_of
from deliveries.models import (
    Attempt,
    Delivery,
    DeliveryQuerySet,
    Endpoint,
    Kind,
    Retry,
    State,
    Status,
)
from jobs import clock


class EndpointSerializer(serializers.ModelSerializer[Endpoint]):
    """Where events go to. Its address is told only to who may change it."""

    url = serializers.CharField(
        max_length=1000, validators=Endpoint._meta.get_field("url").validators
    )
    patterns = serializers.ListField(
        child=serializers.CharField(),
        validators=Endpoint._meta.get_field("patterns").validators,
        help_text="Event types or their beginnings: `broadcast.*`; `*` is all.",
    )
    rate = serializers.IntegerField(
        min_value=1, allow_null=True, required=False, help_text="Most deliveries a second."
    )
    circuit = serializers.SerializerMethodField(help_text="closed, open or half-open.")
    waiting = serializers.SerializerMethodField(help_text="Deliveries that are yet to be sent.")
    success_rate = serializers.SerializerMethodField(help_text="0 to 1, in the last 24 hours.")

    class Meta:
        model = Endpoint
        fields = [
            "id",
            "name",
            "kind",
            "url",
            "patterns",
            "description",
            "rate",
            "state",
            "reason",
            "circuit",
            "failures",
            "failing_since",
            "not_before",
            "waiting",
            "success_rate",
            "created_at",
        ]
        read_only_fields = [
            "state",
            "reason",
            "failures",
            "failing_since",
            "not_before",
            "created_at",
        ]

    def update(self, instance: Endpoint, validated_data: dict[str, Any]) -> Endpoint:
        services.edit(instance, **validated_data)
        return instance

    def to_representation(self, instance: Endpoint) -> dict[str, Any]:
        shown = super().to_representation(instance)
        if not self.context["request"].user.has_perm("deliveries.change_endpoint"):
            del shown["url"]
        return shown

    def get_circuit(self, endpoint: Endpoint) -> str:
        return endpoint.circuit(self.context.get("now") or clock.now())

    def get_waiting(self, endpoint: Endpoint) -> int:
        return self._figures(endpoint).waiting

    @extend_schema_field(serializers.FloatField(allow_null=True))
    def get_success_rate(self, endpoint: Endpoint) -> float | None:
        return self._figures(endpoint).success_rate

    def _figures(self, endpoint: Endpoint) -> Figures:
        """Counted for the whole list where there is one."""
        counted: dict[int, Figures] = self.context.get("figures") or figures_of([endpoint])
        return counted[endpoint.pk]


class SecretSerializer(serializers.Serializer[Any]):
    secret = serializers.CharField(help_text="Of Standard Webhooks: `whsec_…`.")


class NewEndpointSerializer(EndpointSerializer):
    secret = serializers.SerializerMethodField(help_text="Shown now and when it is rotated.")

    class Meta(EndpointSerializer.Meta):
        fields = [*EndpointSerializer.Meta.fields, "secret"]

    def get_secret(self, endpoint: Endpoint) -> str:
        return str(endpoint.secrets[0]["value"])


class AttemptSerializer(serializers.ModelSerializer[Attempt]):
    class Meta:
        model = Attempt
        fields = [
            "number",
            "started_at",
            "duration_ms",
            "request_headers",
            "status",
            "response_headers",
            "response_body",
            "error",
            "succeeded",
        ]


class EndpointDeliverySerializer(serializers.ModelSerializer[Delivery]):
    class Meta:
        model = Delivery
        fields = [
            "id",
            "endpoint",
            "event_id",
            "type",
            "key",
            "status",
            "attempts",
            "next_attempt_at",
            "created_at",
            "completed_at",
            "error",
        ]


class EndpointDeliveryDetailSerializer(EndpointDeliverySerializer):
    each_attempt = AttemptSerializer(source="attempt_set", many=True)

    class Meta(EndpointDeliverySerializer.Meta):
        fields = [*EndpointDeliverySerializer.Meta.fields, "body", "each_attempt"]


class RetrySerializer(serializers.ModelSerializer[Retry]):
    """What was sent once more together, and how far it is."""

    id = serializers.IntegerField(
        read_only=True, allow_null=True, help_text="null: nothing was there to retry."
    )
    waiting = serializers.IntegerField(
        source="progress.waiting", help_text="Yet to go out, or to be tried again."
    )
    delivered = serializers.IntegerField(source="progress.delivered")
    undelivered = serializers.IntegerField(
        source="progress.undelivered", help_text="Failed or dead."
    )

    class Meta:
        model = Retry
        fields = ["id", "what", "by", "created_at", "count", "waiting", "delivered", "undelivered"]

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """Counted for the whole list where there is one."""
        counted: dict[int, Progress] = self.context.get("progress") or progress_of([instance])
        instance.progress = counted[instance.pk]
        return super().to_representation(instance)


class EndpointFilter(django_filters.FilterSet):
    kind = django_filters.ChoiceFilter(choices=Kind.choices)
    state = django_filters.ChoiceFilter(choices=State.choices)
    search = django_filters.CharFilter(method="with_words", help_text="In name or description.")

    def with_words(self, rows: QuerySet[Endpoint], _: str, value: str) -> QuerySet[Endpoint]:
        for word in value.split()[:10]:
            rows = rows.filter(Q(name__icontains=word) | Q(description__icontains=word))
        return rows


class DeliveryFilter(django_filters.FilterSet):
    endpoint = django_filters.NumberFilter()
    retry = django_filters.NumberFilter(help_text="What was retried together.")
    kind = django_filters.ChoiceFilter(field_name="endpoint__kind", choices=Kind.choices)
    status = django_filters.MultipleChoiceFilter(choices=Status.choices)
    type = django_filters.CharFilter()
    key = django_filters.CharFilter()
    event_id = django_filters.UUIDFilter()
    since = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    until = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")


@extend_schema(tags=["deliveries"])
class EndpointViewSet(ModelViewSet[Endpoint]):
    """Where events go to: webhooks and Discord."""

    queryset = Endpoint.objects.all()
    serializer_class = EndpointSerializer
    filterset_class = EndpointFilter
    ordering_fields = ["id", "name", "state", "created_at"]
    lookup_value_converter = "int"
    http_method_names = ["get", "post", "patch", "delete"]
    needs = {
        "list": "deliveries.view_endpoint",
        "retrieve": "deliveries.view_endpoint",
        "create": "deliveries.add_endpoint",
        "partial_update": "deliveries.change_endpoint",
        "destroy": "deliveries.delete_endpoint",
        "pause": "deliveries.change_endpoint",
        "enable": "deliveries.change_endpoint",
        "disable": "deliveries.change_endpoint",
        "rotate_secret": "deliveries.change_endpoint",
        "test": "deliveries.change_endpoint",
    }

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Endpoints with their circuit, what waits, and their success rate."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        assert page is not None
        context = {"request": request, "figures": figures_of(page), "now": clock.now()}
        return self.get_paginated_response(
            EndpointSerializer(page, many=True, context=context).data
        )

    @extend_schema(responses={201: NewEndpointSerializer})
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Make one; the answer has its secret."""
        context = self.get_serializer_context()
        serializer = NewEndpointSerializer(data=request.data, context=context)
        serializer.is_valid(raise_exception=True)
        self._note(serializer.save(), ADDITION, _("Made"))
        return Response(serializer.data, status=status.HTTP_201_CREATED)

    def perform_update(self, serializer: BaseSerializer[Endpoint]) -> None:
        self._note(serializer.save(), CHANGE, _("Changed"))

    def perform_destroy(self, instance: Endpoint) -> None:
        self._note(instance, DELETION, _("Deleted"))
        services.delete_endpoint(instance)

    @extend_schema(request=None, responses=EndpointSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: int) -> Response:
        """Its events are collected, and wait until it is enabled."""
        return self._steer(services.pause, _("Pause"))

    @extend_schema(request=None, responses=EndpointSerializer)
    @action(detail=True, methods=["post"])
    def enable(self, request: Request, pk: int) -> Response:
        """From paused or disabled: what waits goes out."""
        return self._steer(services.enable, _("Enable"))

    @extend_schema(request=None, responses=EndpointSerializer)
    @action(detail=True, methods=["post"])
    def disable(self, request: Request, pk: int) -> Response:
        """Nothing is collected for it; what waits stays."""

        def disable(endpoint: Endpoint) -> None:
            services.disable(endpoint, f"by {request.user.get_username()}")

        return self._steer(disable, _("Disable"))

    @extend_schema(request=None, responses=SecretSerializer)
    @action(detail=True, methods=["post"], url_path="rotate-secret")
    def rotate_secret(self, request: Request, pk: int) -> Response:
        """A new secret; those before it sign as well until WEBHOOK_SECRET_OVERLAP has passed."""
        endpoint = self.get_object()
        secret = services.rotate_secret(endpoint)
        self._note(endpoint, CHANGE, _("Rotate"))
        return Response({"secret": secret})

    @extend_schema(request=None, responses={202: EndpointDeliverySerializer})
    @action(detail=True, methods=["post"])
    def test(self, request: Request, pk: int) -> Response:
        """Send it an event `webhook.test`."""
        endpoint = self.get_object()
        delivery = services.send_test(endpoint)
        self._note(endpoint, CHANGE, _("Test event sent"))
        delivery.refresh_from_db()
        return Response(EndpointDeliverySerializer(delivery).data, status=status.HTTP_202_ACCEPTED)

    def _steer(self, steer: Callable[[Endpoint], None], noted: str) -> Response:
        endpoint = self.get_object()
        steer(endpoint)
        self._note(endpoint, CHANGE, noted)
        return Response(self.get_serializer(endpoint).data)

    def _note(self, endpoint: Endpoint, flag: int, noted: str) -> None:
        """For the history in the admin."""
        person: Any = self.request.user.pk
        LogEntry.objects.log_actions(
            person, [endpoint], flag, change_message=noted, single_object=True
        )


@extend_schema(tags=["deliveries"])
class DeliveryViewSet(ReadOnlyModelViewSet[Delivery]):
    """One event for one endpoint, with each attempt."""

    queryset = Delivery.objects.all()
    serializer_class = EndpointDeliveryDetailSerializer
    filterset_class = DeliveryFilter
    ordering_fields = ["id", "status", "created_at", "completed_at", "next_attempt_at"]
    lookup_value_converter = "int"
    needs = {
        "list": "deliveries.view_delivery",
        "retrieve": "deliveries.view_delivery",
        "retry": "deliveries.change_delivery",
        "retry_all": "deliveries.change_delivery",
    }

    def get_queryset(self) -> QuerySet[Delivery]:
        rows = super().get_queryset()
        return rows.defer("body") if self.action != "retrieve" else rows

    def get_serializer_class(self) -> type[EndpointDeliverySerializer]:
        return (
            EndpointDeliverySerializer
            if self.action == "list"
            else EndpointDeliveryDetailSerializer
        )

    @extend_schema(request=None, responses={202: RetrySerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: int) -> Response:
        """Send it once more under its old id, with as many attempts as the first time."""
        delivery = self.get_object()
        retried = self._retry(Delivery.objects.filter(pk=delivery.pk), str(delivery))
        if not retried.count:
            raise services.InvalidTransition(_("It is on its way already."))
        return Response(RetrySerializer(retried).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(
        operation_id="deliveries_retry_all",
        request=None,
        responses={202: RetrySerializer},
        filters=True,
    )
    @action(detail=False, methods=["post"], url_path="retry")
    def retry_all(self, request: Request) -> Response:
        """Retry what the filters find and is failed or dead; with `status=SUCCESS` that, too.

        `/api/admin/retries/<id>` tells how far it is.
        """
        rows = cast(DeliveryQuerySet, self.filter_queryset(self.get_queryset()))
        chosen = rows if request.query_params.getlist("status") else rows.undelivered()
        filters = [f"{name}={value}" for name, value in request.query_params.items()]
        retried = self._retry(chosen, ", ".join(filters) or _("All"))
        return Response(RetrySerializer(retried).data, status=status.HTTP_202_ACCEPTED)

    def _retry(self, deliveries: DeliveryQuerySet, what: str) -> Retry:
        return services.retry(deliveries, what, self.request.user.get_username())


@extend_schema(tags=["deliveries"])
class RetryViewSet(ReadOnlyModelViewSet[Retry]):
    """What was sent once more together, and how far it is."""

    queryset = Retry.objects.all()
    serializer_class = RetrySerializer
    ordering_fields = ["id", "created_at", "count"]
    lookup_value_converter = "int"
    needs = {"list": "deliveries.view_retry", "retrieve": "deliveries.view_retry"}

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Retries, the newest first."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        assert page is not None
        context = {"progress": progress_of(page)}
        return self.get_paginated_response(RetrySerializer(page, many=True, context=context).data)
