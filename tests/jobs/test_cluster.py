"""Several nodes, real processes: killed, frozen, slow."""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from jobs.execution import pause, resume
from jobs.models import Job, Run, RunStatus
from outbox.models import Event
from tests.conftest import Spawn
from tests.live import database_of
from tests.processes import Environment, Spawned
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

SECONDS = int(os.environ.get("CHAOS_SECONDS", "15"))
OFF = ("TEST_EVERY_SECOND", "TEST_LONG", "TEST_FREEZE", "TEST_RAISES", "TEST_HANGS")


@dataclass
class Cluster:
    env: Environment
    spawn: Spawn
    nodes: list[Spawned] = field(default_factory=list)

    def start(self, number: int, *jobs: str) -> None:
        self.env |= {f"{name}_ENABLED": str(name in jobs).lower() for name in OFF}
        self.nodes = [self.node(n) for n in range(number)]

    def node(self, number: int) -> Spawned:
        return self.spawn(["relay"], self.env | {"NODE_NAME": f"node-{number}"})

    def kill_one(self, chance: random.Random) -> None:
        number = chance.randrange(len(self.nodes))
        self.nodes[number].send(signal.SIGKILL)
        self.nodes[number].wait()
        self.nodes[number] = self.node(number)

    def look(self, question: Callable[[], object]) -> Callable[[], object]:
        """The question, asked in the database of the nodes."""

        def asked() -> object:
            with database_of(self.env):
                return question()

        return asked


@pytest.fixture
def cluster(live_database: Environment, spawn: Spawn) -> Cluster:
    return Cluster(live_database | {"DJANGO_SETTINGS_MODULE": "tests.cluster.settings"}, spawn)


def runs_of(name: str) -> list[Run]:
    return list(Run.objects.filter(job=name).order_by("slot"))


def succeeded(name: str) -> int:
    return Run.objects.filter(job=name, status=RunStatus.SUCCEEDED).count()


def test_each_slot_runs_once_or_is_recorded_whatever_is_killed(cluster: Cluster) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    name = "TEST_EVERY_SECOND"
    cluster.start(3, name)
    wait_until(cluster.look(lambda: succeeded(name)), message="the first run")
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        cluster.kill_one(chance)
        time.sleep(chance.random() * 1.5)
    with database_of(cluster.env):
        before = succeeded(name)
    wait_until(cluster.look(lambda: succeeded(name) > before), message="a run after the kills")
    for node in cluster.nodes:
        node.close()
    with database_of(cluster.env):
        runs = runs_of(name)
        written = list(Event.objects.filter(type="test.second").values_list("key", flat=True))
    slots = [run.slot for run in runs]
    assert slots == [slots[0] + timedelta(seconds=n) for n in range(len(slots))]
    assert len(written) == len(set(written))
    done = {run.slot.isoformat() for run in runs if run.status == RunStatus.SUCCEEDED}
    assert done <= set(written)
    assert all(run.reason for run in runs if run.status in (RunStatus.MISSED, RunStatus.LOST))
    ran = sorted((run for run in runs if run.started_at), key=lambda run: run.token)
    for earlier, later in pairwise(ran):
        assert earlier.finished_at
        assert later.started_at
        assert earlier.finished_at <= later.started_at


def test_the_job_of_a_killed_holder_runs_again_when_its_lease_is_over(cluster: Cluster) -> None:
    name = "TEST_FREEZE"
    cluster.start(2, name)
    begun = Path(cluster.env["VAR_DIR"]) / "begun"
    wait_until(lambda: begun.exists() and begun.read_text(), message="a run has begun")
    os.kill(int(begun.read_text()), signal.SIGKILL)
    wait_until(cluster.look(lambda: succeeded(name)), message="another node runs it")
    with database_of(cluster.env):
        lost, *later = sorted(
            (run for run in runs_of(name) if run.started_at), key=lambda run: run.token
        )
    assert lost.status == RunStatus.LOST
    assert lost.started_at
    assert later[0].started_at
    assert later[0].node != lost.node
    # 2 s of lease, of which the holder may have renewed some before it was killed.
    assert later[0].started_at - lost.started_at < timedelta(seconds=10)


def test_a_holder_that_was_frozen_past_its_lease_cannot_write(cluster: Cluster) -> None:
    name = "TEST_FREEZE"
    cluster.start(2, name)
    begun = Path(cluster.env["VAR_DIR"]) / "begun"
    wait_until(lambda: begun.exists() and begun.read_text(), message="a run has begun")
    frozen = int(begun.read_text())
    os.kill(frozen, signal.SIGSTOP)
    wait_until(cluster.look(lambda: succeeded(name)), message="another node takes over")
    (begun.parent / "go").touch()
    os.kill(frozen, signal.SIGCONT)
    holder = next(node for node in cluster.nodes if node.pid == frozen)
    wait_until(lambda: "was taken over" in holder.output(), message="it notices")
    with database_of(cluster.env):
        first = min((run for run in runs_of(name) if run.started_at), key=lambda run: run.token)
        tokens = {event.data["token"] for event in Event.objects.filter(type="test.freeze")}
    assert first.status == RunStatus.LOST
    assert first.token not in tokens


def test_a_job_longer_than_its_lease_keeps_it(cluster: Cluster) -> None:
    name = "TEST_LONG"
    cluster.start(2, name)
    wait_until(cluster.look(lambda: succeeded(name)), message="the long run ends")
    with database_of(cluster.env):
        runs = runs_of(name)
    assert [run.status for run in runs if run.status == RunStatus.LOST] == []
    assert sum(run.status == RunStatus.RUNNING for run in runs) <= 1


def test_a_job_that_raises_and_one_that_hangs_keep_nobody_else(cluster: Cluster) -> None:
    cluster.start(1, "TEST_EVERY_SECOND", "TEST_RAISES", "TEST_HANGS")
    wait_until(cluster.look(lambda: succeeded("TEST_EVERY_SECOND") > 2))
    with database_of(cluster.env):
        failed = Run.objects.filter(job="TEST_RAISES", status=RunStatus.FAILED).first()
        hanging = Run.objects.get(job="TEST_HANGS")
    assert failed
    assert failed.error == "ValueError: a bug"
    assert "Traceback" in failed.traceback
    assert hanging.status == RunStatus.RUNNING


def test_a_pause_holds_on_every_node(cluster: Cluster) -> None:
    name = "TEST_EVERY_SECOND"
    cluster.start(2, name)
    wait_until(cluster.look(lambda: succeeded(name)))
    with database_of(cluster.env):
        pause(name)
        paused_at = Job.objects.get(name=name).paused_at
        assert paused_at
    time.sleep(2.5)  # two slots pass
    with database_of(cluster.env):
        assert not Run.objects.filter(job=name, started_at__gt=paused_at).exists()
        resume(name)
    again = Run.objects.filter(job=name, started_at__gt=paused_at)
    wait_until(cluster.look(again.exists), message="it runs again")
