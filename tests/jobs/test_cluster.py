"""Several nodes, real processes: killed, frozen, slow, with a wrong clock."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import cycle, pairwise
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from django_q.models import Schedule
from django_q.tasks import async_task

from broadcasts.models import Address, Audience, Broadcast, Receipt, Status
from broadcasts.services import send
from connections.models import Connection, ConnectionStatus
from jobs import clock
from jobs.execution import pause, resume
from jobs.models import Job, Run, RunStatus
from jobs.schedules import TICK
from operations.audit.models import AuditEntry
from outbox.models import Event
from tests.cluster.settings import Q_CLUSTER
from tests.conftest import Spawn
from tests.factories import ActiveFactory, DraftFactory, GroupFactory, UserFactory
from tests.live import database_of
from tests.processes import Environment, Spawned, off_by
from tests.waiting import PATIENCE, POLL, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

GENEROUS = timedelta(seconds=PATIENCE)  # a benchmark says how late it really is
SENT = "broadcast.activated"
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

    def wait_for(self, started: str) -> None:
        """Until each node has begun with this job or worker."""
        for node in self.nodes:
            wait_until(lambda node=node: f"{started} started" in node.output())  # type: ignore[misc]

    def node(self, number: int, **more: str) -> Spawned:
        return self.spawn(["relay"], self.env | {"NODE_NAME": f"node-{number}"} | more)

    def kill_one(self, chance: random.Random) -> None:
        number = chance.randrange(len(self.nodes))
        self.nodes[number].send(signal.SIGKILL)
        self.nodes[number].wait()
        self.nodes[number] = self.node(number)

    def freeze(self, pid: int, job: str) -> None:
        """Between two transactions: a lock that it held would freeze all others with it."""
        os.kill(pid, signal.SIGSTOP)
        while not self.look(lambda: is_free(job))():
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.01)
            os.kill(pid, signal.SIGSTOP)

    def look(self, question: Callable[[], object]) -> Callable[[], object]:
        """The question, asked in the database of the nodes."""

        def asked() -> object:
            with database_of(self.env):
                return question()

        return asked


@pytest.fixture
def cluster(live_database: Environment, spawn: Spawn) -> Cluster:
    return Cluster(live_database | {"DJANGO_SETTINGS_MODULE": "tests.cluster.settings"}, spawn)


def is_free(job: str) -> bool:
    """Whether nobody is writing the row (PostgreSQL) or anything (SQLite)."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 200")
    try:
        with transaction.atomic():
            nowait = connection.features.has_select_for_update_nowait
            return Job.objects.select_for_update(nowait=nowait).get(name=job) is not None
    except OperationalError:
        return False


def runs_of(name: str) -> list[Run]:
    return list(Run.objects.filter(job=name).order_by("slot"))


def succeeded(name: str) -> int:
    return Run.objects.filter(job=name, status=RunStatus.SUCCEEDED).count()


def assert_nothing_twice(runs: list[Run], written: list[str]) -> None:
    """Each slot wrote once at most, each that succeeded did, and no two ran at once."""
    assert len(written) == len(set(written))
    done = {run.slot.isoformat() for run in runs if run.status == RunStatus.SUCCEEDED}
    assert done <= set(written)
    ran = sorted((run for run in runs if run.started_at), key=lambda run: run.token)
    for earlier, later in pairwise(ran):
        assert earlier.finished_at
        assert later.started_at
        assert earlier.finished_at <= later.started_at


def test_each_slot_runs_once_or_is_recorded_whatever_is_killed(cluster: Cluster) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    name = "TEST_EVERY_SECOND"
    cluster.start(3, name)
    wait_until(cluster.look(lambda: succeeded(name)), message="the first run")
    end = time.monotonic() + SECONDS
    kills = 0
    while time.monotonic() < end:
        cluster.kill_one(chance)
        kills += 1
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
    counts = Counter(run.status.lower() for run in runs)
    print(f"{kills} kills, {len(slots)} slots:", ", ".join(f"{n} {s}" for s, n in counts.items()))
    assert slots == [slots[0] + timedelta(seconds=n) for n in range(len(slots))]
    assert_nothing_twice(runs, written)
    assert all(run.reason for run in runs if run.status in (RunStatus.MISSED, RunStatus.LOST))


def test_the_job_of_a_killed_holder_runs_again_when_its_lease_is_over(cluster: Cluster) -> None:
    name = "TEST_FREEZE"
    cluster.start(2, name)
    begun = Path(cluster.env["VAR_DIR"]) / "begun"
    wait_until(lambda: begun.exists() and begun.read_text(), message="a run has begun")
    cluster.wait_for(name)
    os.kill(int(begun.read_text()), signal.SIGKILL)
    killed = time.monotonic()
    wait_until(cluster.look(lambda: succeeded(name)), message="another node runs it")
    assert time.monotonic() - killed < 30  # its lease was of 4 s
    with database_of(cluster.env):
        lost, *later = sorted(
            (run for run in runs_of(name) if run.started_at), key=lambda run: run.token
        )
    assert lost.status == RunStatus.LOST
    assert later[0].node != lost.node


def test_a_holder_that_was_frozen_past_its_lease_cannot_write(cluster: Cluster) -> None:
    name = "TEST_FREEZE"
    cluster.start(2, name)
    begun = Path(cluster.env["VAR_DIR"]) / "begun"
    wait_until(lambda: begun.exists() and begun.read_text(), message="a run has begun")
    frozen = int(begun.read_text())
    cluster.freeze(frozen, name)
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
    raised = Run.objects.filter(job="TEST_RAISES", status=RunStatus.FAILED)
    wait_until(cluster.look(lambda: raised.exists() and runs_of("TEST_HANGS")))
    with database_of(cluster.env):
        before = succeeded("TEST_EVERY_SECOND")
    wait_until(cluster.look(lambda: succeeded("TEST_EVERY_SECOND") > before + 2))
    with database_of(cluster.env):
        failed = raised.earliest("slot")
        (hanging,) = runs_of("TEST_HANGS")
    assert failed.error == "ValueError: a bug"
    assert "Traceback" in failed.traceback
    assert hanging.status == RunStatus.RUNNING


@pytest.mark.parametrize("minutes", ["+5m", "-5m"])
def test_a_clock_that_is_wrong_runs_nothing_twice(
    cluster: Cluster, faketime: str, minutes: str
) -> None:
    name = "TEST_EVERY_SECOND"
    cluster.start(0, name)
    wrong = off_by(minutes, faketime)
    cluster.nodes = [cluster.node(0, **wrong)]
    wait_until(cluster.look(lambda: succeeded(name)), message="the node whose clock is wrong runs")
    cluster.nodes += [cluster.node(1), cluster.node(2)]
    cluster.wait_for(name)
    with database_of(cluster.env):
        before = succeeded(name)
    wait_until(cluster.look(lambda: succeeded(name) > before + 5), message="it goes on")
    for node in cluster.nodes:
        node.close()
    with database_of(cluster.env):
        runs = runs_of(name)
        written = list(Event.objects.filter(type="test.second").values_list("key", flat=True))
        now = clock.now()
    assert_nothing_twice(runs, written)
    if connection.vendor == "sqlite":
        return  # it has no clock but that of each process: their slots lie 5 minutes apart
    slots = [run.slot for run in runs]
    assert slots == [slots[0] + timedelta(seconds=n) for n in range(len(slots))]
    assert now - timedelta(minutes=4) < slots[0] < slots[-1] < now
    assert {run.status for run in runs} <= {RunStatus.SUCCEEDED, RunStatus.MISSED}


@pytest.mark.parametrize("minutes", ["+5m", "-5m"])
def test_a_clock_that_is_wrong_does_nothing_early_or_late(
    cluster: Cluster, faketime: str, minutes: str
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has no clock but that of each process")
    wrong = off_by(minutes, faketime)
    cluster.start(0)
    relay = cluster.node(0, **wrong)
    wait_until(lambda: "BROADCAST_CLOCK started" in relay.output())
    with database_of(cluster.env):
        reader = UserFactory.create()
        stream = Connection.objects.create(user=reader, node="a")
        soon = timezone.now() + timedelta(minutes=4)  # less than the clock is wrong
        later = send(DraftFactory.create(), soon)
        ends_later = ActiveFactory.create(expires_at=soon)
        now = send(DraftFactory.create(), timezone.now() + timedelta(seconds=2))
        patient = {"SSE_CLIENT_TIMEOUT": "240"}
        sweep = cluster.spawn(
            ["run_job", "STALE_CONNECTION_CLEANUP"], cluster.env | wrong | patient
        )
        assert sweep.wait() == 0
        wait_until(lambda: Event.objects.published().filter(data__broadcast_id=now.pk, type=SENT))
        for row in (later, ends_later, now, stream):
            row.refresh_from_db()
        assert timezone.now() < soon, "the machine is too slow to tell"
    assert now.activated_at
    assert now.scheduled_at
    assert now.activated_at >= now.scheduled_at
    assert (later.status, ends_later.status) == (Status.SCHEDULED, Status.ACTIVE)
    assert stream.status == ConnectionStatus.ACTIVE


def test_a_thousand_that_are_due_at_once_are_sent_once_each_by_three_nodes(
    cluster: Cluster,
) -> None:
    cluster.start(3)
    cluster.wait_for("BROADCAST_CLOCK")
    with database_of(cluster.env):
        moment = schedule_mixed(1_000)
        active = Broadcast.objects.filter(status=Status.ACTIVE)
        wait_until(lambda: active.count() == 1_000, message="all are active")
        told = Counter(Event.objects.filter(type=SENT).values_list("key", flat=True))
        moments = list(active.values_list("activated_at", flat=True))
        addressed = Address.objects.values("broadcast_id").distinct().count()
        assert set(active.values_list("targeted", flat=True)) == {1}
        assert (addressed, Receipt.objects.count()) == (900, 100)
    assert len(told) == 1_000
    assert set(told.values()) == {1}
    late = [at - moment for at in moments if at]
    print(f"the last of 1,000 was activated {max(late).total_seconds() * 1000:.0f} ms late")
    assert min(late) >= timedelta()
    assert max(late) < GENEROUS


def schedule_mixed(count: int) -> datetime:
    """Broadcasts of all kinds for one reader, all at the moment that this returns."""
    reader, role = UserFactory.create(), GroupFactory.create()
    reader.groups.add(role)
    kinds = [(Audience.ROLE, [role.name]), (Audience.SELECTED, [str(reader.pk)])]
    kinds += [(Audience.ALL, [])] * 8
    moment = timezone.now() + timedelta(seconds=5)
    Broadcast.objects.bulk_create(
        Broadcast(
            title=f"Number {number}",
            content="*Text*",
            audience=audience,
            targets=targets,
            status=Status.SCHEDULED,
            scheduled_at=moment,
        )
        for number, (audience, targets) in zip(range(count), cycle(kinds), strict=False)
    )
    return moment


def test_a_job_that_hangs_in_qcluster_is_ended_and_keeps_nobody_else(cluster: Cluster) -> None:
    hangs, other = "TEST_FREEZE", "TEST_EVERY_SECOND"
    cluster.start(0, hangs, other)
    # Ticks are signed; these come from here and not from its schedules, which take half a minute.
    cluster.spawn(["qcluster"], cluster.env | {"SECRET_KEY": settings.SECRET_KEY})

    def tick_both() -> int:
        async_task(TICK, hangs)
        async_task(TICK, other)
        time.sleep(0.5)
        return succeeded(hangs)

    wait_until(cluster.look(tick_both), message="it was ended, and ran again")
    with database_of(cluster.env):
        ran = sorted((run for run in runs_of(hangs) if run.started_at), key=lambda run: run.token)
        ended = ran[0]
        assert ended.started_at
        assert ended.finished_at
        beside = Run.objects.filter(
            job=other,
            status=RunStatus.SUCCEEDED,
            started_at__range=(ended.started_at, ended.finished_at),
        )
        assert beside.count() >= 2
        tokens = {event.data["token"] for event in Event.objects.filter(type="test.freeze")}
    assert ended.status == RunStatus.FAILED
    assert ended.reason == f"Task exceeded maximum timeout value ({Q_CLUSTER['timeout']} seconds)"
    assert ended.finished_at - ended.started_at > timedelta(seconds=Q_CLUSTER["timeout"] - 1)
    assert ran[1].node != ended.node
    assert ended.token not in tokens


def test_a_qcluster_whose_worker_was_killed_ends_instead_of_waiting_for_ever(
    cluster: Cluster,
) -> None:
    cluster.start(0)
    qcluster = cluster.spawn(["qcluster"], cluster.env | {"QCLUSTER_WORKERS": "1"})
    worker, _pusher, _monitor = wait_until(lambda: children_of_sentinel(qcluster.pid))
    wait_until(lambda: sleeps(worker))  # for a task: it holds the lock of the queue
    os.kill(worker, signal.SIGKILL)
    qcluster.wait()
    assert "was killed" in qcluster.output()


def children_of_sentinel(qcluster: int) -> list[int]:
    """Once all are there. Its other children are of a moment."""
    with suppress(FileNotFoundError):
        return next((c for pid in children(qcluster) if len(c := children(pid)) == 3), [])
    return []


def sleeps(pid: int) -> bool:
    """At each of twenty looks: not only for a moment."""
    for _ in range(20):
        if state_of(pid) != "S":
            return False
        time.sleep(POLL)
    return True


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def children(pid: int) -> list[int]:
    """In the order in which they were started."""
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_pause_holds_on_every_node(cluster: Cluster) -> None:
    name = "TEST_EVERY_SECOND"
    cluster.start(2, name)
    wait_until(cluster.look(lambda: succeeded(name)))
    started = Run.objects.filter(job=name, started_at__isnull=False)
    with database_of(cluster.env):
        pause(name)  # it may have waited for a node that was claiming a slot
        before = started.count()
    time.sleep(2.5)  # two slots pass
    with database_of(cluster.env):
        assert started.count() == before
        resume(name)
    wait_until(cluster.look(lambda: started.count() > before), message="it runs again")


def test_qcluster_outlives_a_database_that_cuts_its_connections(cluster: Cluster) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has no connections that can be cut")
    qcluster = cluster.spawn(["qcluster"], cluster.env)

    def looked() -> bool:
        """Whether its scheduler, which looks twice a minute, has moved the schedule on."""
        with database_of(cluster.env):
            later = Schedule.objects.filter(name="RUN_RETENTION", next_run__gt=timezone.now())
            return bool(later.exists())

    for _ in range(2):
        with database_of(cluster.env):
            Schedule.objects.update(next_run=timezone.now() - timedelta(minutes=1))
        wait_until(looked, message="the scheduler looks")
        with database_of(cluster.env), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    assert qcluster.process.poll() is None


TOLD_WHILE_IT_FORKS = """
import os, signal
from multiprocessing.context import ForkProcess
from django.core.management import call_command

fork, me = ForkProcess._Popen, os.getpid()

def fork_and_tell(process):
    forked = fork(process)
    if os.getpid() == me:
        os.kill(me, signal.SIGTERM)
    return forked

ForkProcess._Popen = staticmethod(fork_and_tell)
call_command("qcluster")
"""


def test_what_qcluster_runs_is_not_the_doing_of_who_started_it(cluster: Cluster) -> None:
    with database_of(cluster.env):
        async_task("django.contrib.auth.models.Group.objects.create", name="readers")
    cluster.spawn(
        ["qcluster", "--run-once"], cluster.env | {"SECRET_KEY": settings.SECRET_KEY}
    ).wait()
    with database_of(cluster.env):
        assert Group.objects.filter(name="readers").exists()
        assert not AuditEntry.objects.filter(subject="readers").exists()


def test_a_qcluster_that_is_told_to_stop_while_it_starts_stops(
    live_database: Environment, spawn: Spawn
) -> None:
    starting = spawn(["shell", "--verbosity=0", "-c", TOLD_WHILE_IT_FORKS], live_database)
    assert starting.wait() == 0
