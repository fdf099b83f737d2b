"""The processes that serve a page, and the page in Chromium."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from broadcasts.services import compose, send
from connections.models import Connection
from tests.conftest import Spawn
from tests.live import database_of
from tests.processes import Environment, Spawned
from tests.sse import run_code
from tests.waiting import wait_until

READER = """
from django.contrib.auth.models import User
User.objects.create_user("reader", password="reader")
"""


@dataclass
class Site:
    env: Environment
    port: int
    spawn: Spawn
    serving: Spawned = field(init=False)

    def start(self) -> "Site":
        relay = self.spawn(["relay"], self.env)
        self.serving = self.spawn(["web", "--port", str(self.port)], self.env)
        run_code(READER, self.env)  # while they start
        wait_until(lambda: "BROADCAST_CLOCK started" in relay.output(), message="the relay works")
        self.wait_for_web()
        return self

    def restart_web(self, **env: str) -> None:
        self.serving = self.spawn(["web", "--port", str(self.port)], self.env | env)
        self.wait_for_web()

    def wait_for_web(self) -> None:
        wait_until(lambda: "Listening" in self.serving.output(), message="web listens")

    def kill_web(self) -> None:
        self.serving.send(signal.SIGKILL)
        self.serving.wait()

    def send(self, *titles: str, **fields: Any) -> None:
        with database_of(self.env):
            for title in titles:
                send(compose(None, title=title, **fields))

    def code(self, code: str) -> str:
        return run_code(code, self.env)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def streams(self) -> int:
        with database_of(self.env):
            return Connection.objects.active().count()


@dataclass
class Page:
    browser: Chrome
    site: Site

    def open(self) -> None:
        self.browser.get(f"{self.site.url}/")

    def sign_in(self) -> None:
        self.open()
        self.find("#id_username").send_keys("reader")
        self.find("#id_password").send_keys("reader")
        self.click(".button.primary")
        self.wait(self.is_live, "the page is live")

    def find(self, selector: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def script(self, code: str) -> Any:
        return self.browser.execute_script(code)

    def texts(self, selector: str) -> list[str]:
        """Read in one go: the page may change between two questions."""
        found = f"document.querySelectorAll({selector!r})"
        return list(self.script(f"return [...{found}].map((e) => e.textContent)"))

    @property
    def titles(self) -> list[str]:
        return self.texts(".message .title")

    @property
    def unread(self) -> list[str]:
        return self.texts(".unread-message .title")

    @property
    def state(self) -> str:
        return str(self.find("#connection").get_attribute("data-state"))

    def is_live(self) -> bool:
        return bool(self.script("return document.querySelector('[data-state=live]')"))

    def shows(self, selector: str) -> bool:
        """Asked in one go: it may come meanwhile, or go."""
        return bool(self.script(f"return document.querySelector({selector!r})?.checkVisibility()"))

    def wait(self, condition: Callable[[], Any], message: str) -> None:
        wait_until(condition, message=message)

    def complaints(self) -> list[str]:
        logged = self.browser.get_log("browser")
        return [entry["message"] for entry in logged if entry["level"] == "SEVERE"]
