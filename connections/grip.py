"""GRIP: a proxy such as Pushpin holds the socket; we answer with what to subscribe it to."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse
from django_eventstream.eventrequest import EventRequest
from django_eventstream.eventstream import get_events
from django_grip import GripMiddleware


def is_proxied(headers: dict[bytes, str]) -> bool:
    """Whether the request came through a GRIP proxy; its signature is checked later."""
    return bool(settings.GRIP_URL) and b"grip-sig" in headers


def grip_response(
    scope: dict[str, Any], identify: Callable[[], tuple[AbstractUser, list[str]]]
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body that make the proxy hold the stream; the missed events are in it."""
    request = ASGIRequest(scope, BytesIO())
    request.user, channels = identify()  # type: ignore[assignment]

    def view(request: Any) -> HttpResponse:
        event_request = EventRequest(request, channel_limit=len(channels))
        answer: HttpResponse = get_events(event_request).to_grip_response(request)
        return answer

    response = GripMiddleware(view)(request)
    return response.status_code, dict(response.headers), response.content
