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
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from connections.hub import get_hub
from connections.models import Connection
from connections.registry import get_registry
from connections.serializers import (
    ConnectedSerializer,
    DisconnectSerializer,
    StatsSerializer,
    TokenSerializer,
)
from connections.services import disconnect
from connections.tokens import make_token


class ViewsConnections(BasePermission):
    message = "Only operators who may view connections see this."

    def has_permission(self, request: Request, view: Any) -> bool:
        return request.user.is_staff and request.user.has_perm("connections.view_connection")


class TokenView(APIView):
    @extend_schema(request=None, responses=TokenSerializer, tags=["streams"])
    def post(self, request: Request) -> Response:
        """A short-lived token, for clients that can send neither cookies nor headers."""
        assert request.user.pk is not None
        token = make_token(request.user.pk)
        return Response({"token": token, "expires_in": settings.SSE_TOKEN_SECONDS})


class DisconnectView(APIView):
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
