"""Somebody who watches the connectors while Kafka Connect is away."""

import pytest
from django.utils import timezone
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys

from operations.debezium.models import Connector, State, Task
from tests.conftest import Spawn
from tests.deliveries.test_chromium import PHONE, Console
from tests.live import database_of
from tests.processes import Environment
from tests.sse import run_code
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
]

WATCHER = """
from django.contrib.auth.models import User
User.objects.create_superuser("watcher", password="watcher")
"""


def failed(name: str) -> Connector:
    made = Connector.objects.create(
        name=name, state=State.RUNNING, since=timezone.now(), problem="Task 0 failed: it stopped."
    )
    Task.objects.create(connector=made, number=0, state=State.FAILED, since=timezone.now())
    return made


def test_what_is_found_appears_by_itself_and_a_connect_that_is_away_says_so(
    live_database: Environment, free_port: int, spawn: Spawn, browser: Chrome
) -> None:
    nobody = "http://127.0.0.1:1"
    env = live_database | {"DEBUG": "true", "DEBEZIUM_URL": nobody}
    web = spawn(["web", "--port", str(free_port)], env)
    run_code(WATCHER, env)  # while it starts
    wait_until(lambda: "Listening" in web.output(), message="web listens")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    console = Console(browser, f"http://127.0.0.1:{free_port}")
    console.open("operations/connector/")
    console.write(username="watcher", password=f"watcher{Keys.ENTER}")
    console.says("No connector yet")
    assert console.fits()

    with database_of(env):
        made = failed("orders" * 20)
    console.says("Task 0 failed: it stopped.")
    assert console.fits()
    console.press(f"[formaction$='/{made.pk}/restart/']")
    console.says("cannot be reached")
    assert console.fits()
    assert not console.complaints()
