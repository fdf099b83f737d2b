"""The widget in Chromium: on a page of another site, under a strict Content Security Policy."""

from dataclasses import dataclass
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.keys import Keys

from tests.elsewhere import Elsewhere
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
]

CANCEL = """
from broadcasts.models import Broadcast
from broadcasts.services import cancel
cancel(Broadcast.objects.get(title={title!r}))
"""
FIND = """
const root = document.querySelector("broadcast-widget")?.shadowRoot;
return [...(root?.querySelectorAll(arguments[0]) ?? [])];
"""


@dataclass
class Widget:
    browser: Chrome
    elsewhere: Elsewhere

    def open(self) -> None:
        self.browser.get(f"{self.elsewhere.url}/")
        wait_until(lambda: self.elsewhere.site.streams == 1, message="the widget is live")

    def as_a_phone(self) -> None:
        phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)

    def script(self, code: str) -> Any:
        return self.browser.execute_script(code)

    def all(self, selector: str) -> list[Any]:
        return list(self.browser.execute_script(FIND, selector))

    def find(self, selector: str) -> Any:
        return self.all(selector)[0]

    def texts(self, selector: str) -> list[str]:
        """Read in one go: the page may change between two questions."""
        code = FIND.replace("];", "].map((element) => element.textContent);")
        return list(self.browser.execute_script(code, selector))

    def shown(self, selector: str) -> list[str]:
        """The same, of those that can be seen."""
        seen = "].filter((e) => e.checkVisibility()).map((e) => e.textContent);"
        return list(self.browser.execute_script(FIND.replace("];", seen), selector))

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    @property
    def focused(self) -> str:
        return str(
            self.script(
                "return document.querySelector('broadcast-widget').shadowRoot"
                ".activeElement?.textContent ?? ''"
            )
        )

    def wait(self, condition: Any, message: str) -> None:
        wait_until(condition, message=message)

    def complaints(self) -> list[str]:
        logged = self.browser.get_log("browser")
        return [entry["message"] for entry in logged if entry["level"] == "SEVERE"]


@pytest.fixture
def widget(elsewhere: Elsewhere, browser: Chrome) -> Widget:
    return Widget(browser, elsewhere)


def test_one_tag_gives_a_page_a_bell_a_panel_and_toasts(
    widget: Widget, elsewhere: Elsewhere
) -> None:
    site = elsewhere.site
    site.send("Before")
    widget.open()
    widget.wait(lambda: widget.shown(".count") == ["1"], "the bell counts")
    site.send("Fire drill", content="Use the **stairs**")
    widget.wait(lambda: widget.texts(".toast p") == ["New message: Fire drill"], "a toast")
    assert widget.texts("[aria-live=polite] p") == ["New message: Fire drill"]
    assert widget.shown(".count") == ["2"]
    widget.find(".toast button").click()
    assert widget.texts(".toast") == []
    assert widget.shown(".message h3") == ["Fire drill", "Before"]
    assert widget.texts(".message .body strong") == ["stairs"]
    assert "Fire drill" in widget.focused
    widget.find(".message .read").click()
    widget.wait(lambda: widget.shown(".count") == ["1"], "one is read")
    site.code(CANCEL.format(title="Before"))
    widget.wait(lambda: widget.shown(".message h3") == ["Fire drill"], "the other is withdrawn")
    assert widget.shown(".count") == []
    assert widget.complaints() == []


def test_it_is_used_by_the_keyboard(widget: Widget, elsewhere: Elsewhere) -> None:
    elsewhere.site.send("One", "Two")
    widget.open()
    widget.wait(lambda: widget.shown(".count") == ["2"], "the bell counts")
    assert widget.find(".bell").get_attribute("ariaLabel") == "Messages, unread: 2"
    widget.press(Keys.TAB, Keys.ENTER)
    widget.wait(lambda: widget.shown(".panel") != [], "the panel is open")
    assert widget.focused == "Messages"
    widget.press(Keys.TAB)
    assert widget.focused == "Mark all read"
    widget.press(Keys.ENTER)
    widget.wait(lambda: widget.shown(".count") == [], "all are read")
    widget.press(Keys.ESCAPE)
    widget.wait(lambda: widget.shown(".panel") == [], "the panel is closed")
    widget.wait(lambda: widget.shown(".bell:focus") != [], "the bell has the focus again")


def test_what_is_urgent_stays_until_it_is_read_on_the_next_page_too(
    widget: Widget, elsewhere: Elsewhere
) -> None:
    widget.open()
    elsewhere.site.send("Leave the building", content="*Now*", priority=40)
    widget.wait(lambda: widget.shown(".banner h2") == ["Leave the building"], "a banner")
    assert widget.texts("[aria-live=assertive] p") == ["Urgent message: Leave the building"]
    widget.open()
    widget.wait(lambda: widget.shown(".banner h2") == ["Leave the building"], "it is still there")
    widget.find(".banner button").click()
    widget.wait(lambda: widget.shown(".banner") == [], "it is gone")
    assert widget.shown(".count") == []


def test_its_texts_and_its_place_are_the_pages_to_choose(
    widget: Widget, elsewhere: Elsewhere
) -> None:
    elsewhere.widget = {
        "target": "#bar",
        "token-url": "/token",
        "texts": '{"messages": "Nachrichten", "bell": "{count} neu"}',
    }
    widget.open()
    assert widget.find(".bell").get_attribute("ariaLabel") == "0 neu"
    assert widget.script("return document.querySelector('#bar > broadcast-widget') !== null")
    widget.find(".bell").click()
    assert widget.shown(".panel h2") == ["Nachrichten"]


def test_a_reader_acknowledges_and_only_then_dismisses(
    widget: Widget, elsewhere: Elsewhere
) -> None:
    widget.open()
    elsewhere.site.send("New rules", requires_acknowledgement=True)
    widget.wait(lambda: widget.texts(".message h3") == ["New rules"], "it is there")
    widget.find(".bell").click()
    assert widget.shown(".actions button") == ["Acknowledge", "Mark read"]
    widget.find(".acknowledge").click()
    widget.wait(lambda: widget.shown(".acknowledged") == ["Acknowledged"], "it is acknowledged")
    assert widget.shown(".actions button") == ["Dismiss"]
    assert widget.shown(".count") == []


def test_force_logoff_goes_where_the_page_says(widget: Widget, elsewhere: Elsewhere) -> None:
    elsewhere.widget["logoff-url"] = "/notes"
    widget.open()
    elsewhere.site.send("Go home", fire_and_forget=True, force_logoff=True)
    widget.wait(lambda: widget.browser.current_url.endswith("/notes"), "the page has gone there")


def test_nobody_sees_a_bell_who_is_not_signed_in(widget: Widget, elsewhere: Elsewhere) -> None:
    elsewhere.signed_in = False
    widget.browser.get(f"{elsewhere.url}/")
    widget.wait(lambda: widget.all(".bell") != [], "the widget has begun")
    widget.wait(lambda: widget.shown(".bell") == [], "it hides")


@pytest.mark.parametrize(
    "place",
    [{"target": "#bar"}, {"position": "top-right"}, {"position": "bottom-left"}],
    ids=["in the header", "in a corner above", "in a corner below"],
)
def test_banners_leave_the_bell_free_on_a_phone(
    widget: Widget, elsewhere: Elsewhere, place: dict[str, str]
) -> None:
    elsewhere.widget |= place
    widget.as_a_phone()
    elsewhere.site.send(
        "Leave the building", "Do not use the lift", content="Now. " * 300, priority=40
    )
    widget.open()
    widget.wait(lambda: len(widget.shown(".banner")) == 2, "the banners are there")
    widget.find(".bell").click()  # which fails when something covers it
    widget.wait(lambda: widget.shown(".panel") != [], "the panel is open")


def test_it_fits_a_phone(widget: Widget, elsewhere: Elsewhere) -> None:
    widget.as_a_phone()
    elsewhere.site.send("Long" * 40, content=f"|a|b|\n|-|-|\n|{'wide ' * 50}|{'x' * 200}|")
    widget.open()
    widget.find(".bell").click()
    widget.wait(lambda: widget.shown(".message") != [], "the message is there")
    elsewhere.site.send("Now" * 60, priority=40)
    widget.wait(lambda: widget.shown(".banner") != [], "the banner is there")
    assert widget.script("return document.documentElement.scrollWidth") == 390
    for part in (".panel", ".banner", ".bell"):
        rect = widget.find(part).rect
        assert rect["x"] >= 0
        assert rect["x"] + rect["width"] <= 390
