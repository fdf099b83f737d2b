"""Clicks: collected in the process that answers them, and written together a moment later."""

import atexit
import logging
import threading
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F
from django.utils import timezone

from domains.links.models import Click, DailyCount, Dimension, Link
from domains.links.visitors import anonymise, client_of, country_of, referrer_host

logger = logging.getLogger(__name__)

FLUSH = 0.25  # seconds that a click waits for others
BATCH = 1_000  # in a transaction
MOST_WAITING = 200_000  # while the database is away: some 100 MB
MOST_REFERRERS = 100  # of a link and day: anybody can send any header
ELSEWHERE = "…"  # the referrers beyond them
ROWS = 1_000  # in a statement
DIMENSIONS = {
    Dimension.COUNTRY: "country",
    Dimension.DEVICE: "device",
    Dimension.BROWSER: "browser",
    Dimension.REFERRER: "referrer",
}

Key = tuple[int, int, date, str]  # link, dimension, day, value


@dataclass(frozen=True, slots=True)
class Visit:
    """What the request said; nothing of it is stored as it is."""

    link_id: int
    at: datetime
    address: str = ""
    user_agent: str = ""
    referrer: str = ""
    user_id: int | None = None
    is_prefetch: bool = False


class Collector:
    """Of one process. `add` costs no statement; a thread of its own writes."""

    def __init__(self) -> None:
        self.waiting: deque[Visit] = deque()
        self.added = threading.Event()
        self.closing = threading.Event()
        self.starting = threading.Lock()
        self.writing = threading.Lock()
        self.writer: threading.Thread | None = None
        self.dropped = 0

    def add(self, visit: Visit) -> None:
        if len(self.waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        self.waiting.append(visit)
        self.added.set()
        if self.writer is None or not self.writer.is_alive():
            self._start()

    def flush(self) -> bool:
        """Write what waits; False when the database is away, and it waits on."""
        with self.writing:
            while batch := self._take():
                try:
                    record(batch)
                except (OperationalError, InterfaceError) as error:
                    logger.warning("%s clicks have to wait: %s", len(self.waiting), error)
                    self.waiting.extendleft(reversed(batch))
                    return False
                except Exception:  # that of one, which must not take the others with it
                    logger.exception("Clicks are written one by one")
                    _record_each(batch)
        if self.dropped:
            logger.error("%s clicks were dropped: too many waited", self.dropped)
            self.dropped = 0
        return True

    def close(self) -> None:
        """At the end of the process, also after SIGTERM: what waits is written."""
        self.closing.set()
        if not self.flush():
            logger.error("%s clicks are lost: the database is away", len(self.waiting))
        connection.close()

    def _take(self) -> list[Visit]:
        return [self.waiting.popleft() for _ in range(min(BATCH, len(self.waiting)))]

    def _start(self) -> None:
        with self.starting:
            if self.writer and self.writer.is_alive():
                return
            if self.writer is None:
                atexit.register(self.close)
            self.writer = threading.Thread(target=self._run, name="click-writer", daemon=True)
            self.writer.start()

    def _run(self) -> None:
        while not self.closing.is_set():
            self.added.wait()
            self.added.clear()
            self.closing.wait(FLUSH)
            if not self.flush():
                self.added.set()
            connection.close()  # of this thread; a pool takes it back


collector = Collector()


def _record_each(visits: Iterable[Visit]) -> None:
    for visit in visits:
        try:
            record([visit])
        except Exception:
            logger.exception("A click of link %s could not be written", visit.link_id)


def record(visits: Sequence[Visit]) -> None:
    """Write them and all that is counted of them, in one transaction.

    The links are held first, in the order of their keys: two processes that count clicks of the
    same links wait for each other, and lock nothing crosswise. Clicks of links that are deleted
    meanwhile are dropped.
    """
    described = [(visit, click_of(visit)) for visit in visits]
    with transaction.atomic():
        wanted = Link.objects.filter(pk__in={visit.link_id for visit in visits})
        held = wanted.order_by("pk").select_for_update(no_key=True)
        links = set(held.values_list("pk", flat=True))
        kept = [(visit, click) for visit, click in described if visit.link_id in links]
        clicks = [click for _, click in kept]
        Click.objects.bulk_create(clicks, batch_size=ROWS)
        _add_up(clicks)
        _count(clicks)
        _note_readers([visit for visit, click in kept if visit.user_id and not click.is_bot])


def click_of(visit: Visit) -> Click:
    client = client_of(visit.user_agent)
    return Click(
        link_id=visit.link_id,
        clicked_at=visit.at,
        address=anonymise(visit.address),
        country=country_of(visit.address),
        device=client.device,
        browser=client.browser,
        referrer=referrer_host(visit.referrer),
        is_bot=client.is_bot or visit.is_prefetch,
    )


def _add_up(clicks: Iterable[Click]) -> None:
    """The totals in the rows of the links: one statement for all with as many."""
    for column, are_bots in (("click_count", False), ("bot_count", True)):
        counts = Counter(click.link_id for click in clicks if click.is_bot is are_bots)
        for count in set(counts.values()):
            links = [link for link, counted in counts.items() if counted == count]
            Link.objects.filter(pk__in=links).update(**{column: F(column) + count})


def _count(clicks: Iterable[Click]) -> None:
    counts: Counter[Key] = Counter()
    for click in clicks:
        day = timezone.localdate(click.clicked_at)
        if click.is_bot:
            counts[click.link_id, Dimension.BOTS, day, ""] += 1
            continue
        counts[click.link_id, Dimension.CLICKS, day, ""] += 1
        for dimension, column in DIMENSIONS.items():
            counts[click.link_id, dimension, day, getattr(click, column)] += 1
    adapt = connection.ops.adapt_datefield_value
    _upsert(
        UPSERT_COUNTS,
        [
            (link, dimension, adapt(day), value, count)
            for (link, dimension, day, value), count in sorted(_bounded(counts).items())
        ],
    )


def _bounded(counts: "Counter[Key]") -> "Counter[Key]":
    """With no more referrers of a link and day than MOST_REFERRERS; the others are one."""
    new: dict[tuple[int, date], set[str]] = {}
    for link, dimension, day, value in counts:
        if dimension == Dimension.REFERRER and value:
            new.setdefault((link, day), set()).add(value)
    if not new:
        return counts
    found = DailyCount.objects.filter(
        link__in={link for link, _ in new},
        day__in={day for _, day in new},
        dimension=Dimension.REFERRER,
    )
    known: dict[tuple[int, date], set[str]] = {}
    for link, day, value in found.values_list("link", "day", "value"):
        known.setdefault((link, day), set()).add(value)
    bounded: Counter[Key] = Counter()
    for (link, dimension, day, value), count in counts.items():
        kept = value
        if dimension == Dimension.REFERRER and value:
            there = known.setdefault((link, day), set())
            if value not in there and len(there) >= MOST_REFERRERS:
                kept = ELSEWHERE
            there.add(kept)
        bounded[link, dimension, day, kept] += count
    return bounded


def _note_readers(visits: Iterable[Visit]) -> None:
    """Who was signed in; accounts that are gone meanwhile fall out."""
    seen: dict[tuple[int, int], list[datetime]] = {}
    for visit in visits:
        if visit.user_id:
            seen.setdefault((visit.link_id, visit.user_id), []).append(visit.at)
    if not seen:
        return
    people = get_user_model().objects.filter(pk__in={user for _, user in seen})
    there = set(people.values_list("pk", flat=True))
    adapt = connection.ops.adapt_datetimefield_value
    _upsert(
        UPSERT_READERS,
        [
            (link, user, len(moments), adapt(min(moments)), adapt(max(moments)))
            for (link, user), moments in sorted(seen.items())
            if user in there
        ],
    )


# By hand: `bulk_create` can replace what conflicts, but not add to it.
UPSERT_COUNTS = """
    INSERT INTO links_dailycount (link_id, dimension, day, value, count)
    VALUES %s
    ON CONFLICT (link_id, dimension, day, value) DO UPDATE SET
        count = links_dailycount.count + excluded.count
"""
UPSERT_READERS = """
    INSERT INTO links_reader (link_id, user_id, clicks, first_at, last_at)
    VALUES %s
    ON CONFLICT (link_id, user_id) DO UPDATE SET
        clicks = links_reader.clicks + excluded.clicks,
        last_at = excluded.last_at
"""


def _upsert(statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        place = f"({', '.join(['%s'] * len(part[0]))})"
        places = ", ".join([place] * len(part))
        with connection.cursor() as cursor:
            cursor.execute(statement % places, [value for row in part for value in row])
