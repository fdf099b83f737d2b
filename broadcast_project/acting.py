"""Who sends a request, for what it does; see `jobs.acting`."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from jobs.acting import ADMIN, API, PAGE, STREAM, Actor, acting_as, address_of
from operations.models import ApiKey

PREFIXES = {"/admin/": ADMIN, "/api/user/sse/": STREAM, "/api/": API}


class Acting:
    """Outside of all that may change something."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.answer(request)
        with acting_as(partial(actor_of, request)):
            response: HttpResponseBase = self.get_response(request)
        return response

    async def answer(self, request: HttpRequest) -> HttpResponseBase:
        with acting_as(partial(actor_of, request)):
            response: HttpResponseBase = await self.get_response(request)
        return response


def actor_of(request: HttpRequest) -> Actor:
    """Asked when it is at its view: the API has told Django's request by then whom it let in."""
    user = getattr(request, "user", None)
    return Actor(
        door=door_of(request),
        user_id=user.pk if user else None,
        name=user.get_username() if user else "",
        via=_key_of(request),
        address=address_of(request),
    )


def door_of(request: HttpRequest) -> str:
    found = (door for prefix, door in PREFIXES.items() if request.path_info.startswith(prefix))
    return next(found, PAGE)


def _key_of(request: HttpRequest) -> str:
    use = getattr(request, "api_key_use", None)
    if use is None:
        return ""
    name = ApiKey.objects.filter(pk=use.holder.pk).values_list("name", flat=True).first()
    return f"{use.holder.key_id} {name or ''}".strip()
