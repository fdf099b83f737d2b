"""Counts what keys are used for, by the answer, and says what is left of their limits."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from operations.keys.authentication import Use
from operations.keys.usage import recorder

GONE = 499  # as nginx calls it: the client did not wait for the answer


class ApiKeyUse:
    """Outermost, so that it sees what others answer, and what they make of an error."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.answer(request)
        response: HttpResponseBase = self.get_response(request)
        if use := use_of(request):
            told(use, response)
        return response

    async def answer(self, request: HttpRequest) -> HttpResponseBase:
        try:
            response: HttpResponseBase = await self.get_response(request)
        except asyncio.CancelledError:
            if use := use_of(request):  # not in the loop, where all would wait for Redis
                loop = asyncio.get_running_loop()
                loop.run_in_executor(None, recorder.count, use.holder.pk, GONE)
            raise
        if use := use_of(request):
            await sync_to_async(told)(use, response)
        return response


def use_of(request: HttpRequest) -> Use | None:
    return getattr(request, "api_key_use", None)


def told(use: Use, response: HttpResponseBase) -> None:
    for name, value in (use.verdict.headers() if use.verdict else {}).items():
        response[name] = value
    recorder.count(use.holder.pk, response.status_code)
