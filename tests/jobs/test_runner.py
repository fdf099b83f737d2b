import os
import signal
import threading
from functools import partial

import pytest

from jobs import runner
from jobs.registry import workers
from jobs.runner import Runner, WorkerDied
from tests.conftest import Spawn
from tests.processes import Environment
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


class Counting:
    wakes_on = "outbox"

    def __init__(self) -> None:
        self.steps = 0
        self.stopped = False

    def step(self) -> float:
        self.steps += 1
        return 0.001

    def stop(self) -> None:
        self.stopped = True


class Failing(Counting):
    def step(self) -> float:
        super().step()
        raise ValueError("a bug")


class Exiting(Counting):
    def step(self) -> float:
        raise SystemExit("out of memory, say")


class Unstoppable(Counting):
    def stop(self) -> None:
        raise ValueError("a bug")


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "BACK_OFF", 0.001)
    monkeypatch.setattr("jobs.runner.signal.signal", lambda *_: None)
    for name in list(workers):
        monkeypatch.delitem(workers, name)


def same(one: Counting) -> Counting:
    return one


def run_with(monkeypatch: pytest.MonkeyPatch, *made: Counting) -> tuple[Runner, threading.Thread]:
    for n, one in enumerate(made):
        monkeypatch.setitem(workers, f"WORKER_{n}", partial(same, one))
    running = Runner()
    thread = threading.Thread(target=running.run)
    thread.start()
    return running, thread


@pytest.mark.usefixtures("only")
def test_a_worker_that_fails_goes_on_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    failing, good = Failing(), Counting()
    running, thread = run_with(monkeypatch, failing, good)
    wait_until(lambda: failing.steps > 3 and good.steps > 3)
    running.stopping.set()
    thread.join(PATIENCE)
    assert failing.stopped
    assert good.stopped


@pytest.mark.usefixtures("only")
@pytest.mark.parametrize("ill", [Exiting, Unstoppable])
def test_a_worker_that_dies_ends_the_process_so_that_it_is_started_again(
    monkeypatch: pytest.MonkeyPatch, ill: type[Counting]
) -> None:
    good = Counting()
    for name, cls in {"ILL": ill, "GOOD": lambda: good}.items():
        monkeypatch.setitem(workers, name, cls)
    running = Runner()
    if ill is Unstoppable:
        threading.Timer(0.05, running.stopping.set).start()
    with pytest.raises(WorkerDied, match="ILL"):
        running.run()
    assert good.stopped


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_stops_cleanly(
    spawn: Spawn, live_database: Environment, number: signal.Signals
) -> None:
    relay = spawn(["relay"], live_database)
    wait_until(lambda: f"Worker {list(workers)[-1]} started" in relay.output())
    relay.send(number)
    assert relay.wait() == os.EX_OK
    for name in workers:
        assert f"Worker {name} stopped" in relay.output()
    assert "Traceback" not in relay.output()
