"""`X-API-Key` or `Authorization: Bearer`, for DRF; and what a request by a key may do."""

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from jobs.acting import address_of
from operations.keys import limits, scopes
from operations.keys.checking import Holder, Refused, check
from operations.keys.limits import LimitsUnavailable, Verdict
from operations.keys.secrets import PREFIX

logger = logging.getLogger(__name__)

AWAY = 5  # seconds after which to ask again, while Redis is away


@dataclass(slots=True)
class Use:
    """A request by a key: what its answer is counted for."""

    holder: Holder
    verdict: Verdict | None = None


class LimitReached(APIException):
    status_code = 429
    default_code = "limit_reached"

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(reached(verdict))
        self.wait = verdict.retry_after


class LimitsAway(APIException):
    status_code = 503
    default_code = "limits_unavailable"
    wait = AWAY

    def __init__(self) -> None:
        super().__init__(away())


def reached(verdict: Verdict) -> str:
    window = verdict.reached
    names = {"minute": _("minute"), "hour": _("hour"), "day": _("day")}
    return _("The limit of %(limit)s requests a %(window)s is reached: wait %(wait)s s.") % {
        "limit": window.limit,
        "window": names[window.name],
        "wait": verdict.retry_after,
    }


def away() -> str:
    return _("The limits of API keys cannot be looked up now: try again in a moment.")


def is_key(text: str) -> bool:
    """Meant as a key, whether it is one or not."""
    return text.startswith(PREFIX)


def credential(x_api_key: str, authorization: str) -> str | None:
    """The key that these headers bring; None when they bring none of ours, but a gateway's."""
    if is_key(text := x_api_key.strip()):
        return text
    scheme, _blank, token = authorization.partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and is_key(token) else None


class ApiKeyAuthentication(BaseAuthentication):
    """The key acts as its owner, as far as its scopes go; `request.auth` is its `Holder`."""

    @sensitive_variables()
    def authenticate(self, request: Request) -> tuple[User, Holder] | None:
        text = _credential_of(request)
        if text is None:
            return None
        try:
            holder = check(text)
        except Refused as refused:
            refusals.note(refused, address_of(request._request))
            raise AuthenticationFailed(refused.message, refused.code) from refused
        use = Use(holder)
        asked: Any = request._request
        asked.api_key_use = use  # for the middleware
        try:
            use.verdict = limits.take(holder)
        except LimitsUnavailable as error:
            raise LimitsAway from error
        if not use.verdict.allowed:
            raise LimitReached(use.verdict)
        method, path = str(request.method), request.path_info
        if not scopes.opens(holder.scopes, method, path):
            raise PermissionDenied(scopes.refusal(method, path), "scope_missing")
        return holder.owner, holder

    def authenticate_header(self, request: Request) -> str:
        # Named first in the settings: it answers the anonymous, too.
        return 'Bearer realm="api"' if _credential_of(request) else 'Session realm="api"'


def _credential_of(request: Request | HttpRequest) -> str | None:
    meta = request.META
    return credential(meta.get("HTTP_X_API_KEY", ""), meta.get("HTTP_AUTHORIZATION", ""))


REASONS = [
    "unknown_api_key",
    "invalid_api_key",
    "api_key_disabled",
    "api_key_expired",
    "api_key_owner_inactive",
]


class Refusals:
    """Keys that were refused: counted by reason, and told once a minute and key.

    They are never counted for the key: anybody may know its name.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.minute = 0
        self.told: set[str] = set()

    def note(self, refused: Refused, address: str) -> None:
        minute = int(time.time() // 60)
        reason = refused.code if refused.key_id else "unknown_api_key"
        with self.lock:
            self.counts[reason] += 1
            if minute != self.minute:
                self.minute, self.told = minute, set()
            if refused.key_id in self.told:
                return
            self.told.add(refused.key_id)
        logger.warning("Refused API key %s from %s: %s", refused.key_id or "?", address, reason)


refusals = Refusals()


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "operations.keys.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-Key",
            "description": "`ak_….sk_…`; also as `Authorization: Bearer`. Its scopes say what it"
            " may do.",
        }
