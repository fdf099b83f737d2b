"""One JSON shape for every error: `{"status", "code", "message", "fields", "path", "request_id"}`.

Pages of errors show the id as well, so that a person can tell it to the operators.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from django.apps import apps
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.core import exceptions as django
from django.db import DataError, IntegrityError, OperationalError
from django.db.models import Field, ForeignKey
from django.http import (
    Http404,
    HttpRequest,
    HttpResponseBase,
    HttpResponseServerError,
    JsonResponse,
)
from django.template.loader import render_to_string
from django.utils.deprecation import MiddlewareMixin
from django.utils.translation import gettext as _
from django.views import defaults
from rest_framework import exceptions as drf
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import set_rollback

from broadcasts.approvals import OwnWork
from broadcasts.directory import UserServiceUnavailable
from broadcasts.receipts import AcknowledgementMissing, NotInInbox
from broadcasts.reminders import AlreadyReminded
from broadcasts.services import ApprovalNeeded, ChangedMeanwhile
from domains.twitch import services as twitch
from jobs.correlation import correlation_id
from jobs.execution import JobBusy
from jobs.transitions import InvalidTransition
from operations.debezium import client as connect
from outbox.deadletters import NotRedrivable

logger = logging.getLogger(__name__)

API = "/api/"
RETRY_AFTER = {"Retry-After": "10"}  # seconds
REFUSALS: dict[type[Exception], tuple[int, str]] = {  # the narrower one first
    ApprovalNeeded: (409, "approval_needed"),
    InvalidTransition: (409, "invalid_transition"),
    twitch.NotAllowed: (409, "command_refused"),
    connect.NotThere: (404, "not_found"),
    connect.Refused: (409, "refused"),
    NotRedrivable: (409, "not_redrivable"),
    ChangedMeanwhile: (412, "changed_meanwhile"),
    OwnWork: (403, "own_work"),
    AcknowledgementMissing: (409, "acknowledgement_missing"),
    AlreadyReminded: (409, "already_reminded"),
}
NO_NUMBER = "expected a number but got"
NON_FIELD = api_settings.NON_FIELD_ERRORS_KEY


@dataclass(frozen=True)
class Problem:
    status: int
    code: str
    message: str
    fields: dict[str, list[str]] | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, path: str) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "status": self.status,
            "code": self.code,
            "message": self.message,
        }
        shown |= {"fields": self.fields} if self.fields else {}
        return shown | {"path": path, "request_id": correlation_id()}


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """What DRF answers to an exception; `None` leaves it to Django, as a 500."""
    problem = problem_of(error)
    if problem is None:
        return None
    set_rollback()
    path = context["request"].path
    return Response(problem.body(path), status=problem.status, headers=problem.headers)


def problem_of(error: Exception) -> Problem | None:
    match error:
        case drf.ValidationError():
            return invalid(dict(_flat(error.detail)))
        case drf.APIException():
            return _of_drf(error)
        case django.ValidationError():
            return invalid(_fields_of(error))
        case Http404() | NotInInbox():
            return Problem(404, "not_found", _not_found(error))
        case django.PermissionDenied():
            return _of_drf(drf.PermissionDenied(str(error) or None))
        case django.RequestDataTooBig():
            return Problem(413, "too_large", _("The body is too large. Send less at once."))
        case JobBusy():
            return Problem(503, "busy", str(error), headers=RETRY_AFTER)
        case _ if isinstance(error, tuple(REFUSALS)):
            status, code = next(REFUSALS[kind] for kind in REFUSALS if isinstance(error, kind))
            return Problem(status, code, str(error))
        case _:
            return _of_servers(error)


def invalid(fields: dict[str, list[str]]) -> Problem:
    messages = [message for several in fields.values() for message in several]
    if len(messages) == 1:
        message = messages[0]
    else:
        names = ", ".join(fields)
        message = _("Correct what `fields` says and send it again: %(names)s.") % {"names": names}
    return Problem(400, "invalid", message, fields)


def _of_drf(error: drf.APIException) -> Problem:
    headers = {}
    if header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = header
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait))
    code = error.get_codes()
    code = code if isinstance(code, str) else "error"
    return Problem(error.status_code, code, _message(error), headers=headers)


def _message(error: drf.APIException) -> str:
    match error:
        case drf.NotAuthenticated():
            return _("You are not signed in. Sign in, or send credentials, and try again.")
        case drf.PermissionDenied() if error.detail == drf.PermissionDenied.default_detail:
            return _("You may not do this. Ask an administrator for the permission.")
        case _:
            return str(error.detail)


def _not_found(error: Exception) -> str:
    if isinstance(error, NotInInbox):
        return _("Not in your inbox: %(ids)s. Fetch the inbox again.") % {"ids": error}
    return _("Nothing is here. Check the address and the id.")


def _of_servers(error: Exception) -> Problem | None:
    match error:
        case UserServiceUnavailable():
            message = _("The user service does not answer. Try again in a moment.")
            return Problem(503, "user_service_unavailable", message, headers=RETRY_AFTER)
        case connect.ConnectError():
            return Problem(503, "connect_unavailable", str(error), headers=RETRY_AFTER)
        case IntegrityError():  # two of the same at once, both validated before one was saved
            logger.warning("A conflicting write was refused", exc_info=error)
            return Problem(409, "conflict", _("Somebody else wrote the same just now. Try again."))
        case OverflowError() | DataError():  # ids of 30 digits, moments before the year 1, NUL
            logger.warning("What no column holds was refused", exc_info=error)
            message = _("A number, moment or text is beyond what can be stored. Correct it.")
            return Problem(400, "out_of_range", message)
        case OperationalError():
            logger.error("The database does not answer", exc_info=error)
            message = _("The database does not answer. Try again in a moment.")
            return Problem(503, "database_unavailable", message, headers=RETRY_AFTER)
        case _:
            return None


def _fields_of(error: django.ValidationError) -> dict[str, list[str]]:
    if not hasattr(error, "error_dict"):
        return {NON_FIELD: error.messages}
    return {
        NON_FIELD if name == django.NON_FIELD_ERRORS else name: messages
        for name, messages in error.message_dict.items()
    }


def _flat(detail: Any, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Nested errors by dotted name: `{"a": {"0": ["…"]}}` is `a.0`."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            yield from _flat(inner, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(detail, list) and any(isinstance(item, dict) for item in detail):
        yield from _flat({number: item for number, item in enumerate(detail) if item}, prefix)
    else:
        several = detail if isinstance(detail, list) else [detail]
        yield prefix or NON_FIELD, [str(item) for item in several]


def _answer(request: HttpRequest, problem: Problem) -> JsonResponse:
    return JsonResponse(problem.body(request.path), status=problem.status)


def no_such_address(request: HttpRequest) -> JsonResponse:
    """Last of the API's urls, so that DEBUG, too, answers JSON."""
    message = _("There is no such address. /api/docs lists all; none ends with a slash.")
    return _answer(request, Problem(404, "not_found", message))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if not request.path.startswith(API):
        return defaults.bad_request(request, exception)
    message = _("The request cannot be read. Check its headers, address and body.")
    return _answer(request, Problem(400, "bad_request", message))


class Addresses(MiddlewareMixin):
    """An address of the console with an id that no row can have is a 404; a query or a form with
    something of the kind is a 400, as it is in the API.

    Views ask the database for what they are given, and not all expect that it refuses to look.
    """

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> None:
        match = request.resolver_match
        if match is None or match.app_names != ["admin"] or "object_id" not in kwargs:
            return
        if "content_type_id" in kwargs:  # "view on site", which looks with care
            return
        app, model = match.route.split("/")[1:3]
        key = apps.get_model(app, model)._meta.pk
        try:
            _check_id(key.target_field if isinstance(key, ForeignKey) else key, kwargs["object_id"])
        except (django.ValidationError, ValueError) as error:
            raise Http404(_("There is no such row.")) from error

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        """Also of a page that is being rendered: there widgets look for what was chosen."""
        match = request.resolver_match
        if match is None or match.app_names != ["admin"] or not _is_unfit(error):
            return None
        logger.warning("What no column holds was refused", exc_info=error)
        return bad_request(request, error)


def _is_unfit(error: Exception) -> bool:
    if isinstance(error, ValueError):  # of a field of numbers that is given something else
        return NO_NUMBER in str(error)
    return isinstance(error, OverflowError | DataError | IncorrectLookupParameters)


def _check_id(key: "Field[Any, Any]", written: str) -> None:
    """Raises `ValidationError` or `ValueError` for what `key` cannot hold."""
    if "\0" in written:
        raise ValueError("PostgreSQL has no NUL.")
    key.run_validators(key.to_python(unquote(written)))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if not request.path.startswith(API):
        return defaults.permission_denied(request, exception)
    return _answer(request, cast(Problem, problem_of(django.PermissionDenied())))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if not request.path.startswith(API):
        return defaults.page_not_found(request, exception)
    return _answer(request, Problem(404, "not_found", _not_found(exception)))


def server_error(request: HttpRequest) -> HttpResponseBase:
    if not request.path.startswith(API):
        # Without what processors add to each page: it may be what broke.
        page = render_to_string("500.html", {"request_id": correlation_id()})
        return HttpResponseServerError(page)
    message = _("Something broke here; it is in the log. Try again, then tell the operators.")
    return _answer(request, Problem(500, "server_error", message))
