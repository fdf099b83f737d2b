"""Everywhere that an event of a domain is to be seen: in the log (with Kafka, if there is one), on
the stream of domains, at a webhook, and as a broadcast by a rule in somebody's inbox.

    def test_an_expired_link_is_seen_everywhere(everywhere: Everywhere) -> None:
        with everywhere.watch("link.expired") as seen:
            ...  # make data by the API: everywhere.request("POST", "/api/admin/links", {...})
            everywhere.run_job("LINK_EXPIRATION")
        assert [one["data"]["code"] for one in seen] == ["spring"]

Rows can be read and written in the test as well: its database is that of the processes.
"""

import asyncio
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.request import Request, urlopen

from django.contrib.auth.models import User
from django.test import override_settings
from standardwebhooks import Webhook

from outbox.consumers import Envelope
from outbox.kafka import KafkaLog
from outbox.models import Event
from outbox.topics import topic_of
from tests.deliveries.receiver import Server
from tests.processes import Environment, Spawned
from tests.sse import Client, basic, run_code
from tests.waiting import wait_until

OPERATOR, READER = "operator", "reader"  # their passwords are their names
PEOPLE = f"""
from django.contrib.auth.models import User
User.objects.create_superuser("{OPERATOR}", password="{OPERATOR}")
User.objects.create_user("{READER}", password="{READER}")
"""
STREAM = "/api/events/stream"


@dataclass
class Everywhere:
    """A running site, and somebody at each place where an event is to be seen."""

    env: Environment
    port: int
    spawn: Callable[[list[str], Environment], Spawned]
    receiver: Server
    on_kafka: dict[str, str] = field(default_factory=dict)
    """Settings of this process, to read what those of the site publish there."""
    relay: Spawned = field(init=False)

    def start(self) -> None:
        self.relay = self.spawn(["relay"], self.env)
        web = self.spawn(["web", "--port", str(self.port)], self.env)
        run_code(PEOPLE, self.env)  # there: this process makes passwords that only tests know
        wait_until(lambda: "RULES started" in self.relay.output(), message="the relay works")
        wait_until(lambda: "Listening" in web.output(), message="web listens")

    @contextmanager
    def relay_away(self) -> Iterator[None]:
        """Nobody does at its moment what comes due in the block; its events go out after it."""
        self.relay.close()
        try:
            yield
        finally:
            self.relay = self.spawn(["relay"], self.env)

    @contextmanager
    def watch_addressed(self, event_type: str, shown_as: str) -> Iterator[list[Envelope]]:
        """`watch` for what addresses the reader, whose stream shows it; no rule answers to it."""
        name = f"{event_type} {uuid.uuid4().hex[:8]}"
        path = f"/{name}".replace(" ", "/")
        endpoint = {"name": name, "url": self.receiver.url(path), "patterns": [event_type]}
        last = Event.objects.order_by("-id").values_list("id", flat=True).first() or 0
        seen: list[Envelope] = []
        with (
            self.made("/api/admin/endpoints", endpoint) as webhook,
            self.reading() as client,
        ):
            yield seen
            caused = Event.objects.filter(type=event_type, id__gt=last)
            assert caused.exists(), f"no {event_type} happened"
            wait_until(lambda: not caused.pending().exists(), message=f"{event_type} is published")
            seen += [event.envelope() for event in caused.order_by("position")]
            wanted = [envelope["id"] for envelope in seen]
            wait_until(
                lambda: set(self.receiver.ids(path)) >= set(wanted), message="at the webhook"
            )
            wait_until(lambda: len(client.of(shown_as)) >= len(seen), message="on the stream")
        assert sorted(self.receiver.ids(path)) == sorted(wanted), "once at the webhook"
        self._check_webhook(seen, path, webhook["secret"])
        for envelope, shown in zip(seen, client.of(shown_as), strict=True):
            assert shown.data.items() <= envelope["data"].items()
        if self.on_kafka:
            found = self._on_kafka(topic_of(event_type, addressed=True), wanted)
            assert [one for one in found if one in wanted] == wanted, "once on Kafka"

    @contextmanager
    def reading(self) -> Iterator[Client]:
        """The reader's own stream."""
        token = self.request("POST", "/api/user/sse/token", who=READER)["token"]
        with running(Client(self.port, token)) as client:
            yield client

    @contextmanager
    def watch(self, event_type: str) -> Iterator[list[Envelope]]:
        """What the block causes is in the list after it, once it was seen everywhere, once each."""
        name = f"{event_type} {uuid.uuid4().hex[:8]}"
        path = f"/{name}".replace(" ", "/")
        reader = str(User.objects.get(username=READER).pk)
        rule: dict[str, Any] = {"name": name, "pattern": event_type}
        rule |= {"title": "{{ event.id }}", "audience": "SELECTED", "targets": [reader]}
        endpoint = {"name": name, "url": self.receiver.url(path), "patterns": [event_type]}
        last = Event.objects.order_by("-id").values_list("id", flat=True).first() or 0
        seen: list[Envelope] = []
        with (
            self.made("/api/admin/rules", rule),
            self.made("/api/admin/endpoints", endpoint) as webhook,
            following(self.port, event_type) as client,
        ):
            yield seen
            caused = Event.objects.filter(type=event_type, id__gt=last)
            assert caused.exists(), f"no {event_type} happened"
            wait_until(lambda: not caused.pending().exists(), message=f"{event_type} is published")
            seen += [event.envelope() for event in caused.order_by("position")]
            self._wait_for_all(seen, path, client)
            self._check_webhook(seen, path, webhook["secret"])

    @contextmanager
    def made(self, path: str, data: Any) -> Iterator[Any]:
        """Something that lasts as long as the block: others may use the site after it."""
        answer = self.request("POST", path, data)
        try:
            yield answer
        finally:
            self.request("DELETE", f"{path}/{answer['id']}")

    def request(
        self, method: str, path: str, data: Any = None, who: str = OPERATOR, key: str = ""
    ) -> Any:
        """What the API answers, also to an API key; raises `HTTPError`."""
        body = None if data is None else json.dumps(data).encode()
        headers = {"Authorization": f"Bearer {key}" if key else basic(who, who)}
        headers["Content-Type"] = "application/json"
        url = f"http://127.0.0.1:{self.port}{path}"
        with urlopen(Request(url, body, headers, method=method)) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def run_job(self, name: str, **env: str) -> None:
        """By its own command; `env` is what is set for this run alone."""
        job = self.spawn(["run_job", name], self.env | env)
        assert job.wait() == 0, job.output()

    def run_failing_job(self, name: str, **env: str) -> str:
        """What it says of it."""
        job = self.spawn(["run_job", name], self.env | env)
        assert job.wait() == 1, job.output()
        return job.output()

    def _wait_for_all(self, seen: list[Envelope], path: str, client: Client) -> None:
        wanted = [envelope["id"] for envelope in seen]
        kind = seen[0]["type"]
        places = {
            "on Kafka": lambda: self._on_kafka(topic_of(kind, addressed=False), wanted),
            "on the stream": lambda: [received.data["id"] for received in client.of(kind)],
            "at the webhook": lambda: self.receiver.ids(path),
            "in the inbox": self._in_inbox,
        }
        if not self.on_kafka:
            del places["on Kafka"]
        for place, found in places.items():

            def there(found: Any = found) -> list[str]:
                ids = [one for one in found() if one in wanted]
                return ids if set(ids) == set(wanted) else []

            ids = wait_until(there, message=f"{kind} is {place}")
            assert sorted(ids) == sorted(wanted), f"{kind} is {place} more than once"
        assert [received.data for received in client.of(kind)] == seen, "in order, and whole"

    def _check_webhook(self, seen: list[Envelope], path: str, secret: str) -> None:
        for received in [one for one in self.receiver.received if one.path == path]:
            body = Webhook(secret).verify(received.body, received.headers)
            assert body in seen, "whole at the webhook"

    def _on_kafka(self, topic: str, wanted: list[str]) -> list[str]:
        found: list[str] = []
        with (
            override_settings(**self.on_kafka),
            closing(KafkaLog().consumer([topic], after=0)) as consumer,
        ):

            def read() -> bool:
                found.extend(str(record.event_id) for record in consumer.poll(wait=0.5))
                return set(wanted) <= set(found)

            wait_until(read, message=f"all are in the topic {topic}")
        return found

    def _in_inbox(self) -> list[str]:
        found = self.request("GET", "/api/user/messages?page_size=100", who=READER)
        return [message["title"] for message in found["results"]]


@contextmanager
def following(port: int, types: str) -> Iterator[Client]:
    """A client of the stream of domains."""
    client = Client(port, path=f"{STREAM}?types={types}", authorization=basic(OPERATOR, OPERATOR))
    with running(client):
        yield client


@contextmanager
def running(client: Client) -> Iterator[Client]:
    """Connected, in a thread of its own."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(client.follow(lambda _: False))
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([task])))
    thread.start()
    try:
        wait_until(lambda: client.counts["CONNECTED"], message="the stream is open")
        yield client
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()
