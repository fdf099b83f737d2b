"""What operators ask of a connector. Raises `InvalidTransition`, `ConnectError`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _

from jobs import clock
from jobs.acting import acting_as, did
from jobs.execution import JobBusy, run_now
from jobs.transitions import InvalidTransition as InvalidTransition
from operations.debezium.client import PAUSE, Connect, ConnectError, Refused, TooLate
from operations.debezium.models import Connector, State, tell
from operations.debezium.records import record
from operations.debezium.services import BETWEEN, JOB

CLAIMED = ("restarts", "restarted_at", "next_restart_at")


def restart(name: str, by: str) -> None:
    """All of it, with a new budget."""
    with (
        reached(name) as (connect, connector),
        _claimed(connector),
        _told(connector, _("Restarted"), "connector.restarted", by),
    ):
        connect.restart(name, only_failed=False)
    check_soon()


def pause(name: str, by: str) -> None:
    """It keeps its place, and the database its log."""
    with reached(name) as (connect, connector):
        if connector.state in (State.PAUSED, State.STOPPED):
            raise InvalidTransition(_("%s does not run.") % name)
        with _told(connector, _("Paused"), "connector.paused", by):
            connect.pause(name)


def resume(name: str, by: str) -> None:
    """From where it stood."""
    with reached(name) as (connect, connector):
        if connector.state not in (State.PAUSED, State.STOPPED):
            raise InvalidTransition(_("%s is not paused.") % name)
        with _told(connector, _("Resumed"), "connector.resumed", by):
            connect.resume(name)
    check_soon()


@contextmanager
def _claimed(connector: Connector) -> Iterator[None]:
    """With a new budget, and nobody else restarts it; what Connect did not take costs nothing."""
    now = clock.now()
    before = {name: getattr(connector, name) for name in CLAIMED}
    free = Connector.objects.filter(pk=connector.pk).exclude(restarted_at__gt=now - BETWEEN)
    claimed = free.update(
        restarts=0,
        restarts_total=F("restarts_total") + 1,
        restarted_at=now,
        next_restart_at=now + settings.DEBEZIUM_RESTART_BACKOFF,
    )
    if not claimed:
        raise InvalidTransition(_("%s was restarted just now: wait some seconds.") % connector)
    try:
        yield
    except TooLate:  # it may have been restarted
        raise
    except ConnectError:
        mine = Connector.objects.filter(pk=connector.pk, restarted_at=now)
        mine.update(restarts_total=F("restarts_total") - 1, **before)
        raise


@contextmanager
def _told(connector: Connector, what: str, action: str, by: str) -> Iterator[None]:
    """Once Connect has taken it, and also when nobody knows whether it has."""
    try:
        yield
    except TooLate as error:
        _tell(connector, f"{what}? {error}", action, by, answer=str(error))
        raise
    _tell(connector, what, action, by)


@transaction.atomic
def _tell(connector: Connector, what: str, action: str, by: str, **detail: str) -> None:
    tell(connector, what, by=by)
    did(action, connector, **detail)


THROUGH = {  # the states in which what was asked for is done
    State.RUNNING,
    State.FAILED,
    State.PAUSED,
    State.STOPPED,
}
WATCHED = 3.0  # seconds


def watch(name: str) -> Connector:
    """Write down the states of now, again until all of it is through, for `WATCHED` at most.

    What a person asked for has happened a second later; what takes longer the next check sees.
    Raises `ConnectError`.
    """
    until = time.monotonic() + WATCHED
    with Connect() as connect:
        while True:
            time.sleep(PAUSE)
            record(connect.connectors())
            connector = Connector.objects.prefetch_related("tasks").get(name=name)
            states = {connector.state, *(task.state for task in connector.tasks.all())}
            agreed = len(states - {State.FAILED}) < 2 and states <= THROUGH
            if agreed or time.monotonic() > until:
                return connector


def check_soon() -> None:
    """An alert that is over by now should not wait for the next check."""
    with suppress(JobBusy), acting_as(None):
        run_now(JOB)


@contextmanager
def reached(name: str) -> Iterator[tuple[Connect, Connector]]:
    """The connector as Connect has it now: the last check may be minutes old."""
    if not settings.DEBEZIUM_URL:
        raise Refused(_("DEBEZIUM_URL is not set: nothing can be asked of Kafka Connect."))
    with Connect() as connect:
        record(connect.connectors())
        connector = Connector.objects.get(name=name)
        if connector.state == State.MISSING:
            raise InvalidTransition(_("%s is not in Kafka Connect.") % name)
        yield connect, connector
