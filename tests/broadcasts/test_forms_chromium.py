"""The forms of series, templates and languages in Chromium, as operators fill them in."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import Select

from tests.conftest import Spawn
from tests.processes import Environment
from tests.sse import run_code
from tests.test_journey import Window
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
]

OPERATOR = """
from django.contrib.auth.models import User
from broadcasts.models import Template
User.objects.create_superuser("operator", password="operator")
Template.objects.create(
    name="Maintenance", title="{{ product }} rests", content="Until **{{ end }}**.",
    translations={"de": {"title": "{{ product }} ruht", "content": "Bis **{{ end }}**."}},
)
"""
STORED = """
import json
from broadcasts.models import Broadcast, Series
one = {model}.objects.latest("id")
print(json.dumps({{name: getattr(one, name) for name in {names}}}, default=str))
"""


class Console(Window):
    env: Environment

    def choose(self, selector: str, value: str) -> None:
        Select(self.find(selector)).select_by_value(value)

    def write(self, selector: str, text: str) -> None:
        self.find(selector).clear()
        self.find(selector).send_keys(text)

    def zone(self, name: str) -> None:
        """As select2 would, which has taken the place of the element."""
        script = "django.jQuery('#id_zone').val(arguments[0]).trigger('change')"
        self.browser.execute_script(script, name)

    def texts(self, selector: str) -> list[str]:
        """Read in one go: the page may change between two questions."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
        return list(self.browser.execute_script(script, selector))

    def has(self, text: str) -> bool:
        return text in str(self.browser.execute_script("return document.body?.innerText ?? ''"))

    @property
    def moments(self) -> list[str]:
        return self.texts("[data-upcoming-moments] li")

    def shows(self, first: str) -> None:
        wait_until(lambda: self.moments[:1] == [first], message=f"{first} is the next")

    def wait_for(self, text: str) -> None:
        wait_until(lambda: self.has(text), message=f"{text} is on the page")

    def stored(self, model: str, *names: str) -> Any:
        return json.loads(run_code(STORED.format(model=model, names=names), self.env))

    def complaints(self) -> list[str]:
        logged = self.browser.get_log("browser")
        return [entry["message"] for entry in logged if entry["level"] == "SEVERE"]


@pytest.fixture
def console(live_database: Environment, free_port: int, spawn: Spawn, browser: Chrome) -> Console:
    env = live_database | {"DEBUG": "true"}
    web = spawn(["web", "--port", str(free_port)], env)
    run_code(OPERATOR, env)
    wait_until(lambda: "Listening" in web.output(), message="web listens")
    console = Console(browser, f"http://127.0.0.1:{free_port}")
    console.env = env
    console.sign_in("operator", "/admin/")
    return console


def test_a_series_shows_what_comes_next_while_it_is_written_and_starts(console: Console) -> None:
    year = datetime.now(UTC).year + 1
    console.open("/admin/broadcasts/series/add/")
    console.wait_for("the next five stand here")
    console.write("#id_title", "Good morning")
    console.zone("Europe/Berlin")
    console.write("#id_starts_on", f"{year}-07-01")
    console.write("#id_cron", "0 9 1 * *")
    console.shows(f"{datetime(year, 7, 1):%a} 1 Jul {year}, 09:00 CEST (UTC+02:00)")  # noqa: DTZ001
    assert console.texts("[data-upcoming-words]") == [
        "At 09:00, on day 1 of the month, Europe/Berlin"
    ]
    assert len(console.moments) == 5

    console.zone("America/New_York")
    console.write("#id_count", "2")
    wait_until(lambda: len(console.moments) == 2, message="two go out")
    assert "09:00 EDT (UTC-04:00)" in console.moments[0]

    console.write("#id_cron", "at nine")
    wait_until(lambda: not console.moments, message="nothing goes out")
    assert "is no cron expression" in console.texts("[data-upcoming-words]")[0]

    console.write("#id_cron", "0 9 1 * *")
    wait_until(lambda: len(console.moments) == 2, message="two go out")
    console.click("[name=_save]")
    console.wait_for("The series has started.")
    stored = console.stored("Series", "cron", "zone", "count", "state")
    assert stored == {
        "cron": "0 9 1 * *", "zone": "America/New_York", "count": 2, "state": "RUNNING",
    }  # fmt: skip
    assert console.complaints() == []


def test_a_series_is_paused_one_is_left_out_and_it_is_changed(console: Console) -> None:
    console.open("/admin/broadcasts/series/add/")
    console.write("#id_title", "Good morning")
    console.write("#id_cron", "0 9 * * *")
    wait_until(lambda: len(console.moments) == 5, message="five are shown")
    console.click("[name=_save]")
    console.wait_for("The series has started.")
    page = console.browser.current_url.removeprefix(console.root)
    wait_until(lambda: len(console.moments) == 5, message="five are shown")
    first, second, *_ = console.moments

    console.click("a[href$='/skip/']")
    console.wait_for("Leave one out?")
    console.click("input[name=occurrence]")
    console.click(".console-question button[type=submit]")
    console.wait_for(f"Left out: {first}")
    console.shows(second)

    console.open(page.replace("change", "pause"))
    console.click(".console-question button[type=submit]")
    console.wait_for("resume it for these to go out")

    console.open(page)
    wait_until(lambda: len(console.moments) == 5, message="five are shown")
    console.write("#id_cron", "0 18 * * *")
    wait_until(lambda: " 18:00 " in "".join(console.moments[:1]), message="the new ones are shown")
    console.click("[name=_save]")
    console.wait_for("Changed from here on.")
    assert console.stored("Series", "cron", "state") == {"cron": "0 18 * * *", "state": "PAUSED"}
    assert console.complaints() == []


def test_a_template_is_filled_in_previewed_and_used(console: Console) -> None:
    console.open("/admin/broadcasts/broadcast/add/")
    console.click("[data-templates] summary")
    Select(console.find("#template_choice")).select_by_visible_text("Maintenance")
    wait_until(
        lambda: console.texts("[data-template-title]") == ["{{ product }} rests"],
        message="the template is previewed",
    )
    console.write("[data-field=product]", "The shop")
    wait_until(
        lambda: console.texts("[data-template-title]") == ["The shop rests"],
        message="the preview follows",
    )
    console.click("[data-template-use]")
    wait_until(
        lambda: console.texts("[data-template-error]") == ["Missing: end."],
        message="what is missing is named",
    )
    console.write("[data-field=end]", "ten")
    console.click("[data-template-use]")
    wait_until(
        lambda: console.find("#id_title").get_property("value") == "The shop rests",
        message="the form is filled",
    )
    wait_until(
        lambda: "Until ten." in console.texts("[data-preview-html]")[0],
        message="the content is previewed",
    )
    console.click("[data-translations-add]")
    rows = console.all(".console-translation")
    assert len(rows) == 2
    console.choose(".console-translation:last-child select", "fr")
    console.write(".console-translation:last-child input", "La boutique se repose")
    console.click("[name=_save]")
    console.wait_for("Draft saved.")
    stored = console.stored("Broadcast", "title", "content", "language", "translations")
    assert stored == {
        "title": "The shop rests",
        "content": "Until **ten**.",
        "language": "en",
        "translations": {
            "de": {"title": "The shop ruht", "content": "Bis **ten**."},
            "fr": {"title": "La boutique se repose", "content": ""},
        },
    }
    console.click(".console-translation:first-child [data-translations-remove]")
    console.click("[name=_save]")
    wait_until(
        lambda: list(console.stored("Broadcast", "translations")["translations"]) == ["fr"],
        message="the removed language is gone",
    )
    assert console.complaints() == []
