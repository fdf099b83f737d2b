"""What both jobs do: ask Battle.net for all that is due, a few at a time, within the budget.

The state is in the rows: a run that ends early, or dies, goes on where it was. Threads only ask;
rows are read and written by the run's own thread, under its lease.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import DataError, IntegrityError, models
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from domains.warcraft import budget, characters, guilds, services
from domains.warcraft.battlenet import (
    ATTEMPTS,
    Asking,
    BattleNetError,
    Client,
    CredentialsRefused,
    Held,
    Unavailable,
    account_of,
)
from domains.warcraft.models import Character, Guild, Region, Tracked, TrackedQuerySet
from jobs import clock
from jobs.leases import Fenced, current_lease, fenced
from jobs.models import Job
from jobs.progress import advance, expect
from jobs.registry import Outcome

logger = logging.getLogger(__name__)

PAGE = 100  # rows that are read at a time
BATCH = 100  # rows, or as much weight, that are written together
WRITTEN_EVERY = 2.0  # seconds after which what is there is written all the same
RUN_FOR = 600.0  # seconds; then the run ends, others have their turn, and the next one goes on
HOLDS = 5  # times that one row is asked to wait before that is its failure
DOWN_AFTER = 20  # failures of a region in a row: the rest of it is left for the next run
UNWRITABLE = (DataError, IntegrityError, OverflowError, TypeError, ValueError)


@dataclass(frozen=True)
class Kind:
    model: type[Tracked]
    documents: int
    fetch: Callable[[Asking, Any], Any]
    write: Callable[[list[Any], datetime], None]
    weight: Callable[[Any], int] = lambda answer: 1
    after: Callable[[Client, str], None] = lambda client, region: None
    """Once, at the end; it costs no more requests than a row, and may be left for the next run."""

    @property
    def rows(self) -> TrackedQuerySet:
        rows: TrackedQuerySet = self.model._default_manager.all()  # type: ignore[assignment]
        return rows

    @property
    def job(self) -> str:
        return services.JOBS[self.model.noun]

    @property
    def most_requests(self) -> int:
        """That a row may take."""
        return self.documents * ATTEMPTS


CHARACTERS = Kind(Character, characters.DOCUMENTS, characters.fetch, characters.write)
GUILDS = Kind(
    Guild,
    guilds.DOCUMENTS,
    guilds.fetch,
    guilds.write,
    weight=lambda answer: 1 + len(answer.members or ()) // 20,
    after=guilds.name_unnamed,
)


@dataclass(frozen=True)
class Fetched:
    row: Tracked
    answer: Any
    """None: nothing is new, unless there is an error."""
    error: Exception | None
    requests: int
    failures: int
    """In a row, before this one."""
    held: int
    """How often Battle.net had asked to wait before this was asked for."""


def sync(kind: Kind) -> Outcome:
    """All that is due. Raises `BattleNetError` when no region can be asked at all."""
    waiting = kind.rows.waiting(clock.now()).count()
    if not any(account_of(region) for region in Region.values):
        return Outcome(skipped=waiting, note=no_credentials())
    if not waiting:
        return Outcome()
    with closing(Client()) as client:
        return Run(kind, client, *signed_in(client)).go()


def signed_in(client: Client) -> tuple[set[str], list[str]]:
    """The regions that may be asked, and why others may not.

    A wrong password is one error, before any row is asked for: raised when nothing else is left.
    """
    usable: set[str] = set()
    errors: list[BattleNetError] = []
    for regions in ({*Region.values} - {Region.CN.value}, {Region.CN.value}):  # by their account
        if account_of(min(regions)):
            try:
                client.token(min(regions))
                usable |= regions
            except BattleNetError as error:
                errors.append(error)
    if errors and not usable:
        raise errors[0]
    return usable, [str(error) for error in errors]


def no_credentials() -> str:
    return _("No credentials: set BATTLENET_CLIENT_ID and BATTLENET_CLIENT_SECRET.")


@dataclass
class Run:
    kind: Kind
    client: Client
    regions: set[str]
    notes: list[str]
    allowance: int = 0
    """Requests that were taken from the budget and not made yet."""
    done: int = 0
    failed: int = 0
    is_unfinished: bool = False
    buffer: list[Fetched] = field(default_factory=list)
    weight: int = 0
    """Of what is in the buffer."""
    again: deque[Tracked] = field(default_factory=deque)
    held: int = 0
    """How often Battle.net asked to wait."""
    holds: Counter[int] = field(default_factory=Counter)
    in_a_row: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.at = clock.now()
        self.until = time.monotonic() + RUN_FOR
        self.written_at = time.monotonic()

    def go(self) -> Outcome:
        expect(self._waiting().count())
        try:
            with ThreadPoolExecutor(settings.BATTLENET_CONCURRENCY, "battlenet") as pool:
                try:
                    for fetched in self._fetch_all(pool):
                        self._take(fetched)
                except BaseException:
                    self.client.stopping.set()  # nobody waits any more
                    pool.shutdown(cancel_futures=True)
                    raise
        finally:
            if self._holds_lease():
                self._write()
        if self.regions and self.allowance >= self.kind.documents:
            self.kind.after(self.client, min(self.regions))
        if self.is_unfinished:
            go_on(self.kind.job)
        left = self.kind.rows.waiting(self.at).count()
        return Outcome(self.done, self.failed, left, " ".join(self._notes(left)))

    # Rows

    def _waiting(self) -> TrackedQuerySet:
        return self.kind.rows.waiting(self.at).filter(region__in=self.regions)

    def _rows(self) -> Iterator[Tracked]:
        """By keyset: first those that somebody waits for, looked for again after each page."""
        asked, due = 0, models.Q()
        while time.monotonic() < self.until:
            rows = self.kind.rows.filter(region__in=self.regions)
            page = list(rows.filter(is_asked=True, pk__gt=asked).order_by("pk")[:PAGE])
            if page:
                asked = page[-1].pk
            else:
                waiting = rows.filter(due, is_asked=False, next_try_at__lte=self.at)
                page = list(waiting.order_by("next_try_at", "pk")[:PAGE])
                if not page:
                    return
                last = page[-1]
                due = models.Q(next_try_at__gte=last.next_try_at) & (
                    models.Q(next_try_at__gt=last.next_try_at) | models.Q(pk__gt=last.pk)
                )
            yield from page
        self.is_unfinished = True

    # Asking

    def _fetch_all(self, pool: ThreadPoolExecutor) -> Iterator[Fetched]:
        rows = self._rows()
        running: set[Future[Fetched]] = set()
        while True:
            while len(running) < settings.BATTLENET_CONCURRENCY:
                row = self._next(rows)
                if row is None or not self._afford():
                    break
                running.add(pool.submit(self._fetch, row, self.held))
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()

    def _next(self, rows: Iterator[Tracked]) -> Tracked | None:
        while row := self.again.popleft() if self.again else next(rows, None):
            if row.region in self.regions:
                return row
        return None

    def _afford(self) -> bool:
        """Wait until a row may be asked for; False when the run's time is over before."""
        while self.allowance < self.kind.most_requests:
            granted, seconds = budget.reserve()
            self.allowance += granted
            if granted:
                continue
            self._write()
            if time.monotonic() + seconds > self.until:
                self.is_unfinished = True
                return False
            self._sleep(seconds)
        self.allowance -= self.kind.most_requests
        return True

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not self._holds_lease():
                raise Fenced(f"{self.kind.job} was taken over")
            self.client.stopping.wait(min(left, 1.0))

    def _holds_lease(self) -> bool:
        lease = current_lease()
        return lease is None or not lease.lost.is_set()

    def _fetch(self, row: Tracked, held: int) -> Fetched:
        """In a thread: no row is touched here."""
        asking = Asking(self.client, row.region)
        answer = None
        error: Exception | None = None
        try:
            answer = self.kind.fetch(asking, row)
        except BattleNetError as refusal:
            error = refusal
        except Exception as unexpected:  # one row's, and not the others'
            logger.exception("%s could not be read", row)
            error = unexpected
        return Fetched(row, answer, error, asking.requests, row.failures, held)

    # Answers

    def _take(self, fetched: Fetched) -> None:
        if fetched.held == self.held:  # what was taken before a hold counts no more
            self.allowance += max(self.kind.most_requests - fetched.requests, 0)
        match fetched.error:
            case CredentialsRefused():
                raise fetched.error
            case Held() if self._is_asked_again(fetched.row, fetched.error):
                return
            case Unavailable():
                self._count_failure(fetched.row.region)
            case _:
                self.in_a_row[fetched.row.region] = 0
        self.buffer.append(fetched)
        self.weight += self.kind.weight(fetched.answer) if fetched.answer else 1
        if self.weight >= BATCH or time.monotonic() - self.written_at > WRITTEN_EVERY:
            self._write()

    def _is_asked_again(self, row: Tracked, held: Held) -> bool:
        budget.hold(held.seconds)
        self.held, self.allowance = self.held + 1, 0  # the row says when there are more
        self.holds[row.pk] += 1
        if self.holds[row.pk] > HOLDS:
            return False
        self.again.append(row)
        return True

    def _count_failure(self, region: str) -> None:
        self.in_a_row[region] += 1
        if self.in_a_row[region] == DOWN_AFTER:
            self.regions.discard(region)
            self.notes.append(
                _("%(region)s failed %(count)s times in a row: the rest of it waits.")
                % {"region": region.upper(), "count": DOWN_AFTER}
            )

    # Writing

    def _write(self) -> None:
        batch, self.buffer, self.weight = self.buffer, [], 0
        self.written_at = time.monotonic()
        if batch:
            self._write_batch(batch)
            advance(len(batch))

    def _write_batch(self, batch: list[Fetched]) -> None:
        """All together; where one of them cannot be written, each alone."""
        try:
            with fenced():
                self._write_all(batch)
        except UNWRITABLE as error:
            if len(batch) > 1:
                for fetched in batch:
                    self._write_batch([fetched])
                return
            logger.warning("%s cannot be written", batch[0].row, exc_info=error)
            batch = [replace(batch[0], answer=None, error=error)]
            with fenced():
                self._write_all(batch)
        failed = sum(fetched.error is not None for fetched in batch)
        self.failed += failed
        self.done += len(batch) - failed

    def _write_all(self, batch: list[Fetched]) -> None:
        at = clock.now()
        model = self.kind.model
        # One that was merely due may be asked for before that is written: the last is enough.
        batch = list({fetched.row.pk: fetched for fetched in batch}.values())
        there = services.still_those(model, [fetched.row for fetched in batch])
        batch = [fetched for fetched in batch if fetched.row.pk in there]
        answers = [fetched.answer for fetched in batch if fetched.answer]
        if answers:
            self.kind.write(answers, at)
        same = [fetched.row for fetched in batch if not (fetched.answer or fetched.error)]
        services.keep(model, same, at)
        failed = [(fetched.row, fetched.error) for fetched in batch if fetched.error]
        for fetched in batch:
            if fetched.error:  # an attempt to write it may have counted already
                fetched.row.failures = fetched.failures
        services.fail(model, failed, at)
        services.answered(model, [fetched.row for fetched in batch])

    def _notes(self, left: int) -> Iterator[str]:
        yield from self.notes
        if self.is_unfinished:
            yield _("The next run goes on.")
        elif left:
            yield _("%(count)s still wait.") % {"count": left}


def go_on(job: str) -> None:
    """Ask for the next run of the job, unless an operator paused it."""
    Job.objects.filter(name=job, paused_at=None).update(requested_at=Now())
