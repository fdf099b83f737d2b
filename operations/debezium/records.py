"""What Connect told, into rows, and what changed into the history."""

from datetime import datetime
from typing import Any

from jobs import clock
from jobs.leases import fenced
from operations.debezium.client import Config
from operations.debezium.declared import Declared, without_secrets
from operations.debezium.models import Connector, State, Task, tell

Told = dict[str, Any]


def config_of(told: Told) -> Config:
    return dict((told.get("info") or {}).get("config") or {})


def record(found: dict[str, Told], wanted: Declared | None = None) -> list[Connector]:
    """Rows of all connectors that Connect has, or that are declared, or were once there.

    What is declared stays as it was where nobody has looked, or the directory cannot be read.
    """
    now = clock.now()
    is_declared = {*wanted.configs, *wanted.errors} if wanted else set()
    names = {*found, *is_declared}
    with fenced():
        for name in names - set(Connector.objects.values_list("name", flat=True)):
            Connector.objects.get_or_create(
                name=name, defaults={"state": State.MISSING, "since": now}
            )
        if wanted and not wanted.note:
            some = Connector.objects.filter(name__in=is_declared, declared=False)
            some.update(declared=True)
            others = Connector.objects.exclude(name__in=is_declared).filter(declared=True)
            others.update(declared=False)
        connectors = list(Connector.objects.prefetch_related("tasks"))
        Connector.objects.filter(name__in=found).update(seen_at=now)
        for connector in connectors:
            connector.seen_at = now if connector.name in found else connector.seen_at
            record_one(connector, found.get(connector.name), now)
    return connectors


def record_one(connector: Connector, told: Told | None, now: datetime) -> None:
    """Guarded by the state before: of two who saw the same change, one writes it into history."""
    status = (told or {}).get("status") or {}
    itself = status.get("connector") or {}
    # Registered and without a status: nobody has taken it yet.
    state = itself.get("state") or (State.MISSING if told is None else State.UNASSIGNED)
    config = config_of(told or {})
    about = {
        "class_name": config.get("connector.class", connector.class_name)[:255],
        "database": database_of(config)[:255] if config else connector.database,
    }
    move(connector, state, itself, now, about)
    tasks = {task.number: task for task in connector.tasks.all()}
    for given in status.get("tasks") or []:
        number = int(given["id"])
        task = tasks.pop(number, None)
        if task is None:
            task = Task(connector=connector, number=number, state="", since=now)
            task, _made = Task.objects.get_or_create(
                connector=connector,
                number=number,
                defaults={"state": State.UNASSIGNED, "since": now},
            )
        move(task, given.get("state") or State.UNASSIGNED, given, now)
    if tasks:
        Task.objects.filter(pk__in=[task.pk for task in tasks.values()]).delete()
    connector._prefetched_objects_cache = {}  # type: ignore[attr-defined]


def move(
    row: Connector | Task,
    state: str,
    told: Told,
    now: datetime,
    about: Told | None = None,
) -> None:
    before = row.state
    fields = (about or {}) | {
        "state": state[:12],
        "worker_id": str(told.get("worker_id") or "")[:255],
        "trace": without_secrets(str(told.get("trace") or "")),
    }
    if before != state:
        fields["since"] = now
    if all(getattr(row, name) == value for name, value in fields.items()):
        return
    changed = type(row).objects.filter(pk=row.pk, state=before).update(**fields)
    for name, value in fields.items():
        setattr(row, name, value)
    if changed and before != state:
        connector = row if isinstance(row, Connector) else row.connector
        number = row.number if isinstance(row, Task) else None
        tell(connector, f"{before} → {state}", task=number, trace=fields["trace"])


def database_of(config: Config) -> str:
    if not (host := config.get("database.hostname")):
        return ""
    port, name = config.get("database.port"), config.get("database.dbname")
    return host + (f":{port}" if port else "") + (f"/{name}" if name else "")
