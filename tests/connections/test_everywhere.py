"""What the jobs of connections do, seen from outside: by who has a stream, and by who counts them.

An hour passes by moving rows back. No heartbeat moves them on again, and nothing else is stale
however slow the machine is.
"""

import signal
from datetime import timedelta
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, Request, build_opener

import pytest
from django.db.models import F, QuerySet

from connections.models import Connection, Node
from tests.everywhere import OPERATOR, READER, Everywhere, running
from tests.sse import Client
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

SITE = {
    "SSE_CLIENT_TIMEOUT": "3600",
    "SSE_HEARTBEAT": "7200",
    "SSE_TOKEN_SECONDS": "3600",
    "DEBUG": "true",  # static files of the console
}
SSE = "/api/user/sse"


def stream_of(client: Client) -> str:
    return str(client.of("CONNECTED")[-1].data["connection_id"])


def only_stream() -> Connection:
    """That of the reader, when those of the tests before have ended."""
    open_ones = Connection.objects.active().filter(user__username=READER)
    wait_until(lambda: open_ones.count() == 1, message="there is one stream")
    return open_ones.get()


def an_hour_ago(moment: str, rows: QuerySet[Any]) -> None:
    rows.update(**{moment: F(moment) - timedelta(minutes=61)})


def stats(site: Everywhere) -> Any:
    return site.request("GET", f"{SSE}/stats")


@pytest.fixture
def console(site: Everywhere) -> OpenerDirector:
    """Signed in by the form."""
    jar = CookieJar()
    opener = build_opener(HTTPCookieProcessor(jar))
    page = f"http://127.0.0.1:{site.port}/admin/login/"
    opener.open(page).close()
    token = next(cookie.value for cookie in jar if cookie.name == "csrftoken")
    form = {"username": OPERATOR, "password": OPERATOR, "csrfmiddlewaretoken": token or ""}
    opener.open(Request(page, urlencode(form).encode())).close()
    return opener


@pytest.mark.parametrize(
    ("job", "moment", "reason"),
    [
        ("STALE_CONNECTION_CLEANUP", "last_heartbeat", "stale"),
        ("SSE_CLIENT_CLEANUP", "last_activity", "idle"),
    ],
)
def test_a_stream_that_seems_forgotten_is_closed_once_and_its_client_returns(
    site: Everywhere, job: str, moment: str, reason: str
) -> None:
    with site.watch_addressed("connection.close", "DISCONNECTED") as seen:
        forgotten = only_stream()
        an_hour_ago(moment, Connection.objects.filter(pk=forgotten.pk))
        site.run_job(job)
        wait_until(
            lambda: Connection.objects.active().exclude(pk=forgotten.pk).exists(),
            message="the client has a new stream",
        )
        site.run_job(job)
        assert site.request("GET", f"{SSE}/connected/{READER}")["connections"] == 1
    (closed,) = (one["data"] for one in seen)
    assert closed == {"connection_id": str(forgotten.pk), "reason": reason, "reconnect": True}


def test_the_streams_of_a_process_that_died_are_counted_no_more(
    site: Everywhere, free_port: int
) -> None:
    web = site.spawn(["web", "--port", str(free_port)], site.env)
    wait_until(lambda: "Listening" in web.output(), message="the other process listens")
    token = site.request("POST", f"{SSE}/token", who=READER)["token"]
    with running(Client(free_port, token)) as client, site.reading():
        wait_until(lambda: stats(site)["connections"] == 2, message="there are two streams")
        node = client.of("CONNECTED")[0].data["node"]
        assert stats(site)["nodes"][node] == 1
        web.send(signal.SIGKILL)
        web.wait()
        an_hour_ago("last_heartbeat", Connection.objects.filter(node=node))
        an_hour_ago("last_heartbeat", Node.objects.filter(name=node))
        site.run_job("STALE_CONNECTION_CLEANUP")
        assert node not in stats(site)["nodes"]
        assert stats(site)["connections"] == 1


def test_what_ended_three_days_ago_is_purged(site: Everywhere, console: OpenerDirector) -> None:
    ended = {}
    for name, days in (("old", 3.1), ("young", 2.9)):
        with site.reading() as client:
            ended[name] = stream_of(client)
            gone = {"connection_id": ended[name]}
            site.request("POST", f"{SSE}/disconnect", gone, who=READER)
        row = Connection.objects.filter(pk=ended[name])
        row.update(disconnected_at=F("disconnected_at") - timedelta(days=days))
    with site.reading() as client:
        ended["open"] = stream_of(client)
        site.run_job("CONNECTION_PURGE")
    shown = set()
    for name, pk in ended.items():
        page = f"http://127.0.0.1:{site.port}/admin/connections/connection/{pk}/change/"
        with console.open(page) as answer:
            if answer.url == page:  # what is not there leads elsewhere
                shown.add(name)
    assert shown == {"young", "open"}
