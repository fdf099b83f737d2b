"""The sender: claims what is due, hands it to the dispatcher, writes down what came of it.

The row is the queue. A claim moves the moment at which a delivery is due behind the time that its
attempt may take: who is killed loses it to the next one by doing nothing. All that is known of an
endpoint (its circuit, its rate, a wait that it asked for) stands in its row, which is locked while
one process claims or records; so any number of senders agree.
"""

import os
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import OuterRef, Subquery

from deliveries.dispatch import Dispatcher, Sending
from deliveries.models import TRIP, Delivery, Endpoint, State
from deliveries.outcomes import count, finish, mark, write_attempts
from jobs import clock

LONGEST_SLEEP = 2.0  # seconds; a commit wakes sooner
SHORTEST_SLEEP = 0.05
BREATH = 0.02  # seconds in which answers are collected, to be written together
AHEAD = 100  # deliveries in hand for an endpoint that takes them
MOST = 1_000  # deliveries in hand
STOPPING = 5.0  # seconds that requests get to end when the process is told to


class Sender:
    def __init__(self) -> None:
        self.name = f"{settings.NODE_NAME}-{os.getpid()}-{secrets.token_hex(3)}"
        self.dispatcher = Dispatcher()
        self.in_hand: set[int] = set()  # deliveries
        self.held: Counter[int] = Counter()  # how many of them by endpoint
        self.good: set[int] = set()  # endpoints that took the last delivery
        self.unwritten: list[Sending] = []

    def step(self) -> float:
        """Write what is answered, send what is due; seconds until the next look."""
        if claimed := self.claim():
            self.dispatcher.send(claimed)
        if not self.in_hand:
            return self._seconds_until_next()
        self.unwritten += self.dispatcher.gather(SHORTEST_SLEEP, BREATH)
        self.record()
        return 0.0

    def stop(self) -> None:
        """Let what is under way end, and give back the rest."""
        deadline = time.monotonic() + STOPPING
        while self.in_hand and time.monotonic() < deadline:
            self.unwritten += self.dispatcher.gather(SHORTEST_SLEEP, BREATH)
            self.record()
        self.dispatcher.close()
        Delivery.objects.waiting().filter(claimed_by=self.name).update(
            next_attempt_at=clock.now(), claimed_by=""
        )

    def claim(self) -> list[Sending]:
        """What is due, as much of each endpoint as it may have at a time."""
        now = clock.now()
        wanted = [e.pk for e in Endpoint.objects.ready(now) if self._room(e)]
        left = MOST - len(self.in_hand)
        if not wanted or left <= 0:
            return []
        share = max(1, left // len(wanted))  # so that many that do not answer leave room
        start_by = time.monotonic() + settings.WEBHOOK_TIMEOUT
        claimed: list[Sending] = []
        with transaction.atomic():
            ready = Endpoint.objects.ready(now).filter(pk__in=wanted)
            for endpoint in ready.select_for_update(skip_locked=True, of=("self",)):
                count = min(self._room(endpoint), share, left - len(claimed))
                due = self._take(endpoint, now, count)
                claimed += [Sending(delivery, endpoint, start_by) for delivery in due]
            Delivery.objects.filter(pk__in=[s.delivery.pk for s in claimed]).update(
                next_attempt_at=now + lease(), claimed_by=self.name
            )
        self.in_hand |= {sending.delivery.pk for sending in claimed}
        self.held += Counter(sending.endpoint.pk for sending in claimed)
        return claimed

    def record(self) -> None:
        """Kept until it is written: a database that is away now may be back in a moment."""
        if not self.unwritten:
            return
        of: dict[int, list[Sending]] = defaultdict(list)
        for sending in self.unwritten:
            of[sending.endpoint.pk].append(sending)
        with transaction.atomic():
            now = clock.now()
            endpoints = Endpoint.objects.filter(pk__in=of).order_by("pk").select_for_update()
            locked = list(endpoints)
            ids = self._still_mine()
            mine = [sending for sending in self.unwritten if sending.delivery.pk in ids]
            write_attempts(mine)
            finish([sending.delivery.pk for sending in mine if succeeded(sending)], now)
            for endpoint in locked:
                mark(endpoint, [s for s in of[endpoint.pk] if s.delivery.pk in ids], now)
            count(mine)
        for sending in self.unwritten:
            (self.good.add if succeeded(sending) else self.good.discard)(sending.endpoint.pk)
            self.in_hand.discard(sending.delivery.pk)
        self.held -= Counter(sending.endpoint.pk for sending in self.unwritten)
        self.unwritten = []

    def _room(self, endpoint: Endpoint) -> int:
        """How many more this process may have in hand for it.

        One that fails is asked by one delivery at a time until it takes one: so whatever waits for
        a dead endpoint holds a single place.
        """
        held = self.held[endpoint.pk]
        if endpoint.failures:
            return 0 if held else 1
        most = AHEAD if endpoint.pk in self.good else settings.WEBHOOK_CONCURRENCY
        most = min(most, endpoint.pace or most)
        return most - held if held <= most // 2 else 0  # few at a time cost as many statements

    def _take(self, endpoint: Endpoint, now: datetime, count: int) -> Sequence[Delivery]:
        if count <= 0:
            return []
        queued = Delivery.objects.due(now).filter(endpoint=endpoint)
        rows = queued.order_by("next_attempt_at", "id")[:count]
        due = [row for row in rows if row.pk not in self.in_hand]
        if due and endpoint.failures >= TRIP:  # half-open: no other process asks meanwhile
            endpoint.not_before = now + lease()
            endpoint.save(update_fields=["not_before"])
        elif due and endpoint.pace:
            endpoint.not_before = now + timedelta(seconds=len(due) / endpoint.pace)
            endpoint.save(update_fields=["not_before"])
        return due

    def _still_mine(self) -> set[int]:
        """What took too long may be somebody else's by now."""
        ids = [sending.delivery.pk for sending in self.unwritten]
        mine = Delivery.objects.filter(pk__in=ids, claimed_by=self.name)
        return set(mine.values_list("pk", flat=True))

    def _seconds_until_next(self) -> float:
        waiting = Delivery.objects.waiting().filter(endpoint=OuterRef("pk"))
        first = waiting.order_by("next_attempt_at").values("next_attempt_at")[:1]
        rows = Endpoint.objects.filter(state=State.ACTIVE).values_list(
            "not_before", Subquery(first)
        )
        now = clock.now()
        moments = [max(due, held or due) for held, due in rows if due]
        seconds = (min(moments, default=now + timedelta(days=1)) - now).total_seconds()
        return min(max(seconds, SHORTEST_SLEEP), LONGEST_SLEEP)


def succeeded(sending: Sending) -> bool:
    return bool(sending.answer and sending.answer.succeeded)


def lease() -> timedelta:
    """Twice what a request may take: it begins within the first half, or not at all."""
    return timedelta(seconds=2 * settings.WEBHOOK_TIMEOUT)
