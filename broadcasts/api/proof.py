"""`/api/admin/broadcasts/{id}/…`: what became of a broadcast, who has not seen it, reminders."""

from dataclasses import asdict
from typing import Any, cast

from django.contrib.auth.models import User
from django.http import StreamingHttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from broadcasts import proof
from broadcasts.exports import export
from broadcasts.models import Broadcast, Reminder
from broadcasts.receipts import Statistics, statistics
from broadcasts.reminders import count_unseen, remind, unseen
from broadcasts.shortening import clicked


class StatisticsSerializer(serializers.Serializer[Statistics]):
    """People, each counted once. Rates lie between 0 and 1; null when nobody was targeted."""

    targeted = serializers.IntegerField()
    delivered = serializers.IntegerField(help_text="Of fire and forget: whom it reached.")
    seen = serializers.IntegerField()
    read = serializers.IntegerField()
    acknowledged = serializers.IntegerField()
    dismissed = serializers.IntegerField()
    delivery_rate = serializers.FloatField(allow_null=True)
    seen_rate = serializers.FloatField(allow_null=True)
    read_rate = serializers.FloatField(allow_null=True)
    acknowledgement_rate = serializers.FloatField(allow_null=True)


class CountsSerializer(serializers.Serializer[Any]):
    delivered = serializers.IntegerField()
    seen = serializers.IntegerField()
    read = serializers.IntegerField()
    acknowledged = serializers.IntegerField()


class BarSerializer(serializers.Serializer[proof.Bar]):
    start = serializers.DateTimeField()
    counts = CountsSerializer()


class RoleSerializer(serializers.Serializer[proof.Role]):
    name = serializers.CharField(help_text="Empty for those who have none.")
    counts = CountsSerializer()


class PublicationSerializer(serializers.Serializer[proof.Publication]):
    """Of its events: nothing once the log has let them go."""

    events = serializers.IntegerField()
    published = serializers.IntegerField()
    first = serializers.DateTimeField(allow_null=True)
    last = serializers.DateTimeField(allow_null=True)


class ReminderSerializer(serializers.ModelSerializer[Reminder]):
    people = serializers.IntegerField(help_text="Reminded so far.")

    class Meta:
        model = Reminder
        fields = ["id", "created_at", "finished_at", "people", "sender_name", "last_error"]


class LinkClicksSerializer(serializers.Serializer[Any]):
    url = serializers.CharField(help_text="Where it leads to.")
    short_url = serializers.CharField()
    clicks = serializers.IntegerField(help_text="Without bots.")
    people = serializers.IntegerField(help_text="Those of them that were signed in.")


class ProofSerializer(StatisticsSerializer):
    """As in the list, and more."""

    delivered_at_once = serializers.IntegerField(help_text="Within a minute.")
    first_delivery = serializers.DateTimeField(allow_null=True)
    last_delivery = serializers.DateTimeField(allow_null=True)
    median_seconds = serializers.FloatField(allow_null=True, help_text="To deliver it.")
    p95_seconds = serializers.FloatField(
        allow_null=True, help_text="Of 100 people, 95 waited no longer for their delivery."
    )
    publication = PublicationSerializer()
    bar_days = serializers.IntegerField(help_text="What a bar covers; 0: an hour.")
    bars = BarSerializer(many=True)
    roles = RoleSerializer(
        many=True, allow_null=True, help_text="Null when only the user service knows them."
    )
    reminders = ReminderSerializer(many=True)
    links = LinkClicksSerializer(
        many=True, allow_null=True, help_text="Null when its links are not shortened."
    )


class UnseenQuerySerializer(serializers.Serializer[Any]):
    search = serializers.CharField(default="", allow_blank=True, max_length=200)
    after = serializers.CharField(
        default="", allow_blank=True, max_length=150, help_text="`after` of the page before."
    )
    limit = serializers.IntegerField(default=50, min_value=1, max_value=1_000)


class UnseenPersonSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    username = serializers.CharField()
    name = serializers.CharField()


class UnseenSerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField(help_text="All, whatever is searched.")
    people = UnseenPersonSerializer(many=True, help_text="By username.")
    after = serializers.CharField(allow_null=True, help_text="For the next page; null on the last.")


class CsvRenderer(BaseRenderer):
    """Only so that `Accept: text/csv` is not refused: the rows are streamed, not rendered."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        return JSONRenderer().render(data)  # an error


def proof_of(broadcast: Broadcast) -> dict[str, Any]:
    """A fixed number of queries, whatever its receipts are."""
    counted = statistics(broadcast)
    found = proof.deliveries(broadcast)
    waits = proof.waits(broadcast, found.count)
    course = proof.course(broadcast)
    roles = proof.roles(broadcast)
    followed = clicked(broadcast)
    return StatisticsSerializer(counted).data | {
        "delivered_at_once": found.at_once,
        "first_delivery": found.first,
        "last_delivery": found.last,
        "median_seconds": waits.median and waits.median.total_seconds(),
        "p95_seconds": waits.p95 and waits.p95.total_seconds(),
        "publication": proof.publication(broadcast),
        "bar_days": course.days,
        "bars": [asdict(bar) for bar in course.bars],
        "roles": None if roles is None else [asdict(role) for role in roles],
        "reminders": broadcast.reminders.all()[:100],
        "links": followed and followed["links"],
    }


class ProofMixin(GenericViewSet[Broadcast]):
    """Part of the viewset of broadcasts."""

    @extend_schema(responses=ProofSerializer, filters=False)
    @action(detail=True)
    def stats(self, request: Request, pk: int) -> Response:
        """How many got, saw, read and acknowledged it: in all, by hour or day, by role; how fast.

        `docs/proof.md` says what exactly each number counts.
        """
        return Response(ProofSerializer(cast(Any, proof_of(self._one(pk)))).data)

    @extend_schema(parameters=[UnseenQuerySerializer], responses=UnseenSerializer, filters=False)
    @action(detail=True)
    def unseen(self, request: Request, pk: int) -> Response:
        """Who has not seen it, by username. A page may be short although another follows."""
        query = UnseenQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        broadcast = self._one(pk)
        found = unseen(broadcast, **query.validated_data)
        shown = {"count": count_unseen(broadcast), "people": found.people, "after": found.after}
        return Response(UnseenSerializer(shown).data)

    @extend_schema(request=None, responses={201: ReminderSerializer})
    @action(detail=True, methods=["post"])
    def remind(self, request: Request, pk: int) -> Response:
        """Send it once more to who has not seen it: at most once in ten minutes (else 409).

        Where they are many, `finished_at` is null and the relay's process goes on.
        """
        reminder = remind(self._one(pk), cast(User, request.user))
        return Response(ReminderSerializer(reminder).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={(200, "text/csv"): OpenApiTypes.STR}, filters=False)
    @action(detail=True, renderer_classes=[JSONRenderer, CsvRenderer])
    def export(self, request: Request, pk: int) -> StreamingHttpResponse:
        """Its receipts as CSV, streamed; the header `X-Total-Count` says how many rows follow."""
        return export(request._request, self._one(pk), mark=False)

    def _one(self, pk: int) -> Broadcast:
        return get_object_or_404(Broadcast, pk=pk)
