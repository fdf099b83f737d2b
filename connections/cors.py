"""Which other sites' pages may open streams and call the user API: `SSE_ALLOW_ORIGINS`."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.deprecation import MiddlewareMixin

PATH = "/api/user/"
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST",
    "Access-Control-Allow-Headers": (
        "Authorization, Content-Type, Last-Event-ID, traceparent, X-CSRFToken, X-Request-ID"
    ),
    "Access-Control-Max-Age": "7200",  # no browser keeps it longer
}


def headers_for(origin: str, *, preflight: bool = False) -> dict[str, str]:
    if origin not in settings.SSE_ALLOW_ORIGINS:
        return {}
    allowed = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": "RateLimit, RateLimit-Policy, Retry-After, X-Request-ID",
    }
    return allowed | (PREFLIGHT if preflight else {})


class CrossOrigin(MiddlewareMixin):
    """Above whatever may answer itself, so that the other site can read errors, too.

    It never sees streams: their consumer asks `headers_for` itself.
    """

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        # Not for the view: a preflight has neither cookies nor a token.
        return HttpResponse(status=204) if _is_preflight(request) else None

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        if request.path.startswith(PATH):
            patch_vary_headers(response, ["Origin"])
            origin = request.headers.get("Origin", "")
            for name, value in headers_for(origin, preflight=_is_preflight(request)).items():
                response[name] = value
        return response


def _is_preflight(request: HttpRequest) -> bool:
    return (
        request.method == "OPTIONS"
        and request.path.startswith(PATH)
        and "Access-Control-Request-Method" in request.headers
    )
