"""The page of a person: their inbox, live. What it shows comes from the API and the stream."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)

TEXTS = {
    "unread": _("Unread: {count}"),
    "everything_read": _("Everything read"),
    "page_title": _("Inbox"),
    "page_title_unread": _("({count}) Inbox"),
    "priority_LOW": _("Low"),
    "priority_NORMAL": _("Normal"),
    "priority_HIGH": _("High"),
    "priority_URGENT": _("Urgent"),
    "show_more": _("Show all"),
    "show_less": _("Show less"),
    "expires": _("expires {when}"),
    "arrived": _("New message: {title}"),
    "arrived_urgent": _("Urgent message: {title}"),
    "reminder": _("Reminder: {title}"),
    "acknowledged": _("“{title}” is acknowledged."),
    "withdrawn": _("“{title}” was withdrawn."),
    "expired": _("“{title}” has expired."),
    "not_there": _("“{title}” is no longer in your inbox."),
    "loaded": _("{count} more messages loaded."),
    "nothing_found": _("Nothing matches “{search}”."),
    "state_connecting": _("Connecting …"),
    "state_live": _("Live"),
    "state_offline": _("Offline. Next try within {seconds} s."),
    "state_restarting": _("The server restarts. Next try in {seconds} s."),
    "state_limited": _("Too many tabs: messages load when you reload."),
    "state_ended": _("Not live: {reason}"),
    "state_signed_out": _("Signed out"),
    "failed_load": _("Your messages could not be loaded."),
    "failed_read": _("“{title}” could not be marked as read; it is still unread."),
    "failed_read_all": _("Your messages could not be marked as read; they are still unread."),
    "failed_acknowledge": _("“{title}” could not be acknowledged."),
    "failed_dismiss": _("“{title}” could not be dismissed; it is still here."),
    "no_connection": _("No connection to the server."),
    "unexpected": _("The server answered with an error ({status})."),
    "session_over": _("Your session is over. Sign in again to go on."),
    "logged_off": _("You have been signed out: {title}"),
}

View = Callable[..., HttpResponseBase]


def content_security_policy(view: View) -> View:
    """Nothing inline, nothing from elsewhere: what a message smuggles in cannot run."""

    @wraps(view)
    def protected(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    return protected


@require_safe
@content_security_policy
@never_cache
@ensure_csrf_cookie
@login_required
def inbox(request: HttpRequest) -> HttpResponse:
    return render(request, "inbox.html", {"texts": TEXTS})


@method_decorator(content_security_policy, name="dispatch")
class SignIn(LoginView):
    template_name = "login.html"
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(demo=settings.DEBUG, **kwargs)
