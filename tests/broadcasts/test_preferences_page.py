"""The page of preferences and what it does to the inbox, in Chromium."""

import os
from base64 import b64decode
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from tests.conftest import Spawn
from tests.pages import Page, Site
from tests.processes import Environment

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
]

ADDRESS = """
from django.contrib.auth.models import User
User.objects.filter(username="reader").update(email="reader@example.org")
"""
AROUND_NOW = """
from datetime import timedelta
from zoneinfo import ZoneInfo
from django.utils import timezone
wall = timezone.now().astimezone(ZoneInfo("Pacific/Auckland"))
print((wall - timedelta(hours=1)).strftime("%H:%M"), (wall + timedelta(hours=9)).strftime("%H:%M"))
"""
WAKE = """
from django.utils import timezone
from broadcasts.models import Preference
Preference.objects.update(quiet_ends_at=timezone.now())
"""
LONG = "Everything-about-the-canteen-and-the-" + "very-" * 6 + "long-names-that-people-use"


@pytest.fixture
def site(live_database: Environment, free_port: int, spawn: Spawn) -> Site:
    return Site(live_database | {"DEBUG": "true"}, free_port, spawn).start()


@pytest.fixture
def page(site: Site, browser: Chrome) -> Page:
    browser.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Pacific/Auckland"})
    page = Page(browser, site)
    page.sign_in()
    return page


def choose(page: Page, name: str, value: str) -> None:
    page.script(f"document.getElementById('id_{name}').value = '{value}'")


def save(page: Page) -> None:
    page.script("document.querySelector('.save button').click()")
    page.wait(lambda: page.texts(".saved"), "it is saved")


def test_the_zone_is_that_of_the_browser_until_another_is_chosen(page: Page) -> None:
    page.click("nav a[href='/preferences']")
    zone = "return document.getElementById('id_time_zone').value"
    assert page.script(zone) == "Pacific/Auckland"
    assert not page.shows("#zone-offer")
    choose(page, "time_zone", "Europe/Berlin")
    save(page)
    assert page.script(zone) == "Europe/Berlin"
    assert page.shows("#zone-offer")
    page.click("#zone-offer button")
    assert page.script(zone) == "Pacific/Auckland"
    assert page.complaints() == []


def test_what_was_held_appears_at_the_end_in_every_tab_and_urgent_at_once(page: Page) -> None:
    page.site.send("Lunch", category="canteen")
    page.wait(lambda: page.titles == ["Lunch"], "it is there")
    inbox = page.browser.current_window_handle
    page.browser.switch_to.new_window("window")
    page.browser.get(f"{page.site.url}/preferences")
    start, end = page.site.code(AROUND_NOW).split()
    choose(page, "quiet_start", start)
    choose(page, "quiet_end", end)
    choose(page, "time_zone", "Pacific/Auckland")
    page.script("document.querySelector('[name=muted_categories]').click()")
    save(page)
    assert page.texts(".now")[0].startswith("It is quiet now, until ")
    other = page.browser.current_window_handle
    page.open()
    page.wait(page.is_live, "the second tab is live")
    page.browser.switch_to.window(inbox)
    page.wait(lambda: page.titles == [], "what is muted is gone")
    page.site.send("Normal")
    page.site.send("Urgent lunch", category="canteen", priority=40)
    for tab in (inbox, other):
        page.browser.switch_to.window(tab)
        page.wait(lambda: page.titles == ["Urgent lunch"], "only what is urgent is there")
        assert page.browser.title.startswith("(1)")
    page.site.code(WAKE)
    for tab in (inbox, other):
        page.browser.switch_to.window(tab)
        page.wait(lambda: page.titles == ["Normal", "Urgent lunch"], "what was held is there")
        assert page.browser.title.startswith("(2)")
    assert page.complaints() == []


def test_it_fits_a_desk_and_a_phone_by_day_and_by_night(page: Page, tmp_path: Path) -> None:
    shots = Path(os.environ.get("SCREENSHOTS", tmp_path))
    visit(page, "/preferences")
    shoot_all(page, shots / "preferences-empty")
    page.site.code(ADDRESS)
    for category in ("canteen", "news", LONG):
        page.site.send("Hello", category=category)
    visit(page, "/preferences")
    start, end = page.site.code(AROUND_NOW).split()
    choose(page, "quiet_start", start)
    choose(page, "quiet_end", end)
    page.script("document.querySelectorAll('[name=muted_categories]')[0].click()")
    page.script("document.querySelector('[name=email][value=DAILY]').click()")
    save(page)
    shoot_all(page, shots / "preferences")
    choose(page, "quiet_end", "")
    page.script("document.querySelector('.save button').click()")
    page.wait(lambda: page.texts(".form-error"), "what is wrong is said")
    shoot_all(page, shots / "preferences-wrong")
    visit(page, "/")
    shoot_all(page, shots / "preferences-inbox")
    assert page.complaints() == []


def shoot_all(page: Page, path: Path) -> None:
    for scheme in ("light", "dark"):
        for width in (1440, 390):
            look(page, scheme, width)
            shoot(page, path.with_name(f"{path.name}-{width}-{scheme}.png"))


def look(page: Page, scheme: str, width: int) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def visit(page: Page, path: str) -> None:
    page.browser.get(page.site.url + path)


def shoot(page: Page, path: Path) -> None:
    """Nothing is wider than the window; the picture is of the whole page."""
    assert page.script("return document.documentElement.scrollWidth <= innerWidth")
    shot = page.browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    path.write_bytes(b64decode(shot["data"]))
