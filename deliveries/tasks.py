"""The clock of deliveries: the workers that make and send them, and the jobs of the documents."""

from collections import defaultdict
from datetime import timedelta

from django.conf import settings

from deliveries.models import UNDELIVERED, Delivery, Kind, Retry, Status, Tally
from deliveries.policies import delay_after
from deliveries.sender import Sender
from deliveries.services import DELIVERIES, bury, collect, delete_in_batches
from jobs import clock
from jobs.leases import fenced
from jobs.progress import advance, expect
from jobs.registry import Standing, periodic, worker
from jobs.wake import notify
from outbox.consumers import Envelope, GroupReader, consumer_group

BATCH = 1_000


@consumer_group(DELIVERIES, settings.DELIVERY_TOPICS, batch=collect)
def collect_one(envelope: Envelope) -> None:
    collect([envelope])


@worker("DELIVERY_COLLECTOR")
class Collector(GroupReader):
    """Make a delivery of each event for each endpoint that wants it."""

    group = DELIVERIES


def sender_standing() -> Standing:
    return Standing(pending=Delivery.objects.due(clock.now()).count())


@worker("DELIVERY_SENDER", standing=sender_standing)
class DeliverySender:
    """Send deliveries to their endpoints."""

    wakes_on = DELIVERIES

    def __init__(self) -> None:
        self.sender = Sender()

    def step(self) -> float:
        return self.sender.step()

    def stop(self) -> None:
        self.sender.stop()


@periodic("WEBHOOK_RETRY_SCHEDULER", every="5m")
def schedule_failed_webhooks() -> int:
    """Give webhooks that failed, and have attempts left, the moment of their next one."""
    return schedule_failed(Kind.WEBHOOK)


@periodic("NOTIFICATION_RETRY", every="5m")
def schedule_failed_notifications() -> int:
    """Give Discord messages that failed, and have attempts left, the moment of their next one."""
    return schedule_failed(Kind.DISCORD)


def schedule_failed(kind: Kind) -> int:
    """What the sender left: it was switched off, or the limit is higher now than it was then.

    What has no attempts left is dead, so that nothing stands at the head of the list for ever.
    """
    failed = Delivery.objects.filter(status=Status.FAILED, endpoint__kind=kind)
    expect(failed.count())
    done = 0
    while rows := list(failed.only("attempts", "forgiven").order_by("id")[:BATCH]):
        with fenced():
            now = clock.now()
            buried = 0
            by_attempts = defaultdict(list)  # one statement for all that have had as many
            for row in rows:
                by_attempts[max(row.counted, 1)].append(row.pk)
            for attempts, pks in by_attempts.items():
                delay = delay_after(kind, attempts)
                count = failed.filter(pk__in=pks).update(
                    status=Status.DEAD if delay is None else Status.RETRYING,
                    next_attempt_at=None if delay is None else now + delay,
                    completed_at=now if delay is None else None,
                )
                if delay is None:
                    buried += count
                else:
                    done += count
            notify(DELIVERIES)
            Tally.objects.add(kind, dead=buried)
        advance(len(rows))
    return done


@periodic("WEBHOOK_CLEANUP", every="24h")
def delete_old_webhooks() -> int:
    """Delete webhooks that were finished more than WEBHOOK_CLEANUP_RETENTION_DAYS ago.

    What has waited as long at an endpoint that is paused or disabled is dead from here on.
    """
    age = timedelta(days=settings.WEBHOOK_CLEANUP_RETENTION_DAYS)
    ended = bury(Kind.WEBHOOK, age)
    Retry.objects.filter(created_at__lt=clock.now() - age, deliveries=None).delete()
    return ended + delete_old(Kind.WEBHOOK, [Status.SUCCESS, *UNDELIVERED], age)


@periodic("NOTIFICATION_CLEANUP", every="24h")
def delete_old_notifications() -> int:
    """Delete Discord messages: delivered and undelivered ones have a retention of their own.

    What has waited as long as the latter at an endpoint that is paused or disabled is dead.
    """
    age = timedelta(days=settings.NOTIFICATION_CLEANUP_RETENTION_DAYS)
    longer = timedelta(days=settings.NOTIFICATION_CLEANUP_FAILED_RETENTION_DAYS)
    ended = bury(Kind.DISCORD, longer)
    ended += delete_old(Kind.DISCORD, [Status.SUCCESS], age)
    return ended + delete_old(Kind.DISCORD, UNDELIVERED, longer)


def delete_old(kind: Kind, statuses: list[Status], age: timedelta) -> int:
    finished = Delivery.objects.filter(endpoint__kind=kind, status__in=statuses)
    old = finished.filter(completed_at__lt=clock.now() - age)
    expect(old.count())
    return delete_in_batches(old)
