from datetime import timedelta

import pytest
from django.test import override_settings
from django.utils import timezone
from django_q.models import OrmQ, Schedule
from django_q.tasks import async_task

from jobs.broker import RedisBroker
from jobs.models import Run, RunStatus
from tests.conftest import Spawn
from tests.live import database_of
from tests.processes import Environment
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def broker(redis_url: str):
    with override_settings(REDIS_URL=redis_url):
        broker = RedisBroker(list_key="test")
        broker.purge_queue()
        yield broker
        broker.purge_queue()
        broker.redis.close()


def take_all(broker: RedisBroker) -> int:
    count = 0
    while tasks := broker.dequeue():
        for ack, _ in tasks:
            count += 1
            if ack:
                broker.acknowledge(ack)
    return count


def away(broker: RedisBroker, port: int) -> None:
    broker.redis.close()
    broker.__dict__.pop("redis")
    with override_settings(REDIS_URL=f"redis://127.0.0.1:{port}"):
        broker.redis  # noqa: B018 (made here, with this address)


def test_tasks_wait_in_redis(broker: RedisBroker) -> None:
    async_task("math.sqrt", 4, broker=broker)
    assert not OrmQ.objects.exists()
    assert broker.queue_size() == 1
    assert take_all(broker) == 1
    assert broker.queue_size() == 0


def test_without_redis_they_wait_in_the_database(broker: RedisBroker, free_port: int) -> None:
    away(broker, free_port)
    async_task("math.sqrt", 4, broker=broker)
    assert OrmQ.objects.count() == broker.queue_size() == 1
    assert take_all(broker) == 1
    assert not OrmQ.objects.exists()


def test_what_waits_in_the_database_is_not_forgotten_when_redis_is_back(
    broker: RedisBroker, free_port: int
) -> None:
    away(broker, free_port)
    async_task("math.sqrt", 4, broker=broker)
    broker.redis.close()
    broker.__dict__.pop("redis")
    async_task("math.sqrt", 9, broker=broker)
    assert broker.queue_size() == 2
    assert take_all(broker) == 2


@pytest.mark.processes
@pytest.mark.parametrize("queue", ["database", "redis", "redis that is away"])
def test_run_now_of_a_cluster_job_waits_for_no_tick(
    live_database: Environment, spawn: Spawn, redis_url: str, free_port: int, queue: str
) -> None:
    urls = {
        "database": "",
        "redis": redis_url,
        "redis that is away": f"redis://127.0.0.1:{free_port}",
    }
    env = live_database | {"REDIS_URL": urls[queue]}
    name = "RUN_RETENTION"

    def runs() -> int:
        with database_of(env):
            return Run.objects.filter(job=name, status=RunStatus.SUCCEEDED).count()

    with database_of(env):
        Schedule.objects.update(next_run=timezone.now() + timedelta(days=1))
    spawn(["qcluster"], env)
    asked = spawn(["shell", "-c", f"from jobs.execution import run_now; run_now('{name}')"], env)
    assert asked.wait() == 0
    wait_until(lambda: runs() == 1, message="the run that was asked for")
