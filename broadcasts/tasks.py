"""The clock of broadcasts: at their moment by the worker, and once a minute as the net below."""

from collections.abc import Iterable
from datetime import datetime

from django.db.models.functions import Now

from broadcasts.digests import count_waiting, mail_unread
from broadcasts.models import Broadcast, Preference, Status
from broadcasts.preferences import CHUNK, release_due
from broadcasts.reminders import resume_reminders
from broadcasts.series import catch_up, plan_due
from broadcasts.services import (
    BROADCASTS,
    activate_due,
    expire_overdue,
    resume,
    settle_passed,
)
from jobs import clock
from jobs.registry import Outcome, Standing, periodic, worker

LONGEST_SLEEP = 2.0  # seconds; a commit wakes sooner


def clock_standing() -> Standing:
    return Standing(pending=count_due() + count_overdue())


def preparation_standing() -> Standing:
    return Standing(pending=Broadcast.objects.resumable(clock.now()).count())


@worker("BROADCAST_CLOCK", standing=clock_standing)
class BroadcastClock:
    """Send and end broadcasts at their very moment, and make the next ones of series."""

    wakes_on = BROADCASTS

    def step(self) -> float:
        looked_at = clock.now()
        catch_up()
        activate_due(only_small=True)
        expire_overdue()
        plan_due()
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


def quiet_standing() -> Standing:
    return Standing(pending=Preference.objects.ending(clock.now()).count())


@worker("QUIET_HOURS", standing=quiet_standing)
class QuietClock:
    """Release what quiet hours held at the very moment of their end."""

    wakes_on = "preferences"  # the poll is enough: what is set now ends later

    def step(self) -> float:
        looked_at = clock.now()
        if release_due() == CHUNK:
            return 0.0
        ends = Preference.objects.filter(quiet_ends_at__gt=looked_at).order_by("quiet_ends_at")
        return seconds_until([ends.values_list("quiet_ends_at", flat=True).first()])

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
    return seconds_until(moments)


def seconds_until(moments: Iterable[datetime | None]) -> float:
    """Until the first of them; at most LONGEST_SLEEP."""
    now = clock.now()
    waits = [(moment - now).total_seconds() for moment in moments if moment]
    return max(0.0, min([LONGEST_SLEEP, *waits]))


@periodic("BROADCAST_ACTIVATION", every="60s", at_least="55s", at_most="59s", backlog=count_due)
def process_scheduled_broadcasts() -> int:
    """Send what is due and was missed, make next occurrences, go on with preparation."""
    catch_up()
    return activate_due() + resume() + resume_reminders() + plan_due()


@periodic("BROADCAST_EXPIRATION", every="60s", at_least="55s", at_most="59s", backlog=count_overdue)
def process_expired_broadcasts() -> int:
    """End what is past its expiry and was missed."""
    return expire_overdue() + settle_passed()


@periodic("BROADCAST_DIGEST", every="60s", at_most="2m", backlog=count_waiting)
def mail_unread_broadcasts() -> Outcome:
    """Mail what stayed unread to those who asked for it."""
    return mail_unread()
