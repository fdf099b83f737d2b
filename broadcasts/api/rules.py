"""`/api/admin/rules`: what is broadcast when an event happens."""

from collections.abc import Callable
from typing import Any, cast

import django_filters
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from broadcasts import rules as services
from broadcasts.api.approvals import IF_MATCH, VersionNotSaid, etag_of, version_seen
from broadcasts.api.fields import PriorityField, TargetsField, TranslationsField
from broadcasts.api.operators import MOST_TARGETS, AudienceSerializer
from broadcasts.conditions import Operator
from broadcasts.languages import LONGEST_TITLE
from broadcasts.models import Outcome, Rule, RuleMatch, Template
from broadcasts.rule_models import is_answerable
from jobs.cursors import Newest
from outbox import event_types
from outbox.models import Priority

WRITTEN = [
    "name",
    "active",
    "pattern",
    "conditions",
    "title",
    "content",
    "language",
    "translations",
    "category",
    "priority",
    "reference",
    "audience",
    "targets",
    "life",
    "cool_down",
    "per_key",
    "fire_and_forget",
    "force_logoff",
    "requires_acknowledgement",
]
LONG = {"content", "translations", "targets", "conditions"}
REHEARSED = 50


class ConditionSerializer(serializers.Serializer[Any]):
    field = serializers.CharField(help_text="Its path in the data: `quantity`, `item.name`.")
    operator = serializers.ChoiceField(choices=Operator.choices)
    value = serializers.JSONField(
        required=False, help_text="A text, a number, true or false; a list for `in`."
    )


class RuleSerializer(serializers.ModelSerializer[Rule]):
    """A rule in a list: without what may be long."""

    priority = PriorityField()
    is_live = serializers.BooleanField(help_text="Active, and not waiting for an approval.")

    class Meta:
        model = Rule
        fields = [
            "id",
            *(name for name in WRITTEN if name not in LONG),
            "is_live",
            "since",
            "version",
            "approval",
            "sender_name",
            "created_at",
            "updated_at",
        ]


class RuleDetailSerializer(RuleSerializer):
    conditions = ConditionSerializer(many=True)
    translations = TranslationsField()
    targets = serializers.SerializerMethodField(help_text=f"The first {MOST_TARGETS}.")
    field_names = serializers.ListField(
        source="fields", child=serializers.CharField(), help_text="What an event must have."
    )

    class Meta(RuleSerializer.Meta):
        fields = [*RuleSerializer.Meta.fields, *sorted(LONG), "field_names"]

    def get_targets(self, rule: Rule) -> list[str]:
        return list(rule.targets[:MOST_TARGETS])


class RuleDraftSerializer(AudienceSerializer, serializers.ModelSerializer[Rule]):
    priority = PriorityField(default=Priority.NORMAL)
    conditions = serializers.JSONField(required=False, help_text="A list, each like a condition.")
    translations = TranslationsField(required=False)
    targets = TargetsField(
        required=False, help_text="Role names, product slugs or user ids; none for everyone."
    )
    title = serializers.CharField(
        max_length=LONGEST_TITLE, required=False, help_text="Needed unless there is a template."
    )
    template = serializers.PrimaryKeyRelatedField(
        queryset=Template.objects.all(),
        required=False,
        help_text="Whose texts are taken, with their fields, where none are given. They are "
        "copied: to change the template later does not change the rule.",
    )

    class Meta:
        model = Rule
        fields = [*WRITTEN, "template"]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if template := attrs.pop("template", None):
            attrs = template.fill({}) | attrs
        if not (self.instance or self.partial or "title" in attrs):
            raise serializers.ValidationError({"title": [_("Write one, or name a template.")]})
        return super().validate(attrs)


class RuleMatchSerializer(serializers.ModelSerializer[RuleMatch]):
    """What a rule did about an event."""

    class Meta:
        model = RuleMatch
        fields = ["id", "event_id", "type", "key", "outcome", "note", "broadcast_id", "created_at"]


class RehearsedSerializer(serializers.Serializer[Any]):
    event_id = serializers.UUIDField()
    type = serializers.CharField()
    key = serializers.CharField()
    time = serializers.DateTimeField()
    outcome = serializers.ChoiceField(choices=Outcome.choices)
    note = serializers.CharField(help_text="Why it would not have been broadcast.")
    title = serializers.CharField(help_text="What would have been.")
    content = serializers.CharField()


class EventTypeSerializer(serializers.Serializer[Any]):
    type = serializers.CharField()
    description = serializers.CharField(help_text="When it happens, if its app says so.")


class RuleFilter(django_filters.FilterSet):
    live = django_filters.BooleanFilter(method="is_live", help_text="Whether it answers now.")
    search = django_filters.CharFilter("name", "icontains", help_text="Part of the name.")

    class Meta:
        model = Rule
        fields = ["pattern"]

    def is_live(self, rules: QuerySet[Rule], _: str, value: bool) -> QuerySet[Rule]:
        live = Rule.objects.live().values("pk")
        return rules.filter(pk__in=live) if value else rules.exclude(pk__in=live)


class RuleMatchFilter(django_filters.FilterSet):
    outcome = django_filters.ChoiceFilter(choices=Outcome.choices)

    class Meta:
        model = RuleMatch
        fields = ["rule", "event_id", "type", "key"]


EXAMPLE = OpenApiExample(
    "Empty shelves",
    request_only=True,
    value={
        "name": "Empty shelves",
        "pattern": "foodfolio.variant.stock.*",
        "conditions": [{"field": "quantity", "operator": "less", "value": 3}],
        "title": "{{ item.name }} runs out",
        "content": "Only **{{ quantity }}** left.",
        "audience": "ROLE",
        "targets": ["Moderators"],
        "cool_down": "8h",
        "per_key": True,
        "life": "7d",
    },
)


@extend_schema(tags=["rules"])
class RuleViewSet(GenericViewSet[Rule]):
    """What changes a rule needs the permission `send_broadcast` as well: it sends."""

    queryset = Rule.objects.all()
    serializer_class = RuleDetailSerializer
    filterset_class = RuleFilter
    ordering_fields = ["id", "name", "created_at", "updated_at"]
    lookup_value_converter = "int"
    needs = {
        "list": "broadcasts.view_rule",
        "retrieve": "broadcasts.view_rule",
        "create": "broadcasts.add_rule",
        "partial_update": "broadcasts.change_rule",
        "destroy": "broadcasts.delete_rule",
        "start": "broadcasts.change_rule",
        "stop": "broadcasts.change_rule",
        "approve": "broadcasts.approve_broadcast",
        "rehearse": "broadcasts.change_rule",
        "event_types": "broadcasts.view_rule",
    }

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        sends = request.method not in SAFE_METHODS and self.action != "approve"
        if sends and not request.user.has_perm("broadcasts.send_broadcast"):
            self.permission_denied(request, message=_("A rule sends: you may not send."))

    @extend_schema(responses=RuleSerializer(many=True))
    def list(self, request: Request) -> Response:
        """Rules by name."""
        rows = cast(QuerySet[Rule], self.filter_queryset(self.get_queryset()))
        page: Any = self.paginate_queryset(rows.defer(*LONG))
        return self.get_paginated_response(RuleSerializer(page, many=True).data)

    @extend_schema(
        request=RuleDraftSerializer, responses={201: RuleDetailSerializer}, examples=[EXAMPLE]
    )
    def create(self, request: Request) -> Response:
        """A new rule, which answers from now on.

        Where a second person must approve it, its `approval` is REQUESTED until then.
        """
        rule = Rule(**self._checked(RuleDraftSerializer(data=request.data)))
        return self._shown(services.create(rule, cast(User, request.user)), 201)

    def retrieve(self, request: Request, pk: int) -> Response:
        """One rule, with its texts, its conditions and its first 1,000 targets."""
        return self._shown(self.get_object())

    @extend_schema(request=RuleDraftSerializer, parameters=[IF_MATCH])
    def partial_update(self, request: Request, pk: int) -> Response:
        """Change it from here on. An approval of what it said before is void."""
        rule = self.get_object()
        fields = self._checked(RuleDraftSerializer(rule, data=request.data, partial=True))
        editor, version = cast(User, request.user), version_seen(request)
        return self._shown(services.change(rule, editor=editor, version=version, **fields))

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: int) -> Response:
        """Delete it, and the record of what it did; its broadcasts stay."""
        self.get_object().delete()
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def start(self, request: Request, pk: int) -> Response:
        """Switch it on: it answers to what happens from now on, perhaps after an approval."""
        return self._done(services.start)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, pk: int) -> Response:
        """Switch it off: events pass by."""
        return self._done(services.stop)

    @extend_schema(request=None, parameters=[IF_MATCH])
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: int) -> Response:
        """Let answer what somebody else has composed. `If-Match` is required: it says what you
        read."""
        if (version := version_seen(request)) is None:
            raise VersionNotSaid(
                _("Send If-Match with the ETag of the version that you have read.")
            )
        person = cast(User, request.user)
        return self._done(lambda rule: services.approve(rule, person, version))

    @extend_schema(
        request=RuleDraftSerializer, responses=RehearsedSerializer(many=True), filters=False
    )
    @action(detail=False, methods=["post"], pagination_class=None)
    def rehearse(self, request: Request) -> Response:
        """What such a rule would have done about the last 50 events that its pattern asks for,
        newest first. Nothing is saved or sent."""
        rule = Rule(**self._checked(RuleDraftSerializer(data=request.data, partial=True)))
        rule.full_clean(exclude=["name"], validate_unique=False)
        found = services.rehearse(rule, REHEARSED)
        rows = [
            {
                "event_id": event.event_id,
                "type": event.type,
                "key": event.key,
                "time": event.created_at,
                "outcome": verdict.outcome,
                "note": verdict.note,
                "title": verdict.broadcast.title if verdict.broadcast else "",
                "content": verdict.broadcast.content if verdict.broadcast else "",
            }
            for event, verdict in found
        ]
        return Response(RehearsedSerializer(rows, many=True).data)

    @extend_schema(responses=EventTypeSerializer(many=True), filters=False)
    @action(detail=False, pagination_class=None, url_path="event-types")
    def event_types(self, request: Request) -> Response:
        """The event types that are known: declared by an app, or seen in the log."""
        rows = [
            {"type": name, "description": str(sentence)}
            for name, sentence in event_types.known().items()
            if is_answerable(name)
        ]
        return Response(EventTypeSerializer(rows, many=True).data)

    def _done(self, verb: Callable[[Rule], Rule]) -> Response:
        return self._shown(verb(self.get_object()))

    def _checked(self, serializer: serializers.BaseSerializer[Any]) -> dict[str, Any]:
        serializer.is_valid(raise_exception=True)
        return cast(dict[str, Any], serializer.validated_data)

    def _shown(self, rule: Rule, code: int = status.HTTP_200_OK) -> Response:
        data = RuleDetailSerializer(rule).data
        return Response(data, status=code, headers=etag_of(rule))


@extend_schema(tags=["rules"])
class RuleMatchViewSet(GenericViewSet[RuleMatch]):
    queryset = RuleMatch.objects.all()
    serializer_class = RuleMatchSerializer
    filterset_class = RuleMatchFilter
    filter_backends = [DjangoFilterBackend]  # the cursor has an order of its own
    pagination_class = Newest
    needs = {"list": "broadcasts.view_rulematch"}

    def list(self, request: Request) -> Response:
        """What rules did about events, newest first."""
        page: Any = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(RuleMatchSerializer(page, many=True).data)
