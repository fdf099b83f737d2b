"""The client of streams in Chromium: several tabs, one connection, on a page of another site."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from selenium.webdriver import Chrome

from tests.elsewhere import Elsewhere
from tests.pages import Site
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
]

DISCONNECT = """
from connections.models import Connection
from connections.services import disconnect
disconnect(Connection.objects.active().get(), {reason!r}, reconnect={reconnect})
"""

SLEEP = "(() => { const now = Date.now; Date.now = () => now() + %d * 1000; })()"


@dataclass
class Tabs:
    browser: Chrome
    elsewhere: Elsewhere

    def open(self) -> str:
        if self.browser.current_url.startswith("http"):
            self.browser.switch_to.new_window("tab")
        self.browser.get(f"{self.elsewhere.url}/notes")
        tab = self.browser.current_window_handle
        self.wait_for("live", tab)
        return tab

    def close(self, tab: str) -> None:
        self.browser.switch_to.window(tab)
        self.browser.close()
        self.browser.switch_to.window(self.browser.window_handles[0])

    def ask(self, tab: str, code: str) -> Any:
        self.browser.switch_to.window(tab)
        return self.browser.execute_script(f"return {code}")

    def heard(self, tab: str) -> list[str]:
        return list(self.ask(tab, "window.heard"))

    def wait_for(self, state: str, *tabs: str) -> None:
        self.wait_until("window.client?.state", state, *tabs)

    def wait_until(self, code: str, value: object, *tabs: str) -> None:
        wait_until(
            lambda: all(self.ask(tab, code) == value for tab in tabs),
            message=f"{code} is {value} in each tab",
        )

    def wait_until_heard(self, titles: list[str], *tabs: str) -> None:
        wait_until(
            lambda: all(len(self.heard(tab)) >= len(titles) for tab in tabs),
            message=f"{titles} are heard",
        )
        for tab in tabs:
            assert self.heard(tab) == titles

    def suspend(self, tab: str, state: str) -> None:
        self.browser.switch_to.window(tab)
        self.browser.execute_cdp_cmd("Page.setWebLifecycleState", {"state": state})

    def offline(self, tab: str, *, offline: bool) -> None:
        self.browser.switch_to.window(tab)
        conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.browser.execute_cdp_cmd("Network.enable", {})
        self.browser.execute_cdp_cmd(
            "Network.emulateNetworkConditions", {"offline": offline, **conditions}
        )


@pytest.fixture
def site(elsewhere: Elsewhere) -> Site:
    return elsewhere.site


@pytest.fixture
def tabs(elsewhere: Elsewhere, browser: Chrome) -> Tabs:
    return Tabs(browser, elsewhere)


def one(streams: Callable[[], int]) -> None:
    wait_until(lambda: streams() == 1, message="there is one stream")


def test_tabs_share_one_stream_and_the_next_goes_on_where_the_first_ends(
    tabs: Tabs, site: Site
) -> None:
    first, second, third = tabs.open(), tabs.open(), tabs.open()
    assert site.streams == 1
    site.send("To all")
    tabs.wait_until_heard(["To all"], first, second, third)
    site.send("On the way 1", "On the way 2")
    tabs.close(first)
    site.send("Later")
    everything = ["To all", "On the way 1", "On the way 2", "Later"]
    tabs.wait_until_heard(everything, second, third)
    one(lambda: site.streams)
    tabs.close(second)
    site.send("Last")
    tabs.wait_until_heard([*everything, "Last"], third)
    one(lambda: site.streams)


def test_a_tab_that_is_looked_at_takes_over_from_one_that_is_suspended(
    tabs: Tabs, site: Site
) -> None:
    first, second = tabs.open(), tabs.open()
    tabs.suspend(first, "frozen")
    tabs.ask(second, SLEEP % 3_600)
    wait_until(lambda: site.streams == 2, message="the second has a stream")
    site.send("Good morning")
    tabs.wait_until_heard(["Good morning"], second)
    tabs.suspend(first, "active")
    tabs.wait_until_heard(["Good morning"], first)
    one(lambda: site.streams)


def test_the_server_says_how_long_a_stream_may_be_silent(tabs: Tabs, site: Site) -> None:
    site.kill_web()
    site.restart_web(SSE_HEARTBEAT="600", SSE_CLIENT_TIMEOUT="700")
    both = [tabs.open(), tabs.open()]
    for tab in both:
        tabs.ask(tab, SLEEP % 800)
    assert [tabs.ask(tab, "(client.wake(), client.state)") for tab in both] == ["live", "live"]
    for tab in both:
        tabs.ask(tab, SLEEP % 200)
    assert tabs.ask(both[1], "(client.wake(), client.state)") == "connecting"
    tabs.wait_for("live", *both)


def test_another_person_in_the_same_browser_has_a_stream_of_their_own(
    tabs: Tabs, site: Site
) -> None:
    first, second = tabs.open(), tabs.open()
    tabs.ask(second, "client.follow({ user: 'somebody else', position: 0 })")
    tabs.wait_for("signed_out", second)  # the server says who it really is
    site.send("Hello")
    tabs.wait_until_heard(["Hello"], first)
    assert tabs.heard(second) == []


def test_who_was_away_for_too_long_is_told_to_fetch_again_once_in_each_tab(
    tabs: Tabs, site: Site
) -> None:
    first, second = tabs.open(), tabs.open()
    site.kill_web()
    tabs.wait_for("offline", first, second)
    site.send("Missed 1", "Missed 2", "Missed 3")
    site.restart_web(SSE_REPLAY_LIMIT="1")
    tabs.wait_for("live", first, second)
    tabs.wait_until("resets", 1, first, second)
    site.send("After")
    tabs.wait_until_heard(["After"], first, second)


def test_a_network_that_is_away_costs_no_message(tabs: Tabs, site: Site) -> None:
    tab = tabs.open()
    tabs.offline(tab, offline=True)
    tabs.wait_for("offline", tab)
    site.send("Meanwhile")
    tabs.offline(tab, offline=False)
    tabs.wait_for("live", tab)
    site.send("Again")
    tabs.wait_until_heard(["Meanwhile", "Again"], tab)


def test_force_logoff_ends_every_tab(tabs: Tabs, site: Site) -> None:
    first, second = tabs.open(), tabs.open()
    site.send("Go home", fire_and_forget=True, force_logoff=True)
    tabs.wait_for("signed_out", first, second)
    tabs.wait_until_heard(["Go home"], first, second)
    wait_until(lambda: site.streams == 0, message="no stream is left")


def test_a_stream_that_an_operator_ends_returns_only_if_it_may(tabs: Tabs, site: Site) -> None:
    first, second = tabs.open(), tabs.open()
    site.code(DISCONNECT.format(reason="other rights", reconnect=True))
    tabs.wait_until("resets", 1, first, second)
    tabs.wait_for("live", first, second)
    one(lambda: site.streams)
    site.code(DISCONNECT.format(reason="enough", reconnect=False))
    tabs.wait_for("ended", first, second)
    wait_until(lambda: site.streams == 0, message="no stream is left")
