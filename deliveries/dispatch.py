"""Requests beside each other: an event loop in a thread of its own, which never touches rows."""

import asyncio
import json
import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.utils import timezone

from deliveries.client import Client
from deliveries.models import Delivery, Endpoint
from deliveries.requests import Answer, Request, build_request
from jobs import tracing
from jobs.correlation import correlated, well_formed

logger = logging.getLogger(__name__)

RESOLVERS = 64  # threads that ask for addresses, so that slow name servers delay nobody else
EPOCH = datetime.fromtimestamp(0, UTC)
ENDING = 2.0  # seconds that connections get to close
SWEEP = 2.0  # seconds between looks at connections that nobody uses any more


@dataclass(slots=True)
class Sending:
    """A delivery that was claimed, and what became of it."""

    delivery: Delivery
    endpoint: Endpoint
    """As it was when it was claimed."""
    start_by: float  # monotonic; later, the claim might run out before the answer
    request: Request | None = None
    started_at: datetime = EPOCH
    duration: float = 0.0  # seconds
    answer: Answer | None = None
    """None: it was not sent in time."""


class Dispatcher:
    def __init__(self) -> None:
        self.finished: queue.SimpleQueue[Sending] = queue.SimpleQueue()
        self.client = Client()  # here: what is wrong with certificates must not end the thread
        self.loop: asyncio.AbstractEventLoop | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.gates: dict[int, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(settings.WEBHOOK_CONCURRENCY)
        )

    def send(self, several: Sequence[Sending]) -> None:
        """Each comes back in `finished`."""
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
            self.loop.set_default_executor(ThreadPoolExecutor(RESOLVERS, "resolver"))
            self.thread = threading.Thread(target=self._run, args=(self.loop,), daemon=True)
            self.thread.start()
        self.loop.call_soon_threadsafe(self._begin, several)

    def gather(self, seconds: float, breath: float) -> list[Sending]:
        """What is answered: waits for the first one, then a breath for others."""
        found = []
        with suppress(queue.Empty):
            found.append(self.finished.get(timeout=seconds))
            time.sleep(breath)
            while True:
                found.append(self.finished.get_nowait())
        return found

    def close(self) -> None:
        if self.loop:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(ENDING)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        sweeping = loop.create_task(self._sweep())
        loop.run_forever()
        for task in (rest := [sweeping, *self.tasks]):
            task.cancel()
        loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        loop.run_until_complete(self.client.close())
        loop.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            await self.client.close_expired()

    def _begin(self, several: Sequence[Sending]) -> None:
        assert self.loop
        for sending in several:
            task = self.loop.create_task(self._send(sending))
            self.tasks.add(task)  # the loop itself holds no task
            task.add_done_callback(self.tasks.discard)

    async def _send(self, sending: Sending) -> None:
        async with self.gates[sending.endpoint.pk]:
            if time.monotonic() < sending.start_by:
                sending.started_at = timezone.now()
                try:
                    with _about(sending.delivery):
                        await self._attempt(sending)
                except Exception as error:  # or it would be in hand for ever
                    logger.exception("Delivery %s cannot be sent", sending.delivery.pk)
                    sending.answer = Answer(error=f"{type(error).__name__}: {error}")
        self.finished.put(sending)

    async def _attempt(self, sending: Sending) -> None:
        start = time.monotonic()
        try:
            request = build_request(sending.endpoint, sending.delivery, sending.started_at)
            sending.request = request
            sending.answer = await self.client.post(request, settings.WEBHOOK_TIMEOUT)
        except Exception as error:  # of what no request can be made: an attempt that failed
            logger.exception("Delivery %s cannot be sent", sending.delivery.pk)
            sending.answer = Answer(error=f"{type(error).__name__}: {error}")
        sending.duration = time.monotonic() - start
        answer = sending.answer
        tracing.describe(http__response__status_code=answer.status, error=answer.error)


@contextmanager
def _about(delivery: Delivery) -> Iterator[None]:
    """What is logged and sent meanwhile belongs to what set off its event, whoever published it."""
    envelope = json.loads(delivery.body)
    given = {name: str(envelope.get(name) or "") for name in ("correlationid", "traceparent")}
    with (
        correlated(well_formed(given["correlationid"]), delivery.event_id),
        tracing.span(
            f"deliver {delivery.type}",
            "client",
            given["traceparent"],
            delivery__id=delivery.pk,
            attempt=delivery.attempts + 1,
        ),
    ):
        yield
