"""What every registry does; then what is Redis's own. Two registries are two processes."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection
from django.utils import timezone
from redis import Redis, RedisError

from connections.models import Connection, Node
from connections.redis import RedisRegistry
from connections.registry import DatabaseRegistry, Registry, get_registry
from connections.services import CLOSE, close_idle, sweep_stale
from jobs import redis as redis_client
from outbox.models import Event
from tests import servers

pytestmark = pytest.mark.django_db

Process = Callable[[str], Any]


@pytest.fixture
def user() -> User:
    return User.objects.create_user("reader")


@pytest.fixture
def redis(redis_url: str, settings: Any) -> Iterator[Redis]:
    settings.REDIS_URL = redis_url
    with Redis.from_url(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def new_redis_registry(redis: Redis) -> Iterator[Process]:
    started: list[RedisRegistry] = []

    def start(node: str) -> RedisRegistry:
        started.append(RedisRegistry())
        started[-1].start(node)
        return started[-1]

    yield start
    for registry in started:
        registry.redis.close()


@pytest.fixture(params=["database", "redis"])
def process(request: pytest.FixtureRequest, settings: Any) -> Iterator[Process]:
    """`process("a")` is the registry of a process that starts under this name."""

    def start(node: str) -> DatabaseRegistry:
        registry = DatabaseRegistry()
        registry.start(node)
        return registry

    if request.param == "redis":
        start = request.getfixturevalue("new_redis_registry")
        settings.SSE_REGISTRY_BACKEND = "connections.redis.RedisRegistry"
    get_registry.cache_clear()  # that of the job that sweeps
    yield start
    get_registry.cache_clear()


def connect(registry: Registry, user: User, node: str = "a") -> tuple[Connection, int]:
    connection = Connection(user_id=user.pk, node=node, channels=["all"])
    (others,) = registry.register([connection])
    return connection, others


def count(registry: Registry, user: User, node: str = "a") -> int:
    return connect(registry, user, node)[1]


def silent_for(seconds: float, *nodes: str) -> None:
    """So long ago these nodes had their last heartbeat, as the rows say."""
    then = timezone.now() - timedelta(seconds=seconds)
    Node.objects.filter(name__in=nodes).update(last_heartbeat=then)
    Connection.objects.filter(node__in=nodes).update(last_heartbeat=then)


# Every registry


def test_registering_counts_the_others_of_the_person_on_all_nodes(
    process: Process, user: User
) -> None:
    a, b = process("a"), process("b")
    count(a, User.objects.create_user("other"))
    assert [count(a, user, "a"), count(b, user, "b"), count(a, user, "a")] == [0, 1, 2]


def test_those_who_come_together_count_as_if_one_after_the_other(
    process: Process, user: User
) -> None:
    a, other = process("a"), User.objects.create_user("other")
    count(a, user)
    people = [user, other, user, user, other]
    connections = [Connection(user_id=who.pk, node="a", channels=["all"]) for who in people]
    assert a.register(connections) == [1, 0, 2, 3, 1]


def test_what_ended_is_not_counted_and_stays_on_record(process: Process, user: User) -> None:
    a = process("a")
    ended, _ = connect(a, user)
    a.unregister({ended.pk: "client disconnected"})
    assert count(a, user) == 0
    row = Connection.objects.get(pk=ended.pk)
    assert (row.status, row.reason, row.channels) == ("INACTIVE", "client disconnected", ["all"])
    assert row.disconnected_at


def test_a_node_that_restarts_ends_what_it_held_before(process: Process, user: User) -> None:
    a, b = process("a"), process("b")
    old, _ = connect(a, user, "a")
    other, _ = connect(b, user, "b")
    a.flush()
    b.flush()
    again = process("a")
    assert list(Connection.objects.active()) == [other]
    assert Connection.objects.get(pk=old.pk).reason == "node restarted"
    assert count(again, user) == 1


def test_a_node_that_stops_holds_nothing(process: Process, user: User) -> None:
    a, b = process("a"), process("b")
    connect(a, user, "a")
    a.flush()
    a.stop("a")
    assert count(b, user, "b") == 0
    assert Connection.objects.get(node="a").reason == "server shutdown"
    assert Node.objects.get(name="a").stopped_at


def test_the_streams_of_a_dead_node_are_swept_without_a_word(process: Process, user: User) -> None:
    a = process("a")
    connect(a, user)
    a.flush()
    silent_for(61, "a")
    assert [sweep_stale(), sweep_stale()] == [1, 0]
    assert Connection.objects.get().reason == "node died"
    assert not Event.objects.filter(type=CLOSE).exists()


def test_however_many_are_closed_in_batches(
    process: Process, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connections.services.CHUNK", 2)
    a = process("a")
    held = [connect(a, user)[0] for _ in range(5)]
    a.flush()
    Connection.objects.update(last_activity=timezone.now() - timedelta(minutes=31))
    assert [close_idle(), close_idle()] == [5, 0]
    told = Event.objects.filter(type=CLOSE).values_list("data__connection_id", flat=True)
    assert sorted(told) == sorted(str(connection.pk) for connection in held)
    for _ in range(5):
        connect(a, user)
    a.flush()
    silent_for(61, "a")
    assert [sweep_stale(), sweep_stale()] == [5, 0]
    assert not Connection.objects.active().exists()


def test_streams_of_a_node_with_heartbeats_are_left_alone(process: Process, user: User) -> None:
    a = process("a")
    connection, _ = connect(a, user)
    a.flush()
    silent_for(61, "a")
    a.heartbeat("a", [connection.pk])
    assert sweep_stale() == 0
    assert Connection.objects.active().exists()


def test_what_no_process_holds_is_closed_though_its_node_lives(
    process: Process, user: User
) -> None:
    a = process("a")
    (held, _), (leaked, _) = connect(a, user), connect(a, user)
    a.flush()
    Connection.objects.update(last_activity=timezone.now() - timedelta(minutes=31))
    a.touch([held.pk])
    a.heartbeat("a", [held.pk])
    assert sweep_stale() == 0
    assert close_idle() == 1
    assert list(Connection.objects.active()) == [held]
    leaked.refresh_from_db()
    assert leaked.reason == "idle"


def test_a_node_that_was_taken_for_dead_puts_its_open_streams_right(
    process: Process, user: User
) -> None:
    a = process("a")
    (still_open, _), (_ended, _) = connect(a, user), connect(a, user)
    a.flush()
    silent_for(61, "a")
    sweep_stale()
    a.heartbeat("a", [still_open.pk])
    assert list(Connection.objects.active()) == [still_open]
    assert Node.objects.get(name="a").stopped_at is None


def test_a_stream_is_found_by_its_person_alone(process: Process, user: User) -> None:
    a, b = process("a"), process("b")
    connection, _ = connect(a, user)
    stranger = User.objects.create_user("stranger")
    assert b.holds(user.pk, connection.pk)
    assert not b.holds(stranger.pk, connection.pk)
    a.unregister({connection.pk: "gone"})
    assert not b.holds(user.pk, connection.pk)


def test_a_heartbeat_costs_the_database_as_much_with_many_streams(
    process: Process, user: User, django_assert_max_num_queries: Any
) -> None:
    a = process("a")
    for _ in range(20):
        connect(a, user)
    a.flush()
    with django_assert_max_num_queries(2):
        a.heartbeat("a", [])


def test_ended_connections_are_unregistered_in_one_statement_a_reason(
    process: Process, user: User, django_assert_num_queries: Any
) -> None:
    a = process("a")
    made = [connect(a, user)[0] for _ in range(20)]
    a.flush()
    with django_assert_num_queries(1):
        a.unregister({connection.pk: "client disconnected" for connection in made})
    assert not Connection.objects.active().exists()


# The database


def test_a_row_without_heartbeats_does_not_count(user: User) -> None:
    a = DatabaseRegistry()
    a.start("a")
    connect(a, user)
    silent_for(61, "a")
    assert count(a, user) == 0


# Redis


def test_connects_cost_the_database_one_statement_for_all(
    new_redis_registry: Process, user: User, django_assert_num_queries: Any
) -> None:
    a = new_redis_registry("a")
    with django_assert_num_queries(0):
        for _ in range(20):
            connect(a, user)
    with django_assert_num_queries(1):
        a.flush()
    assert Connection.objects.active().count() == 20


def commands(redis: Redis) -> int:
    return int(redis.info("stats")["total_commands_processed"])


def test_a_heartbeat_of_ten_thousand_streams_is_a_handful_of_commands(
    new_redis_registry: Process, redis: Redis
) -> None:
    a = new_redis_registry("a")
    for pk in range(10_000):
        a.held[Connection(user_id=pk).pk] = pk
    redis.delete("sse:streams:a")
    a.heartbeat("a", [])
    assert redis.zcard("sse:streams:a") == 10_001
    before = commands(redis)
    a.heartbeat("a", [])
    assert commands(redis) - before <= 6  # MULTI, ZADD, PEXPIRE, EXEC, and what counts them


def test_what_redis_forgot_it_is_told_again(
    new_redis_registry: Process, user: User, redis: Redis
) -> None:
    a, b = new_redis_registry("a"), new_redis_registry("b")
    for _ in range(3):
        connect(a, user, "a")
    redis.flushall()
    assert count(a, user, "a") == 3  # its own it knows by itself
    b.heartbeat("b", [])
    a.heartbeat("a", [])
    assert count(b, user, "b") == 4


def test_who_died_without_a_word_is_forgotten(
    new_redis_registry: Process, user: User, redis: Redis, settings: Any
) -> None:
    a, b = new_redis_registry("a"), new_redis_registry("b")
    connect(a, user, "a")
    ttl = redis.pttl("sse:streams:a")
    assert 0 < ttl <= settings.SSE_CLIENT_TIMEOUT * 1_000
    redis.pexpire("sse:streams:a", 0)  # as time does
    assert count(b, user, "b") == 0
    assert redis.smembers("sse:nodes") == {b"b"}
    a.heartbeat("a", [])  # it was only late
    assert count(b, user, "b") == 2


def test_a_set_that_a_connect_makes_does_not_outlive_its_node(
    new_redis_registry: Process, user: User, redis: Redis
) -> None:
    a = new_redis_registry("a")
    redis.flushall()
    connect(a, user)
    assert redis.pttl("sse:streams:a") > 0


def test_a_person_who_was_deleted_meanwhile_keeps_no_others_off_the_record(
    new_redis_registry: Process, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = new_redis_registry("a")
    gone, _ = connect(a, User(pk=user.pk + 1))
    kept, _ = connect(a, user)

    def refuse(row: Any, **_: Any) -> None:
        # The tests' transaction never comes to the point where the database would refuse.
        if row.user_id == gone.user_id:
            raise ValueError("no such person")
        Connection.objects.bulk_create([row])

    def refuse_all(rows: list[Connection], **_: Any) -> None:
        raise ValueError("no such person")

    with monkeypatch.context() as patched:
        patched.setattr(Connection, "save", refuse)
        queryset = type(Connection.objects.all())
        create = queryset.bulk_create
        patched.setattr(
            queryset,
            "bulk_create",
            lambda self, rows, **kw: refuse_all(rows) if len(rows) > 1 else create(self, rows),
        )
        a.flush()
    assert list(Connection.objects.all()) == [kept]
    assert a.unwritten == []


def test_rows_wait_for_a_database_that_is_away(
    new_redis_registry: Process, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = new_redis_registry("a")
    ended, _ = connect(a, user)

    def fail(*_: Any, **__: Any) -> None:
        raise OperationalError("away")

    with monkeypatch.context() as patched:
        patched.setattr(type(Connection.objects.all()), "bulk_create", fail)
        with pytest.raises(OperationalError):
            a.unregister({ended.pk: "gone"})
    a.unregister({ended.pk: "gone"})  # as the hub does with the next batch
    assert Connection.objects.get().reason == "gone"
    assert count(a, user) == 0


def test_it_needs_an_address(settings: Any) -> None:
    settings.REDIS_URL = ""
    with pytest.raises(ImproperlyConfigured):
        RedisRegistry()


# Redis away


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is asked again at once."""
    monkeypatch.setattr(redis_client, "PAUSE", 0)
    redis_client._breakers.clear()


@pytest.mark.usefixtures("impatient")
def test_without_redis_each_process_keeps_the_limit_and_tells_redis_later(
    redis_server: servers.Redis, user: User, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = redis_server.start()
    a, b = RedisRegistry(), RedisRegistry()
    a.start("a")
    b.start("b")
    ended, _ = connect(a, user, "a")
    redis_server.stop()
    a.unregister({ended.pk: "gone"})
    assert [count(a, user, "a") for _ in range(3)] == [0, 1, 2]
    assert count(b, user, "b") == 0
    a.heartbeat("a", [])
    assert Node.objects.get(name="a").stopped_at is None
    assert sum("in this process only" in line for line in caplog.messages) == 2  # a, b
    assert redis_server.start() == settings.REDIS_URL
    for registry in (a, b):
        registry.heartbeat(registry.node, [])
    assert count(b, user, "b") == 4
    for registry in (a, b):
        registry.flush()
        registry.redis.close()
    assert Connection.objects.active().count() == 5


def test_what_ended_while_redis_was_not_told_is_not_counted_later(
    new_redis_registry: Process, user: User, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = new_redis_registry("a"), new_redis_registry("b")
    ended, _ = connect(a, user, "a")

    def fail(*_: Any) -> None:
        raise RedisError("away")

    with monkeypatch.context() as patched:
        patched.setattr(a.redis, "zrem", fail)
        a.unregister({ended.pk: "gone"})
    assert redis.zcard("sse:streams:a") == 2  # it still knows
    a.heartbeat("a", [])
    assert count(b, user, "b") == 0


def test_a_process_of_the_version_before_can_still_write_its_row(user: User) -> None:
    """It knows no `api_key`, and runs on while the new version is rolled out."""
    fields = [f for f in Connection._meta.concrete_fields if f.name != "api_key"]
    row = Connection(user=user, node="a", connected_at=timezone.now())
    row.last_heartbeat = row.last_activity = row.connected_at
    values = [f.get_db_prep_save(getattr(row, f.attname), connection) for f in fields]
    columns, places = ", ".join(str(f.column) for f in fields), ", ".join(["%s"] * len(fields))
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO connections_connection ({columns}) VALUES ({places})", values)
    assert Connection.objects.get().api_key == ""
