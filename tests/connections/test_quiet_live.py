"""Quiet hours on streams of real processes: one who sleeps, with two tabs, and one who does not."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from tests.conftest import NewPushpin, Spawn
from tests.connections.test_streams_live import Site, has, messages, together
from tests.processes import Environment
from tests.servers.programs import lasting_ports
from tests.servers.pushpin import KEY
from tests.sse import Client, token_of
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

SLEEP = """
from datetime import timedelta
from zoneinfo import ZoneInfo
from django.utils import timezone
from broadcasts.preferences import prefer
wall = timezone.now().astimezone(ZoneInfo("Pacific/Auckland"))
prefer(
    User.objects.get(pk={pk}),
    quiet_start=(wall - timedelta(hours=2)).time(),
    quiet_end=(wall + timedelta(hours=8)).time(),
    time_zone="Pacific/Auckland",
    muted_categories=["canteen"],
)
"""
WAKE = """
from django.utils import timezone
from broadcasts.models import Preference
Preference.objects.update(quiet_ends_at=timezone.now())
"""
DELIVERED = """
from broadcasts.models import Receipt
receipts = Receipt.objects.filter(user={pk}).exclude(delivered_at=None)
print(*receipts.values_list("broadcast", flat=True))
"""


@pytest.fixture
def site(live_database: Environment, free_port: int, spawn: Spawn) -> Iterator[Site]:
    generous = {"SSE_TOKEN_SECONDS": "600", "SSE_CONNECTS_PER_MINUTE": "0"}
    return Site(live_database | generous, free_port, spawn)  # type: ignore[return-value]


@asynccontextmanager
async def following(*clients: Client) -> Any:
    """They follow for ever, in the background; from when all are connected."""
    connects = [(client, client.counts["CONNECTED"]) for client in clients]
    tasks = [asyncio.create_task(client.follow(has("NEVER"))) for client in clients]
    await until(lambda: all(c.counts["CONNECTED"] > n for c, n in connects))
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


async def send(site: Site, awake: Client, *several: dict[str, Any]) -> list[int]:
    """One after the other, each when the one before it has reached who is awake."""
    sent: list[int] = []
    for fields in several:
        sent += await asyncio.to_thread(site.send, **fields)
        await until(partial(arrived, awake, sent[-1]))
    return sent


def arrived(client: Client, broadcast: int) -> bool:
    return broadcast in messages(client)


EVENING: list[dict[str, Any]] = [{}, {"category": "canteen"}, {"priority": 40}]
URGENT = {"priority": 40, "category": "canteen"}


def test_a_sleeper_gets_urgent_at_once_and_normal_at_the_end_of_the_night_once_in_each_tab(
    site: Site,
) -> None:
    (port,) = lasting_ports(1)
    other = replace(site, port=port)
    webs = [site.web(), other.web()]
    site.relay()
    sleeper, awake = site.people(2)
    site.code(SLEEP.format(pk=sleeper))
    tabs = [site.client(sleeper), site.client(sleeper), other.client(sleeper)]
    away, up = site.client(sleeper), other.client(awake)

    async def night() -> None:
        async with following(up):
            async with following(*tabs, away):
                normal, muted, urgent = await send(site, up, *EVENING)
                await until(lambda: all(urgent in messages(tab) for tab in (*tabs, away)))
                assert [messages(tab) for tab in tabs] == [[urgent]] * 3
                webs[0].send(signal.SIGKILL)  # and with it what two tabs were connected to
                webs[0].wait()
                await asyncio.to_thread(site.web)
                (again,) = await send(site, up, URGENT)
                await until(lambda: all(again in messages(tab) for tab in tabs))
            assert not {str(normal), str(muted)} & set(
                (await asyncio.to_thread(site.code, DELIVERED.format(pk=sleeper))).split()
            )
            async with following(*tabs):
                await asyncio.to_thread(site.code, WAKE)
                await until(lambda: all(tab.of("QUIET_HOURS_ENDED") for tab in tabs))
                (morning,) = await send(site, up, URGENT)
                await until(lambda: all(morning in messages(tab) for tab in tabs))
            assert [messages(tab) for tab in tabs] == [[urgent, again, normal, morning]] * 3
            held = [tab.of("MESSAGE")[2] for tab in tabs]
            assert [(one.id, one.data["held"]) for one in held] == [("", True)] * 3
            async with following(away):  # it comes with the id of the urgent one
                await until(lambda: morning in messages(away))
                await until(lambda: away.of("QUIET_HOURS_ENDED"))
            assert sorted(messages(away)) == sorted([urgent, again, normal, morning])
            assert messages(up) == [normal, muted, urgent, again, morning]
            await until_delivered(site, sleeper, {normal, urgent, again, morning})

    asyncio.run(together(night()))


async def until_delivered(site: Site, person: int, wanted: set[int]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            printed = await asyncio.to_thread(site.code, DELIVERED.format(pk=person))
            if {int(pk) for pk in printed.split()} == wanted:
                return


def test_preferences_that_change_take_hold_of_streams_that_are_open(site: Site) -> None:
    site.web()
    site.relay()
    sleeper, awake = site.people(2)
    tab, up = site.client(sleeper), site.client(awake)

    async def evening() -> None:
        async with following(tab, up):
            (before,) = await send(site, up, {})
            await until(lambda: before in messages(tab))
            await asyncio.to_thread(site.code, SLEEP.format(pk=sleeper))
            await until(lambda: tab.counts["CONNECTED"] == 2)
            normal, _muted, urgent = await send(site, up, *EVENING)
            await until(lambda: urgent in messages(tab))
            assert messages(tab) == [before, urgent]
            await asyncio.to_thread(site.code, GIVE_UP.format(pk=sleeper))
            await until(lambda: normal in messages(tab))
            assert messages(tab) == [before, urgent, normal]

    asyncio.run(together(evening()))


def test_a_reminder_comes_to_a_sleeper_at_the_end_of_the_night(site: Site) -> None:
    site.web()
    site.relay()
    sleeper, awake = site.people(2)
    tab, up = site.client(sleeper), site.client(awake)

    async def night() -> None:
        async with following(tab, up):
            (old,) = await send(site, up, {})
            await until(lambda: old in messages(tab))
            await asyncio.to_thread(site.code, SLEEP.format(pk=sleeper))
            await until(lambda: tab.counts["CONNECTED"] == 2)
            await asyncio.to_thread(site.code, REMIND.format(pk=old))
            await until(lambda: messages(up) == [old, old])
            (urgent,) = await send(site, up, URGENT)
            await until(lambda: urgent in messages(tab))
            assert messages(tab) == [old, urgent]
            await asyncio.to_thread(site.code, WAKE)
            await until(lambda: tab.of("QUIET_HOURS_ENDED"))
            assert messages(tab) == [old, urgent, old]
            reminder = tab.of("MESSAGE")[-1].data
            assert (reminder["held"], bool(reminder["reminded_at"])) == (True, True)

    asyncio.run(together(night()))


REMIND = """
from broadcasts.models import Broadcast
from broadcasts.reminders import remind
remind(Broadcast.objects.get(pk={pk}), None)
"""
GIVE_UP = """
from broadcasts.preferences import prefer
prefer(User.objects.get(pk={pk}), quiet_start=None, quiet_end=None)
"""


def test_behind_pushpin_who_prefers_quiet_is_held_by_web(
    live_database: Environment, free_port: int, spawn: Spawn, new_pushpin: NewPushpin
) -> None:
    pushpin = new_pushpin(free_port)
    more = {
        "SSE_TOKEN_SECONDS": "600",
        "SSE_CONNECTS_PER_MINUTE": "0",
        "GRIP_URL": pushpin.url,
        "GRIP_KEY": KEY,
    }
    site = Site(live_database | more, free_port, spawn)
    site.web()
    site.relay()
    sleeper, awake = site.people(2)
    tab, up = (Client(pushpin.http, token_of(pk, site.env)) for pk in (sleeper, awake))

    async def night() -> None:
        async with following(tab, up):
            await asyncio.to_thread(site.code, SLEEP.format(pk=sleeper))
            await until(lambda: tab.counts["CONNECTED"] == 2)
            normal, _muted, urgent = await send(site, up, *EVENING)
            await until(lambda: urgent in messages(tab))
            assert messages(tab) == [urgent]
            streams = "print(*Connection.objects.active().values_list('user', flat=True))"
            assert await asyncio.to_thread(site.code, streams) == f"{sleeper}\n"
            await asyncio.to_thread(site.code, WAKE)
            await until(lambda: normal in messages(tab))

    asyncio.run(together(night()))
