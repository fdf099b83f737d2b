"""What the project is for: an operator composes in one browser, and it is on screen in another."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.conftest import Spawn
from tests.processes import Environment
from tests.sse import run_code
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
]

PEOPLE = """
from django.contrib.auth.models import Group, User
from broadcasts.models import Product
User.objects.create_superuser("operator", password="operator")
near, far, other = (
    User.objects.create_user(name, password=name) for name in ("near", "far", "other")
)
near.groups.add(Group.objects.create(name="Night shift"))
Group.objects.create(name="Day shift").user_set.add(other)
Product.objects.create(slug="payments", name="Payments").subscribers.add(near)
Product.objects.create(slug="reports", name="Reports").subscribers.add(other)
"""
LATENESS = """
from broadcasts.models import Broadcast
sent = Broadcast.objects.get(title={title!r})
print((sent.activated_at - sent.scheduled_at).total_seconds())
"""
NOTE_ARRIVALS = """
window.arrivals = {};
new MutationObserver((changes) => {
  for (const { addedNodes } of changes)
    for (const node of addedNodes)
      arrivals[node.querySelector(".title").textContent] ??= Date.now() / 1000;
}).observe(document.getElementById("messages"), { childList: true });
"""
HIGHLIGHTED = """
const loading = document.querySelector(".loading-results");
const option = document.querySelector(".select2-results__option--highlighted");
return !loading && option !== null && option.textContent.includes(arguments[0]);
"""


@dataclass
class Window:
    browser: Chrome
    root: str

    def open(self, path: str) -> None:
        self.browser.get(f"{self.root}{path}")

    def sign_in(self, name: str, path: str) -> None:
        self.open(path)
        self.find("#id_username").send_keys(name)
        self.find("#id_password").send_keys(name, Keys.ENTER)
        wait_until(lambda: not self.all("#id_password"), message=f"{name} is signed in")

    def all(self, selector: str) -> list[Any]:
        return list(self.browser.find_elements(By.CSS_SELECTOR, selector))

    def find(self, selector: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        element = self.find(selector)
        self.browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", element)
        element.click()

    def has(self, text: str) -> bool:
        return text in self.find("body").text


class Operator(Window):
    def compose(self, title: str, audience: str = "ALL", *targets: str) -> None:
        self.open("/admin/broadcasts/broadcast/add/")
        self.find("#id_title").send_keys(title)
        self.find("#id_content").send_keys("Use the **stairs**.")
        self.click(f"input[name=audience][value={audience}]")
        for target in targets:
            self._pick(audience, target)

    def send_now(self) -> float:
        """The moment of the last click."""
        self.click("[name=_send]")
        return self.confirm()

    def schedule(self, at: datetime) -> float:
        self.find("#id_scheduled_at_0").send_keys(f"{at:%Y-%m-%d}")
        self.find("#id_scheduled_at_1").send_keys(f"{at:%H:%M:%S}")
        self.click("[name=_schedule]")
        return self.confirm()

    def cancel(self, reason: str) -> float:
        """What the page of the broadcast, which is open, offers."""
        self.open(self._page + "cancel")
        self.find("#id_reason").send_keys(reason)
        return self.confirm()

    def open_history(self) -> None:
        self.open(self._page + "history/")

    def confirm(self) -> float:
        wait_until(lambda: self.all(".console-question"), message="the question is asked")
        clicked = time.time()
        self.click(".console-question button[type=submit]")
        return clicked

    @property
    def _page(self) -> str:
        wait_until(lambda: "/change/" in self.browser.current_url, message="its page is open")
        path = self.browser.current_url.removeprefix(self.root)
        return path.partition("change/")[0]

    def _pick(self, audience: str, target: str) -> None:
        self.click(f"[data-audience={audience}] .select2-selection")
        self.browser.switch_to.active_element.send_keys(target)
        wait_until(
            lambda: self.browser.execute_script(HIGHLIGHTED, target),
            message=f"{target} is offered",
        )
        self.browser.switch_to.active_element.send_keys(Keys.ENTER)


class Reader(Window):
    def sign_in(self, name: str, path: str = "/") -> None:
        super().sign_in(name, path)
        wait_until(lambda: self.all("[data-state=live]"), message=f"{name} is connected")
        self.browser.execute_script(NOTE_ARRIVALS)

    @property
    def titles(self) -> list[str]:
        """Read in one go: the page may change between two questions."""
        titles = "document.querySelectorAll('.message .title')"
        found = self.browser.execute_script(f"return [...{titles}].map((e) => e.textContent)")
        return list(found)

    def arrival(self, title: str) -> float:
        wait_until(lambda: title in self.titles, message=f"{title} is on screen")
        return float(self.browser.execute_script("return arrivals[arguments[0]]", title))

    def wait_until_gone(self, title: str) -> None:
        wait_until(lambda: title not in self.titles, message=f"{title} has left the screen")


@dataclass
class Stage:
    operator: Operator
    near: Reader
    far: Reader
    other: Reader
    env: Environment

    def code(self, code: str) -> str:
        return run_code(code, self.env).strip()


@pytest.fixture
def stage(
    live_database: Environment,
    free_port: int,
    spawn: Spawn,
    new_browser: Callable[[], Chrome],
) -> Stage:
    # DEBUG, as `make run` has it, serves static files without collecting them.
    env = live_database | {"DEBUG": "true"}
    relay = spawn(["relay"], env)
    web = spawn(["web", "--port", str(free_port)], env)
    run_code(PEOPLE, env)  # while they start
    wait_until(lambda: "BROADCAST_CLOCK started" in relay.output(), message="the relay works")
    wait_until(lambda: "Listening" in web.output(), message="web listens")
    root = f"http://127.0.0.1:{free_port}"
    operator = Operator(new_browser(), root)
    operator.sign_in("operator", "/admin/")
    readers = {name: Reader(new_browser(), root) for name in ("near", "far", "other")}
    for name, reader in readers.items():
        reader.sign_in(name)
    return Stage(operator, env=env, **readers)


def tell(what: str, seconds: float) -> None:
    print(f"{what}: {seconds:.3f} s")


def test_what_an_operator_sends_is_on_the_screens_it_is_for_and_on_no_other(stage: Stage) -> None:
    operator, near, far, other = stage.operator, stage.near, stage.far, stage.other
    cases: dict[str, tuple[list[str], list[Reader]]] = {
        "To the night shift": (["ROLE", "Night shift"], [near]),
        "To who uses payments": (["PRODUCT", "Payments"], [near]),
        "To two people": (["SELECTED", "near", "far"], [near, far]),
        "To everyone": (["ALL"], [near, far, other]),
    }
    for title, (audience, readers) in cases.items():
        operator.compose(title, *audience)
        clicked = operator.send_now()
        for reader in readers:
            tell(title, reader.arrival(title) - clicked)
    # The last one has arrived everywhere, and a stream keeps the order.
    assert near.titles == list(reversed(cases))
    assert far.titles == ["To everyone", "To two people"]
    assert other.titles == ["To everyone"]


def test_what_is_scheduled_appears_at_its_moment_and_leaves_when_cancelled(stage: Stage) -> None:
    title, reason = "Fire drill", "The alarm is broken"
    began = time.monotonic()
    stage.operator.compose(title)
    ahead = max(5, 4 * (time.monotonic() - began))  # to schedule it takes no longer than to compose
    at = (datetime.now(UTC) + timedelta(seconds=ahead)).replace(microsecond=0)
    scheduled = stage.operator.schedule(at)
    assert scheduled < at.timestamp(), "the machine was too slow to schedule it in time"
    for reader in (stage.near, stage.other):
        late = reader.arrival(title) - at.timestamp()
        tell("Later than scheduled", late)
        assert late >= 0
    assert float(stage.code(LATENESS.format(title=title))) >= 0
    clicked = stage.operator.cancel(reason)
    for reader in (stage.near, stage.other):
        reader.wait_until_gone(title)
    tell("Withdrawn", time.time() - clicked)
    stage.operator.open_history()
    assert stage.operator.has(f"Cancelled: {reason}")
