"""The publisher: tells the GRIP proxies what is new in the log.

One leads. Before it tells a stretch of the log it writes down how far it goes: streams are held
from there, and a successor knows what may have been told in part. A proxy that was not told
everything (it was away, the publisher died) is told an id that follows nothing: then each of its
streams asks us for what it misses, and what was told already is not told again.
"""

import json
import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
from django.conf import settings

from connections.grip import CHAIN, NAME, closes_all, farewell, mark, published
from connections.screening import RELEASE
from connections.services import CLOSE
from connections.wire import Frame, frames_of
from jobs.registry import Standing
from outbox.leases import STAND_BY, Fenced, Leader, standing_of
from outbox.logs import Consumer, Record, get_log, newer
from outbox.models import Event, LeaderLease
from outbox.topics import BROADCASTS

logger = logging.getLogger(__name__)

Item = dict[str, Any]

STRETCH = 500
READ_WAIT = 1.0  # seconds; a commit wakes the reader sooner
POST_BYTES = 500_000  # Pushpin takes a million
LARGEST_BODY = 200_000  # what is larger, streams fetch from us
TIMEOUT = 2.0  # seconds that one proxy may keep the others waiting
RETRY = 1.0  # seconds between attempts at a proxy that is away
NOBODY = "nobody"  # a mark that no stream has


class Proxy:
    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.client = httpx.Client(timeout=TIMEOUT)
        self.complete = True
        """Whether it was told everything up to the publisher's position."""
        self.retry_at = 0.0

    def tell(self, items: Iterable[Item]) -> None:
        """In the order given; after a failure nothing more, until `make_up`."""
        if self.complete:
            self.complete = all(self._post(body) for body in bodies(items))

    def make_up(self, position: int) -> None:
        """Have its streams ask for what it was not told."""
        if not self.complete and time.monotonic() >= self.retry_at:
            self.complete = self._post(body_of([json.dumps(item(CHAIN, id=str(position)))]))
            self.retry_at = time.monotonic() + RETRY

    def _post(self, body: bytes) -> bool:
        try:
            self.client.post(f"{self.url}/publish/", content=body).raise_for_status()
        except httpx.HTTPError as error:
            logger.warning("The proxy at %s was not told: %r", self.url, error)
            return False
        return True


class GripPublisher:
    """Tell the GRIP proxies what is new in the event log."""

    wakes_on = "log"

    def __init__(self) -> None:
        self.leader = Leader(NAME)
        self.proxies = [Proxy(url) for url in settings.GRIP_URLS]
        self.consumer: Consumer | None = None
        self.position = 0

    def step(self) -> float:
        try:
            if not self._lead():
                return STAND_BY
            if self.consumer is None:
                self._begin()
            assert self.consumer
            wait = min(READ_WAIT, settings.OUTBOX_LEASE_SECONDS / 3)
            self._tell(self.consumer.poll(STRETCH, wait=wait))
        except Fenced:
            self._stop_reading()
            self.leader.token = 0
            return STAND_BY
        except Exception:
            self._stop_reading()
            raise
        for proxy in self.proxies:
            proxy.make_up(self.position)
        return 0.0

    def stop(self) -> None:
        self._stop_reading()
        if all(proxy.complete for proxy in self.proxies):
            self.leader.resign()  # the next one need not make up for anything

    def _lead(self) -> bool:
        if self.leader.is_fresh:
            return True
        before = self.leader.token
        # Who was killed is still named: it may have told a part of what it had claimed.
        named = LeaderLease.objects.filter(name=NAME).exclude(holder="")
        in_order = not before and not named.exists()
        if not self.leader.lead():
            self._stop_reading()
            return False
        if self.leader.token != before:
            self._stop_reading()
            for proxy in self.proxies:
                proxy.complete = in_order
        return True

    def _begin(self) -> None:
        """Read from now on, then what was published before that: no gap is between."""
        self.consumer = get_log().consumer([BROADCASTS])
        self.position = self.leader.row.values_list("position", flat=True).get()
        if not self.position:
            self._skip_to(get_log().head())
        while records := get_log().replay(BROADCASTS, self.position, STRETCH):
            self._tell(records)
        if records is None:
            self._skip_to(get_log().head())

    def _skip_to(self, position: int) -> None:
        """What is before it is gone, or was before there was a publisher: streams ask."""
        self._claim(position)
        for proxy in self.proxies:
            proxy.complete = False

    def _tell(self, records: list[Record]) -> None:
        for run in runs(newer(records, self.position)):
            items = items_of(run, self.position)
            self._claim(run[-1].position)
            for proxy in self.proxies:
                proxy.tell(items)

    def _claim(self, position: int) -> None:
        """Written before it is told; and who has lost the lead tells nothing."""
        try:
            if not self.leader.row.update(position=position, until=self.leader.until()):
                raise Fenced(self.leader.holder)
        except Exception:  # it may be written all the same
            for proxy in self.proxies:
                proxy.complete = False
            raise
        self.position = position

    def _stop_reading(self) -> None:
        if self.consumer:
            self.consumer.close()
        self.consumer = None


def standing() -> Standing:
    """What the proxies have yet to be told."""
    untold = Event.objects.published().filter(topic=BROADCASTS, position__gt=published())
    return standing_of(NAME, untold.count())


def runs(records: list[Record]) -> Iterator[list[Record]]:
    """Stretches that are told as one; what ends a stream is between what comes before and after."""
    run: list[Record] = []
    for record in records:
        if record.type == CLOSE and run:
            yield run
            run = []
        run.append(record)
        if record.type == CLOSE:
            yield run
            run = []
    if run:
        yield run


def items_of(records: list[Record], previous: int) -> list[Item]:
    """First who has to ask, then the chain: who asks is answered up to the end of this stretch.

    An event to one channel is in the chain with its bytes. Streams ask for what is for a single
    person (nobody else's stream should have to look at it), for what has several channels (a stream
    may have more than one of them, and must see it once), and for what is too large. Whom a release
    is for, no proxy holds.
    """
    first: dict[str, Item] = {}
    chain: list[Item] = []
    for frame in frames_of(records):
        if frame.type == CLOSE:
            if closes_all(frame):
                for channel in frame.channels:
                    first[channel] = item(mark(channel), content=farewell(frame).decode())
                    first[f"{channel} end"] = item(mark(channel), action="close")
        elif frame.channels and frame.replayable() and frame.type != RELEASE:
            if is_told_whole(frame):
                chain.append(link_of(frame, previous))
                previous = frame.position
            else:
                first |= {c: item(mark(c), action="hint") for c in frame.channels}
    if previous < records[-1].position:
        end = {"id": str(records[-1].position), "prev-id": str(previous)}
        chain.append(item(CHAIN, **end, meta={"require_sub": NOBODY}))
    return [*first.values(), *chain]


def is_told_whole(frame: Frame) -> bool:
    (channel, *others) = frame.channels
    return not (others or channel.startswith("user-") or len(frame.body) > LARGEST_BODY)


def link_of(frame: Frame, previous: int) -> Item:
    ids = {"id": str(frame.position), "prev-id": str(previous)}
    meta = {"require_sub": mark(frame.channels[0])}
    return item(CHAIN, **ids, meta=meta, content=frame.body.decode())


def item(channel: str, *, action: str = "", content: str = "", **fields: Any) -> Item:
    stream = {"action": action} if action else {"content": content}
    return {"channel": channel, **fields, "formats": {"http-stream": stream}}


def bodies(items: Iterable[Item]) -> Iterator[bytes]:
    """As few requests as the proxy's limit allows."""
    batch: list[str] = []
    size = 0
    for one in items:
        text = json.dumps(one, ensure_ascii=False)
        size += len(text.encode())
        if batch and size > POST_BYTES:
            yield body_of(batch)
            batch, size = [], len(text.encode())
        batch.append(text)
    if batch:
        yield body_of(batch)


def body_of(items: list[str]) -> bytes:
    return f'{{"items":[{",".join(items)}]}}'.encode()
