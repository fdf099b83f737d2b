"""`/api/twitch`: a bot tells what happens in its channels, and asks what to answer."""

from typing import Any, cast

import django_filters
from django.db import transaction
from django.shortcuts import get_object_or_404
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet, ModelViewSet, ReadOnlyModelViewSet

from domains.twitch import services
from domains.twitch.ingest import ingest
from domains.twitch.models import ChannelViewer, Clip, Command, Message, Stream, Viewer
from domains.twitch.serializers import (
    AnswerSerializer,
    BotCommandSerializer,
    CallSerializer,
    ChannelViewerSerializer,
    ChatBatchSerializer,
    ChatMessageSerializer,
    ClipSerializer,
    IngestedSerializer,
    NewStreamSerializer,
    StreamSerializer,
    ViewerSerializer,
    ViewersSerializer,
)
from domains.twitch.services import Caller
from jobs.cursors import Newest


class NewestSent(Newest):
    ordering = ("-sent_at", "-pk")


def given(serializer: type[BaseSerializer[Any]], request: Request) -> dict[str, Any]:
    """What was sent, checked."""
    sent = serializer(data=request.data)
    sent.is_valid(raise_exception=True)
    return cast(dict[str, Any], sent.validated_data)


class StreamFilter(django_filters.FilterSet):
    channel = django_filters.CharFilter()
    active = django_filters.BooleanFilter("ended_at", lookup_expr="isnull")
    chat_only = django_filters.BooleanFilter("is_chat_only")
    search = django_filters.CharFilter("title", "icontains", help_text="Part of the title.")
    since = django_filters.IsoDateTimeFilter("started_at", "gte")
    until = django_filters.IsoDateTimeFilter("started_at", "lt")


@extend_schema(tags=["twitch"])
class StreamViewSet(mixins.CreateModelMixin, mixins.UpdateModelMixin, ReadOnlyModelViewSet[Stream]):
    queryset = Stream.objects.all()
    serializer_class = StreamSerializer
    filterset_class = StreamFilter
    ordering_fields = ["id", "started_at", "ended_at", "peak_viewers", "total_messages"]
    lookup_value_converter = "int"
    http_method_names = ["get", "post", "patch"]
    needs = {
        "list": "twitch.view_stream",
        "retrieve": "twitch.view_stream",
        "create": "twitch.add_stream",
        "partial_update": "twitch.change_stream",
        "end": "twitch.change_stream",
        "viewers": "twitch.change_stream",
    }

    @extend_schema(
        request=NewStreamSerializer, responses={200: StreamSerializer, 201: StreamSerializer}
    )
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """A stream began (201), or is known by its `twitch_id` (200).

        Another one that is live in the channel ends at its last activity.
        """
        stream, is_new = services.start(**given(NewStreamSerializer, request))
        code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
        return Response(StreamSerializer(stream).data, status=code)

    def perform_update(self, serializer: BaseSerializer[Stream]) -> None:
        services.update(cast(Stream, serializer.instance), **serializer.validated_data)

    @extend_schema(request=None, responses=StreamSerializer)
    @action(detail=True, methods=["post"])
    def end(self, request: Request, pk: int) -> Response:
        """It is over now."""
        stream = self.get_object()
        services.end(stream)
        return Response(StreamSerializer(stream).data)

    @extend_schema(request=ViewersSerializer, responses=StreamSerializer)
    @action(detail=True, methods=["post"])
    def viewers(self, request: Request, pk: int) -> Response:
        """So many watch now: for the peak and the average."""
        stream = self.get_object()
        services.count_viewers(stream, **given(ViewersSerializer, request))
        return Response(StreamSerializer(stream).data)


class MessageFilter(django_filters.FilterSet):
    stream = django_filters.NumberFilter()
    channel = django_filters.CharFilter()
    user_id = django_filters.CharFilter()
    since = django_filters.IsoDateTimeFilter("sent_at", "gte")
    until = django_filters.IsoDateTimeFilter("sent_at", "lt")


@extend_schema(tags=["twitch"])
class MessageViewSet(mixins.ListModelMixin, GenericViewSet[Message]):
    queryset = Message.objects.all()
    serializer_class = ChatMessageSerializer
    filterset_class = MessageFilter
    filter_backends = [DjangoFilterBackend]  # the cursor has an order of its own
    pagination_class = NewestSent
    needs = {"list": "twitch.view_message", "create": "twitch.add_message"}

    @extend_schema(request=ChatBatchSerializer, responses={200: IngestedSerializer})
    def create(self, request: Request) -> Response:
        """A batch of chat; what has come before is counted once, so that it may be sent again."""
        batch = given(ChatBatchSerializer, request)
        messages = [Message(**fields) for fields in batch["messages"]]
        done = ingest(batch["channel"], messages)
        return Response({"stream": done.stream.pk, "new": done.new, "known": done.known})


class ViewerFilter(django_filters.FilterSet):
    twitch_id = django_filters.CharFilter()
    username = django_filters.CharFilter("username", "istartswith")


@extend_schema(tags=["twitch"])
class ViewerViewSet(ReadOnlyModelViewSet[Viewer]):
    queryset = Viewer.objects.all()
    serializer_class = ViewerSerializer
    filterset_class = ViewerFilter
    ordering_fields = ["id", "last_seen_at", "total_messages"]
    lookup_value_converter = "int"
    needs = {"list": "twitch.view_viewer", "retrieve": "twitch.view_viewer"}


class ChannelViewerFilter(django_filters.FilterSet):
    channel = django_filters.CharFilter()
    viewer = django_filters.NumberFilter()
    is_moderator = django_filters.BooleanFilter()
    is_vip = django_filters.BooleanFilter()


@extend_schema(tags=["twitch"])
class ChannelViewerViewSet(mixins.ListModelMixin, GenericViewSet[ChannelViewer]):
    queryset = ChannelViewer.objects.select_related("viewer")
    serializer_class = ChannelViewerSerializer
    filterset_class = ChannelViewerFilter
    ordering_fields = ["id", "total_messages", "last_seen_at"]
    needs = {"list": "twitch.view_channelviewer"}


class CommandFilter(django_filters.FilterSet):
    name = django_filters.CharFilter()
    is_active = django_filters.BooleanFilter()


@extend_schema(tags=["twitch"])
class CommandViewSet(ModelViewSet[Command]):
    queryset = Command.objects.all()
    serializer_class = BotCommandSerializer
    filterset_class = CommandFilter
    ordering_fields = ["id", "name", "usage_count", "last_used_at"]
    lookup_value_converter = "int"
    http_method_names = ["get", "post", "patch", "delete"]
    needs = {
        "list": "twitch.view_command",
        "retrieve": "twitch.view_command",
        "create": "twitch.add_command",
        "partial_update": "twitch.change_command",
        "destroy": "twitch.delete_command",
        "use": "twitch.use_command",
    }

    @extend_schema(request=CallSerializer, responses=AnswerSerializer)
    @action(detail=False, methods=["post"])
    def use(self, request: Request) -> Response:
        """What to answer; 409 says why not: it cools down, is switched off, or is for others."""
        fields = given(CallSerializer, request)
        name = fields.pop("name").removeprefix("!").lower()
        command = get_object_or_404(Command, name=name)
        channel, user = fields.pop("channel"), fields.pop("user")
        answer = services.use(command, channel, Caller(user, **fields))
        return Response({"answer": answer})


class ClipFilter(django_filters.FilterSet):
    channel = django_filters.CharFilter()
    stream = django_filters.NumberFilter()


@extend_schema(tags=["twitch"])
class ClipViewSet(ReadOnlyModelViewSet[Clip]):
    queryset = Clip.objects.all()
    serializer_class = ClipSerializer
    filterset_class = ClipFilter
    ordering_fields = ["id", "created_at", "view_count"]
    lookup_value_converter = "int"
    needs = {
        "list": "twitch.view_clip",
        "retrieve": "twitch.view_clip",
        "create": "twitch.add_clip",
    }

    @extend_schema(request=ClipSerializer, responses={200: ClipSerializer, 201: ClipSerializer})
    @transaction.atomic
    def create(self, request: Request) -> Response:
        """One that is new (201), or known by its id of Twitch and brought up to date (200).

        The latter takes the permission to change clips.
        """
        fields = given(ClipSerializer, request)
        known = {"twitch_clip_id": fields.pop("twitch_clip_id")}
        clip, is_new = Clip.objects.update_or_create(**known, defaults=fields)
        if not is_new and not request.user.has_perm("twitch.change_clip"):
            self.permission_denied(request)  # which undoes it
        code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
        return Response(ClipSerializer(clip).data, status=code)
