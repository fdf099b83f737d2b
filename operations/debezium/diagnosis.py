"""What is wrong with a connector, whatever it says of itself.

Debezium tries for ever to reach a database that is away, refuses its password or has lost its
publication, and Connect says RUNNING all the while. So two others are asked as well: Debezium's own
check of its configuration, which tries to log in, and the replication slot.
"""

from dataclasses import dataclass
from datetime import timedelta

from django.utils.translation import gettext as _

from jobs import clock
from operations.debezium.client import Config, Connect, ConnectError, TooLate, Unreachable
from operations.debezium.declared import without_secrets
from operations.debezium.models import Connector, State, Task
from operations.debezium.reasons import cause, is_away, unmendable
from operations.debezium.slots import Slot, slot_left_by, slot_of

GRACE = timedelta(minutes=1)  # for workers to take up what is new, and for it to begin to read


@dataclass(frozen=True)
class Finding:
    problem: str = ""
    mendable: bool = False
    """Whether a restart may help."""
    only_failed: bool = True
    unsettled: bool = False
    """Nothing is wrong, but for too short a time to say that it is well again."""
    slot: Slot | None = None


def find(connect: Connect, connector: Connector, config: Config, refused: str) -> Finding:
    slot = slot_of(config) if config else slot_left_by(connector)
    if refused:
        return Finding(refused, slot=slot)
    if connector.state in (State.PAUSED, State.STOPPED):
        return Finding(slot=slot)  # by somebody's will
    if connector.state == State.MISSING:
        words = _("It is declared, and not in Kafka Connect.") if connector.declared else ""
        return Finding(words, slot=slot)
    tasks = list(connector.tasks.all())
    if connector.state == State.FAILED or any(task.state == State.FAILED for task in tasks):
        return of_failed(connect, connector, config, slot)
    if odd := not_working(connector):
        if any(clock.now() - row.since > GRACE for row in odd):
            return Finding(*stuck(connector), only_failed=False, slot=slot)
        return Finding(unsettled=True, slot=slot)
    return of_running(connect, connector, config, slot)


def of_failed(connect: Connect, connector: Connector, config: Config, slot: Slot | None) -> Finding:
    failed = [
        (_("Task %s failed") % task.number, task.trace)
        for task in connector.tasks.all()
        if task.state == State.FAILED
    ]
    if connector.state == State.FAILED:
        failed.insert(0, (_("It failed"), connector.trace))
    complaint = complaint_of(connect, config)
    words = " ".join(f"{what}: {cause(trace) or '?'}." for what, trace in failed[:3])
    if len(failed) > 3:
        words += " " + _("So did %s more tasks.") % (len(failed) - 3)
    reason = next(filter(None, (unmendable(trace) for _what, trace in failed)), "")
    if reason := reason or unmendable(complaint):
        return Finding(f"{words} {reason}", slot=slot)
    if complaint:
        words += " " + _("Connect says: %s") % complaint
    return Finding(words, mendable=True, slot=slot)


def not_working(connector: Connector) -> list[Connector | Task]:
    """What is in no state to work; a problem once workers had time to settle who does what."""
    tasks = list(connector.tasks.all())
    rows: list[Connector | Task] = [connector, *tasks]
    return [row for row in rows if row.state != State.RUNNING] or ([] if tasks else [connector])


def stuck(connector: Connector) -> tuple[str, bool]:
    if connector.state == State.UNASSIGNED:
        return _("No worker of Kafka Connect takes it: do they run?"), False
    if not connector.tasks.exists():
        return _("It runs without a task."), True
    if connector.tasks.filter(state=State.UNASSIGNED).exists():
        return _("No worker of Kafka Connect takes its tasks: do they run?"), False
    return _("It does not get through its restart."), True


def of_running(
    connect: Connect, connector: Connector, config: Config, slot: Slot | None
) -> Finding:
    complaint = complaint_of(connect, config)
    if complaint:
        reason = unmendable(complaint)
        if not reason and is_away(complaint):
            reason = _("Its database cannot be reached; Debezium goes on trying.")
        reading = _("Connect says that it runs, but: %s") % complaint
        return Finding(f"{reading} {reason}".strip(), slot=slot)
    began = max(connector.since, connector.restarted_at or connector.since)
    if slot is None or slot.note or clock.now() - began < GRACE:
        return Finding(slot=slot)
    return of_slot(slot, was_read=connector.slot_active)


def of_slot(slot: Slot, *, was_read: bool | None) -> Finding:
    values = {"slot": slot.name}
    if slot.lost:
        words = _(
            "Its replication slot %(slot)s is lost: drop it, restart, and take a new snapshot."
        )
        return Finding(words % values, slot=slot)
    if slot.active and not slot.settled:
        return Finding(unsettled=True, slot=slot)
    if slot.active:
        return Finding(slot=slot)
    if not slot.publication:
        words = _("Its publication was dropped, and it reads nothing.")
        return Finding(f"{words} {unmendable(PUBLICATION_GONE)}", slot=slot)
    words = _("Connect says that it runs, but nobody reads its replication slot %(slot)s.")
    # Seen once, it may be between two attempts of Debezium: no reason yet to restart it.
    return Finding(words % values, mendable=was_read is False, only_failed=False, slot=slot)


PUBLICATION_GONE = 'publication "" does not exist'


def complaint_of(connect: Connect, config: Config) -> str:
    """What Debezium says of its configuration, and of the database that it tries; empty: nothing.

    Only of Debezium's connectors: nobody knows what others try.
    """
    if not config.get("connector.class", "").startswith("io.debezium."):
        return ""
    try:
        complaints = connect.complaints(config)
    except TooLate as error:  # it has just answered: its check waits for the database
        return _("%s Does its database answer?") % error
    except Unreachable:
        raise
    except ConnectError as error:  # the class of the connector is not there, perhaps
        complaints = [str(error)]
    first = without_secrets(" ".join(complaints[:2]))
    text = first.replace("Error while validating connector config: ", "")[:300].strip()
    return text if text.endswith(".") or not text else f"{text}."
