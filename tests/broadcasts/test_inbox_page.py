"""The page in Chromium, against the processes that serve it."""

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

CANCEL = """
from broadcasts.models import Broadcast
from broadcasts.services import cancel
cancel(Broadcast.objects.get(title={title!r}))
"""
SEEN = """
from broadcasts.models import Receipt
print(Receipt.objects.exclude(seen_at=None).count())
"""
NOTE_ARRIVALS = """
window.arrivals = {};
new MutationObserver((changes) => {
  for (const { addedNodes } of changes)
    for (const node of addedNodes)
      arrivals[node.querySelector(".title").textContent] =
        (Date.now() - new Date(node.querySelector(".sent").dateTime)) / 1000;
}).observe(document.getElementById("messages"), { childList: true });
"""
NOTE_NOTICES = """
window.notices = [];
new MutationObserver((changes) => {
  for (const { addedNodes } of changes)
    for (const node of addedNodes) notices.push(node.querySelector("p").textContent);
}).observe(document.getElementById("notices"), { childList: true });
"""
COUNT_STREAMS = """
window.streams = 0;
const Native = EventSource;
window.EventSource = class extends Native {
  constructor(...all) { super(...all); window.streams += 1; }
};
"""
SLEEP_FOR_AN_HOUR = "const now = Date.now; Date.now = () => now() + 3600 * 1000;"


@pytest.fixture
def site(live_database: Environment, free_port: int, spawn: Spawn) -> Site:
    # DEBUG, as `make run` has it, serves static files without collecting them.
    return Site(live_database | {"DEBUG": "true"}, free_port, spawn).start()


@pytest.fixture
def page(site: Site, browser: Chrome) -> Page:
    page = Page(browser, site)
    page.sign_in()
    return page


def test_a_broadcast_appears_within_seconds_and_leaves_when_cancelled(page: Page) -> None:
    assert page.shows("#empty-nothing")
    page.script(NOTE_ARRIVALS)
    page.script(NOTE_NOTICES)
    page.site.send("Fire drill", content="Use the **stairs**", reference="SAFE-1")
    page.wait(lambda: page.titles == ["Fire drill"], "the message is on the page")
    assert page.script("return arrivals['Fire drill']") < 10  # a benchmark says how soon
    assert page.find(".message .body strong").text == "stairs"
    assert page.browser.title.startswith("(1)")
    assert page.texts("#polite p") == ["New message: Fire drill"]
    page.site.code(CANCEL.format(title="Fire drill"))
    page.wait(lambda: page.titles == [], "the message is gone")
    assert page.script("return notices") == ["“Fire drill” was withdrawn."]
    assert page.browser.title.startswith("Inbox")
    assert page.complaints() == []


def test_what_is_read_or_dismissed_in_one_window_is_so_in_the_other(page: Page) -> None:
    first = page.browser.current_window_handle
    page.browser.switch_to.new_window("window")
    second = page.browser.current_window_handle
    page.open()
    page.wait(page.is_live, "the second window is live")
    assert page.site.streams == 1
    page.site.send("Older", "Newer")
    page.wait(lambda: page.unread == ["Newer", "Older"], "the second window has them")
    page.browser.switch_to.window(first)
    page.wait(lambda: page.unread == ["Newer", "Older"], "the first window has them")
    page.click("[data-action=read]")
    page.browser.switch_to.window(second)
    page.wait(lambda: page.unread == ["Older"], "it is read in the second window")
    page.wait(lambda: page.browser.title.startswith("(1)"), "the second window counts one")
    page.click(".unread-message [data-action=dismiss]")
    page.browser.switch_to.window(first)
    page.wait(lambda: page.titles == ["Newer"], "it is gone from the first window")
    page.open()
    page.wait(lambda: page.titles == ["Newer"], "the page is loaded again")
    assert page.unread == []


def test_after_a_kill_the_page_comes_back_with_each_message_once(page: Page) -> None:
    page.site.send("Before")
    page.wait(lambda: page.titles == ["Before"], "the first is there")
    page.site.kill_web()
    page.wait(lambda: page.state == "offline", "the page knows")
    page.site.send("Meanwhile 1", "Meanwhile 2", "Meanwhile 3")
    page.site.restart_web()
    page.wait(page.is_live, "the page is live again")
    page.site.send("After")
    expected = ["After", "Meanwhile 3", "Meanwhile 2", "Meanwhile 1", "Before"]
    page.wait(lambda: len(page.titles) >= len(expected), "all are there")
    assert page.titles == expected
    assert page.browser.title.startswith("(5)")


def test_a_read_that_failed_is_rolled_back_and_can_be_tried_again(page: Page) -> None:
    page.site.send("Only one")
    page.wait(lambda: page.unread == ["Only one"], "it is there")
    page.site.kill_web()
    page.click("[data-action=read]")
    page.wait(lambda: page.shows("#failure"), "the failure is shown")
    assert page.unread == ["Only one"]
    assert "it is still unread" in page.find("#failure-text").text
    page.site.restart_web()
    page.click("#failure-retry")
    page.wait(lambda: page.unread == [], "it is read")
    page.wait(page.is_live, "the page is live again")
    page.open()
    page.wait(lambda: page.titles == ["Only one"], "the page is loaded again")
    assert page.unread == []


def test_after_a_sleep_the_stream_is_opened_again(page: Page) -> None:
    page.script(COUNT_STREAMS)
    page.script(SLEEP_FOR_AN_HOUR)
    page.wait(lambda: page.script("return streams") == 1, "the stream is opened again")
    page.wait(page.is_live, "the page is live again")
    page.site.send("Good morning")
    page.wait(lambda: page.titles == ["Good morning"], "it is there")


def test_what_was_on_screen_is_reported_as_seen(page: Page) -> None:
    page.site.send("Look here")
    page.wait(lambda: page.titles == ["Look here"], "it is there")
    page.wait(lambda: page.site.code(SEEN).strip() == "1", "it counts as seen")
    assert page.unread == ["Look here"]


def test_a_passing_message_is_a_banner_and_force_logoff_signs_out(page: Page) -> None:
    page.site.send("Coffee is ready", fire_and_forget=True)
    page.wait(lambda: page.texts(".banner .title") == ["Coffee is ready"], "the banner is there")
    assert page.titles == []
    page.click(".banner button")
    assert page.texts(".banner") == []
    page.site.send("Maintenance begins", fire_and_forget=True, force_logoff=True)
    page.wait(lambda: page.shows("#farewell"), "the page says goodbye")
    assert page.find("#farewell-title").text == "You have been signed out: Maintenance begins"
    page.open()
    assert "/login" in page.browser.current_url


def test_search_and_filter_show_what_matches_and_say_when_nothing_does(page: Page) -> None:
    page.site.send("Apples", "Pears")
    page.wait(lambda: page.titles == ["Pears", "Apples"], "both are there")
    page.find("#search").send_keys("apple")
    page.wait(lambda: page.titles == ["Apples"], "one is found")
    page.find("#search").send_keys("sauce")
    page.wait(lambda: page.shows("#empty-found"), "nothing is found")
    page.click("#clear")
    page.wait(lambda: page.titles == ["Pears", "Apples"], "both are back")
    page.click("#read-all")
    page.wait(lambda: page.unread == [], "all are read")
    page.click("[name=state][value=unread] + span")
    page.wait(lambda: page.shows("#empty-read"), "nothing is unread")


def test_pages_are_loaded_until_there_are_no_more(page: Page) -> None:
    page.site.send(*[f"Number {n}" for n in range(30)])
    page.wait(lambda: len(page.titles) == 30, "all have arrived")
    page.open()
    page.wait(lambda: len(page.titles) == 25, "the first page is there")
    page.script("document.getElementById('load-more').click()")
    page.wait(lambda: len(page.titles) == 30, "the second page is there")
    assert page.titles == [f"Number {n}" for n in reversed(range(30))]
    assert not page.shows("#load-more")


def test_a_long_text_fits_a_phone_and_is_cut_until_asked_for(page: Page) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    table = f"|a|b|\n|-|-|\n|{'wide ' * 50}|{'x' * 200}|\n\n"
    page.site.send("Long" * 40, content=table + "Line\n\n" * 40 + f"`{'y' * 300}`")
    page.wait(lambda: page.shows(".expand"), "it offers to show all")
    assert page.script("return document.documentElement.scrollWidth") == 390
    before = page.find(".message .body").size["height"]
    page.script("document.querySelector('.expand').click()")
    assert page.find(".message .body").size["height"] > before * 2
    assert page.find(".expand").get_attribute("aria-expanded") == "true"
    assert page.script("return document.documentElement.scrollWidth") == 390
