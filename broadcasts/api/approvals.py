"""What a second person says about a draft, and which version of it is meant."""

import re
from typing import Any, cast

from django.contrib.auth.models import User
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from broadcasts import approvals
from broadcasts.models import ApprovalStep, Broadcast, Rule, Series

ETAG = re.compile(r'(?:W/)?"([1-9][0-9]{0,8})"')  # weak: what a proxy makes of it that compresses
IF_MATCH = OpenApiParameter(
    "If-Match",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="The `ETag` of what you have seen; 412 when it was changed since.",
)


class VersionNotSaid(APIException):
    status_code = 428
    default_code = "version_not_said"


class SaidSerializer(serializers.Serializer[Any]):
    comment = serializers.CharField(default="", allow_blank=True, max_length=2_000)


class ReasonSerializer(serializers.Serializer[Any]):
    comment = serializers.CharField(max_length=2_000)


class ApprovalStepSerializer(serializers.ModelSerializer[ApprovalStep]):
    """Who said what about which version."""

    class Meta:
        model = ApprovalStep
        fields = ["id", "version", "decision", "person_name", "comment", "created_at"]


class ApprovalStateSerializer(serializers.ModelSerializer[Broadcast]):
    class Meta:
        model = Broadcast
        fields = ["id", "status", "version", "approval"]


def etag_of(shown: Broadcast | Rule | Series) -> dict[str, str]:
    return {"ETag": f'"{shown.version}"'}


def version_seen(request: Request) -> int | None:
    """What `If-Match` says; None when it says nothing, or that any will do."""
    given = request.headers.get("If-Match", "*").strip()
    if given == "*":
        return None
    match = ETAG.fullmatch(given)
    if not match:
        raise ParseError(_('If-Match must be the ETag of the broadcast, such as "3".'))
    return int(match[1])


class ApprovalActions(GenericViewSet[Broadcast]):
    needs = {
        "approvals": "broadcasts.view_broadcast",
        "request_approval": "broadcasts.change_broadcast",
        "approve": "broadcasts.approve_broadcast",
        "reject": "broadcasts.approve_broadcast",
        "withdraw_approval": "broadcasts.view_broadcast",
        "comment": "broadcasts.view_broadcast",
    }

    @extend_schema(responses=ApprovalStepSerializer(many=True))
    @action(
        detail=True,
        queryset=ApprovalStep.objects.none(),
        filterset_class=None,
        ordering_fields=["id"],
    )
    def approvals(self, request: Request, pk: int) -> Response:
        """What was said about it, newest first."""
        steps = self._draft(pk).approval_steps.order_by("-id")
        page = self.paginate_queryset(self.filter_queryset(cast(Any, steps)))
        return self.get_paginated_response(ApprovalStepSerializer(page, many=True).data)

    @extend_schema(request=SaidSerializer, responses=ApprovalStateSerializer, parameters=[IF_MATCH])
    @action(detail=True, methods=["post"], url_path="request-approval")
    def request_approval(self, request: Request, pk: int) -> Response:
        """Ask for an approval of what the draft says now."""
        return self._decided(request, pk, approvals.request, SaidSerializer)

    @extend_schema(request=SaidSerializer, responses=ApprovalStateSerializer, parameters=[IF_MATCH])
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: int) -> Response:
        """Approve what somebody else has written. `If-Match` is required: it says what you read."""
        if version_seen(request) is None:
            raise VersionNotSaid(
                _("Send If-Match with the ETag of the version that you have read.")
            )
        return self._decided(request, pk, approvals.approve, SaidSerializer)

    @extend_schema(
        request=ReasonSerializer, responses=ApprovalStateSerializer, parameters=[IF_MATCH]
    )
    @action(detail=True, methods=["post"])
    def reject(self, request: Request, pk: int) -> Response:
        """Reject it; the comment says why."""
        return self._decided(request, pk, approvals.reject, ReasonSerializer)

    @extend_schema(request=SaidSerializer, responses=ApprovalStateSerializer, parameters=[IF_MATCH])
    @action(detail=True, methods=["post"], url_path="withdraw-approval")
    def withdraw_approval(self, request: Request, pk: int) -> Response:
        """Take back a request or an approval, before it is sent."""
        self._allow_either(request)
        return self._decided(request, pk, approvals.withdraw, SaidSerializer)

    @extend_schema(request=ReasonSerializer, responses={201: ApprovalStepSerializer})
    @action(detail=True, methods=["post"])
    def comment(self, request: Request, pk: int) -> Response:
        """Say something about it; that decides nothing."""
        self._allow_either(request)
        said = self._said(request, ReasonSerializer)
        step = approvals.comment(self._draft(pk), cast(User, request.user), said)
        return Response(ApprovalStepSerializer(step).data, status=201)

    def _allow_either(self, request: Request) -> None:
        if not approvals.takes_part(cast(User, request.user)):
            self.permission_denied(request)

    def _decided(self, request: Request, pk: int, verb: Any, serializer: Any) -> Response:
        said, version = self._said(request, serializer), version_seen(request)
        broadcast = verb(self._draft(pk), cast(User, request.user), said, version)
        return Response(ApprovalStateSerializer(broadcast).data, headers=etag_of(broadcast))

    def _said(self, request: Request, serializer: Any) -> str:
        given = serializer(data=request.data)
        given.is_valid(raise_exception=True)
        return str(given.validated_data["comment"])

    def _draft(self, pk: int) -> Broadcast:
        return get_object_or_404(Broadcast.objects.defer("content", "targets"), pk=pk)
