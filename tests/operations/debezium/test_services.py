"""Back-off, budget, alerts and history: what takes minutes, in no time."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
import time_machine
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from jobs import execution
from jobs.acting import ADMIN, Actor, acting_as
from jobs.leases import Fenced, held
from jobs.models import Job
from jobs.registry import periodic_jobs
from operations.audit.models import AuditEntry
from operations.debezium import diagnosis, services, steering
from operations.debezium.client import Connect, ConnectError, TooLate
from operations.debezium.models import Cluster, Connector, ConnectorChange, State, Task
from operations.debezium.slots import Slot
from operations.debezium.tasks import check_connectors
from operations.models import Alert, Kind
from outbox.models import Event
from tests.operations.debezium.conftest import row, told
from tests.operations.debezium.fakes import TRACE, WORKER, FakeConnect
from tests.racing import race

pytestmark = pytest.mark.django_db

RESTART = r"^POST .*/restart"
JOB = "DEBEZIUM_HEALTH_CHECK"


@pytest.fixture
def travel() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        yield traveller


def later(travel: time_machine.Traveller, minutes: float) -> None:
    travel.shift(timedelta(minutes=minutes))
    check_connectors()


def events() -> list[str]:
    return list(Event.objects.order_by("id").values_list("type", flat=True))


def history() -> list[str]:
    return list(ConnectorChange.objects.order_by("pk").values_list("what", flat=True))


# What is seen


def test_the_job_is_off_until_connect_has_an_address(settings: Settings) -> None:
    assert not periodic_jobs[JOB].enabled
    settings.DEBEZIUM_URL = ""
    assert "DEBEZIUM_URL" in check_connectors().note


def test_connectors_and_tasks_are_written_as_told_in_one_request(fake: FakeConnect) -> None:
    fake.has("orders", "RUNNING", "RUNNING", "FAILED")
    fake.has("stock", "PAUSED", "PAUSED")
    assert check_connectors().items == 2
    orders = row("orders")
    assert (orders.state, orders.worker_id, orders.class_name) == (
        State.RUNNING,
        WORKER,
        "org.example.Source",
    )
    tasks = Task.objects.filter(connector=orders).values_list("number", "state", "trace")
    assert list(tasks) == [(0, "RUNNING", ""), (1, "FAILED", TRACE)]
    assert len(fake.asked("^GET")) == 1


def test_since_is_when_the_state_began_and_seen_when_it_was_last_told(
    fake: FakeConnect, travel: time_machine.Traveller
) -> None:
    fake.has("orders")
    check_connectors()
    first = row("orders")
    later(travel, 5)
    second = row("orders")
    assert second.since == first.since
    assert first.seen_at
    assert second.seen_at == first.seen_at + timedelta(minutes=5)
    fake.has("orders", "PAUSED", "PAUSED")
    later(travel, 5)
    assert row("orders").since == first.since + timedelta(minutes=10)
    assert history()[-2:] == ["RUNNING → PAUSED"] * 2  # itself and its task


def test_a_state_that_connect_will_have_one_day_breaks_nothing(fake: FakeConnect) -> None:
    fake.has("orders", "HIBERNATING", "DREAMING")
    assert check_connectors().failed == 0
    assert row("orders").state == "HIBERNATING"


def test_a_task_that_is_no_more_leaves(fake: FakeConnect) -> None:
    fake.has("orders", "RUNNING", "RUNNING", "RUNNING")
    check_connectors()
    fake.has("orders", "RUNNING", "RUNNING")
    check_connectors()
    assert [task.number for task in row("orders").tasks.all()] == [0]


def test_one_that_left_connect_is_missing_and_no_problem_of_ours(
    fake: FakeConnect, travel: time_machine.Traveller, settings: Settings
) -> None:
    fake.has("orders", "FAILED")
    check_connectors()
    assert told(Kind.CONNECTOR)
    del fake.connectors["orders"]
    later(travel, 5)
    assert row("orders").state == State.MISSING
    assert not told(Kind.CONNECTOR)
    later(travel, (settings.RUN_RETENTION_DAYS + 1) * 24 * 60)
    assert not Connector.objects.exists()


def test_one_that_no_worker_takes_is_told_after_a_minute(
    fake: FakeConnect, travel: time_machine.Traveller
) -> None:
    fake.has("orders", "UNASSIGNED", "UNASSIGNED")
    check_connectors()
    assert not told(Kind.CONNECTOR)
    later(travel, 5)
    assert "No worker" in told(Kind.CONNECTOR)[0]
    assert not fake.asked(RESTART)


@pytest.mark.parametrize(
    "states", [("RESTARTING", "RUNNING"), ("RUNNING", "RESTARTING"), ("RUNNING", "UNASSIGNED")]
)
def test_one_that_is_not_through_its_restart_is_not_well_yet(
    fake: FakeConnect, travel: time_machine.Traveller, states: tuple[str, str]
) -> None:
    fake.has("orders", "RUNNING", "FAILED")
    check_connectors()
    fake.has("orders", *states)
    later(travel, 0.5)
    assert told(Kind.CONNECTOR)
    assert "It is well again." not in history()
    fake.has("orders", "RUNNING", "RUNNING")
    later(travel, 0.5)
    assert not told(Kind.CONNECTOR)


def test_one_that_has_no_task_yet_is_not_well_yet(
    fake: FakeConnect, travel: time_machine.Traveller
) -> None:
    fake.has("orders", "FAILED")
    check_connectors()
    fake.has("orders")
    fake.connectors["orders"]["status"]["tasks"] = []
    later(travel, 0.5)
    assert told(Kind.CONNECTOR)


def test_one_without_a_status_is_unassigned(fake: FakeConnect) -> None:
    fake.has("orders")
    del fake.connectors["orders"]["status"]
    check_connectors()
    assert row("orders").state == State.UNASSIGNED


def test_one_that_runs_without_a_task_is_restarted(
    fake: FakeConnect, travel: time_machine.Traveller
) -> None:
    fake.has("orders")
    fake.connectors["orders"]["status"]["tasks"] = []
    check_connectors()
    later(travel, 5)
    assert "without a task" in told(Kind.CONNECTOR)[0]
    assert fake.asked("onlyFailed=false")


def test_what_is_paused_or_stopped_is_nobodys_problem(
    fake: FakeConnect, travel: time_machine.Traveller
) -> None:
    fake.has("orders", "PAUSED", "PAUSED")
    fake.has("stock", "STOPPED")
    fake.connectors["stock"]["status"]["tasks"] = []
    check_connectors()
    later(travel, 60)
    assert not Alert.objects.exists()


# Restarts


def test_a_failed_task_is_restarted_alone_and_told_in_words(fake: FakeConnect) -> None:
    fake.has("orders", "RUNNING", "RUNNING", "FAILED")
    check_connectors()
    assert fake.asked(RESTART) == [
        "POST /connectors/orders/restart?includeTasks=true&onlyFailed=true"
    ]
    (message,) = told(Kind.CONNECTOR)
    assert message == ("orders: Task 1 failed: EOFException: the other side went. It is restarted.")


def test_a_failed_connector_is_restarted(fake: FakeConnect) -> None:
    fake.has("orders", "FAILED")
    check_connectors()
    assert len(fake.asked(RESTART)) == 1
    assert "It failed: EOFException" in told(Kind.CONNECTOR)[0]


def test_restarts_come_later_each_time_and_end_with_their_budget(
    fake: FakeConnect, travel: time_machine.Traveller
) -> None:
    fake.has("orders", "RUNNING", "FAILED")
    check_connectors()
    moments = [0]
    for minute in range(1, 60):
        later(travel, 1)
        if len(fake.asked(RESTART)) > len(moments):
            moments.append(minute)
    assert moments == [0, 2, 6, 12, 20]
    assert row("orders").restarts == 5
    assert "given up" in told(Kind.CONNECTOR)[0]
    assert events() == ["alert.raised", "alert.changed"]


def test_one_that_is_well_again_resolves_its_alert_and_has_its_budget_back(
    fake: FakeConnect, travel: time_machine.Traveller
) -> None:
    fake.has("orders", "RUNNING", "FAILED")
    check_connectors()
    fake.has("orders", "RUNNING", "RUNNING")
    later(travel, 5)
    assert (row("orders").restarts, row("orders").problem) == (0, "")
    assert row("orders").restarts_total == 1
    assert events() == ["alert.raised", "alert.resolved"]
    assert history()[-1] == "It is well again."


def test_what_fails_again_and_again_does_not_win_its_budget_back_in_between(
    fake: FakeConnect, travel: time_machine.Traveller
) -> None:
    for _ in range(60):
        before = len(fake.asked(RESTART))
        fake.has("orders", "RUNNING", "FAILED")
        later(travel, 1)
        if len(fake.asked(RESTART)) > before:
            fake.has("orders", "RUNNING", "RUNNING")
            later(travel, 1)
            assert not told(Kind.CONNECTOR)
    assert len(fake.asked(RESTART)) == 5


def test_a_restart_that_connect_did_not_take_costs_nothing(fake: FakeConnect) -> None:
    fake.has("orders", "RUNNING", "FAILED")
    fake.answers[RESTART] = httpx.Response(HTTPStatus.CONFLICT)
    check_connectors()
    assert len(fake.asked(RESTART)) > 1  # it was asked again for as long as DEBEZIUM_TIMEOUT
    orders = row("orders")
    assert (orders.restarts, orders.restarts_total, orders.next_restart_at) == (0, 0, None)
    assert "settling" in history()[-1]
    fake.answers.clear()
    fake.requests.clear()
    Connector.objects.update(restarted_at=None)
    check_connectors()
    assert len(fake.asked(RESTART)) == 1


def test_one_that_was_deleted_meanwhile_stops_no_other(fake: FakeConnect) -> None:
    fake.has("orders", "RUNNING", "FAILED")
    fake.has("stock", "RUNNING", "FAILED")
    fake.answers["POST .*/orders/restart"] = httpx.Response(HTTPStatus.NOT_FOUND)
    assert check_connectors().items == 2
    assert len(fake.asked("stock/restart")) == 1


def test_one_that_cannot_be_checked_is_counted_and_stops_no_other(
    fake: FakeConnect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake.has("a")
    fake.has("b", "RUNNING", "FAILED")
    found = diagnosis.find

    def find(*args: object) -> object:
        if str(args[1]) == "a":
            raise ZeroDivisionError
        return found(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(services, "find", find)
    with caplog.at_level(logging.CRITICAL):
        outcome = check_connectors()
    assert (outcome.items, outcome.failed) == (1, 1)
    assert told(Kind.CONNECTOR)


@pytest.mark.django_db(transaction=True)
def test_two_nodes_never_restart_one_connector_at_once(fake: FakeConnect) -> None:
    orders = Connector.objects.create(name="orders", state="FAILED", since=timezone.now())
    outcomes = race(*[lambda: services.claim_restart(orders, 1)] * 4)
    assert sorted(outcomes) == [False, False, False, True]
    assert row("orders").restarts == 1


def test_a_check_that_was_taken_over_restarts_nothing(fake: FakeConnect) -> None:
    fake.has("orders", "RUNNING", "FAILED")
    Job.objects.get_or_create(name=JOB)
    Job.objects.filter(name=JOB).update(requested_at=timezone.now())
    lease = execution.claim(periodic_jobs[JOB])
    assert lease
    execution.release(JOB)
    with held(lease), pytest.raises(Fenced):
        check_connectors()
    assert not fake.asked(RESTART)
    assert not Connector.objects.filter(restarts__gt=0).exists()


def test_what_debezium_complains_of_is_told_although_it_runs(fake: FakeConnect) -> None:
    fake.has("orders", **{"connector.class": "io.debezium.connector.mysql.MySqlConnector"})
    fake.complaints = ["Access denied for user 'shop'@'%' (using password: YES)"]
    check_connectors()
    (message,) = told(Kind.CONNECTOR)
    assert "Access denied" in message
    assert "It is refused its user or password" in message
    assert not fake.asked(RESTART)


def test_a_failed_task_with_another_reason_than_its_trace_says_is_not_restarted(
    fake: FakeConnect,
) -> None:
    kind = {"connector.class": "io.debezium.connector.postgresql.PostgresConnector"}
    fake.has("orders", "RUNNING", "FAILED", **kind)
    fake.complaints = ['FATAL: password authentication failed for user "shop"']
    check_connectors()
    assert "EOFException" in told(Kind.CONNECTOR)[0]
    assert "user or password" in told(Kind.CONNECTOR)[0]
    assert not fake.asked(RESTART)


# Connect itself


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(500, json={"message": "no leader"}), "no leader"),
        (httpx.Response(401), "DEBEZIUM_USER"),
        (httpx.Response(200, text="<h1>Hello</h1>"), "not as Kafka Connect does"),
        (httpx.Response(200, json=["orders"]), "not as Kafka Connect does"),
    ],
)
def test_what_is_not_connects_answer_is_an_outage(
    fake: FakeConnect, answer: httpx.Response, words: str
) -> None:
    fake.answers["."] = answer
    check_connectors()
    (message,) = told(Kind.CONNECT)
    assert words in message


def test_an_outage_is_one_alert_whatever_else_is_wrong(
    fake: FakeConnect, travel: time_machine.Traveller
) -> None:
    for name in ("a", "b", "c"):
        fake.has(name)
    check_connectors()
    fake.away = True
    for _ in range(3):
        later(travel, 5)
    assert [alert.kind for alert in Alert.objects.all()] == [Kind.CONNECT]
    assert set(Connector.objects.values_list("state", flat=True)) == {"RUNNING"}
    fake.away = False
    later(travel, 5)
    assert events() == ["alert.raised", "alert.resolved"]


def test_an_outage_in_the_middle_of_each_check_is_one_alert(
    fake: FakeConnect, travel: time_machine.Traveller
) -> None:
    """A proxy that lets GET through, and nothing else."""
    fake.has("orders", **{"connector.class": "io.debezium.connector.mysql.MySqlConnector"})
    fake.answers["^PUT .*/validate"] = httpx.Response(HTTPStatus.FORBIDDEN)
    for _ in range(3):
        later(travel, 5)
    assert events() == ["alert.raised"]
    assert "DEBEZIUM_USER" in Cluster.objects.get().error
    fake.answers.clear()
    later(travel, 5)
    assert events() == ["alert.raised", "alert.resolved"]
    assert Cluster.objects.get().error == ""


def test_a_password_in_the_address_is_not_told(fake: FakeConnect, settings: Settings) -> None:
    settings.DEBEZIUM_URL = "http://ann:hunter2@connect.example"
    fake.away = True
    assert "hunter2" not in check_connectors().note
    assert "connect.example:80" in check_connectors().note


# The slot


def slot_is(monkeypatch: pytest.MonkeyPatch, **facts: object) -> None:
    slot = Slot("orders", exists=True, **facts)  # type: ignore[arg-type]
    monkeypatch.setattr(diagnosis, "slot_of", lambda config: slot)


def test_a_slot_that_nobody_reads_is_told_at_once_and_restarted_when_it_stays_so(
    fake: FakeConnect, monkeypatch: pytest.MonkeyPatch, travel: time_machine.Traveller
) -> None:
    fake.has("orders")
    slot_is(monkeypatch, active=True)
    check_connectors()
    slot_is(monkeypatch, active=False)
    later(travel, 5)
    assert "nobody reads" in told(Kind.CONNECTOR)[0]
    assert not fake.asked(RESTART)
    later(travel, 5)
    assert len(fake.asked("onlyFailed=false")) == 1


def test_a_reader_of_a_moment_does_not_resolve_what_was_told(
    fake: FakeConnect, monkeypatch: pytest.MonkeyPatch, travel: time_machine.Traveller
) -> None:
    fake.has("orders")
    check_connectors()
    slot_is(monkeypatch, active=False)
    later(travel, 5)
    slot_is(monkeypatch, active=True, settled=False)
    later(travel, 5)
    assert told(Kind.CONNECTOR)
    slot_is(monkeypatch, active=True)
    later(travel, 5)
    assert not told(Kind.CONNECTOR)


def test_wal_that_piles_up_is_an_alert_until_it_is_gone(
    fake: FakeConnect, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.DEBEZIUM_WAL_LIMIT = 5_000_000
    fake.has("orders", "PAUSED", "PAUSED")
    slot_is(monkeypatch, retained=5_000_001, lag=7)
    check_connectors()
    assert "5 MB" in told(Kind.WAL)[0]
    assert (row("orders").slot_retained, row("orders").slot_lag) == (5_000_001, 7)
    slot_is(monkeypatch, retained=4_000_000)
    check_connectors()
    assert not told(Kind.WAL)


@pytest.mark.parametrize("state", ["MISSING", "RUNNING"])
def test_the_slot_of_one_without_a_configuration_stays_as_it_was_last_seen(
    fake: FakeConnect, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    with monkeypatch.context() as patched:
        fake.has("orders")
        slot_is(patched, active=False, retained=2_000_000_000, lag=7)
        check_connectors()
    assert told(Kind.WAL)
    if state == State.MISSING:
        del fake.connectors["orders"]
    else:
        del fake.connectors["orders"]["info"]
    check_connectors()
    orders = row("orders")
    assert orders.state == state
    assert (orders.slot, orders.slot_active, orders.slot_retained, orders.slot_lag) == (
        "orders",
        False,
        2_000_000_000,
        7,
    )
    assert told(Kind.WAL)


@pytest.fixture
def slot_of_ours() -> Iterator[str]:
    """In this project's own database; nobody reads it."""
    if connection.vendor != "postgresql":
        pytest.skip("it has replication slots")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_create_physical_replication_slot('left_alone', true)")
        yield "left_alone"
        cursor.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE slot_name = 'left_alone'"
        )


def reads_ours(fake: FakeConnect, slot: str) -> None:
    ours = connection.settings_dict
    config = {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": str(ours["HOST"]),
        "database.port": str(ours["PORT"] or 5432),
        "database.dbname": str(ours["NAME"]),
        "slot.name": slot,
    }
    fake.has("orders", "PAUSED", "PAUSED", **config)


def test_the_slot_of_one_that_left_connect_is_an_alert_until_it_is_dropped(
    fake: FakeConnect, settings: Settings, travel: time_machine.Traveller, slot_of_ours: str
) -> None:
    reads_ours(fake, slot_of_ours)
    check_connectors()
    assert not told(Kind.WAL)
    del fake.connectors["orders"]
    settings.DEBEZIUM_WAL_LIMIT = -1
    later(travel, 5)
    assert row("orders").state == State.MISSING
    assert slot_of_ours in told(Kind.WAL)[0]
    later(travel, (settings.RUN_RETENTION_DAYS + 1) * 24 * 60)  # it is not forgotten
    assert told(Kind.WAL)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_drop_replication_slot(%s)", [slot_of_ours])
    later(travel, 5)
    assert not told(Kind.WAL)
    assert not Connector.objects.exists()


def test_a_slot_elsewhere_is_forgotten_with_its_connector(
    fake: FakeConnect,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    travel: time_machine.Traveller,
) -> None:
    with monkeypatch.context() as patched:
        fake.has("orders")
        slot_is(patched, retained=2_000_000_000)
        check_connectors()
    del fake.connectors["orders"]
    later(travel, 5)
    later(travel, (settings.RUN_RETENTION_DAYS + 1) * 24 * 60)
    assert not told(Kind.WAL)
    assert not Connector.objects.exists()


def test_a_slot_that_is_lost_is_told(
    fake: FakeConnect, monkeypatch: pytest.MonkeyPatch, travel: time_machine.Traveller
) -> None:
    fake.has("orders")
    slot_is(monkeypatch, active=True, lost=True)
    check_connectors()
    later(travel, 5)
    assert "is lost" in told(Kind.CONNECTOR)[0]
    assert not fake.asked(RESTART)


# Declared connectors


@pytest.fixture
def directory(settings: Settings, tmp_path: Path) -> Path:
    settings.DEBEZIUM_CONNECTORS_DIR = str(tmp_path)
    settings.CONNECTOR_VARIABLES = {"CONNECTOR_PASSWORD": "hunter2-hunter2"}
    return tmp_path


def declare(directory: Path, name: str, content: object) -> None:
    (directory / f"{name}.json").write_text(json.dumps(content))


def live(fake: FakeConnect, name: str) -> dict[str, str]:
    config: dict[str, str] = fake.connectors[name]["info"]["config"]
    return config


def test_a_file_is_filled_from_the_environment_and_its_name(
    fake: FakeConnect, directory: Path
) -> None:
    content = {
        "connector.class": "org.example.Source",
        "slot.name": "${NAME}",
        "database.dbname": "${DATABASE_NAME}",
        "database.password": "${CONNECTOR_PASSWORD}",
        "ssl.password": "${file:/etc/secrets:ssl}",
        "tasks.max": 2,
        "tombstones": False,
    }
    declare(directory, "orders", {"name": "ignored", "config": content})
    check_connectors()
    assert live(fake, "orders") == {
        "name": "orders",
        "connector.class": "org.example.Source",
        "slot.name": "orders",
        "database.dbname": str(connection.settings_dict["NAME"]),
        "database.password": "hunter2-hunter2",
        "ssl.password": "${file:/etc/secrets:ssl}",
        "tasks.max": "2",
        "tombstones": "false",
    }
    stored = str([*Connector.objects.values(), *ConnectorChange.objects.values()])
    assert "hunter2" not in stored
    assert row("orders").declared


def test_nothing_is_put_twice(fake: FakeConnect, directory: Path) -> None:
    declare(directory, "orders", {"connector.class": "org.example.Source", "a": "1"})
    for _ in range(3):
        check_connectors()
    assert len(fake.asked("^PUT")) == 1
    declare(directory, "orders", {"connector.class": "org.example.Source", "a": "2", "b": "3"})
    for _ in range(3):
        check_connectors()
    assert len(fake.asked("^PUT")) == 2
    assert "Changed from its file: a, b" in history()


def test_a_connect_that_masks_passwords_is_not_told_again_at_each_check(
    fake: FakeConnect, directory: Path
) -> None:
    config = {"connector.class": "org.example.Source", "database.password": "hunter2"}
    declare(directory, "orders", config)
    masked = config | {"name": "orders", "database.password": "********"}
    fake.answers["^PUT"] = httpx.Response(HTTPStatus.CREATED, json={"config": masked})
    fake.has("orders", **masked)
    for _ in range(3):
        check_connectors()
    assert len(fake.asked("^PUT")) == 1
    fake.has("orders", **masked, other="by hand")
    check_connectors()
    assert len(fake.asked("^PUT")) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "an object of JSON"),
        ('{"a": "1"}', "connector.class"),
        ('{"connector.class": "A", "b": {}}', "value of b"),
        ('{"connector.class": "A", "b": "${SECRET_KEY}"}', "b needs ${SECRET_KEY}"),
    ],
)
def test_a_file_that_is_wrong_is_told_and_keeps_no_other_away(
    fake: FakeConnect, directory: Path, text: str, words: str
) -> None:
    (directory / "bad.json").write_text(text)
    declare(directory, "good", {"connector.class": "org.example.Source"})
    check_connectors()
    (message,) = told(Kind.CONNECTOR)
    assert message.startswith("bad: ")
    assert words in message
    assert "good" in fake.connectors
    assert row("bad").state == State.MISSING


def test_a_directory_that_is_not_there_is_told(fake: FakeConnect, directory: Path) -> None:
    directory.rmdir()
    check_connectors()
    assert "DEBEZIUM_CONNECTORS_DIR" in Cluster.objects.get().note
    check_connectors()
    (message,) = told(Kind.CONNECTOR)
    assert "DEBEZIUM_CONNECTORS_DIR" in message
    assert events() == ["alert.raised"]
    directory.mkdir()
    check_connectors()
    assert not told(Kind.CONNECTOR)


def test_a_directory_that_cannot_be_read_undeclares_nothing_and_resolves_nothing(
    fake: FakeConnect, directory: Path, settings: Settings
) -> None:
    fake.has("orders")
    fake.has("stock")
    declare(directory, "stock", {"connector.class": "org.example.Source"})
    for name in ("gone", "orders"):
        (directory / f"{name}.json").write_text("{")
    check_connectors()
    settings.DEBEZIUM_CONNECTORS_DIR = "/nowhere/at/all"
    check_connectors()
    assert all(Connector.objects.values_list("declared", flat=True))
    assert {message.split()[0] for message in told(Kind.CONNECTOR)} == {
        "gone:",
        "orders:",
        "DEBEZIUM_CONNECTORS_DIR",
    }
    settings.DEBEZIUM_CONNECTORS_DIR = str(directory)
    declare(directory, "orders", {"connector.class": "org.example.Source"})
    (directory / "gone.json").unlink()
    check_connectors()
    assert not told(Kind.CONNECTOR)
    assert not row("gone").declared


def test_a_web_process_undeclares_nothing(
    fake: FakeConnect, directory: Path, settings: Settings
) -> None:
    declare(directory, "orders", {"connector.class": "org.example.Source"})
    check_connectors()
    settings.DEBEZIUM_CONNECTORS_DIR = ""  # as where only qcluster has the files
    steering.pause("orders", "ann")
    assert row("orders").declared


def test_what_connect_refuses_is_told_without_secrets(fake: FakeConnect, directory: Path) -> None:
    declare(directory, "orders", {"connector.class": "A", "b": "${CONNECTOR_PASSWORD}"})
    text = "Invalid value hunter2-hunter2 for configuration b"
    fake.answers["^PUT"] = httpx.Response(HTTPStatus.BAD_REQUEST, json={"message": text})
    check_connectors()
    (message,) = told(Kind.CONNECTOR)
    assert "Invalid value *** for configuration b" in message


def test_an_outage_in_the_middle_is_an_outage(fake: FakeConnect, directory: Path) -> None:
    declare(directory, "orders", {"connector.class": "A"})
    fake.answers["^PUT"] = httpx.ConnectError("Connection refused")
    check_connectors()
    assert told(Kind.CONNECT)
    assert not told(Kind.CONNECTOR)


@pytest.mark.parametrize(
    "answer", [httpx.Response(HTTPStatus.INTERNAL_SERVER_ERROR), httpx.ReadTimeout("late")]
)
def test_what_fails_for_one_file_is_no_outage(
    fake: FakeConnect, directory: Path, answer: httpx.Response | Exception
) -> None:
    declare(directory, "orders", {"connector.class": "A"})
    fake.has("stock", "RUNNING", "FAILED")
    fake.answers["^PUT"] = answer
    check_connectors()
    assert not told(Kind.CONNECT)
    assert "does not take its file" in " ".join(told(Kind.CONNECTOR))
    assert fake.asked(RESTART)


def test_a_restart_without_an_answer_counts(fake: FakeConnect) -> None:
    fake.has("orders", "RUNNING", "FAILED")
    fake.answers[RESTART] = httpx.ReadTimeout("late")
    check_connectors()
    assert row("orders").restarts == 1
    assert not told(Kind.CONNECT)


def test_a_database_that_keeps_connect_waiting_is_told(fake: FakeConnect) -> None:
    fake.has("orders", **{"connector.class": "io.debezium.connector.mysql.MySqlConnector"})
    fake.answers["validate"] = httpx.ReadTimeout("late")
    check_connectors()
    assert "Does its database answer?" in told(Kind.CONNECTOR)[0]
    assert not told(Kind.CONNECT)


def test_a_plugin_that_left_the_workers_is_told(fake: FakeConnect) -> None:
    fake.has("orders", **{"connector.class": "io.debezium.connector.mysql.MySqlConnector"})
    text = "Failed to find any class that implements Connector"
    fake.answers["validate"] = httpx.Response(500, json={"message": text})
    check_connectors()
    assert "install the plugin" in told(Kind.CONNECTOR)[0]


def test_a_restart_by_an_operator_gives_a_new_budget_and_asks_for_a_check(
    fake: FakeConnect,
) -> None:
    Job.objects.get_or_create(name=JOB)
    fake.has("orders", "RUNNING", "FAILED")
    check_connectors()
    Connector.objects.update(restarts=5, restarted_at=None)
    steering.restart("orders", "ann")
    assert row("orders").restarts == 0
    assert Job.objects.get(name=JOB).requested_at


# The client


def test_a_name_of_any_letters_stays_one_part_of_the_address(fake: FakeConnect) -> None:
    with Connect() as connect:
        connect.pause("a/b ?c")
    assert fake.requests == ["PUT /connectors/a%2Fb%20%3Fc/pause"]


def test_connect_is_asked_with_its_login(fake: FakeConnect, settings: Settings) -> None:
    settings.DEBEZIUM_USER, settings.DEBEZIUM_PASSWORD = "ann", "secret"
    with Connect() as connect:
        assert connect.http.auth
        connect.connectors()


def test_every_failure_is_a_connect_error(fake: FakeConnect) -> None:
    for code in (400, 401, 403, 404, 409, 422, 500, 503):
        fake.answers["."] = httpx.Response(code)
        with Connect() as connect, pytest.raises(ConnectError):
            connect.connectors()


# Steering


def test_what_others_did_in_connect_is_known_before_it_is_steered(fake: FakeConnect) -> None:
    fake.has("orders", "RUNNING")
    check_connectors()
    fake.has("orders", "PAUSED", "PAUSED")  # by hand, since the check
    with pytest.raises(steering.InvalidTransition, match="does not run"):
        steering.pause("orders", "ann")
    steering.resume("orders", "ann")
    assert fake.asked("^PUT .*/resume")


def test_one_that_left_connect_cannot_be_steered(fake: FakeConnect) -> None:
    fake.has("orders")
    check_connectors()
    del fake.connectors["orders"]
    with pytest.raises(steering.InvalidTransition, match="not in Kafka Connect"):
        steering.restart("orders", "ann")
    assert not fake.asked(RESTART)


def test_without_an_address_nothing_is_steered(fake: FakeConnect, settings: Settings) -> None:
    settings.DEBEZIUM_URL = ""
    with pytest.raises(ConnectError, match="DEBEZIUM_URL"):
        steering.pause("orders", "ann")


def entries() -> list[tuple[str, str, bool]]:
    found = AuditEntry.objects.order_by("pk")
    return [(one.action, one.subject, "answer" in one.detail) for one in found]


@pytest.mark.parametrize(
    ("state", "steer", "action"),
    [
        ("RUNNING", steering.restart, "connector.restarted"),
        ("RUNNING", steering.pause, "connector.paused"),
        ("PAUSED", steering.resume, "connector.resumed"),
    ],
)
@pytest.mark.parametrize("answered", [True, False])
def test_what_an_operator_asked_for_is_in_the_audit_also_when_its_answer_is_lost(
    fake: FakeConnect,
    state: str,
    steer: Callable[[str, str], None],
    action: str,
    answered: bool,
) -> None:
    fake.has("orders", state, state)
    if not answered:
        fake.answers["/(restart|pause|resume)"] = httpx.ReadTimeout("late")
    with acting_as(Actor(ADMIN, 7, "ann")), suppress(TooLate):
        steer("orders", "ann")
    assert entries() == [(action, "orders", not answered)]
    assert ConnectorChange.objects.filter(by="ann").count() == 1


def test_what_connect_refused_an_operator_is_neither_told_nor_counted(fake: FakeConnect) -> None:
    fake.has("orders", "RUNNING")
    check_connectors()
    Connector.objects.update(restarts=2)
    fake.answers[RESTART] = httpx.Response(500, json={"message": "no"})
    with acting_as(Actor(ADMIN, 7, "ann")), pytest.raises(ConnectError, match="no"):
        steering.restart("orders", "ann")
    orders = row("orders")
    assert (orders.restarts, orders.restarts_total, orders.next_restart_at) == (2, 0, None)
    assert not entries()
    del fake.answers[RESTART]
    steering.restart("orders", "ann")  # at once: it was not restarted just now
    assert row("orders").restarts_total == 1
