"""Who asks, for the API."""

from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request


class Session(SessionAuthentication):
    """The session of the console or of the reader's page; unsafe methods need the CSRF token."""

    def authenticate_header(self, request: Request) -> str:
        # Named first in the settings: DRF answers 401 with it, and browsers open no dialog for it.
        return 'Session realm="api"'


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "broadcast_project.authentication.Session"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "Unsafe methods also need the CSRF token in the header `X-CSRFToken`.",
        }
