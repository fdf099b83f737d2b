"""A shop whose orders Debezium reads, on a PostgreSQL of the test's own."""

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from pytest_django import Settings

from jobs import clock
from operations.debezium import client, diagnosis, services, slots
from operations.debezium.client import Config
from operations.debezium.models import Connector
from operations.models import Alert
from tests import servers
from tests.conftest import needed
from tests.operations.debezium.fakes import FakeConnect
from tests.servers import KafkaConnect, Postgres
from tests.test_servers import ask
from tests.waiting import wait_until

USER, PASSWORD = "debezium", "a-secret-of-the-shop"


class Shop:
    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres
        self.url = postgres.start()
        hba = postgres.directory / "pg_hba.conf"
        hba.write_text(f"host all {USER} 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")
        self.sql("SELECT pg_reload_conf()")
        self.sql(f"CREATE ROLE {USER} LOGIN SUPERUSER REPLICATION")
        self.password_is(PASSWORD)
        self.sql("CREATE TABLE orders (id serial PRIMARY KEY)")

    def sql(self, statement: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as database:
            cursor = database.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def password_is(self, password: str) -> None:
        self.sql(f"ALTER ROLE {USER} PASSWORD '{password}'")

    def order(self) -> None:
        self.sql("INSERT INTO orders DEFAULT VALUES")

    def is_read(self, slot: str) -> bool:
        rows = self.sql("SELECT active FROM pg_replication_slots WHERE slot_name = %s", slot)
        return bool(rows and rows[0][0])

    def cut(self, slot: str) -> None:
        statement = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
        self.sql(f"{statement} WHERE slot_name = %s", slot)

    def config(self, name: str, **options: str) -> Config:
        address = urlsplit(self.url)
        return {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "tasks.max": "1",
            "database.hostname": str(address.hostname),
            "database.port": str(address.port),
            "database.user": USER,
            "database.password": PASSWORD,
            "database.dbname": "postgres",
            "topic.prefix": name,
            "plugin.name": "pgoutput",
            "slot.name": name,
            "publication.name": name,
            "publication.autocreate.mode": "filtered",
            "table.include.list": "public.orders",
            "snapshot.mode": "no_data",
        } | {key.replace("_", "."): value for key, value in options.items()}


@pytest.fixture
def shop() -> Iterator[Shop]:
    with needed(servers.running(Postgres)) as postgres:
        yield Shop(postgres)


@pytest.fixture
def watched(
    connect: KafkaConnect, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KafkaConnect]:
    """The project watches this Connect; what the test made there ends with it."""
    settings.DEBEZIUM_URL = connect.url
    settings.DEBEZIUM_TIMEOUT = 60.0
    settings.DEBEZIUM_ASK_DATABASES = True
    monkeypatch.setattr(diagnosis, "GRACE", timedelta(seconds=5))
    monkeypatch.setattr(slots, "SETTLED", 2.0)
    yield connect
    connect.start()
    for name in ask(f"{connect.url}/connectors"):
        ask(f"{connect.url}/connectors/{name}", method="DELETE")


NewConnector = Callable[..., str]


@pytest.fixture
def new_connector(watched: KafkaConnect, shop: Shop) -> NewConnector:
    """`new_connector(errors_max_retries="0")` makes one, and waits until it reads."""

    def make(**options: str) -> str:
        name = f"shop_{uuid.uuid4().hex[:8]}"
        url = f"{watched.url}/connectors/{name}/config"
        ask(url, shop.config(name, **options), "PUT")
        wait_until(lambda: shop.is_read(name), message="the connector reads")
        return name

    return make


def told(kind: str) -> list[str]:
    """The messages of open alerts."""
    return list(Alert.objects.open().filter(kind=kind).values_list("message", flat=True))


def row(name: str) -> Connector:
    return Connector.objects.get(name=name)


def is_well(name: str) -> bool:
    """After one more check."""
    services.check()
    return not row(name).problem


def is_settled(name: str) -> bool:
    """Well, and for so long that its slot is believed."""
    return (
        is_well(name)
        and bool(row(name).slot_active)
        and clock.now() - row(name).since > diagnosis.GRACE
    )


def state_in(connect: KafkaConnect, name: str) -> str:
    """Of its one task, as Connect says it."""
    status = ask(f"{connect.url}/connectors/{name}/status")
    return status["tasks"][0]["state"] if status["tasks"] else ""


@pytest.fixture
def fake(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> FakeConnect:
    """What the project is told is Kafka Connect."""
    settings.DEBEZIUM_URL = "http://connect.example:8083"
    settings.DEBEZIUM_TIMEOUT = 0.3
    connect = FakeConnect()
    monkeypatch.setattr(client, "transport", lambda: httpx.MockTransport(connect.handle))
    return connect
