"""The page of all connectors, in words: what the operators' console shows and refreshes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.translation import gettext as _

from jobs import clock
from jobs.board import distance
from jobs.console import JobState, state_of
from jobs.pages import to_the_second
from operations.debezium.models import Cluster, Connector, State, Task
from operations.debezium.services import CONNECT, JOB, subject_of
from operations.models import OF_CONNECTORS, Alert

STATE_LABELS = {
    State.RUNNING: "success",
    State.FAILED: "danger",
    State.PAUSED: "warning",
    State.STOPPED: "warning",
    State.UNASSIGNED: "warning",
    State.RESTARTING: "info",
    State.MISSING: "default",
}
AT_REST = {State.PAUSED, State.STOPPED}


def label_of(row: Connector | Task) -> tuple[str, str]:
    """The state in words, and the look of its label; Connect may have states of the future."""
    known = row.state in State.values
    return (
        str(State(row.state).label) if known else row.state,
        STATE_LABELS[State(row.state)] if known else "default",
    )


@dataclass(frozen=True)
class TaskRow:
    task: Task
    now: datetime

    @property
    def label(self) -> tuple[str, str]:
        return label_of(self.task)

    @property
    def since(self) -> str:
        return _("for %(span)s") % {"span": distance(self.now - self.task.since)}


@dataclass(frozen=True)
class Row:
    """A connector with everything about it that takes words."""

    connector: Connector
    alerts: Sequence[Alert]
    now: datetime

    @property
    def label(self) -> tuple[str, str]:
        return label_of(self.connector)

    @property
    def since(self) -> str:
        return _("for %(span)s") % {"span": distance(self.now - self.connector.since)}

    @property
    def since_exactly(self) -> str:
        return to_the_second(self.connector.since)

    @property
    def tasks(self) -> list[TaskRow]:
        return [TaskRow(task, self.now) for task in self.connector.tasks.all()]

    @property
    def seen(self) -> str:
        if self.connector.seen_at is None:
            return _("never")
        return _("%(span)s ago") % {"span": distance(self.now - self.connector.seen_at)}

    @property
    def seen_exactly(self) -> str:
        return to_the_second(self.connector.seen_at)

    @property
    def lag(self) -> str:
        return size(self.connector.slot_lag)

    @property
    def retained(self) -> str:
        return size(self.connector.slot_retained)

    @property
    def retains_too_much(self) -> bool:
        return (self.connector.slot_retained or 0) > settings.DEBEZIUM_WAL_LIMIT

    @property
    def slot(self) -> str:
        """What is to be said of the slot, beside its figures."""
        if self.connector.slot_note or not self.connector.slot:
            return self.connector.slot_note
        if self.connector.slot_active is None:
            return _("no such slot")
        return _("read") if self.connector.slot_active else _("read by nobody")

    @property
    def is_unread(self) -> bool:
        return self.connector.slot_active is False and self.connector.state not in AT_REST

    @property
    def restarts(self) -> str:
        if not self.connector.restarts:
            return ""
        values = {"n": self.connector.restarts, "most": settings.DEBEZIUM_MAX_RESTARTS}
        return _("restarted %(n)s of %(most)s times") % values

    @property
    def next_restart(self) -> str:
        due = self.connector.next_restart_at
        waits = due and due > self.now and self.connector.problem and self.connector.mendable
        return _("next in %(span)s") % {"span": distance(due - self.now)} if waits and due else ""

    @property
    def may_pause(self) -> bool:
        return self.connector.state not in AT_REST and self.may_steer

    @property
    def may_resume(self) -> bool:
        return self.connector.state in AT_REST

    @property
    def may_steer(self) -> bool:
        return self.connector.state != State.MISSING

    @property
    def changes_url(self) -> str:
        return changes_url(self.connector)


@dataclass(frozen=True)
class Board:
    rows: Sequence[Row]
    cluster: Cluster | None
    alert: Alert | None
    """Of Connect itself."""
    job: JobState | None
    now: datetime

    @property
    def url_is_set(self) -> bool:
        return bool(settings.DEBEZIUM_URL)

    @property
    def checked(self) -> str:
        return self._ago(self.cluster.checked_at if self.cluster else None)

    @property
    def answered(self) -> str:
        return self._ago(self.cluster.answered_at if self.cluster else None)

    @property
    def counts(self) -> list[tuple[str, int, bool]]:
        states = [row.connector.state for row in self.rows]
        tasks = [task.task.state for row in self.rows for task in row.tasks]
        problems = sum(bool(row.connector.problem) for row in self.rows)
        return [
            (_("Connectors"), len(states), False),
            (_("Running"), states.count(State.RUNNING), False),
            (_("Tasks"), len(tasks), False),
            (_("Tasks failed"), tasks.count(State.FAILED), State.FAILED in tasks),
            (_("With a problem"), problems, problems > 0),
        ]

    def _ago(self, moment: datetime | None) -> str:
        return _("%(span)s ago") % {"span": distance(self.now - moment)} if moment else _("never")


def board() -> Board:
    """Seven queries, however many connectors there are."""
    now = clock.now()
    alerts: dict[str, list[Alert]] = {}
    for alert in Alert.objects.open().filter(kind__in=OF_CONNECTORS):
        alerts.setdefault(alert.subject, []).append(alert)
    return Board(
        rows=rows_of(Connector.objects.prefetch_related("tasks"), alerts, now),
        cluster=Cluster.objects.first(),
        alert=next(iter(alerts.get(CONNECT, [])), None),
        job=state_of(JOB),
        now=now,
    )


def rows_of(
    connectors: Iterable[Connector], alerts: dict[str, list[Alert]], now: datetime
) -> list[Row]:
    rows = [Row(one, alerts.get(subject_of(one), []), now) for one in connectors]
    return sorted(rows, key=lambda row: (not row.connector.problem, row.connector.name))


def size(count: int | None) -> str:
    return "–" if count is None else str(filesizeformat(max(count, 0)))


def changes_url(connector: Connector) -> str:
    url = reverse("admin:operations_connectorchange_changelist")
    return f"{url}?connector__id__exact={connector.pk}"


def page_of(subject: str) -> str:
    """Of an alert's subject: `connector-7`, or Connect itself."""
    pk: Any = subject.removeprefix("connector-")
    if not pk.isdigit():
        return reverse("admin:operations_connector_changelist")
    return reverse("admin:operations_connector_change", args=[pk])
