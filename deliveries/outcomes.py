"""What answers mean for deliveries and their endpoint; in the transaction that locks its row."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import F

from deliveries import services
from deliveries.dispatch import Sending
from deliveries.models import TRIP, Attempt, Delivery, Endpoint, Kind, State, Status, Tally
from deliveries.policies import delay_after, retries
from deliveries.requests import concerns_all, is_gone, pause_of, wait_of

logger = logging.getLogger(__name__)

FIRST_BREAK = timedelta(seconds=30)  # of a circuit that opens, doubled by each probe that fails
LONGEST_BREAK = timedelta(minutes=10)
OUTCOMES: dict[str, str] = {
    Status.SUCCESS: "delivered",
    Status.FAILED: "failed",
    Status.DEAD: "dead",
}
MOST_DOUBLINGS = 9  # of the least wait after answers that ask for one: 512 s


def write_attempts(several: Iterable[Sending]) -> None:
    Attempt.objects.bulk_create(
        [
            Attempt(
                delivery=s.delivery,
                number=s.delivery.attempts + 1,
                started_at=s.started_at,
                duration_ms=round(s.duration * 1_000),
                url=s.request.url if s.request else s.endpoint.url,
                request_headers=s.request.headers if s.request else {},
                status=s.answer.status,
                response_headers=s.answer.headers or {},
                response_body=s.answer.body,
                error=s.answer.error,
                succeeded=s.answer.succeeded,
            )
            for s in several
            if s.answer
        ],
        batch_size=500,
    )


def finish(deliveries: Sequence[int], now: datetime) -> None:
    """All that succeeded, in one statement."""
    Delivery.objects.filter(pk__in=deliveries).update(
        status=Status.SUCCESS,
        attempts=F("attempts") + 1,
        next_attempt_at=None,
        completed_at=now,
        claimed_by="",
        error="",
    )


def mark(endpoint: Endpoint, several: Iterable[Sending], now: datetime) -> None:
    """What the answers say of the endpoint, and when what failed is tried again."""
    before = (endpoint.failures, endpoint.failing_since, endpoint.not_before)
    for sending in several:
        if sending.answer is None:
            _give_back(sending.delivery, now)
        elif sending.answer.succeeded:
            _mark_success(endpoint, sending, now)
        else:
            _mark_failure(endpoint, sending, now)
    if before != (endpoint.failures, endpoint.failing_since, endpoint.not_before):
        endpoint.save(update_fields=["failures", "failing_since", "not_before"])


def _give_back(delivery: Delivery, now: datetime) -> None:
    Delivery.objects.filter(pk=delivery.pk).update(next_attempt_at=now, claimed_by="")


def _mark_success(endpoint: Endpoint, sending: Sending, now: datetime) -> None:
    assert sending.answer
    sending.delivery.status = Status.SUCCESS
    if endpoint.failures >= TRIP:
        logger.info("Endpoint %s answers again", endpoint)
    if endpoint.failures:
        endpoint.not_before = None
    endpoint.failures, endpoint.failing_since = 0, None
    _hold_back(endpoint, now, pause_of(endpoint.kind, sending.answer))


def _mark_failure(endpoint: Endpoint, sending: Sending, now: datetime) -> None:
    answer = sending.answer
    assert answer
    endpoint.failing_since = endpoint.failing_since or now
    wait = wait_of(endpoint.kind, answer)
    if wait is None:
        _count_failure(endpoint, sending, now)
    else:
        _hold_back(endpoint, now, wait)
        if concerns_all(endpoint.kind, answer):
            _hold_others_back(now + wait)
    _reschedule(endpoint, sending, now, wait)
    if endpoint.state == State.DISABLED:
        return
    if is_gone(endpoint.kind, answer):
        services.give_up(endpoint, f"It {answer.fault}: it is gone.")
    elif now - endpoint.failing_since > timedelta(days=settings.WEBHOOK_DISABLE_AFTER_DAYS):
        since = f"{endpoint.failing_since:%Y-%m-%d %H:%M %Z}"
        services.give_up(endpoint, f"Nothing got through since {since}: {answer.fault}"[:300])


def _count_failure(endpoint: Endpoint, sending: Sending, now: datetime) -> None:
    """From TRIP in a row on the circuit is open: nothing is sent for a while, longer each time."""
    if endpoint.failures >= TRIP > sending.endpoint.failures:
        return  # it was under way when the circuit opened, and says nothing new
    endpoint.failures += 1
    if endpoint.failures == TRIP:
        logger.warning("Endpoint %s failed %s times in a row", endpoint, TRIP)
    if endpoint.failures >= TRIP:
        doublings = min(endpoint.failures - TRIP, MOST_DOUBLINGS)
        endpoint.not_before = now + min(FIRST_BREAK * 2**doublings, LONGEST_BREAK)


def _hold_back(endpoint: Endpoint, now: datetime, wait: timedelta | None) -> None:
    if wait is not None:
        endpoint.not_before = max(endpoint.not_before or now, now + wait)


def _hold_others_back(until: datetime) -> None:
    others = Endpoint.objects.filter(kind=Kind.DISCORD).exclude(not_before__gt=until)
    others.update(not_before=until)


def _reschedule(
    endpoint: Endpoint, sending: Sending, now: datetime, wait: timedelta | None
) -> None:
    delivery, answer = sending.delivery, sending.answer
    assert answer
    fields: dict[str, Any] = {"attempts": delivery.attempts + 1, "error": answer.fault}
    delay: timedelta | None
    if wait is not None:  # nobody's fault; but it may be asked to wait for ever
        fields["forgiven"] = delivery.forgiven + 1
        delay = max(wait, timedelta(seconds=2 ** min(delivery.forgiven, MOST_DOUBLINGS)))
    elif is_gone(endpoint.kind, answer):
        delay = None
    else:
        delay = delay_after(endpoint.kind, delivery.counted + 1)
    if delay is None:
        fields |= {"status": Status.DEAD, "next_attempt_at": None, "completed_at": now}
    elif wait is None and not retries(endpoint.kind):
        fields |= {"status": Status.FAILED, "next_attempt_at": None, "completed_at": now}
    else:
        fields |= {"status": Status.RETRYING, "next_attempt_at": now + delay}
    Delivery.objects.filter(pk=delivery.pk).update(claimed_by="", **fields)
    delivery.status = fields["status"]


def count(several: Iterable[Sending]) -> None:
    """For the metrics: attempts, what they took, and what ended with them."""
    counts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(int))
    for sending in several:
        if sending.answer:
            of_kind = counts[sending.endpoint.kind]
            end = "succeeded" if sending.answer.succeeded else "failed"
            of_kind[f"attempts_{end}"] += 1
            of_kind[f"seconds_{end}"] += sending.duration
            if outcome := OUTCOMES.get(sending.delivery.status):
                of_kind[outcome] += 1
    for kind in sorted(counts):
        Tally.objects.add(kind, **counts[kind])
