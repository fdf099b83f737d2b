"""`/api/admin/connectors`: what the health page shows, and its buttons."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import django_filters
from django.conf import settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet, ReadOnlyModelViewSet

from operations.debezium import steering
from operations.debezium.client import ConnectError
from operations.debezium.models import Cluster, Connector, ConnectorChange, State, Task

HISTORY = 20  # changes that one connector comes with


class TaskSerializer(serializers.ModelSerializer[Task]):
    class Meta:
        model = Task
        fields = ["number", "state", "worker_id", "since"]


class TaskDetailSerializer(TaskSerializer):
    class Meta(TaskSerializer.Meta):
        fields = [*TaskSerializer.Meta.fields, "trace"]


class ChangeSerializer(serializers.ModelSerializer[ConnectorChange]):
    class Meta:
        model = ConnectorChange
        fields = ["at", "task", "what", "by", "trace"]


class ConnectorSerializer(serializers.ModelSerializer[Connector]):
    tasks: Any = TaskSerializer(many=True)

    class Meta:
        model = Connector
        fields = [
            "name",
            "state",
            "since",
            "worker_id",
            "seen_at",
            "class_name",
            "database",
            "declared",
            "problem",
            "problem_since",
            "mendable",
            "restarts",
            "restarts_total",
            "restarted_at",
            "next_restart_at",
            "slot",
            "slot_active",
            "slot_retained",
            "slot_lag",
            "slot_note",
            "tasks",
        ]


class ConnectorDetailSerializer(ConnectorSerializer):
    tasks = TaskDetailSerializer(many=True)
    changes = serializers.SerializerMethodField(help_text=f"The last {HISTORY}, newest first.")

    class Meta(ConnectorSerializer.Meta):
        fields = [*ConnectorSerializer.Meta.fields, "trace", "changes"]

    @extend_schema(responses=ChangeSerializer(many=True))
    def get_changes(self, connector: Connector) -> list[dict[str, Any]]:
        return list(ChangeSerializer(connector.changes.all()[:HISTORY], many=True).data)


class ClusterSerializer(serializers.ModelSerializer[Cluster]):
    watched = serializers.SerializerMethodField(help_text="Whether DEBEZIUM_URL is set.")
    reachable = serializers.SerializerMethodField()

    class Meta:
        model = Cluster
        fields = ["watched", "reachable", "checked_at", "answered_at", "error", "note"]

    def get_watched(self, cluster: Cluster) -> bool:
        return bool(settings.DEBEZIUM_URL)

    def get_reachable(self, cluster: Cluster) -> bool | None:
        return not cluster.error if cluster.checked_at else None


class ConnectorFilter(django_filters.FilterSet):
    state = django_filters.MultipleChoiceFilter(choices=State.choices)
    declared = django_filters.BooleanFilter()
    has_problem = django_filters.BooleanFilter(
        field_name="problem_since", lookup_expr="isnull", exclude=True
    )


@extend_schema(tags=["connectors"])
class ClusterViewSet(GenericViewSet[Cluster]):
    queryset = Cluster.objects.none()
    serializer_class = ClusterSerializer
    pagination_class = None
    needs = {"retrieve": "operations.view_connector"}

    @extend_schema(operation_id="connect_retrieve", responses=ClusterSerializer)
    def retrieve(self, request: Request) -> Response:
        """Kafka Connect itself: whether it answered when it was last asked; null: never asked."""
        return Response(ClusterSerializer(Cluster.objects.first() or Cluster()).data)


@extend_schema(tags=["connectors"])
class ConnectorViewSet(ReadOnlyModelViewSet[Connector]):
    """Connectors as Kafka Connect last told them, and what steers them."""

    queryset = Connector.objects.prefetch_related("tasks")
    serializer_class = ConnectorDetailSerializer
    filterset_class = ConnectorFilter
    ordering_fields = ["name", "state", "since", "slot_retained", "slot_lag"]
    lookup_field = lookup_url_kwarg = "name"
    lookup_value_converter = "str"
    needs = {
        "list": "operations.view_connector",
        "retrieve": "operations.view_connector",
        "restart": "operations.steer_connector",
        "pause": "operations.steer_connector",
        "resume": "operations.steer_connector",
    }

    def get_queryset(self) -> QuerySet[Connector]:
        rows = super().get_queryset()
        return rows.defer("trace") if self.action == "list" else rows

    def get_serializer_class(self) -> type[ConnectorSerializer]:
        return ConnectorSerializer if self.action == "list" else ConnectorDetailSerializer

    @extend_schema(request=None, responses=ConnectorDetailSerializer)
    @action(detail=True, methods=["post"])
    def restart(self, request: Request, name: str) -> Response:
        """It and all its tasks, with a new budget of restarts."""
        return self._steer(steering.restart, _("Restarted"))

    @extend_schema(request=None, responses=ConnectorDetailSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, name: str) -> Response:
        """It keeps its place, and the database its log."""
        return self._steer(steering.pause, _("Paused"))

    @extend_schema(request=None, responses=ConnectorDetailSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, name: str) -> Response:
        """It goes on from where it stood."""
        return self._steer(steering.resume, _("Resumed"))

    def _steer(self, steer: Callable[[str, str], None], noted: str) -> Response:
        connector = self.get_object()
        steer(connector.name, self.request.user.get_username())
        person: Any = self.request.user.pk  # signed in: the history in the admin names them
        LogEntry.objects.log_actions(
            person, [connector], CHANGE, change_message=noted, single_object=True
        )
        with suppress(ConnectError):  # what was asked for is done: the row is as last seen
            steering.watch(connector.name)
        return Response(ConnectorDetailSerializer(self.get_object()).data)
