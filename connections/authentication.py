"""`Authorization: Bearer`, for pages of other sites: the API of a person beside their stream."""

from typing import Any

from django.contrib.auth.models import User
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.settings import api_settings

from connections.keys import get_keys
from connections.tokens import InvalidToken, bearer_of, user_of


class StreamToken(BaseAuthentication):
    """Only for what is a person's own: never for what operators do."""

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        authorization = get_authorization_header(request).decode("latin-1")
        token = bearer_of(authorization)
        if token is None or get_keys().credential("", authorization):
            return None
        try:
            return user_of(token), None
        except InvalidToken as error:
            raise AuthenticationFailed(str(error)) from error

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


# First: a cookie that comes along by chance asks for a CSRF token.
OWN: list[Any] = [StreamToken, *api_settings.DEFAULT_AUTHENTICATION_CLASSES]


class StreamTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "connections.authentication.StreamToken"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A token from `POST /api/user/sse/token`.",
        }
