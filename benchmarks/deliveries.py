"""Deliveries to a receiver on this machine, by one sender: all endpoints alive, then some dead.

The dead ones take the connection and never answer; what living ones get is measured. Peer, in the
same run: one request after the other with httpx, each recorded in its transaction, on a sample.
"""

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from benchmarks.reports import Report, seconds
from deliveries.dispatch import Sending
from deliveries.models import Delivery, Endpoint, State, Status
from deliveries.outcomes import finish, write_attempts
from deliveries.requests import Answer, build_request
from deliveries.sender import Sender
from deliveries.services import collect
from outbox.consumers import Envelope

ENDPOINTS, DEAD = 20, 5


def run(*, quick: bool) -> Report:
    events, sample = (100, 50) if quick else (500, 300)
    settings.WEBHOOK_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with receiving() as url:
        endpoints = [new_endpoint(f"{url}/{n}") for n in range(ENDPOINTS)]
        living = endpoints[DEAD:]
        disable(endpoints[:DEAD])
        count = events * len(living)
        collecting = seconds(lambda: collect_many(events))
        used = time.process_time()
        alone = seconds(lambda: until_sent(living, count))
        used = time.process_time() - used
        Endpoint.objects.update(state=State.ACTIVE)
        for endpoint in endpoints[:DEAD]:
            Endpoint.objects.filter(pk=endpoint.pk).update(url=f"{url}/dead/{endpoint.pk}")
        collect_many(events)
        beside_dead = seconds(lambda: until_sent(living, 2 * count))
        Endpoint.objects.exclude(pk=living[0].pk).update(state=State.DISABLED)
        collect_many(sample)
        naive = seconds(lambda: one_by_one(living[0])) / sample
    return Report(
        "deliveries",
        {
            "deliveries": count,
            "endpoints": len(living),
            "dead_endpoints": DEAD,
            "made_per_s": round(count / collecting),
            "sent_per_s": round(count / alone),
            "sent_per_cpu_s": round(count / used),
            "sent_per_s_beside_dead": round(count / beside_dead),
            "one_by_one_per_s": round(1 / naive),
        },
        {
            "one_by_one_to_sender": round(naive * count / alone, 1),
            "beside_dead_to_alone": round(alone / beside_dead, 2),
        },
    )


def new_endpoint(url: str) -> Endpoint:
    return Endpoint.objects.create(name=url, url=url, patterns=["*"])


def disable(endpoints: list[Endpoint]) -> None:
    pks = [endpoint.pk for endpoint in endpoints]
    Endpoint.objects.filter(pk__in=pks).update(state=State.DISABLED)


def collect_many(events: int) -> None:
    envelopes = [envelope(n) for n in range(events)]
    for start in range(0, events, 500):
        collect(envelopes[start : start + 500])


def envelope(number: int) -> Envelope:
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": settings.EVENT_SOURCE,
        "type": "link.expired",
        "subject": f"link-{number}",
        "time": timezone.now().isoformat(),
        "datacontenttype": "application/json",
        "sequence": str(number),
        "data": {"link_id": number, "title": "A link", "message": "It is over. " * 30},
    }


def until_sent(endpoints: list[Endpoint], count: int) -> None:
    pks = [endpoint.pk for endpoint in endpoints]
    done = Delivery.objects.filter(endpoint__in=pks, status=Status.SUCCESS)
    sender = Sender()
    while done.count() < count:
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            if wait := sender.step():
                time.sleep(min(wait, 0.01))
    sender.dispatcher.close()


def one_by_one(endpoint: Endpoint) -> None:
    with httpx.Client() as client:
        for delivery in Delivery.objects.due(timezone.now()).filter(endpoint=endpoint):
            sending = Sending(delivery, endpoint, 0.0)
            sending.request = build_request(endpoint, delivery, timezone.now())
            request = sending.request
            answered = client.post(request.url, headers=request.headers, content=request.body)
            sending.answer = Answer(answered.status_code, dict(answered.headers), answered.text)
            with transaction.atomic():
                write_attempts([sending])
                finish([delivery.pk], timezone.now())


@contextmanager
def receiving() -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.peers.receiver"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()
