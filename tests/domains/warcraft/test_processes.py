"""Both jobs as processes run them: at once, killed, and with a shared budget."""

import signal
from datetime import timedelta

import pytest
from django.utils import timezone

from domains.warcraft.models import Budget, Character, Guild, Status
from jobs.execution import release
from jobs.models import Run, RunStatus
from outbox.models import Event
from tests.conftest import Spawn
from tests.domains.warcraft.battlenet import LATER, Server, World, always, hang
from tests.live import database_of
from tests.processes import Environment
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def env(live_database: Environment, server: Server) -> Environment:
    return live_database | {
        "BATTLENET_CLIENT_ID": "client",
        "BATTLENET_CLIENT_SECRET": "secret",
        "BATTLENET_TOKEN_URL": f"{server.url}/token",
        "BATTLENET_API_URL": server.url,
        "BATTLENET_TIMEOUT": "1",
    }


def follow(count: int) -> None:
    Character.objects.bulk_create(
        Character(name=f"N{n}", name_slug=f"n{n}", realm="R", realm_slug="r", region="us")
        for n in range(count)
    )


def test_two_runners_at_once_tell_of_each_character_once(
    env: Environment, spawn: Spawn, world: World
) -> None:
    world.everybody = True
    with database_of(env):
        follow(100)
    runners = [spawn(["run_job", "CHARACTER_SYNC"], env) for _ in range(2)]
    for runner in runners:
        runner.wait()
    with database_of(env):
        assert Character.objects.filter(status=Status.OK).count() == 100
        told = Event.objects.filter(type="warcraft.character.synced")
        assert told.count() == told.values("key").distinct().count() == 100
        assert Budget.objects.count() == 1


def test_who_joined_is_told_once_by_two_runners(
    env: Environment, spawn: Spawn, world: World
) -> None:
    path = world.guild()
    with database_of(env):
        Guild.objects.create(name="Knights of Dawn", realm="Area 52", region="us")
    assert spawn(["run_job", "GUILD_SYNC"], env).wait() == 0
    new = {"id": 7, "name": "Nela", "realm": {"slug": "area-52"}, "level": 12}
    world.roster(path, lambda members: members.append({"character": new, "rank": 9}), LATER)
    with database_of(env):
        Guild.objects.update(next_try_at=timezone.now() - timedelta(seconds=1))
    for runner in [spawn(["run_job", "GUILD_SYNC"], env) for _ in range(2)]:
        runner.wait()
    with database_of(env):
        assert Event.objects.filter(type="warcraft.guild.member.joined").count() == 1


def test_a_run_that_was_killed_goes_on_where_it_was(
    env: Environment, spawn: Spawn, world: World
) -> None:
    world.everybody = True
    world.instead("/profile/wow/character/r/n150", always(hang))
    with database_of(env):
        follow(160)
    first = spawn(["run_job", "CHARACTER_SYNC"], env | {"BATTLENET_TIMEOUT": "60"})
    with database_of(env):
        done = Character.objects.filter(status=Status.OK)
        wait_until(lambda: done.count() >= 100, message="a batch is written")
        first.send(signal.SIGKILL)
        first.wait()
        before = set(done.values_list("pk", flat=True))
    world.behaviours.clear()
    with database_of(env):
        Run.objects.filter(status=RunStatus.RUNNING).update(status=RunStatus.LOST)
        release("CHARACTER_SYNC")
    assert spawn(["run_job", "CHARACTER_SYNC"], env).wait() == 0
    with database_of(env):
        assert Character.objects.filter(status=Status.OK).count() == 160
        told = Event.objects.filter(type="warcraft.character.synced")
        assert told.count() == told.values("key").distinct().count() == 160
        assert before


def test_wrong_credentials_fail_the_run_with_one_line(
    env: Environment, spawn: Spawn, world: World
) -> None:
    with database_of(env):
        follow(3)
    runner = spawn(["run_job", "CHARACTER_SYNC"], env | {"BATTLENET_CLIENT_SECRET": "wrong"})
    assert runner.wait() == 1
    assert "Battle.net refuses the credentials (401)" in runner.output()
    with database_of(env):
        assert Run.objects.get(job="CHARACTER_SYNC").status == RunStatus.FAILED
        assert Character.objects.filter(status=Status.NEW).count() == 3
