"""The clock of broadcasts: at their moment by the worker, and once a minute as the net below."""

from datetime import datetime

from django.db.models.functions import Now

from broadcasts.models import Broadcast, Status
from broadcasts.reminders import resume_reminders
from broadcasts.services import (
    BROADCASTS,
    activate_due,
    expire_overdue,
    resume,
    settle_passed,
)
from jobs import clock
from jobs.registry import Standing, periodic, worker

LONGEST_SLEEP = 2.0  # seconds; a commit wakes sooner


def clock_standing() -> Standing:
    return Standing(pending=count_due() + count_overdue())


def preparation_standing() -> Standing:
    return Standing(pending=Broadcast.objects.resumable(clock.now()).count())


@worker("BROADCAST_CLOCK", standing=clock_standing)
class BroadcastClock:
    """Send and end broadcasts at their very moment."""

    wakes_on = BROADCASTS

    def step(self) -> float:
        looked_at = clock.now()
        activate_due(only_small=True)
        expire_overdue()
        return seconds_until_next(looked_at)

    def stop(self) -> None:
        pass


@worker("BROADCAST_PREPARATION", standing=preparation_standing)
class BroadcastPreparation:
    """Prepare large audiences, beside the clock so that nothing due waits for them."""

    wakes_on = BROADCASTS

    def step(self) -> float:
        resume()
        return 0.0 if resume_reminders() else LONGEST_SLEEP

    def stop(self) -> None:
        pass


def count_due() -> int:
    return Broadcast.objects.due(Now()).count()


def count_overdue() -> int:
    return Broadcast.objects.overdue(Now()).count()


def seconds_until_next(looked_at: datetime) -> float:
    """How long until the next broadcast is due or overdue; at most LONGEST_SLEEP.

    Not at all when the moment of one has come since everything due was looked at.
    """
    due = Broadcast.objects.filter(status=Status.SCHEDULED, scheduled_at__gt=looked_at)
    ends = Broadcast.objects.filter(status=Status.ACTIVE, expires_at__gt=looked_at)
    moments = [
        due.order_by("scheduled_at").values_list("scheduled_at", flat=True).first(),
        ends.order_by("expires_at").values_list("expires_at", flat=True).first(),
    ]
    now = clock.now()
    waits = [(moment - now).total_seconds() for moment in moments if moment]
    return max(0.0, min([LONGEST_SLEEP, *waits]))


@periodic("BROADCAST_ACTIVATION", every="60s", at_least="55s", at_most="59s", backlog=count_due)
def process_scheduled_broadcasts() -> int:
    """Send what is due and was missed, and go on with what was left in preparation."""
    return activate_due() + resume() + resume_reminders()


@periodic("BROADCAST_EXPIRATION", every="60s", at_least="55s", at_most="59s", backlog=count_overdue)
def process_expired_broadcasts() -> int:
    """End what is past its expiry and was missed."""
    return expire_overdue() + settle_passed()
