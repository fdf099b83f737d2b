"""Debezium in a real Kafka Connect, on a real PostgreSQL that fails in each way there is."""

import json
import uuid
from pathlib import Path

import pytest
from django.db import connection
from pytest_django import Settings

from jobs.registry import Outcome
from operations.debezium import steering
from operations.debezium.models import Connector, ConnectorChange, State
from operations.debezium.tasks import check_connectors
from operations.models import Alert, Kind
from outbox.models import Event
from tests.operations.debezium.conftest import (
    PASSWORD,
    USER,
    NewConnector,
    Shop,
    is_settled,
    is_well,
    row,
    state_in,
    told,
)
from tests.servers import CHECKOUT, KafkaConnect
from tests.test_servers import ask
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


def test_connectors_and_tasks_are_rows(new_connector: NewConnector, shop: Shop) -> None:
    name = new_connector()
    wait_until(lambda: is_well(name) and row(name).tasks.exists())
    connector = row(name)
    (task,) = connector.tasks.all()
    assert (connector.state, task.state) == (State.RUNNING, State.RUNNING)
    assert connector.worker_id == task.worker_id != ""
    assert (connector.slot, connector.slot_active) == (name, True)
    assert connector.slot_retained is not None
    assert connector.slot_lag is not None
    assert not Alert.objects.exists()
    assert not connector.declared


def test_a_dropped_publication_is_told_although_connect_says_running(
    new_connector: NewConnector, shop: Shop, watched: KafkaConnect
) -> None:
    name = new_connector()
    wait_until(lambda: is_settled(name))
    shop.sql(f'DROP PUBLICATION "{name}"')
    shop.order()
    wait_until(lambda: not shop.is_read(name), message="it fails")
    check_connectors()
    assert state_in(watched, name) == "RUNNING"
    (message,) = told(Kind.CONNECTOR)
    assert "publication" in message or "nobody reads" in message  # by then made again


def test_a_dropped_publication_that_fails_a_task_is_told_and_not_restarted(
    new_connector: NewConnector, shop: Shop, watched: KafkaConnect
) -> None:
    name = new_connector(errors_max_retries="0")
    shop.sql(f'DROP PUBLICATION "{name}"')
    shop.order()
    wait_until(lambda: state_in(watched, name) == "FAILED")
    check_connectors()
    (message,) = told(Kind.CONNECTOR)
    assert f'publication "{name}" does not exist' in message
    assert "drop the replication slot" in message
    assert (row(name).restarts, row(name).mendable) == (0, False)
    assert "PSQLException" in row(name).tasks.get().trace


def test_another_password_is_told_and_its_return_resolves_it(
    new_connector: NewConnector, shop: Shop, watched: KafkaConnect
) -> None:
    name = new_connector()
    wait_until(lambda: is_settled(name))
    shop.password_is("another")
    shop.cut(name)
    wait_until(lambda: not shop.is_read(name))
    check_connectors()
    assert state_in(watched, name) == "RUNNING"  # so says Connect
    (message,) = told(Kind.CONNECTOR)
    assert "password authentication failed" in message
    assert "correct them" in message
    assert (row(name).restarts, row(name).mendable) == (0, False)
    shop.password_is(PASSWORD)
    wait_until(lambda: is_well(name))
    assert not told(Kind.CONNECTOR)


def test_a_task_that_failed_while_postgres_was_away_is_restarted_and_well(
    new_connector: NewConnector, shop: Shop, watched: KafkaConnect
) -> None:
    name = new_connector(errors_max_retries="0")
    shop.postgres.stop("immediate")
    wait_until(lambda: state_in(watched, name) == "FAILED")
    shop.postgres.start()
    check_connectors()
    (message,) = told(Kind.CONNECTOR)
    assert "Task 0 failed" in message
    assert row(name).restarts == 1
    wait_until(lambda: shop.is_read(name), message="it was mended")
    wait_until(lambda: is_well(name))
    assert not told(Kind.CONNECTOR)
    assert Event.objects.filter(type="alert.raised").count() == 1
    assert Event.objects.filter(type="alert.resolved").count() == 1


def test_a_postgres_that_is_away_is_told_and_its_return_resolves_it(
    new_connector: NewConnector, shop: Shop, watched: KafkaConnect
) -> None:
    name = new_connector()
    wait_until(lambda: is_settled(name))
    shop.postgres.stop("immediate")
    check_connectors()
    (message,) = told(Kind.CONNECTOR)
    assert "cannot be reached" in message
    shop.postgres.start()
    wait_until(lambda: is_well(name))
    assert not told(Kind.CONNECTOR)


def test_an_outage_of_connect_is_one_alert_and_changes_no_state(
    new_connector: NewConnector, watched: KafkaConnect
) -> None:
    names = [new_connector(), new_connector()]
    wait_until(lambda: all(map(is_well, names)))
    before = list(Connector.objects.values("name", "state", "since", "seen_at"))
    watched.stop()
    for _ in range(3):
        outcome = check_connectors()
        assert (outcome.failed, "cannot be reached" in outcome.note) == (1, True)
    assert Alert.objects.values_list("kind").get() == (Kind.CONNECT,)
    assert list(Connector.objects.values("name", "state", "since", "seen_at")) == before
    watched.start()
    wait_until(lambda: all(map(is_well, names)))
    assert not Alert.objects.open().exists()
    assert Alert.objects.filter(kind=Kind.CONNECT).count() == 1


def test_what_is_declared_is_made_changed_and_left_alone(
    new_connector: NewConnector,
    shop: Shop,
    watched: KafkaConnect,
    settings: Settings,
    tmp_path: Path,
) -> None:
    stranger = new_connector()
    settings.DEBEZIUM_CONNECTORS_DIR = str(tmp_path)
    settings.CONNECTOR_VARIABLES = {"CONNECTOR_SHOP_PASSWORD": PASSWORD}
    config = shop.config("declared") | {"database.password": "${CONNECTOR_SHOP_PASSWORD}"}
    (tmp_path / "declared.json").write_text(json.dumps(config))
    assert isinstance(check_connectors(), Outcome)
    wait_until(lambda: shop.is_read("declared"))
    live = ask(f"{watched.url}/connectors/declared/config")
    assert live["database.password"] == PASSWORD
    made = ConnectorChange.objects.count()

    wait_until(lambda: is_well("declared"))
    (tmp_path / "declared.json").write_text(json.dumps(config | {"poll.interval.ms": 200}))
    check_connectors()
    assert ask(f"{watched.url}/connectors/declared/config")["poll.interval.ms"] == "200"
    changes = ConnectorChange.objects.filter(what__startswith="Changed from its file")
    assert changes.get().what == "Changed from its file: poll.interval.ms"
    assert made
    assert row("declared").declared
    assert not row(stranger).declared
    assert state_in(watched, stranger) == "RUNNING"
    rows = str(list(Connector.objects.values()) + list(ConnectorChange.objects.values()))
    assert PASSWORD not in rows

    ask(f"{watched.url}/connectors/declared", method="DELETE")
    check_connectors()
    assert "declared" in ask(f"{watched.url}/connectors")


def test_what_connect_refuses_of_a_file_is_told_without_its_secrets(
    shop: Shop, watched: KafkaConnect, settings: Settings, tmp_path: Path
) -> None:
    settings.DEBEZIUM_CONNECTORS_DIR = str(tmp_path)
    settings.CONNECTOR_VARIABLES = {"CONNECTOR_TOKEN": "no-such-mode"}
    config = shop.config("declared") | {"snapshot.mode": "${CONNECTOR_TOKEN}"}
    (tmp_path / "declared.json").write_text(json.dumps(config | {"database.user": "nobody"}))
    check_connectors()
    (message,) = told(Kind.CONNECTOR)
    assert "Connect does not take its file" in message
    assert "no-such-mode" not in message
    assert row("declared").state == State.MISSING
    config = shop.config("declared")
    (tmp_path / "declared.json").write_text(json.dumps(config))
    wait_until(lambda: is_well("declared"))
    assert not told(Kind.CONNECTOR)


def test_operators_restart_pause_and_resume(
    new_connector: NewConnector, shop: Shop, watched: KafkaConnect
) -> None:
    name = new_connector()
    wait_until(lambda: is_settled(name))
    steering.pause(name, "ann")
    wait_until(lambda: state_in(watched, name) == "PAUSED")
    check_connectors()
    assert row(name).state == State.PAUSED
    assert not told(Kind.CONNECTOR)
    with pytest.raises(steering.InvalidTransition):
        steering.pause(name, "ann")
    steering.resume(name, "bob")
    wait_until(lambda: is_well(name) and row(name).state == State.RUNNING)
    steering.restart(name, "cid")
    with pytest.raises(steering.InvalidTransition, match="just now"):
        steering.restart(name, "dee")
    steered = ConnectorChange.objects.exclude(by="").order_by("pk")
    assert list(steered.values_list("what", "by")) == [
        ("Paused", "ann"),
        ("Resumed", "bob"),
        ("Restarted", "cid"),
    ]


def test_a_user_who_may_not_log_in_from_here_is_told(
    new_connector: NewConnector, shop: Shop
) -> None:
    name = new_connector()
    hba = shop.postgres.directory / "pg_hba.conf"
    hba.write_text(f"host all {USER} 127.0.0.1/32 reject\n{hba.read_text()}")
    shop.sql("SELECT pg_reload_conf()")
    shop.cut(name)
    check_connectors()
    (message,) = told(Kind.CONNECTOR)
    assert "pg_hba.conf" in message
    assert "rights" in message


@pytest.mark.skipif(connection.vendor != "postgresql", reason="Debezium reads PostgreSQL")
def test_the_fixture_needs_nothing_but_to_be_copied(
    watched: KafkaConnect, settings: Settings, tmp_path: Path
) -> None:
    settings.DEBEZIUM_ASK_DATABASES = False  # this project's own is always asked
    settings.DEBEZIUM_CONNECTORS_DIR = str(tmp_path)
    name = f"outbox_{uuid.uuid4().hex[:8]}"
    fixture = (CHECKOUT / "fixtures" / "debezium-outbox.json").read_text()
    (tmp_path / f"{name}.json").write_text(fixture)
    try:
        check_connectors()
        wait_until(lambda: is_settled(name), message="its slot is read")
        connector = row(name)
        assert (connector.slot, connector.slot_active, connector.slot_note) == (name, True, "")
        assert connector.slot_retained is not None
        assert not Alert.objects.open().exists()
    finally:
        ask(f"{watched.url}/connectors/{name}", method="DELETE")
        wait_until(lambda: not slot_is_read(name))
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_drop_replication_slot(%s)", [name])
            cursor.execute(f'DROP PUBLICATION "{name}"')


def slot_is_read(name: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT active FROM pg_replication_slots WHERE slot_name = %s", [name])
        return bool(cursor.fetchone()[0])
