import asyncio
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client

from broadcasts.digests import unsubscribe_url
from jobs import tracing
from jobs.correlation import HEADER, Correlation, correlated, correlation_id, requested_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "name", ["x", "a-b_c.D9", "a" * 64, "7f1c6a0e-8c1b-4f57-b0a1-6a1a3c2f9d10"]
)
def test_a_well_formed_id_of_the_client_is_kept(name: str) -> None:
    assert requested_id({HEADER: name}) == name


@pytest.mark.parametrize(
    "name", ["", "a" * 65, "a b", "a\nb", "<script>", "ä", "a\x00", '{"a":1}', "a\n"]
)
def test_one_that_is_not_gives_way_to_a_new_one(name: str) -> None:
    assert len(made := requested_id({HEADER: name})) == 32
    assert made != requested_id({HEADER: name})


def test_a_traceparent_names_its_trace() -> None:
    assert requested_id({"traceparent": TRACEPARENT}) == TRACE
    assert requested_id({"traceparent": TRACEPARENT, HEADER: "mine"}) == "mine"


@pytest.mark.parametrize(
    "wrong",
    [
        TRACE,
        TRACEPARENT.upper(),
        TRACEPARENT.replace("00-4", "ff-4"),
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
    ],
)
def test_a_traceparent_that_is_none_is_passed_over(wrong: str) -> None:
    assert requested_id({"traceparent": wrong}) != TRACE


def test_outside_of_everything_there_is_none() -> None:
    assert correlation_id() == ""


def test_it_ends_where_it_began_also_after_an_error() -> None:
    with correlated("outer"):
        with pytest.raises(ZeroDivisionError), correlated("inner"):
            print(len(correlation_id()) / 0)
        assert correlation_id() == "outer"
    assert correlation_id() == ""


def test_each_of_two_requests_at_once_has_its_own() -> None:
    both = asyncio.Barrier(2)

    async def answer(request: HttpRequest) -> HttpResponse:
        await both.wait()
        return HttpResponse(correlation_id())

    async def ask(name: str) -> None:
        request = HttpRequest()
        request.META["HTTP_X_REQUEST_ID"] = name
        response: Any = await Correlation(answer).answer(request)
        assert response.content.decode() == response[HEADER] == name

    async def ask_both() -> None:
        await asyncio.gather(ask("one"), ask("two"))

    asyncio.run(ask_both())


def test_every_answer_names_it(client: Client) -> None:
    assert client.get("/healthz", headers={HEADER: "mine"})[HEADER] == "mine"
    assert len(client.get("/healthz")[HEADER]) == 32


def test_also_an_asynchronous_one() -> None:
    response = async_to_sync(AsyncClient().get)("/healthz", headers={HEADER: "mine"})
    assert response[HEADER] == "mine"


def test_a_token_in_an_address_is_not_traced(
    client: Client, monkeypatch: pytest.MonkeyPatch, db: None
) -> None:
    said: list[Any] = []

    def say(*of: Any, **about: Any) -> Any:
        said.append((of, about))
        return tracing.OFF

    monkeypatch.setattr(tracing, "span", say)
    monkeypatch.setattr(tracing, "describe", say)
    token = unsubscribe_url(1).rpartition("/")[2]
    assert client.get(f"/unsubscribe/{token}").status_code == 200
    assert client.get("/healthz").status_code == 200
    assert token not in str(said)
    assert [about["url__path"] for _, about in said if "url__path" in about] == [
        "/unsubscribe/…",
        "/healthz",
    ]
