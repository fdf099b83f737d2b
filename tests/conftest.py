import os
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from uuid import uuid4

import hypothesis
import pytest
import time_machine
from django.conf import settings
from django.db import connection
from django.test import override_settings
from django.utils import timezone
from pytest_django import DjangoDbBlocker
from selenium.webdriver import Chrome

from jobs import clock, redis
from jobs.registry import periodic_jobs
from operations.keys import limits
from operations.keys.usage import recorder
from tests import servers
from tests.browsers import chromium
from tests.databases import copy_of, migrated_template
from tests.deliveries.receiver import receiver
from tests.everywhere import Everywhere
from tests.live import database_of
from tests.processes import Environment, Spawned, environment
from tests.waiting import PATIENCE

# A machine that stands still for a moment has found no example that fails.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

NewNginx = Callable[[int, int], servers.Nginx]
NewPushpin = Callable[[int], servers.Pushpin]
Spawn = Callable[[list[str], Environment], Spawned]
T = TypeVar("T")
SPAWNED = pytest.StashKey[list[Spawned]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for node in item.listchain():
            for spawned in node.stash.get(SPAWNED, []):
                report.sections.append((f"output of {spawned.name}", spawned.output()))
    return report


@pytest.fixture(scope="session", autouse=True)
def fast_passwords() -> Iterator[None]:
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(scope="session", autouse=True)
def long_leases() -> Iterator[None]:
    """Who leads in a test does so until it says otherwise, however slow the machine is."""
    with override_settings(OUTBOX_LEASE_SECONDS=60):
        yield


@pytest.fixture(scope="session", autouse=True)
def static_root() -> None:
    settings.STATIC_ROOT.mkdir(exist_ok=True)  # WhiteNoise warns when it is not there


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    if connection.vendor == "sqlite":  # two runs at once in one checkout must not share a file
        path = tmp_path_factory.mktemp("database") / "test.sqlite3"
        connection.settings_dict["TEST"]["NAME"] = path


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Autovacuum sees nothing of a test's transaction, and would tell the planner of PostgreSQL
    that the tables are empty: a query over many rows may then take minutes.
    """
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            for table in connection.introspection.table_names():
                cursor.execute(f'ALTER TABLE "{table}" SET (autovacuum_enabled = false)')


@pytest.fixture(scope="session", autouse=True)
def flushed_audit() -> None:
    """SQLite empties tables by DELETE, of which the audit would have none."""
    if connection.vendor == "sqlite":
        operations: Any = type(connection.ops)
        flush = operations.sql_flush

        def let_go(self: Any, *args: Any, **kwargs: Any) -> list[str]:
            statements: list[str] = flush(self, *args, **kwargs)
            last = [s for s in statements if "operations_forgetting" in s]
            opened = ["INSERT INTO operations_forgetting (before) VALUES ('9999-12-31')"]
            rest = [s for s in statements if s not in last]
            return [*opened, *rest, *last] if last else statements

        operations.sql_flush = let_go


@pytest.fixture(autouse=True)
def travelling_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who travels in time takes the database's clock along."""
    ask = clock.now
    travels = time_machine.escape_hatch.is_travelling
    monkeypatch.setattr(clock, "now", lambda: timezone.now() if travels() else ask())


@pytest.fixture(autouse=True)
def fresh_api_keys() -> Iterator[None]:
    """Nothing counted by the test before; nor by a thread that would wait for its transaction."""
    recorder.in_background = False
    yield
    recorder.waiting.clear()
    recorder.unwritten = recorder.doubtful = None
    limits.local.windows.clear()


@pytest.fixture(autouse=True)
def declared_jobs() -> Iterator[None]:
    """What a test declares ends with it."""
    before = dict(periodic_jobs)
    yield
    periodic_jobs.clear()
    periodic_jobs.update(before)


def skip_or_fail(missing: servers.MissingError) -> NoReturn:
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(str(missing))
    pytest.skip(str(missing))


@contextmanager
def needed(server: AbstractContextManager[T]) -> Iterator[T]:
    """What the block of `server` gets, where its program is installed."""
    with ExitStack() as stack:
        try:
            entered = stack.enter_context(server)
        except servers.MissingError as missing:
            skip_or_fail(missing)
        yield entered


@pytest.fixture
def free_port() -> int:
    return servers.free_port()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[str]:
    """A Redis of this run's own."""
    with needed(servers.temporary(servers.Redis)) as url:
        yield url


@pytest.fixture
def patience_with_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process one that answers late is not one that is away."""
    monkeypatch.setattr(redis, "TIMEOUT", PATIENCE)


@pytest.fixture
def redis_url(shared_redis: str, patience_with_redis: None) -> str:
    return shared_redis


@pytest.fixture
def redis_server(patience_with_redis: None) -> Iterator[servers.Redis]:
    """One to stop and start; it comes back empty, at its address."""
    with needed(servers.running(servers.Redis)) as server:
        yield server


@pytest.fixture(scope="session")
def kafka() -> Iterator[servers.Kafka]:
    """A broker of this run's own; a test that stops it starts it again."""
    with needed(servers.running(servers.Kafka)) as broker:
        yield broker


@pytest.fixture
def kafka_url(kafka: servers.Kafka) -> str:
    return kafka.url


@pytest.fixture(scope="session")
def connect(kafka: servers.Kafka) -> Iterator[servers.KafkaConnect]:
    """A worker of Kafka Connect; connectors are the test's own to delete."""

    def make(directory: Path) -> servers.KafkaConnect:
        return servers.KafkaConnect(directory, kafka.url)

    with needed(servers.running(make)) as worker:
        yield worker


@pytest.fixture
def connect_url(connect: servers.KafkaConnect) -> str:
    return connect.url


@pytest.fixture
def new_pushpin() -> Iterator[NewPushpin]:
    """`new_pushpin(port)` starts a proxy in front of what listens there."""
    with ExitStack() as stack:

        def start(backend_port: int) -> servers.Pushpin:
            def make(directory: Path) -> servers.Pushpin:
                return servers.Pushpin(directory, backend_port)

            return stack.enter_context(needed(servers.running(make)))

        yield start


@pytest.fixture
def new_nginx() -> Iterator[NewNginx]:
    """`new_nginx(port, read_timeout)` starts a proxy in front of what listens there."""
    with ExitStack() as stack:

        def start(backend_port: int, read_timeout: int) -> servers.Nginx:
            def make(directory: Path) -> servers.Nginx:
                return servers.Nginx(directory, backend_port, read_timeout)

            return stack.enter_context(needed(servers.running(make)))

        yield start


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with migrated_template(tmp_path_factory.mktemp("template")) as template:
        yield template


@pytest.fixture
def live_database(migrated: str, tmp_path: Path) -> Iterator[Environment]:
    """The environment that gives processes a migrated, empty database of their own."""
    var = tmp_path / "var"
    var.mkdir()
    with copy_of(migrated, var) as url:
        yield environment(url, var)


@pytest.fixture
def spawn(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Spawn]:
    """`spawn(["relay"], live_database)` starts a `manage.py` that ends with the test."""
    with spawning(request.node, tmp_path) as start:
        yield start


@contextmanager
def spawning(node: pytest.Item | pytest.Collector, directory: Path) -> Iterator[Spawn]:
    """What is started ends with the block; what it said is told with what fails in the node."""
    running: list[Spawned] = node.stash.setdefault(SPAWNED, [])

    def start(arguments: list[str], env: Environment) -> Spawned:
        log = directory / f"{len(running)}-{arguments[0]}.log"
        running.append(Spawned.start(arguments, env, log))
        return running[-1]

    yield start
    for spawned in reversed(running):
        spawned.close()


@pytest.fixture
def faketime() -> str:
    """A library that is loaded before all others, and sets the clock of its process wrong."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        skip_or_fail(servers.MissingError("no libfaketime found; apt-get install faketime"))
    return str(found[0])


@pytest.fixture
def new_browser(tmp_path: Path) -> Iterator[Callable[[], Chrome]]:
    """Each call opens a browser that shares no session with the others."""
    with ExitStack() as stack:
        opened: list[Chrome] = []

        def open_one() -> Chrome:
            profile = tmp_path / f"browser-{len(opened)}"
            opened.append(stack.enter_context(needed(chromium(profile))))
            return opened[-1]

        yield open_one


@pytest.fixture
def browser(new_browser: Callable[[], Chrome]) -> Chrome:
    return new_browser()


@pytest.fixture(params=["database", "kafka"])
def everywhere(
    request: pytest.FixtureRequest, live_database: Environment, spawn: Spawn, free_port: int
) -> Iterator[Everywhere]:
    """A site with either log, and the test in its database."""
    on_kafka = kafka_of(request) if request.param == "kafka" else {}
    env = live_database | LOCAL_RECEIVERS | on_kafka
    with receiver() as server, database_of(env):
        site = Everywhere(env, free_port, spawn, server, on_kafka)
        site.start()
        yield site


@pytest.fixture(scope="module")
def site_of_module(
    request: pytest.FixtureRequest, migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Everywhere]:
    """With Kafka where there is a broker; SITE of the module adds to its environment."""
    var = tmp_path_factory.mktemp("var")
    try:
        on_kafka = kafka_of(request)
    except pytest.skip.Exception:
        on_kafka = {}
    with (
        copy_of(migrated, var) as url,
        receiver() as server,
        spawning(request.node, var) as start,
    ):
        added = getattr(request.module, "SITE", {})
        env = environment(url, var) | LOCAL_RECEIVERS | on_kafka | added
        site = Everywhere(env, servers.free_port(), start, server, on_kafka)
        site.start()
        yield site


@pytest.fixture
def site(site_of_module: Everywhere) -> Iterator[Everywhere]:
    """One for all tests of a module, each of which leaves what it made, and is in its database."""
    with database_of(site_of_module.env):
        yield site_of_module


LOCAL_RECEIVERS = {"WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}


def kafka_of(request: pytest.FixtureRequest) -> Environment:
    """A broker, and topics that nobody else has."""
    broker: servers.Kafka = request.getfixturevalue("kafka")
    return {
        "KAFKA_BOOTSTRAP_SERVERS": broker.url,
        "KAFKA_TOPIC_PREFIX": f"{uuid4().hex[:8]}-",
    }
