"""`/api/admin/dlt` and `/api/admin/outbox`: what did not go out, and what waits."""

from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet, ReadOnlyModelViewSet

from outbox.backlog import Backlog, backlog
from outbox.deadletters import NotRedrivable, RedriveResult, purge, purge_all, redrive_all
from outbox.models import DeadLetter, Event


class DeadLetterSerializer(serializers.ModelSerializer[DeadLetter]):
    """An event that could not be published (source `relay`) or consumed (source: the group)."""

    class Meta:
        model = DeadLetter
        fields = [
            "id",
            "source",
            "event_id",
            "type",
            "topic",
            "partition",
            "position",
            "key",
            "error",
            "attempts",
            "failed_at",
        ]


class DeadLetterDetailSerializer(DeadLetterSerializer):
    payload = serializers.DictField(help_text="The CloudEvents envelope.")

    class Meta(DeadLetterSerializer.Meta):
        fields = [*DeadLetterSerializer.Meta.fields, "payload", "traceback"]


class FailureSerializer(serializers.Serializer[Any]):
    dead_letter_id = serializers.IntegerField()
    reason = serializers.CharField()


class RedriveResultSerializer(serializers.Serializer[Any]):
    total_messages = serializers.IntegerField()
    success_count = serializers.IntegerField()
    failure_count = serializers.IntegerField()
    failures = FailureSerializer(many=True)


class PurgedSerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField()


class BacklogSerializer(serializers.Serializer[Backlog]):
    """How the outbox stands."""

    depth = serializers.IntegerField(help_text="Events that wait to be published.")
    oldest_pending_seconds = serializers.FloatField(allow_null=True)
    parked = serializers.IntegerField(help_text="Events that wait for a redrive or a purge.")
    position = serializers.IntegerField(help_text="Of the last event published.")
    leader = serializers.CharField(allow_null=True, help_text="Null: no relay leads now.")
    leader_since = serializers.DateTimeField(allow_null=True)


class DeadLetterFilter(django_filters.FilterSet):
    source = django_filters.CharFilter()
    type = django_filters.CharFilter()
    topic = django_filters.CharFilter()
    search = django_filters.CharFilter(
        method="with_words", help_text="Each word in the type, the key or the error."
    )

    def with_words(self, letters: QuerySet[DeadLetter], _: str, value: str) -> QuerySet[DeadLetter]:
        for word in value.split()[:10]:
            letters = letters.filter(
                Q(type__icontains=word) | Q(key__icontains=word) | Q(error__icontains=word)
            )
        return letters


@extend_schema(tags=["dead letters"])
class DeadLetterViewSet(ReadOnlyModelViewSet[DeadLetter]):
    """Events that could not be published or consumed."""

    queryset = DeadLetter.objects.all()
    serializer_class = DeadLetterDetailSerializer
    filterset_class = DeadLetterFilter
    ordering_fields = ["id", "failed_at", "source", "type", "attempts"]
    lookup_value_converter = "int"
    needs = {
        "list": "outbox.view_deadletter",
        "retrieve": "outbox.view_deadletter",
        "redrive": "outbox.change_deadletter",
        "redrive_all": "outbox.change_deadletter",
        "purge": "outbox.delete_deadletter",
        "purge_all": "outbox.delete_deadletter",
    }

    def get_queryset(self) -> QuerySet[DeadLetter]:
        letters = super().get_queryset()
        return letters.defer("payload", "traceback") if self.action == "list" else letters

    def get_serializer_class(self) -> type[DeadLetterSerializer]:
        return DeadLetterSerializer if self.action == "list" else DeadLetterDetailSerializer

    @extend_schema(request=None, responses={204: None})
    def redrive(self, request: Request, pk: int) -> Response:
        """Give the event back to where it failed, and put right what the failure marked."""
        for _, reason in redrive_all([self.get_object()]).failures:
            raise NotRedrivable(reason)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses=RedriveResultSerializer, filters=True)
    def redrive_all(self, request: Request) -> Response:
        """Redrive all that the filters find, oldest first; one failure does not stop the others."""
        return Response(outcome_of(redrive_all(self._chosen())))

    @extend_schema(responses={204: None})
    def purge(self, request: Request, pk: int) -> Response:
        """Forget the event for good; what waited behind it in its key flows again."""
        purge(self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(responses=PurgedSerializer, filters=True)
    def purge_all(self, request: Request) -> Response:
        """Forget all that the filters find."""
        return Response({"count": purge_all(self._chosen())})

    def _chosen(self) -> QuerySet[DeadLetter]:
        return self.filter_queryset(self.get_queryset()).order_by("id")


def outcome_of(result: RedriveResult) -> dict[str, Any]:
    return {
        "total_messages": result.total,
        "success_count": result.succeeded,
        "failure_count": len(result.failures),
        "failures": [{"dead_letter_id": pk, "reason": why} for pk, why in result.failures],
    }


@extend_schema(tags=["outbox"])
class OutboxViewSet(GenericViewSet[Event]):
    queryset = Event.objects.none()
    pagination_class = None
    needs = {"health": "outbox.view_event"}

    @extend_schema(responses=BacklogSerializer, filters=False)
    def health(self, request: Request) -> Response:
        """What waits, since when, and who publishes it."""
        return Response(BacklogSerializer(backlog()).data)
