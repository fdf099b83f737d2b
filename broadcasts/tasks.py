"""The clock of broadcasts: at their moment by the worker, and once a minute as the net below."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models.functions import Now

from broadcasts.digests import count_waiting, mail_unread
from broadcasts.models import Broadcast, Preference, RuleMatch, Status
from broadcasts.preferences import CHUNK, release_due
from broadcasts.reminders import resume_reminders
from broadcasts.rules import RULES, apply
from broadcasts.series import catch_up, plan_due
from broadcasts.services import (
    BROADCASTS,
    activate_due,
    expire_overdue,
    resume,
    settle_passed,
)
from jobs import clock
from jobs.clock import LONGEST_SLEEP, seconds_until
from jobs.leases import fenced
from jobs.progress import advance, expect
from jobs.registry import Outcome, Standing, periodic, worker
from outbox import topics
from outbox.consumers import Envelope, GroupReader, consumer_group

BATCH = 5_000
# Never that of broadcasts themselves: what a rule causes comes back to no rule.
TOPICS = [topic for topic in settings.DELIVERY_TOPICS if topic != topics.BROADCASTS]


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
        return seconds_until(ends.values_list("quiet_ends_at", flat=True).first())

    def stop(self) -> None:
        pass


@consumer_group(RULES, TOPICS, batch=apply)
def apply_to_one(envelope: Envelope) -> None:
    apply([envelope])


@worker("RULES")
class RuleReader(GroupReader):
    """Broadcast what rules say about events."""

    group = RULES


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
    return seconds_until(
        due.order_by("scheduled_at").values_list("scheduled_at", flat=True).first(),
        ends.order_by("expires_at").values_list("expires_at", flat=True).first(),
    )


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


@periodic("RULE_RETENTION", every="24h")
def delete_old_matches() -> int:
    """Delete what rules did about events more than RULE_RETENTION_DAYS ago, in batches.

    Not before the event is as old as no rule answers to: the row keeps it from being broadcast
    twice.
    """
    days = max(settings.RULE_RETENTION_DAYS, settings.EVENT_RETENTION_DAYS + 1)
    old = RuleMatch.objects.filter(created_at__lt=clock.now() - timedelta(days=days))
    expect(old.count())
    deleted = 0
    while pks := list(old.order_by("created_at").values_list("pk", flat=True)[:BATCH]):
        with fenced():
            count, _ = RuleMatch.objects.filter(pk__in=pks).delete()
        advance(len(pks))
        deleted += count
    return deleted
