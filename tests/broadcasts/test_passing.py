"""Fire and forget, and force logoff: to who is connected, on whichever process."""

import asyncio
import json
import signal
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.request import Request, urlopen

import pytest
from django.contrib.auth.models import User
from django.test import override_settings
from django.utils import timezone
from selenium.webdriver import Chrome

from broadcasts.models import Broadcast, Receipt, Status
from broadcasts.receipts import (
    NotInInbox,
    acknowledge,
    mark_all_read,
    mark_read,
    mark_seen,
    record_deliveries,
    statistics,
)
from broadcasts.services import settle_passed
from broadcasts.tasks import process_expired_broadcasts
from outbox.deadletters import redrive
from outbox.logs import DatabaseLog
from outbox.models import DeadLetter, Event
from outbox.relay import Relay
from tests.conftest import Spawn
from tests.factories import ActiveFactory, GroupFactory, UserFactory
from tests.pages import Page
from tests.pages import Site as PageSite
from tests.processes import Environment, Spawned
from tests.servers.programs import lasting_ports
from tests.sse import Client, run_code, token_of
from tests.waiting import wait_until

LATER = timedelta(minutes=6)


@pytest.fixture
def reader(db: None) -> User:
    return UserFactory.create()


def passed(broadcast: Broadcast) -> None:
    """As if it had been sent some minutes ago."""
    before = timezone.now() - LATER
    row = Broadcast.objects.filter(pk=broadcast.pk)
    row.update(scheduled_at=before - LATER, expires_at=before)


def test_who_showed_it_was_reached_whoever_held_the_socket(reader: User) -> None:
    broadcast = ActiveFactory.create(fire_and_forget=True)
    for _ in range(2):
        assert mark_seen(reader, [broadcast.pk]) == 1
    counted = statistics(broadcast)
    assert (counted.delivered, counted.seen, counted.read) == (1, 1, 0)


def test_what_is_in_no_inbox_can_be_neither_read_nor_acknowledged(reader: User) -> None:
    broadcast = ActiveFactory.create(fire_and_forget=True)
    for verb in (mark_read, acknowledge):
        with pytest.raises(NotInInbox):
            verb(reader, [broadcast.pk])
    assert mark_all_read(reader) == 0
    assert not Receipt.objects.exists()


def test_who_was_not_addressed_cannot_say_that_they_saw_it(reader: User) -> None:
    GroupFactory.create(name="crew").user_set.add(UserFactory.create())
    to_others = [
        ActiveFactory.create(fire_and_forget=True, audience="ROLE", targets=["crew"]),
        ActiveFactory.create(
            fire_and_forget=True, audience="SELECTED", targets=[str(UserFactory.create().pk)]
        ),
    ]
    for broadcast in to_others:
        with pytest.raises(NotInInbox):
            mark_seen(reader, [broadcast.pk])


def test_the_word_of_a_client_counts_for_some_minutes(reader: User) -> None:
    broadcast = ActiveFactory.create(fire_and_forget=True)
    passed(broadcast)
    with pytest.raises(NotInInbox):
        mark_seen(reader, [broadcast.pk])


def test_when_it_has_passed_nobody_offline_was_delivered_or_read_it(reader: User) -> None:
    offline = UserFactory.create()
    people = [str(reader.pk), str(offline.pk)]
    broadcast = ActiveFactory.create(fire_and_forget=True, audience="SELECTED", targets=people)
    record_deliveries(broadcast.pk, [reader.pk], timezone.now())
    assert settle_passed() == 0
    passed(broadcast)
    assert process_expired_broadcasts() == 1
    assert settle_passed() == 0
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.finished_at) == (Status.SENT, broadcast.expires_at)
    receipts = {receipt.user_id: receipt for receipt in Receipt.objects.all()}
    assert receipts[reader.pk].status == "DELIVERED"
    assert (receipts[offline.pk].status, receipts[offline.pk].delivered_at) == ("SUPERSEDED", None)
    assert not Receipt.objects.filter(read_at__isnull=False).exists()


def test_a_redriven_one_goes_to_who_is_connected_then(reader: User) -> None:
    broadcast = ActiveFactory.create(fire_and_forget=True, content="x" * 2_000)
    with override_settings(EVENT_MAX_BYTES=1_500):
        relay = Relay(DatabaseLog())
        relay.step()
        relay.resign()
    passed(broadcast)
    redrive(DeadLetter.objects.get())
    broadcast.refresh_from_db()
    assert broadcast.expires_at
    assert broadcast.expires_at > timezone.now()
    data = Event.objects.get(type="broadcast.sent").data
    assert data["expires_at"] == broadcast.expires_at.isoformat()


# Real processes

PEOPLE = """
from django.contrib.auth.models import User
User.objects.bulk_create(User(username=f"reader-{n}") for n in range(4))
print(*User.objects.order_by("pk").values_list("pk", flat=True))
"""
SEND = """
from broadcasts.services import compose, send
print(send(compose(None, title="Coffee", fire_and_forget=True, **{fields})).pk)
"""
REACHED = """
from broadcasts.models import Broadcast
from broadcasts.receipts import statistics
counted = statistics(Broadcast.objects.get(pk={pk}))
print(counted.targeted, counted.delivered, counted.seen, counted.read)
"""


def listens(web: Spawned) -> bool:
    return "Listening" in web.output()


class Cluster:
    """Two web processes and a relay."""

    def __init__(self, env: Environment, spawn: Spawn) -> None:
        self.env = env | {"SSE_TOKEN_SECONDS": "600", "SSE_CONNECTS_PER_MINUTE": "0"}
        self.ports = lasting_ports(2)
        relay = spawn(["relay"], self.env)
        self.webs = [spawn(["web", "--port", str(port)], self.env) for port in self.ports]
        self.people = [int(pk) for pk in run_code(PEOPLE, self.env).split()]
        for web in self.webs:
            wait_until(partial(listens, web), message="web listens")
        wait_until(lambda: "BROADCAST_CLOCK started" in relay.output(), message="the relay works")

    def client(self, web: int, person: int) -> Client:
        return Client(self.ports[web], token_of(self.people[person], self.env))

    def send(self, **fields: Any) -> int:
        return int(run_code(SEND.format(fields=fields), self.env))

    def figures(self, pk: int) -> list[int]:
        """Targeted, delivered, seen, read."""
        return [int(number) for number in run_code(REACHED.format(pk=pk), self.env).split()]

    def say_seen(self, web: int, person: int, pk: int) -> None:
        request = Request(
            f"http://127.0.0.1:{self.ports[web]}/api/user/messages/ack-visibility",
            json.dumps({"broadcast_id": pk}).encode(),
            {
                "Content-Type": "application/json",
                "Authorization": f"Bearer {token_of(self.people[person], self.env)}",
            },
        )
        with urlopen(request, timeout=30) as answer:
            assert answer.status == 200


@pytest.fixture
def cluster(live_database: Environment, spawn: Spawn) -> Cluster:
    return Cluster(live_database, spawn)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def sent_to(clients: list[Client], send: Callable[[], int]) -> int:
    """What is sent while they are connected, once they all have it."""
    follows = [asyncio.create_task(client.follow(lambda _: False)) for client in clients]
    await until(lambda: all(client.counts["CONNECTED"] for client in clients))
    pk = await asyncio.to_thread(send)
    await until(lambda: all(client.counts["MESSAGE"] for client in clients))
    for follow in follows:
        follow.cancel()
    return pk


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_people_who_are_connected_to_two_processes_are_counted_once_each(cluster: Cluster) -> None:
    """Of four people one is offline, one is connected to both processes, and two to one."""
    clients = [
        cluster.client(web, person) for web, person in ((0, 0), (1, 0), (0, 0), (0, 1), (1, 2))
    ]
    selected = {"audience": "SELECTED", "targets": list(map(str, cluster.people))}
    audiences: list[dict[str, Any]] = [{}, selected]
    for audience in audiences:
        for client in clients:
            client.counts.clear()
        pk = asyncio.run(sent_to(clients, partial(cluster.send, **audience)))
        reached = partial(cluster.figures, pk)
        wait_until(lambda: reached() == [4, 3, 0, 0], message="three are reached")  # noqa: B023


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_who_was_reached_by_a_process_that_was_killed_is_counted_by_their_own_word(
    cluster: Cluster,
) -> None:
    pk = asyncio.run(sent_to([cluster.client(0, 0)], cluster.send))
    cluster.webs[0].send(signal.SIGKILL)
    assert cluster.webs[0].wait() == -signal.SIGKILL
    cluster.say_seen(1, 0, pk)
    assert cluster.figures(pk) == [4, 1, 1, 0]


SIGNED_IN = """
from django.contrib.sessions.models import Session
print(sum("_auth_user_id" in session.get_decoded() for session in Session.objects.all()))
"""
CONNECTIONS = """
from connections.models import Connection
print(Connection.objects.count())
"""
COME_BACK = """
window.dispatchEvent(new Event("online"));
document.dispatchEvent(new Event("visibilitychange"));
"""


@pytest.mark.chromium
@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_force_logoff_signs_out_on_every_process_and_nobody_comes_back(
    live_database: Environment, spawn: Spawn, new_browser: Callable[[], Chrome]
) -> None:
    first, second = lasting_ports(2)
    site = PageSite(live_database | {"DEBUG": "true"}, first, spawn).start()
    other = PageSite(site.env, second, spawn)
    other.restart_web()
    pages = [Page(new_browser(), site), Page(new_browser(), other)]
    for page in pages:
        page.sign_in()
    site.send("Coffee is ready", fire_and_forget=True)
    site.send("Maintenance begins", fire_and_forget=True, force_logoff=True)
    for page in pages:
        page.wait(partial(page.shows, "#farewell"), "the page says goodbye")
        assert page.state == "signed_out"
    wait_until(lambda: site.streams == 0, message="no stream is left")
    assert site.code(SIGNED_IN).strip() == "0"
    connections = site.code(CONNECTIONS)
    for page in pages:
        page.script(COME_BACK)
        page.browser.refresh()
        assert "/login" in page.browser.current_url
    assert site.code(CONNECTIONS) == connections
    logoff = "Broadcast.objects.get(force_logoff=True).pk"
    pk = int(site.code(f"from broadcasts.models import Broadcast; print({logoff})"))
    assert site.code(REACHED.format(pk=pk)).split() == ["1", "1", "1", "0"]
