"""The form of a draft in Chromium: what is typed is not lost, not overwritten, and approved."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from broadcasts.models import Broadcast
from tests.conftest import Spawn
from tests.live import database_of
from tests.processes import Environment
from tests.sse import run_code
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
]

PEOPLE = """
from django.apps import apps
from django.contrib.auth.models import Group, User
from broadcasts import roles
roles.create(apps)
for name, role in [("ann", "Composers"), ("bob", "Composers"), ("cleo", "Approvers")]:
    person = User.objects.create_user(name, password=name, is_staff=True)
    person.groups.add(Group.objects.get(name=role))
"""
LIST = "/admin/broadcasts/broadcast/"
ADD = f"{LIST}add/"
COPIES = "return Object.keys(localStorage).filter((key) => key.startsWith('broadcast-copy:'))"
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}


@dataclass
class Desk:
    """Somebody at the console."""

    browser: Chrome
    root: str

    def sign_in(self, name: str) -> "Desk":
        self.open("/admin/login/")
        self.type("username", name)
        self.type("password", name + Keys.ENTER)
        wait_until(lambda: "/login/" not in self.address, message=f"{name} is signed in")
        return self

    def open(self, path: str) -> None:
        self.browser.execute_script("window.onbeforeunload = null")
        self.browser.get(self.root + path)

    @property
    def address(self) -> str:
        return str(self.browser.current_url).removeprefix(self.root)

    def type(self, name: str, text: str) -> None:
        field = self.browser.find_element(By.NAME, name)
        field.clear()
        field.send_keys(text)

    def value(self, name: str) -> str:
        return str(self.browser.find_element(By.NAME, name).get_attribute("value"))

    def press(self, selector: str) -> None:
        script = "document.querySelector(arguments[0]).click()"
        self.browser.execute_script(script, selector)

    def follow(self, text: str) -> None:
        script = (
            "[...document.querySelectorAll('main a, #main a, a, button')]"
            ".find((one) => one.textContent.trim() === arguments[0]).click()"
        )
        self.browser.execute_script(script, text)

    def sees(self, *words: str) -> None:
        script = "return document.body?.innerText ?? ''"
        wait_until(
            lambda: all(word in self.browser.execute_script(script) for word in words),
            message=f"the page says {words}",
        )

    def copies(self) -> list[str]:
        return list(self.browser.execute_script(COPIES))

    def typed(self, name: str, text: str) -> None:
        """Typed, and kept by the browser."""
        self.type(name, text)
        kept = "return Object.values(localStorage).some((text) => text.includes(arguments[0]))"
        wait_until(lambda: self.browser.execute_script(kept, text), message=f"{text} is kept")

    def save(self) -> None:
        self.press("[name=_save]")

    def width(self) -> int:
        return int(self.browser.execute_script("return document.documentElement.scrollWidth"))


@pytest.fixture
def env(live_database: Environment) -> Environment:
    # DEBUG, as `make run` has it, serves static files without collecting them.
    return live_database | {"DEBUG": "true", "BROADCAST_APPROVAL_FOR": "ALL"}


@pytest.fixture
def desk(
    env: Environment, free_port: int, spawn: Spawn, new_browser: Callable[[], Chrome]
) -> Iterator[Callable[[str], Desk]]:
    web = spawn(["web", "--port", str(free_port)], env)
    run_code(PEOPLE, env)  # while it starts
    wait_until(lambda: "Listening" in web.output(), message="web listens")
    desks: list[Desk] = []

    def sit_down(name: str) -> Desk:
        desks.append(Desk(new_browser(), f"http://127.0.0.1:{free_port}").sign_in(name))
        return desks[-1]

    yield sit_down
    for one in desks:
        logged = one.browser.get_log("browser")
        assert not [entry for entry in logged if entry["level"] == "SEVERE"]


def only_draft(env: Environment) -> Broadcast:
    with database_of(env):
        return Broadcast.objects.get()


def test_what_was_typed_survives_a_closed_tab_and_is_forgotten_once_saved(
    desk: Callable[[str], Desk], env: Environment
) -> None:
    ann = desk("ann")
    ann.open(ADD)
    ann.press("[name=audience][value=SELECTED]")
    ann.type("targets_pasted", "bob")
    ann.press("[name=fire_and_forget]")
    ann.typed("title", "Long thoughts")
    before = ann.browser.current_window_handle
    ann.browser.switch_to.new_window("tab")
    other = ann.browser.current_window_handle
    ann.browser.switch_to.window(before)
    ann.browser.close()
    ann.browser.switch_to.window(other)

    ann.open(ADD)
    ann.sees("was never saved: “Long thoughts”")
    assert ann.value("title") == ""
    ann.follow("Restore it")
    wait_until(lambda: ann.value("title") == "Long thoughts", message="it is restored")
    ann.sees("It reaches 1 person.")
    ann.press("[name=force_logoff]")
    ann.press("[name=fire_and_forget]")
    ann.save()  # refused: what was typed stays, and stays kept
    ann.sees("Please correct the error")
    assert (ann.value("title"), len(ann.copies())) == ("Long thoughts", 1)
    ann.press("[name=force_logoff]")
    ann.save()
    ann.sees("Draft saved.")
    assert ann.copies() == []
    draft = only_draft(env)
    assert (draft.title, draft.audience, len(draft.targets)) == ("Long thoughts", "SELECTED", 1)
    ann.open(ADD)
    assert "never saved" not in ann.browser.page_source.split("data-copies")[0]
    assert not ann.browser.find_elements(By.CSS_SELECTOR, "[data-offered]")


def test_a_restored_copy_brings_its_translations(
    desk: Callable[[str], Desk], env: Environment
) -> None:
    ann = desk("ann")
    ann.open(ADD)
    ann.press("[data-translations-add]")
    ann.browser.execute_script(
        "document.getElementsByName('translations_language')[0].value = 'de'"
    )
    ann.type("translations_title", "Wartung")
    ann.typed("title", "Maintenance")
    ann.open(ADD)
    ann.sees("was never saved: “Maintenance”")
    ann.follow("Restore it")
    wait_until(lambda: ann.value("title") == "Maintenance", message="it is restored")
    assert ann.value("translations_title") == "Wartung"
    ann.save()
    ann.sees("Draft saved.")
    assert only_draft(env).translations == {"de": {"title": "Wartung", "content": ""}}


def test_a_copy_is_offered_to_its_person_alone_and_can_be_discarded(
    desk: Callable[[str], Desk],
) -> None:
    ann = desk("ann")
    ann.open(ADD)
    ann.typed("title", "Secret")
    ann.browser.delete_all_cookies()
    bob = ann.sign_in("bob")
    bob.open(ADD)
    assert not bob.browser.find_elements(By.CSS_SELECTOR, "[data-offered]")
    bob.browser.delete_all_cookies()
    ann = bob.sign_in("ann")
    ann.open(ADD)
    ann.follow("Discard it")
    wait_until(lambda: ann.copies() == [], message="it is discarded")


def test_the_second_of_two_is_told_and_overwrites_nothing(
    desk: Callable[[str], Desk], env: Environment
) -> None:
    ann, bob = desk("ann"), desk("bob")
    ann.open(ADD)
    ann.type("title", "Draft of Ann")
    ann.save()
    ann.sees("Draft saved.")
    bob.open(ann.address)
    bob.sees("ann has this draft open, too.")
    bob.typed("title", "As Bob wants it")
    ann.type("title", "As Ann wants it")
    ann.save()
    ann.sees("Draft saved.")
    bob.save()
    bob.sees("Not saved: ann changed it at", "As Ann wants it")
    assert bob.value("title") == "As Bob wants it"
    assert only_draft(env).title == "As Ann wants it"
    bob.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    assert bob.width() == 390
    bob.save()
    bob.sees("Draft saved.")
    assert only_draft(env).title == "As Bob wants it"


def test_what_was_typed_into_a_draft_that_is_sent_meanwhile_becomes_a_new_one(
    desk: Callable[[str], Desk], env: Environment
) -> None:
    ann = desk("ann")
    ann.open(ADD)
    ann.type("title", "Going out")
    ann.save()
    ann.sees("Draft saved.")
    ann.typed("content", "One more sentence")
    with database_of(env):
        Broadcast.objects.update(status="CANCELLED")
    ann.save()
    ann.sees("it is no draft any more", "was never saved: “Going out”")
    ann.follow("Open it as a new draft")
    ann.sees("was never saved: “Going out”")
    ann.follow("Restore it")
    wait_until(lambda: ann.value("content") == "One more sentence", message="it is restored")


def test_people_join_from_a_spreadsheet_and_who_is_unknown_is_named(
    desk: Callable[[str], Desk], env: Environment, tmp_path: Path
) -> None:
    file = tmp_path / "people.csv"
    file.write_bytes("Name;Login\r\nAnn;ann\r\nJürgen;jürgen\r\nBob;bob\r\n".encode("cp1252"))
    ann = desk("ann")
    ann.open(ADD)
    ann.type("title", "To some")
    ann.press("[name=audience][value=SELECTED]")
    ann.browser.find_element(By.ID, "id_targets_file").send_keys(str(file))
    ann.sees("2 people were added. 1 was not found.", "Line 3: jürgen", "It reaches 2 people.")
    download = "return fetch(document.querySelector('[data-download]').href).then((r) => r.text())"
    assert "jürgen" in ann.browser.execute_script(download)
    file.write_bytes(b"PK\x03\x04")
    ann.browser.find_element(By.ID, "id_targets_file").send_keys(str(file))
    ann.sees("save it as CSV first", "It reaches 2 people.")
    ann.save()
    ann.sees("Draft saved.")
    assert len(only_draft(env).targets) == 2


def test_a_broadcast_goes_out_after_a_second_person_approved(
    desk: Callable[[str], Desk], env: Environment
) -> None:
    ann, cleo = desk("ann"), desk("cleo")
    ann.open(ADD)
    ann.type("title", "To everyone")
    ann.press("[name=_send]")
    ann.sees("It needs an approval first", "It is for everyone.")
    ann.type("comment", "Please today")
    ann.press(".console-question [type=submit]")
    ann.sees("Waits for approval".upper())
    cleo.open("/admin/")
    cleo.sees("Waiting for approval")
    cleo.open(ann.address)
    cleo.sees("Please today", "As its readers see it")
    cleo.follow("Approve")
    cleo.sees("Approve this broadcast?")
    cleo.press(".console-question [type=submit]")
    cleo.sees("Approved.")
    ann.press("[name=_send]")
    ann.sees("Send this broadcast now?")
    ann.press(".console-question [type=submit]")
    wait_until(lambda: only_draft(env).status == "ACTIVE", message="it is out")
