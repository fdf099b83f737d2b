"""Four processes answer requests, and who carries the counts to rows is killed again and again.

API_KEY_REQUESTS says how many requests (2,000); with 100,000 it takes some ten minutes.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.processes import Environment
from tests.servers import CHECKOUT
from tests.sse import run_code

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

REQUESTS = int(os.environ.get("API_KEY_REQUESTS", "2000"))
PROCESSES = 4
KILLS = 10
PROGRAM = [sys.executable, "-m", "tests.operations.keys.program"]
MAKE = """
from django.contrib.auth.models import User
from operations.keys.services import make
owner = User.objects.create_user("owner")
print(make(owner, "Shop", ["stream", "read"], limit_minute=0, limit_hour=0, limit_day=0)[1])
"""
TOLD = """
from django.db.models import Sum
from operations.keys.models import ApiKey, ApiKeyUsage, UsageBatch
from operations.keys.usage import OUTCOMES, sync
sync()
key = ApiKey.objects.get()
days = ApiKeyUsage.objects.aggregate(**{name: Sum(name) for name in OUTCOMES})
assert days == {name: getattr(key, name) for name in OUTCOMES}, days
assert not UsageBatch.objects.waiting().exists()
print(*(f"{name}={getattr(key, name)}" for name in OUTCOMES))
"""


@pytest.mark.parametrize("place", ["rows", "Redis"])
def test_counts_are_exact_however_often_the_job_is_killed(
    live_database: Environment, tmp_path: Path, place: str, request: pytest.FixtureRequest
) -> None:
    env = live_database | {"LOG_LEVEL": "ERROR"}
    if place == "Redis":
        env["REDIS_URL"] = request.getfixturevalue("redis_url")
        run_code("import os, redis; redis.Redis.from_url(os.environ['REDIS_URL']).flushdb()", env)
    written = run_code(MAKE, env).strip()
    began = time.monotonic()
    askers = [start(["ask", written, str(REQUESTS // PROCESSES)], env) for _ in range(PROCESSES)]
    killed = kill_again_and_again(env, askers)
    said = [asker.communicate()[0] for asker in askers]
    assert [asker.returncode for asker in askers] == [0] * PROCESSES
    answered = sum((counts(text) for text in said), Counter())
    assert sum(answered.values()) == REQUESTS // PROCESSES * PROCESSES
    assert counts(run_code(TOLD, env)) == answered
    assert killed >= KILLS
    print(f"{place}: {dict(answered)}, {killed} kills, {time.monotonic() - began:.0f} s")


def kill_again_and_again(env: Environment, askers: "list[subprocess.Popen[str]]") -> int:
    """Each at a moment of its own, and no fewer than KILLS."""
    chance = random.Random(7)
    killed, took = 0, 0.5
    while killed < KILLS or any(asker.poll() is None for asker in askers):
        with start(["sync"], env) as job:
            assert job.stdout
            assert job.stdout.readline() == "ready\n"
            if killed % 2:  # how long a whole run takes, as busy as the machine is now
                began = time.monotonic()
                assert job.stdout.readline() == "carried\n"
                took = time.monotonic() - began
            time.sleep(chance.uniform(0, took) if killed < KILLS else 2)
            job.send_signal(signal.SIGKILL)
        killed += 1
    return killed


def start(arguments: list[str], env: Environment) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*PROGRAM, *arguments], cwd=CHECKOUT, env=env, stdout=subprocess.PIPE, text=True
    )


def counts(text: str) -> Counter[str]:
    pairs = (word.split("=") for word in text.split())
    return Counter({name: int(number) for name, number in pairs})
