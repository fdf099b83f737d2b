"""A broadcast to 100,000 selected people: from IN_PROGRESS to ACTIVE, and its end; then, with a web
process and a relay, from the click to ACTIVE and to the screens of 1,000 who are connected.

Peer, in the same run: a receipt saved for one person after the other, on a sample.
"""

import asyncio
import os
import time
import tracemalloc
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.db import close_old_connections, transaction

from benchmarks.reports import Report, seconds
from broadcasts.models import Audience, Broadcast, Receipt
from broadcasts.services import CHUNK, activate, cancel, compose, compose_and_send, send
from tests.processes import Spawned
from tests.servers import free_port
from tests.sse import Client, token_of
from tests.waiting import wait_until

SAMPLE = 2_000  # people


def run(*, quick: bool) -> Report:
    people = 10_000 if quick else 100_000
    users = (User(username=f"selected-{number:06}") for number in range(people))
    User.objects.bulk_create(users, batch_size=CHUNK)
    targets = [str(pk) for pk in User.objects.values_list("pk", flat=True)]

    first = prepare(targets)
    activation = seconds(lambda: activate(first))
    first.refresh_from_db()
    assert (first.status, first.receipts.count()) == ("ACTIVE", people)
    cancelling = seconds(lambda: cancel(first))
    peak = peak_of_activation(prepare(targets))
    sample = targets[:SAMPLE]
    naive = seconds(lambda: save_each(sample)) / SAMPLE * people
    active, on_screens = to_the_screens(targets, 100 if quick else 1_000)
    return Report(
        "selected",
        {
            "people": people,
            "click_to_active_s": round(active, 2),
            "connected": len(on_screens),
            "click_to_median_screen_s": round(on_screens[len(on_screens) // 2], 2),
            "click_to_last_screen_s": round(on_screens[-1], 2),
            "activation_s": round(activation, 2),
            "rows_per_s": round(people / activation),
            "peak_mb": round(peak, 1),
            "cancelling_s": round(cancelling, 2),
            "row_by_row_estimated_s": round(naive, 2),
        },
        {"row_by_row_to_activation": round(naive / activation, 1)},
    )


def to_the_screens(targets: list[str], connected: int) -> tuple[float, list[float]]:
    """Seconds from the click until it is ACTIVE, and until each of those connected has it."""
    port = free_port()
    env = os.environ | {"SSE_CONNECTS_PER_MINUTE": "0"}
    parts = [
        Spawned.start(command, env, Path(settings.VAR_DIR) / f"{command[0]}.log")
        for command in (["web", "--port", str(port)], ["relay"])
    ]
    people = [int(pk) for pk in targets[:: len(targets) // connected]][:connected]
    clients = [Client(port, token_of(pk, {"SECRET_KEY": settings.SECRET_KEY})) for pk in people]
    try:
        return asyncio.run(asyncio.wait_for(watch(clients, targets), 300))
    finally:
        for part in parts:
            part.close()


async def watch(clients: list[Client], targets: list[str]) -> tuple[float, list[float]]:
    seen: list[float] = []

    def has_it(client: Client) -> bool:
        return bool(client.counts["MESSAGE"])

    async def follow(client: Client) -> None:
        await client.follow(has_it)
        seen.append(time.time())

    tasks = [asyncio.create_task(follow(client)) for client in clients]
    while not all(client.counts["CONNECTED"] for client in clients):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    clicked, active = await asyncio.to_thread(click, targets)
    await asyncio.gather(*tasks)
    return active - clicked, sorted(at - clicked for at in seen)


def click(targets: list[str]) -> tuple[float, float]:
    """When it was sent, and when it was ACTIVE."""
    clicked = time.time()
    fields = {"title": "To many", "content": "Some *text*.", "audience": Audience.SELECTED}
    broadcast = compose_and_send(None, targets=targets, **fields)

    def is_active() -> bool:
        return Broadcast.objects.filter(pk=broadcast.pk, status="ACTIVE").exists()

    wait_until(is_active, 120, "it is ACTIVE")
    broadcast.refresh_from_db()
    close_old_connections()
    assert broadcast.activated_at
    return clicked, broadcast.activated_at.timestamp()


def prepare(targets: list[str]) -> Broadcast:
    fields = {"title": "To many", "content": "Some *text*.", "audience": Audience.SELECTED}
    broadcast = send(compose(None, targets=targets, **fields))
    assert broadcast.status == "IN_PROGRESS"
    return Broadcast.objects.get(pk=broadcast.pk)


def peak_of_activation(broadcast: Broadcast) -> float:
    """MB, with the targets that it reads."""
    tracemalloc.start()
    activate(Broadcast.objects.get(pk=broadcast.pk))
    peak = tracemalloc.get_traced_memory()[1] / 1_048_576
    tracemalloc.stop()
    return peak


def save_each(targets: list[str]) -> None:
    """In one transaction, so that the peer does not pay for a commit a row."""
    broadcast = compose(None, title="Row by row", audience=Audience.SELECTED, targets=targets)
    with transaction.atomic():
        for pk in targets:
            Receipt(broadcast=broadcast, user_id=int(pk)).save()
