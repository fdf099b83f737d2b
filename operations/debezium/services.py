"""Look at Kafka Connect, mend what a restart can mend, tell the rest.

Whatever is asked of Connect is asked outside of transactions. A restart is claimed in the row
before it is asked for: two nodes, or a job and an operator, never restart one connector at once.
"""

import logging
from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.db.models import F, Q
from django.utils.translation import gettext as _

from jobs import clock
from jobs.leases import Fenced, fenced
from jobs.progress import track
from jobs.registry import Outcome
from operations.debezium.client import (
    Connect,
    ConnectError,
    TooLate,
    Unreachable,
)
from operations.debezium.declared import declared
from operations.debezium.diagnosis import Finding, find
from operations.debezium.models import (
    Cluster,
    Connector,
    ConnectorChange,
    State,
    tell,
)
from operations.debezium.reconciling import reconcile
from operations.debezium.records import Told, config_of, record
from operations.debezium.slots import Slot, ours
from operations.models import Alert, Kind
from operations.services import raise_alert, resolve, retell

logger = logging.getLogger(__name__)

JOB = "DEBEZIUM_HEALTH_CHECK"
CONNECT = "connect"  # the subject of the alert of Connect itself
DECLARED = "connectors"  # and of that of the directory with their files
BETWEEN = timedelta(seconds=10)  # two restarts of one connector, whoever asks


def check() -> Outcome:
    """Connectors as they are now; what is down restarted or told. One that fails stops no other."""
    if not settings.DEBEZIUM_URL:
        return Outcome(note=_("DEBEZIUM_URL is not set: there is nothing to check."))
    try:
        with Connect() as connect:
            return check_all(connect)
    except Unreachable as error:  # also in the middle: nothing is known of the rest
        record_outage(str(error))
        return Outcome(failed=1, note=str(error)[:300])


def check_all(connect: Connect) -> Outcome:
    found = connect.connectors()
    wanted = declared()
    record_answer(wanted.note)
    if wanted.note:
        say(Kind.CONNECTOR, DECLARED, wanted.note)
    else:
        end_alert(Kind.CONNECTOR, DECLARED)
    refused = reconcile(connect, found, wanted)
    connectors = record(found, wanted)
    failed = 0
    for connector in track(connectors):
        try:
            unread = bool(wanted.note) and connector.declared
            examine(connect, connector, found.get(connector.name, {}), refused, unread=unread)
        except (Unreachable, Fenced):
            raise
        except Exception:
            logger.exception("Connector %s could not be checked", connector)
            failed += 1
    forget_old()
    end_alert(Kind.CONNECT, CONNECT)  # only here: what is away in the middle is away
    return Outcome(items=len(connectors) - failed, failed=failed)


def record_outage(error: str) -> None:
    """One alert, however many connectors there are: their states stay as they were last seen."""
    with fenced():
        Cluster.objects.update_or_create(
            name=CONNECT, defaults={"checked_at": clock.now(), "error": error[:500]}
        )
    text = _("Kafka Connect does not answer, so nothing is known of its connectors: %s") % error
    raise_alert(Kind.CONNECT, CONNECT, text[:700])


def record_answer(note: str) -> None:
    now = clock.now()
    with fenced():
        Cluster.objects.update_or_create(
            name=CONNECT,
            defaults={"checked_at": now, "answered_at": now, "error": "", "note": note[:500]},
        )


# What is wrong, and what is done about it


def examine(
    connect: Connect, connector: Connector, told: Told, refused: dict[str, str], *, unread: bool
) -> None:
    """`unread`: its file was not looked at, and may still be what is wrong."""
    config = config_of(told)
    finding = find(connect, connector, config, refused.get(connector.name, ""))
    if config or finding.slot:  # else its slot goes on to keep what it keeps, and nobody can say
        write_slot(connector, finding.slot)
    if not finding.problem:
        recover(connector, unsettled=finding.unsettled or unread)
        return
    words = finding.problem
    if finding.mendable:
        if connector.restarts >= settings.DEBEZIUM_MAX_RESTARTS:
            words = _("%(problem)s Restarted %(count)s times in vain: it is given up.") % {
                "problem": words,
                "count": connector.restarts,
            }
        else:
            words = _("%s It is restarted.") % words
    write_problem(connector, words, mendable=finding.mendable)
    if finding.mendable:
        restart_when_due(connect, connector, finding)


def write_slot(connector: Connector, slot: Slot | None) -> None:
    slot = slot or Slot("")
    fields = {
        "slot": slot.name[:64],
        "slot_active": slot.active if slot.exists else None,
        "slot_retained": slot.retained,
        "slot_lag": slot.lag,
        "slot_note": slot.note[:300],
    }
    with fenced():
        Connector.objects.filter(pk=connector.pk).update(**fields)
    subject = subject_of(connector)
    if slot.retained is not None and slot.retained > settings.DEBEZIUM_WAL_LIMIT:
        text = _(
            "%(name)s: the database keeps more WAL for its replication slot %(slot)s than "
            "DEBEZIUM_WAL_LIMIT (%(limit)s MB), until its disk is full. Bring the connector back, "
            "or drop the slot."
        )
        values = {
            "name": connector,
            "slot": slot.name,
            "limit": settings.DEBEZIUM_WAL_LIMIT // 1_000_000,
        }
        raise_alert(Kind.WAL, subject, (text % values)[:700])
    elif not slot.note:  # else nothing is known of it
        end_alert(Kind.WAL, subject)


def write_problem(connector: Connector, words: str, *, mendable: bool) -> None:
    words = words[:700]
    with fenced():
        if connector.problem != words:
            Connector.objects.filter(pk=connector.pk).update(
                problem=words,
                mendable=mendable,
                problem_since=connector.problem_since or clock.now(),
            )
            tell(connector, words)
            connector.problem = words
    say(Kind.CONNECTOR, subject_of(connector), f"{connector}: {words}")


def recover(connector: Connector, *, unsettled: bool) -> None:
    """It is well: the alert ends, and the budget is whole again once that has lasted for as long as
    the next restart would have had to wait: what fails again and again uses it up."""
    if unsettled and connector.problem:
        return
    now = clock.now()
    with fenced():
        if connector.problem:
            Connector.objects.filter(pk=connector.pk).update(
                problem="", problem_since=None, mendable=True
            )
            tell(connector, _("It is well again."))
        steady = Q(next_restart_at=None) | Q(next_restart_at__lte=now)
        Connector.objects.filter(steady, pk=connector.pk, restarts__gt=0).update(
            restarts=0, next_restart_at=None
        )
    end_alert(Kind.CONNECTOR, subject_of(connector))


def restart_when_due(connect: Connect, connector: Connector, finding: Finding) -> None:
    """Once, if its budget and back-off allow it, and nobody else does so."""
    count = connector.restarts + 1
    if count > settings.DEBEZIUM_MAX_RESTARTS or not claim_restart(connector, count):
        return
    try:
        connect.restart(connector.name, only_failed=finding.only_failed)
    except TooLate as error:  # it may have been restarted: it counts
        tell(connector, _("Nobody knows whether it was restarted: %s") % error)
    except ConnectError as error:  # nothing was restarted: it costs nothing of the budget
        with fenced():
            Connector.objects.filter(pk=connector.pk, restarts=count).update(
                restarts=F("restarts") - 1,
                restarts_total=F("restarts_total") - 1,
                next_restart_at=None,
            )
            tell(connector, _("It could not be restarted: %s") % error)
        if isinstance(error, Unreachable):
            raise


def claim_restart(connector: Connector, count: int) -> bool:
    """By one guarded update, before Connect is asked; the nth keeps the next one n times 2 min
    away. A process that dies in between has used up one restart, and done none."""
    now = clock.now()
    due = Q(next_restart_at=None) | Q(next_restart_at__lte=now)
    lately = Q(restarted_at__gt=now - BETWEEN)
    with fenced():
        claimed = (
            Connector.objects.filter(due, pk=connector.pk, restarts=count - 1)
            .exclude(lately)
            .update(
                restarts=count,
                restarts_total=F("restarts_total") + 1,
                restarted_at=now,
                next_restart_at=now + settings.DEBEZIUM_RESTART_BACKOFF * count,
            )
        )
        if claimed:
            most = settings.DEBEZIUM_MAX_RESTARTS
            tell(connector, _("Restarted: %(n)s of %(most)s") % {"n": count, "most": most})
    return bool(claimed)


# The rest


def forget_old() -> None:
    """History older than the runs', and connectors that are gone for as long, but for those whose
    slot fills our disk."""
    old = clock.now() - timedelta(days=settings.RUN_RETENTION_DAYS)
    with fenced():
        ConnectorChange.objects.filter(at__lt=old).delete()
        gone = Connector.objects.filter(state=State.MISSING, declared=False, since__lt=old)
        # Of a database that is asked it is known when this is over.
        gone = gone.exclude(database__in=ours(), slot_retained__gt=settings.DEBEZIUM_WAL_LIMIT)
        for connector in gone:
            end_alert(Kind.CONNECTOR, subject_of(connector))
            end_alert(Kind.WAL, subject_of(connector))
        gone.delete()


def subject_of(connector: Connector) -> str:
    return f"connector-{connector.pk}"


def say(kind: str, subject: str, message: str) -> None:
    """By a new alert, or by the one that is open."""
    if not raise_alert(kind, subject, message[:700]):
        retell(kind, subject, message[:700])


def end_alert(kind: str, subject: str) -> None:
    open_ones: Iterable[Alert] = Alert.objects.open().filter(kind=kind, subject=subject)
    for alert in open_ones:
        resolve(alert)
