import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from deliveries.models import Delivery, Endpoint
from deliveries.sender import Sender
from deliveries.services import collect
from outbox.consumers import Envelope
from tests.deliveries.receiver import Server, receiver
from tests.waiting import wait_until

NewEndpoint = Callable[..., Endpoint]
Send = Callable[[], None]


@pytest.fixture(autouse=True)
def local_settings(settings: Settings) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    settings.WEBHOOK_TIMEOUT = 10.0


@pytest.fixture
def server() -> Iterator[Server]:
    with receiver() as server:
        yield server


@pytest.fixture
def new_endpoint(server: Server) -> NewEndpoint:
    def make(path: str = "/", **fields: Any) -> Endpoint:
        return Endpoint.objects.create(
            **{"name": path, "url": server.url(path), "patterns": ["*"]} | fields
        )

    return make


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender()
    yield sender
    sender.stop()


@pytest.fixture
def send(sender: Sender) -> Send:
    """Step until nothing is under way nor due."""

    def run() -> None:
        def idle() -> bool:
            sender.step()
            due = Endpoint.objects.ready(timezone.now()).exists()
            return not sender.in_hand and not due

        wait_until(idle, message="everything is sent")

    return run


def envelope(event_type: str = "link.expired", **data: Any) -> Envelope:
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "/broadcast",
        "type": event_type,
        "subject": "link-1",
        "time": timezone.now().isoformat(),
        "datacontenttype": "application/json",
        "sequence": "1",
        "data": data,
    }


def deliver(count: int = 1) -> list[Delivery]:
    """New events for all endpoints."""
    before = set(Delivery.objects.values_list("pk", flat=True))
    collect([envelope(number=number) for number in range(count)])
    return list(Delivery.objects.exclude(pk__in=before).order_by("pk"))
