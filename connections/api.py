"""`/api/user/sse/...`: tokens, disconnect, and who is connected."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Count, Q
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from connections.authentication import OWN
from connections.hub import get_hub
from connections.models import Connection
from connections.registry import get_registry
from connections.serializers import (
    ConnectedSerializer,
    DisconnectSerializer,
    StatsSerializer,
    TokenRequestSerializer,
    TokenSerializer,
)
from connections.services import disconnect
from connections.tokens import make_token
from jobs.acting import did


class ViewsConnections(BasePermission):
    message = "Only operators who may view connections see this."

    def has_permission(self, request: Request, view: Any) -> bool:
        return request.user.is_staff and request.user.has_perm("connections.view_connection")


class TokenView(APIView):
    @extend_schema(request=TokenRequestSerializer, responses=TokenSerializer, tags=["streams"])
    def post(self, request: Request) -> Response:
        """A short-lived token, for clients without a session here.

        For `user`, who is somebody else, it needs the permission `issue_token`: so the server of
        another site gets it for who is signed in there.
        """
        asked = TokenRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        name = asked.validated_data.get("user", request.user.get_username())
        if name != request.user.get_username() and not may_issue_tokens(request.user):
            raise PermissionDenied("Tokens for others need the permission issue_token.")
        person = get_object_or_404(User, username=name, is_active=True)
        # By a browser: a site asks for each of its readers each minute, by a key or a password.
        by_session = isinstance(request.successful_authenticator, SessionAuthentication)
        if person.pk != request.user.pk and by_session:
            did("token.issued", person)
        return Response({"token": make_token(person.pk), "expires_in": settings.SSE_TOKEN_SECONDS})


def may_issue_tokens(user: Any) -> bool:
    return bool(user.is_staff and user.has_perm("connections.issue_token"))


class DisconnectView(APIView):
    authentication_classes = OWN

    @extend_schema(request=DisconnectSerializer, responses={204: None}, tags=["streams"])
    def post(self, request: Request) -> Response:
        """End one of your streams, on whichever process it is."""
        serializer = DisconnectSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        assert request.user.pk is not None
        mine = Connection(serializer.validated_data["connection_id"], user_id=request.user.pk)
        if not get_registry().holds(mine.user_id, mine.pk):
            raise Http404
        disconnect(mine, "disconnected by its owner")
        return Response(status=status.HTTP_204_NO_CONTENT)


class ConnectedView(APIView):
    @extend_schema(responses=ConnectedSerializer, tags=["streams"])
    def get(self, request: Request, user: str) -> Response:
        """Whether a person (id or username) has a stream open; of others only for operators."""
        mine = user in (str(request.user.pk), request.user.get_username())
        if not mine and not ViewsConnections().has_permission(request, self):
            raise PermissionDenied(ViewsConnections.message)
        if not user.isprintable():  # PostgreSQL stores no NUL, and looks for none
            raise Http404
        is_id = user.isascii() and user.isdigit() and len(user) < 19
        person = get_object_or_404(User, Q(pk=int(user) if is_id else None) | Q(username=user))
        count = Connection.objects.active().filter(user=person).count()
        return Response({"user": person.username, "connected": count > 0, "connections": count})


class StatsView(APIView):
    permission_classes = [ViewsConnections]

    @extend_schema(responses=StatsSerializer, tags=["streams"])
    def get(self, request: Request) -> Response:
        """Open streams, by node."""
        active = Connection.objects.active()
        totals = active.aggregate(connections=Count("pk"), users=Count("user", distinct=True))
        nodes = active.order_by("node").values_list("node").annotate(Count("pk"))
        return Response(
            {**totals, "nodes": dict(nodes), "node": get_hub().node, "timestamp": timezone.now()}
        )
