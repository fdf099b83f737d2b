"""Every request by a key ends in exactly one count, whichever way it ends."""

import asyncio
from threading import get_ident
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import RequestFactory

from operations.keys.authentication import Use
from operations.keys.checking import Holder
from operations.keys.limits import Verdict, Window
from operations.keys.middleware import ApiKeyUse
from operations.keys.usage import recorder
from tests.factories import UserFactory


@pytest.fixture
def request_by_key() -> HttpRequest:
    request: Any = RequestFactory().get("/api/user/messages")
    holder = Holder(7, "ak_0", frozenset(), (None, None, None), UserFactory.build())
    window = Window("minute", 60, 1, 59.5)
    request.api_key_use = Use(holder, Verdict(True, [window]))  # noqa: FBT003
    return request  # type: ignore[no-any-return]


def counted() -> dict[str, int]:
    waiting = recorder.waiting.items()
    return {name.split(":")[2]: n for name, n in waiting if not name.endswith(":last")}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "succeeded"),
        (304, "succeeded"),
        (400, "failed_4xx"),
        (499, "failed_4xx"),
        (500, "failed_5xx"),
        (503, "failed_5xx"),
    ],
)
def test_an_answer_counts_by_its_status(
    request_by_key: HttpRequest, status: int, outcome: str
) -> None:
    response: Any = ApiKeyUse(lambda _: HttpResponse(status=status))(request_by_key)
    assert response["RateLimit"] == '"minute";r=59;t=60'
    assert counted() == {outcome: 1}


def test_a_stream_counts_before_its_first_byte(request_by_key: HttpRequest) -> None:
    ApiKeyUse(lambda _: StreamingHttpResponse(iter([b"never asked for"])))(request_by_key)
    assert counted() == {"succeeded": 1}


def hang_up(request: HttpRequest) -> None:
    async def slow(_: HttpRequest) -> HttpResponse:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def ask() -> None:
        answering: Any = ApiKeyUse(slow)(request)
        task = asyncio.create_task(answering)
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    began = asyncio.Event()
    asyncio.run(ask())


def test_a_client_that_does_not_wait_counts_as_4xx(request_by_key: HttpRequest) -> None:
    hang_up(request_by_key)
    assert counted() == {"failed_4xx": 1}


def test_nobody_waits_for_redis_because_a_client_does_not(
    request_by_key: HttpRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    monkeypatch.setattr(recorder, "count", lambda key, status: threads.append(get_ident()))
    hang_up(request_by_key)
    assert threads
    assert threads != [get_ident()]


def test_it_answers_in_the_loop_where_the_server_has_one(request_by_key: HttpRequest) -> None:
    async def view(_: HttpRequest) -> HttpResponse:
        return HttpResponse()

    answering: Any = ApiKeyUse(view)(request_by_key)
    assert asyncio.run(answering).status_code == 200
    assert counted() == {"succeeded": 1}


def test_a_request_without_a_key_is_nobodys() -> None:
    response: Any = ApiKeyUse(lambda _: HttpResponse())(RequestFactory().get("/"))
    assert "RateLimit" not in response
    assert not recorder.waiting
