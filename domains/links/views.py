"""`/s/<name>`: where people click."""

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from domains.links.clicks import Visit, collector
from domains.links.targets import Target, find
from jobs.acting import address_of

LONGEST_HEADER = 500


@require_safe
def follow(request: HttpRequest, name: str) -> HttpResponse:
    """No statement where the name is in the cache and nobody is signed in, and never a write."""
    target = find(name.lower())
    if target is None:
        raise Http404(name)
    now = timezone.now()
    if not target.is_open(now):
        response = render(request, "links/gone.html", status=410)
    else:
        if request.method == "GET":
            collector.add(_visit(request, target))
        response = HttpResponseRedirect(target.url)
    # Not even a browser keeps it: each click is to come here, as long as the link lives.
    response["Cache-Control"] = "private, no-store"
    return response


def _visit(request: HttpRequest, target: Target) -> Visit:
    headers = request.headers
    purpose = headers.get("Sec-Purpose") or headers.get("Purpose") or headers.get("X-Moz") or ""
    return Visit(
        link_id=target.link_id,
        at=timezone.now(),
        address=address_of(request),
        user_agent=headers.get("User-Agent", "")[:LONGEST_HEADER],
        referrer=headers.get("Referer", "")[:LONGEST_HEADER],
        user_id=_reader(request),
        is_prefetch="prefetch" in purpose,
    )


def _reader(request: HttpRequest) -> int | None:
    if settings.SESSION_COOKIE_NAME not in request.COOKIES:
        return None
    return request.user.pk
