"""The console of the jobs in Chromium, as an operator has it open all day."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from jobs.models import Job, Run, RunStatus
from outbox.services import emit
from tests.conftest import Spawn
from tests.live import database_of
from tests.processes import Environment, Spawned
from tests.sse import run_code
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
]

FAILING, PAUSED, OVERDUE, RUNNING = (
    "RUN_RETENTION",
    "CONNECTION_PURGE",
    "EVENT_RETENTION",
    "TEST_LONG",
)
HEALTHY = "TEST_EVERY_SECOND"
OPERATOR = """
from django.contrib.auth.models import User
User.objects.create_superuser("operator", password="operator")
"""
LONG_ERROR = "ConnectionRefusedError: [Errno 111] " + "the_database_is_away_" * 15
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
RED = """
const probe = document.createElement("i");
probe.style.color = "var(--console-bad)";
document.body.append(probe);
const red = getComputedStyle(probe).color;
probe.remove();
const row = document.querySelector(`[data-part=${arguments[0]}]`);
return [...row.querySelectorAll("*")]
  .filter((e) => getComputedStyle(e).color === red).map((e) => e.textContent.trim());
"""


def ran(name: str, ago: timedelta, status: str = RunStatus.SUCCEEDED, **fields: Any) -> None:
    at = timezone.now() - ago
    Run.objects.create(
        job_id=name,
        slot=at,
        status=status,
        node="node-1:11",
        started_at=at,
        finished_at=None if status == RunStatus.RUNNING else at + timedelta(seconds=3),
        **fields,
    )


def make_history() -> None:
    """One job of each state; the others wait."""
    now = timezone.now()
    Job.objects.update(last_slot=now, created_at=now)
    # Its slots come every 59 s: one of them would fall into a slow test, and it would be due.
    Job.objects.filter(name=HEALTHY).update(last_slot=now + timedelta(hours=1))
    for name in (FAILING, PAUSED, OVERDUE, RUNNING, HEALTHY):
        for days in (5, 6):
            ran(name, timedelta(days=days), items=1_200)
    for hours in (1, 2, 3):
        ran(FAILING, timedelta(hours=hours), RunStatus.FAILED, error=LONG_ERROR)
    Job.objects.filter(name=PAUSED).update(paused_at=now - timedelta(hours=3))
    Job.objects.filter(name=OVERDUE).update(last_slot=now - timedelta(days=5))
    ran(RUNNING, timedelta(seconds=90), RunStatus.RUNNING, items=15_000)
    Job.objects.filter(name=RUNNING).update(
        holder="node-7:4711", since=now - timedelta(seconds=90), until=now + timedelta(hours=1)
    )
    with transaction.atomic():
        emit("link.expired", key="link-1", data={})


@dataclass
class Console:
    browser: Chrome
    root: str
    env: Environment
    spawn: Spawn

    def open(self) -> None:
        self.browser.get(f"{self.root}/admin/jobs/job/")

    def sign_in(self) -> None:
        self.open()
        self.browser.find_element(By.ID, "id_username").send_keys("operator")
        self.browser.find_element(By.ID, "id_password").send_keys("operator", Keys.ENTER)
        wait_until(lambda: self.text(HEALTHY), message="the console is open")

    def relay(self) -> Spawned:
        return self.spawn(["relay"], self.env)

    def text(self, name: str) -> str:
        """Of a row, in one go: it may be replaced between two questions."""
        script = "return document.querySelector(`[data-part=${arguments[0]}]`)?.innerText ?? ''"
        return str(self.browser.execute_script(script, name))

    def says(self, name: str, *words: str) -> None:
        def has_all() -> bool:
            text = self.text(name).lower()
            return all(word.lower() in text for word in words)

        wait_until(has_all, message=f"{name} says {words}")

    def red(self, name: str) -> str:
        return " ".join(self.browser.execute_script(RED, name))

    def click(self, name: str, verb: str) -> None:
        script = (
            "document.querySelector(`[data-part=${arguments[0]}] [formaction$='${arguments[1]}/']`)"
            ".click()"
        )
        self.browser.execute_script(script, name, verb)

    def follow(self, name: str, words: str) -> None:
        """A link of a row, in one go as well."""
        script = (
            "[...document.querySelectorAll(`[data-part=${arguments[0]}] a`)]"
            ".find((a) => a.textContent.trim() === arguments[1]).click()"
        )
        self.browser.execute_script(script, name, words)

    def confirm(self) -> None:
        button = (By.CSS_SELECTOR, ".console-question [type=submit]")
        wait_until(lambda: self.browser.find_elements(*button), message="the question is asked")
        self.browser.find_element(*button).click()

    def width(self) -> int:
        return int(self.browser.execute_script("return document.documentElement.scrollWidth"))

    def rows(self) -> list[str]:
        """Of a changelist."""
        found = self.browser.find_elements(By.CSS_SELECTOR, "#result_list tbody tr")
        return [row.text for row in found]

    @contextmanager
    def phone(self) -> Iterator[None]:
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
        yield
        self.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture
def console(live_database: Environment, free_port: int, spawn: Spawn, browser: Chrome) -> Console:
    # DEBUG, as `make run` has it, serves static files without collecting them.
    env = live_database | {
        "DEBUG": "true",
        "DJANGO_SETTINGS_MODULE": "tests.cluster.settings",
        **{f"TEST_{name}_ENABLED": "false" for name in ("FREEZE", "RAISES", "HANGS", "LONG")},
        f"{HEALTHY}_INTERVAL": "59s",  # the relay runs it, and not soon
    }
    assert spawn(["migrate", "--verbosity=0"], env).wait() == 0
    web = spawn(["web", "--port", str(free_port)], env)
    run_code(OPERATOR, env)  # while it starts
    with database_of(env):
        make_history()
    wait_until(lambda: "Listening" in web.output(), message="web listens")
    console = Console(browser, f"http://127.0.0.1:{free_port}", env, spawn)
    console.sign_in()
    return console


def test_each_state_is_told_in_words_and_what_is_wrong_in_red(console: Console) -> None:
    console.says(FAILING, "failing", "3 in a row", "Failed", "60 %", "ConnectionRefusedError")
    assert "3 in a row" in console.red(FAILING)
    console.says(OVERDUE, "overdue", "by 4 d", "due for 4 d", "1,200 items")
    assert "due for 4 d" in console.red(OVERDUE)
    console.says(PAUSED, "paused", "for 3 h", "by whom")
    console.says(RUNNING, "running", "node-7:4711", "15,000 items")
    console.says(HEALTHY, "waiting", "in ")
    assert "waiting" not in console.red(HEALTHY).lower()
    assert len(console.browser.find_elements(By.CSS_SELECTOR, ".console-spark")) == 5


def test_a_rate_of_errors_leads_to_the_runs_that_failed(console: Console) -> None:
    with console.phone():
        console.open()
        assert console.width() == 390
        console.follow(FAILING, "60 %")
        wait_until(console.rows, message="its runs are listed")
        assert console.width() == 390
        assert ["FAILED" in row.upper() for row in console.rows()] == [True] * 3


def test_a_worker_that_nobody_leads_is_red_until_a_relay_runs(console: Console) -> None:
    console.says("OUTBOX_RELAY", "Publish the outbox", "nobody", "manage.py relay", "1")
    assert "nobody" in console.red("OUTBOX_RELAY")
    console.says("BROADCAST_CLOCK", "each relay process")
    console.relay()
    console.says("OUTBOX_RELAY", "leads for")  # the page looks again by itself
    assert console.red("OUTBOX_RELAY") == ""


def test_an_operator_steers_each_job_by_its_buttons(console: Console) -> None:
    console.click(PAUSED, "resume")
    console.says(PAUSED, "waiting")
    console.click(HEALTHY, "pause")
    console.says(HEALTHY, "paused", "Resume")
    console.click(HEALTHY, "run_now")
    console.says(HEALTHY, "asked for")
    console.relay()
    console.says(HEALTHY, "paused", "1 item\n")  # paused, and run all the same


def test_a_released_run_is_lost_and_found_in_the_history(console: Console) -> None:
    console.click(RUNNING, "release")
    wait_until(lambda: "Holder" in console.browser.page_source, message="it says of whom")
    console.confirm()
    console.says(RUNNING, "lost", "released by an operator")
    assert "node-7" not in console.text(RUNNING)
    with database_of(console.env):
        job = Job.objects.get(name=RUNNING)
    assert (job.holder, job.token) == ("", 1)
    console.follow(RUNNING, RUNNING)
    wait_until(lambda: len(console.rows()) == 3, message="its runs are listed")
    console.browser.get(f"{console.browser.current_url}&status__exact=LOST")
    [lost] = console.rows()
    assert "released by an operator" in lost
