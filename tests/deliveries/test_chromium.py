"""An operator and an endpoint in Chromium, from its making to the retry that is watched."""

from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.utils import timezone
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from deliveries.models import Delivery, Endpoint, Status
from deliveries.services import collect
from tests.conftest import Spawn
from tests.deliveries.conftest import envelope
from tests.deliveries.receiver import Server
from tests.live import database_of
from tests.processes import Environment
from tests.sse import run_code
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
]

OPERATOR = """
from django.contrib.auth.models import User
User.objects.create_superuser("operator", password="operator")
"""
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}


@dataclass
class Console:
    browser: Chrome
    root: str

    def open(self, path: str) -> None:
        self.browser.get(f"{self.root}/admin/{path}")

    def write(self, **fields: str) -> None:
        for name, text in fields.items():
            self.browser.find_element(By.NAME, name).send_keys(text)

    def press(self, selector: str) -> None:
        button = self.browser.find_element(By.CSS_SELECTOR, selector)
        self.browser.execute_script("arguments[0].click()", button)

    def confirm(self) -> None:
        self.press(".console-question [type=submit]")

    def says(self, text: str) -> None:
        wait_until(lambda: text in self.text(), message=f"the page says {text!r}")

    def text(self) -> str:
        return str(self.browser.execute_script("return document.body?.innerText ?? ''"))

    def fits(self) -> bool:
        return bool(self.browser.execute_script("return document.body.scrollWidth <= innerWidth"))

    def complaints(self) -> list[str]:
        logged = self.browser.get_log("browser")
        return [entry["message"] for entry in logged if entry["level"] == "SEVERE"]


@pytest.fixture
def env(live_database: Environment) -> Environment:
    return live_database | {"DEBUG": "true", "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}


@pytest.fixture
def console(env: Environment, free_port: int, spawn: Spawn, browser: Chrome) -> Console:
    web = spawn(["web", "--port", str(free_port)], env)
    run_code(OPERATOR, env)  # while it starts
    wait_until(lambda: "Listening" in web.output(), message="web listens")
    console = Console(browser, f"http://127.0.0.1:{free_port}")
    console.open("deliveries/endpoint/add/")
    console.write(username="operator", password=f"operator{Keys.ENTER}")
    console.says("Event types or their beginnings")
    return console


def test_an_operator_makes_an_endpoint_reveals_its_secret_and_watches_a_retry(
    console: Console, env: Environment, spawn: Spawn, server: Server
) -> None:
    console.write(name="Shop", url=server.url(), patterns="link.*")
    console.press("[name=_continue]")
    console.says("reveal it below")
    with database_of(env):
        endpoint = Endpoint.objects.get()
        secret = endpoint.secrets[0]["value"]
        collect([envelope() for _ in range(30)])
        Delivery.objects.update(status=Status.DEAD, next_attempt_at=None)
    assert secret not in console.text()

    console.open(f"deliveries/endpoint/{endpoint.pk}/reveal/")
    console.confirm()
    console.says(secret)

    console.open(f"deliveries/endpoint/{endpoint.pk}/retry/")
    yesterday = timezone.localtime() - timedelta(days=1)
    console.write(since_0=f"{yesterday:%Y-%m-%d}", since_1="10:00:00")
    console.confirm()
    console.says("30 deliveries go out")
    console.says("0 % done")
    console.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    assert console.fits()
    spawn(["relay"], env)
    console.says("100 % done")  # the page looks again by itself
    assert len(server.ids()) == 30
    assert not console.complaints()


def test_one_delivery_and_its_attempts_fit_a_phone(
    console: Console, env: Environment, spawn: Spawn, server: Server
) -> None:
    with database_of(env):
        Endpoint.objects.create(name="Shop " * 19, url=server.url(), patterns=["*"])
        collect([envelope(title="words_without_a_space_" * 30)])
    spawn(["relay"], env)
    with database_of(env):
        wait_until(lambda: Delivery.objects.filter(status=Status.SUCCESS).exists())
        delivery = Delivery.objects.get()
    console.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    for path in (f"{delivery.pk}/change/", ""):
        console.open(f"deliveries/delivery/{path}")
        console.says("link.expired")
        assert console.fits(), path
    assert not console.complaints()
