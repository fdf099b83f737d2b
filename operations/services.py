"""Alerts: raised once, resolved by themselves; each with its event in the same transaction."""

import logging
from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from jobs import clock
from jobs.console import JobState, overview
from jobs.leases import fenced
from operations.models import OF_CONNECTORS, OF_JOBS, Alert, Backlog, Kind
from outbox.models import Priority
from outbox.services import emit

logger = logging.getLogger(__name__)

FAILURES = 3  # in a row
GROWTHS = 3  # checks in a row that each found a larger backlog than the one before

Found = dict[tuple[str, str], str]  # the message by kind and subject


def check() -> int:
    """Raise an alert for what is wrong with jobs now, resolve those that are over; how many.

    Those of connectors, too, once nobody watches them: their own check is switched off then. What
    was over before the runs that are kept is deleted.
    """
    found: Found = {}
    for job in overview():
        for kind, message in problems_of(job):
            found[kind, job.name] = message
    raised = sum(raise_alert(kind, name, text) for (kind, name), text in found.items())
    kinds = OF_JOBS if settings.DEBEZIUM_URL else OF_JOBS + OF_CONNECTORS
    over = [a for a in Alert.objects.open().filter(kind__in=kinds) if key_of(a) not in found]
    old = clock.now() - timedelta(days=settings.RUN_RETENTION_DAYS)
    Alert.objects.filter(resolved_at__lt=old).delete()
    return raised + sum(resolve(alert) for alert in over)


def problems_of(job: JobState) -> Iterator[tuple[Kind, str]]:
    """A job that is switched off has none; one that is paused is not late."""
    if not job.enabled:
        return
    if job.overdue and job.next_run_at:
        due = f"{job.next_run_at:%Y-%m-%d %H:%M:%S %Z}"
        yield Kind.OVERDUE, _("%(job)s was due at %(time)s.") % {"job": job.name, "time": due}
    if job.failures_in_a_row >= FAILURES:
        values = {"job": job.name, "times": job.failures_in_a_row, "error": job.last_error}
        yield Kind.FAILING, _("%(job)s failed %(times)s times in a row: %(error)s") % values
    if job.backlog is not None and times_grown(job.name, job.backlog) >= GROWTHS:
        values = {"job": job.name, "count": job.backlog}
        yield Kind.BACKLOG, _("What waits for %(job)s grows: %(count)s now.") % values


def times_grown(name: str, count: int) -> int:
    """How often in a row the backlog had grown; one that grew so far stays so until it shrinks."""
    with fenced():
        last, is_new = Backlog.objects.get_or_create(job=name, defaults={"count": count})
        if is_new:
            return 0
        stuck = count == last.count and last.grown >= GROWTHS
        grown = last.grown + 1 if count > last.count else last.grown if stuck else 0
        Backlog.objects.filter(job=name).update(count=count, grown=min(grown, GROWTHS))
    return grown


def raise_alert(kind: str, subject: str, message: str) -> bool:
    """False when it is open already: an alert is raised once."""
    with fenced():
        alert, is_new = Alert.objects.get_or_create(
            kind=kind, subject=subject, resolved_at=None, defaults={"message": message}
        )
        if is_new:
            emit("alert.raised", key=f"alert-{subject}", data=facts(alert), priority=Priority.HIGH)
    if is_new:
        logger.warning("Alert %s: %s", kind, message)
    return is_new


def retell(kind: str, subject: str, message: str) -> bool:
    """An open alert is of something else by now: false when it says just that already."""
    with fenced():
        alert = Alert.objects.open().filter(kind=kind, subject=subject).first()
        if alert is None or not (
            Alert.objects.open()
            .filter(pk=alert.pk)
            .exclude(message=message)
            .update(message=message)
        ):
            return False
        alert.message = message
        emit("alert.changed", key=f"alert-{subject}", data=facts(alert), priority=Priority.HIGH)
    logger.warning("Alert %s: %s", kind, message)
    return True


def resolve(alert: Alert) -> bool:
    """False when somebody else resolved it first."""
    with fenced():
        done = Alert.objects.open().filter(pk=alert.pk).update(resolved_at=Now())
        if done:
            emit("alert.resolved", key=f"alert-{alert.subject}", data=facts(alert))
    if done:
        logger.info("Alert %s of %s is over", alert.kind, alert.subject)
    return bool(done)


def key_of(alert: Alert) -> tuple[str, str]:
    return alert.kind, alert.subject


def facts(alert: Alert) -> dict[str, object]:
    return {
        "alert_id": alert.pk,
        "kind": alert.kind,
        "subject": alert.subject,
        "message": alert.message,
    }
