"""`/api/user/messages`: a person's inbox."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import django_filters
from django.contrib.auth.models import AbstractUser, User
from django.db.models import Case, Q, QuerySet, Value, When
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from broadcasts.api.fields import LARGEST_ID, PRIORITIES
from broadcasts.contents import rendered
from broadcasts.languages import languages_of, wider
from broadcasts.messages import message_in
from broadcasts.models import Broadcast
from broadcasts.receipts import acknowledge, dismiss, inbox_of, mark_all_read, mark_read, mark_seen
from connections.authentication import OWN
from outbox.logs import get_log
from outbox.models import Priority

MOST_IDS = 1_000  # a call
SEARCHED_LANGUAGES = 4
STAMPS = ("seen_at", "read_at", "acknowledged_at")

Rows = QuerySet[Any]  # of broadcasts, annotated with what the person did


@dataclass(frozen=True)
class Cursor:
    """The last message of a page: the next page starts behind it, whatever has come meanwhile."""

    is_read: bool
    activated_at: datetime
    id: int

    @classmethod
    def of(cls, broadcast: Any) -> "Cursor":
        return cls(broadcast.read_at is not None, broadcast.activated_at, broadcast.pk)

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Raises `ValidationError` for what `str()` of a cursor never gave."""
        try:
            is_read, moment, pk = json.loads(urlsafe_b64decode(text.encode()))
            activated_at = datetime.fromisoformat(moment).astimezone(UTC)
            if type(is_read) is bool and type(pk) is int:
                return cls(
                    is_read=is_read, activated_at=activated_at, id=max(0, min(pk, LARGEST_ID))
                )
        except (ValueError, TypeError, OverflowError, RecursionError):
            pass
        raise ValidationError(_("This cursor is not valid: start without one."))

    def __str__(self) -> str:
        fields = [self.is_read, self.activated_at.isoformat(), self.id]
        return urlsafe_b64encode(json.dumps(fields).encode()).decode()

    def beyond(self) -> Q:
        older = Q(activated_at__lt=self.activated_at) | Q(
            activated_at=self.activated_at, id__lt=self.id
        )
        if self.is_read:
            return Q(read_at__isnull=False) & older
        return Q(read_at__isnull=False) | older


class InboxFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(
        method="in_state",
        choices=[("all", "All"), ("unread", "Unread"), ("read", "Read")],
        empty_label=None,
    )
    category = django_filters.CharFilter()
    priority = django_filters.MultipleChoiceFilter(choices=PRIORITIES, method="of_priority")
    search = django_filters.CharFilter(
        method="with_words", help_text="Each word in the title, the content or the reference."
    )

    def in_state(self, inbox: Rows, _: str, value: str) -> Rows:
        return inbox if value == "all" else inbox.filter(read_at__isnull=value == "unread")

    def of_priority(self, inbox: Rows, _: str, names: list[str]) -> Rows:
        return inbox.filter(priority__in=[Priority[n] for n in names]) if names else inbox

    def with_words(self, inbox: Rows, _: str, value: str) -> Rows:
        for word in value.split()[:10]:
            inbox = inbox.filter(
                Q(title__icontains=word)
                | Q(content__icontains=word)
                | Q(reference__icontains=word)
                | self._translated(word)
            )
        return inbox

    def _translated(self, word: str) -> Q:
        """In the languages of the reader; with others, nobody could tell why it was found."""
        found = Q()
        tags = (known for tag in languages_of(self.request) for known in wider(tag))
        for language in list(dict.fromkeys(tags))[:SEARCHED_LANGUAGES]:
            for part in ("title", "content"):
                found |= Q(**{f"translations__{language}__{part}__icontains": word})
        return found


class MessageSerializer(serializers.Serializer[Any]):
    """A broadcast in the reader's language, and what the person has done with it."""

    broadcast_id = serializers.IntegerField()
    correlation_id = serializers.UUIDField()
    language = serializers.CharField(help_text="Of title and content.")
    title = serializers.CharField()
    content = serializers.CharField(help_text="Markdown, as it was written.")
    html = serializers.CharField(help_text="The content as sanitised HTML.")
    category = serializers.CharField()
    priority = serializers.ChoiceField(choices=PRIORITIES)
    reference = serializers.CharField()
    sender_name = serializers.CharField()
    fire_and_forget = serializers.BooleanField()
    force_logoff = serializers.BooleanField()
    mandatory = serializers.BooleanField(help_text="Passes everybody's preferences.")
    requires_acknowledgement = serializers.BooleanField()
    activated_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    reminded_at = serializers.DateTimeField(
        allow_null=True, help_text="When those were reminded who had not seen it."
    )
    seen_at = serializers.DateTimeField(allow_null=True)
    read_at = serializers.DateTimeField(allow_null=True)
    acknowledged_at = serializers.DateTimeField(allow_null=True)


class InboxSerializer(serializers.Serializer[Any]):
    user = serializers.IntegerField(help_text="Whose inbox it is.")
    results = MessageSerializer(many=True)
    next = serializers.URLField(allow_null=True, help_text="The next page; null on the last.")
    unread = serializers.IntegerField(help_text="In the whole inbox, whatever is filtered.")
    languages = serializers.ListField(
        child=serializers.CharField(),
        help_text="By which each text was chosen, best first: choose so in the stream.",
    )
    position = serializers.IntegerField(
        help_text="Open the stream with `?last_event_id=` this, and nothing falls between."
    )


class InboxQuerySerializer(serializers.Serializer[Any]):
    limit = serializers.IntegerField(min_value=1, max_value=100, default=25)
    cursor = serializers.CharField(default=None, allow_null=True, max_length=200)

    def validate_cursor(self, text: str | None) -> Cursor | None:
        return Cursor.parse(text) if text else None


class MessageIdsSerializer(serializers.Serializer[Any]):
    broadcast_id = serializers.IntegerField(min_value=1, max_value=LARGEST_ID, required=False)
    broadcast_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST_ID),
        required=False,
        allow_empty=False,
        max_length=MOST_IDS,
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs) != 1:
            raise serializers.ValidationError(_("Send either broadcast_id or broadcast_ids."))
        return {"ids": attrs.get("broadcast_ids") or [attrs["broadcast_id"]]}


class CountSerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField(help_text="How many messages this call was about.")
    unread = serializers.IntegerField(help_text="How many are unread now.")


def in_order(inbox: Rows) -> Rows:
    """Unread first, then newest."""
    is_read = Case(When(read_at=None, then=Value(0)), default=Value(1))
    return inbox.order_by(is_read, "-activated_at", "-id")


def shown(page: list[Any], languages: list[str]) -> Iterator[dict[str, Any]]:
    texts = [broadcast.text_for(languages) for broadcast in page]
    html = rendered(text.content for text in texts)
    for broadcast, text in zip(page, texts, strict=True):
        stamps = {name: getattr(broadcast, name) for name in STAMPS}
        yield message_in(cast(Broadcast, broadcast), text, html[text.content]) | stamps


def unread_of(inbox: Rows) -> int:
    return inbox.filter(read_at__isnull=True).count()


@extend_schema(tags=["inbox"])
class Inbox(APIView):
    authentication_classes = OWN

    @extend_schema(
        parameters=[
            InboxQuerySerializer,
            OpenApiParameter("state", OpenApiTypes.STR, enum=["all", "unread", "read"]),
            OpenApiParameter("category", OpenApiTypes.STR),
            OpenApiParameter(
                "priority", OpenApiTypes.STR, enum=[name for name, label in PRIORITIES], many=True
            ),
            OpenApiParameter(
                "language",
                OpenApiTypes.STR,
                description="The language to read, such as `de`: after the one that the reader "
                "prefers, before those of Accept-Language.",
            ),
            OpenApiParameter(
                "search",
                OpenApiTypes.STR,
                description="Each word in the title, the content or the reference.",
            ),
        ],
        responses=InboxSerializer,
    )
    def get(self, request: Request) -> Response:
        """Your messages: unread first, then newest."""
        query = InboxQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        limit, cursor = query.validated_data["limit"], query.validated_data["cursor"]
        position = get_log().head()  # before the rows: what comes after them is past it
        inbox = inbox_of(cast(User, request.user))
        languages = languages_of(request)
        filtered = InboxFilter(request.query_params, inbox, request=request)
        if not filtered.is_valid():
            raise ValidationError(filtered.errors)
        ordered = in_order(filtered.qs).defer("targets", "last_error")
        rows = list(ordered.filter(cursor.beyond() if cursor else Q())[: limit + 1])
        page = rows[:limit]
        following = str(Cursor.of(page[-1])) if len(rows) > limit else None
        return Response(
            {
                "user": request.user.pk,
                "results": list(shown(page, languages)),
                "next": following and _address_of(request, following),
                "unread": unread_of(inbox),
                "languages": languages,
                "position": position,
            }
        )


def _address_of(request: Request, cursor: str) -> str:
    return replace_query_param(request.build_absolute_uri(), "cursor", cursor)


class Verb(APIView):
    """What a person does with messages of their inbox: all are theirs, or nothing is done."""

    authentication_classes = OWN

    verb: Callable[[AbstractUser, Collection[int]], int]

    def post(self, request: Request) -> Response:
        ids = MessageIdsSerializer(data=request.data)
        ids.is_valid(raise_exception=True)
        return counted(
            request, type(self).verb(cast(User, request.user), ids.validated_data["ids"])
        )


def counted(request: Request, count: int) -> Response:
    return Response({"count": count, "unread": unread_of(inbox_of(cast(User, request.user)))})


on_messages = extend_schema(
    tags=["inbox"],
    request=MessageIdsSerializer,
    responses=CountSerializer,
    examples=[
        OpenApiExample("One", value={"broadcast_id": 7}, request_only=True),
        OpenApiExample("Several", value={"broadcast_ids": [7, 8]}, request_only=True),
    ],
)


@extend_schema(description="You have read them: your other tabs drop them.")
@on_messages
class Read(Verb):
    verb = staticmethod(mark_read)


@on_messages
class AckVisibility(Verb):
    verb = staticmethod(mark_seen)


@extend_schema(
    description="You have taken note of what asks for it (`requires_acknowledgement`): it counts "
    "as read, once, at the first time."
)
@on_messages
class Acknowledge(Verb):
    verb = staticmethod(acknowledge)


@extend_schema(description="409 for what asks to be acknowledged first.")
@on_messages
class Dismiss(Verb):
    verb = staticmethod(dismiss)


@extend_schema(tags=["inbox"], request=None, responses=CountSerializer)
class ReadAll(APIView):
    authentication_classes = OWN

    def post(self, request: Request) -> Response:
        """You have read everything."""
        return counted(request, mark_all_read(cast(User, request.user)))
