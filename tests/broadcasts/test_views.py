import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.test import Client, override_settings

from broadcasts.views import TEXTS

pytestmark = pytest.mark.django_db

SCRIPTS = Path(str(finders.find("broadcast/inbox.js"))).parent


@pytest.fixture
def reader() -> User:
    return User.objects.create_user("reader", password="secret")


@pytest.fixture
def signed_in(client: Client, reader: User) -> Client:
    client.force_login(reader)
    return client


class Inline(HTMLParser):
    """Collects what a strict policy would block."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        code = tag == "script" and "src" not in names and names.get("type") != "application/json"
        if tag == "style" or code or any(n == "style" or n.startswith("on") for n in names):
            self.found.append(tag)


def test_a_visitor_is_asked_to_sign_in(client: Client) -> None:
    assert client.get("/").headers["Location"] == "/login?next=/"


def test_signing_in_leads_to_the_inbox(client: Client, reader: User) -> None:
    response = client.post("/login", {"username": "reader", "password": "secret", "next": "/"})
    assert response.headers["Location"] == "/"


def test_a_wrong_password_says_so(client: Client, reader: User) -> None:
    response = client.post("/login", {"username": "reader", "password": "wrong"})
    assert 'role="alert"' in response.content.decode()


def test_who_is_signed_in_is_not_asked_again(signed_in: Client) -> None:
    assert signed_in.get("/login").headers["Location"] == "/"


def test_signing_out_needs_a_post_and_leads_to_sign_in(signed_in: Client) -> None:
    assert signed_in.get("/logout").status_code == 405
    assert signed_in.post("/logout").headers["Location"] == "/login"
    assert signed_in.get("/").status_code == 302


@pytest.mark.parametrize("debug", [True, False])
def test_demo_logins_are_named_only_in_debug(client: Client, debug: bool) -> None:
    with override_settings(DEBUG=debug):
        assert ("user-001" in client.get("/login").content.decode()) is debug


@pytest.mark.parametrize("staff", [True, False])
def test_only_staff_see_the_way_to_the_admin(signed_in: Client, reader: User, staff: bool) -> None:
    User.objects.filter(pk=reader.pk).update(is_staff=staff)
    assert ('href="/admin/"' in signed_in.get("/").content.decode()) is staff


@pytest.mark.parametrize("path", ["/", "/login"])
def test_the_policy_allows_nothing_inline_and_the_page_has_nothing(
    client: Client, reader: User, path: str
) -> None:
    if path == "/":
        client.force_login(reader)
    response = client.get(path)
    policy = response.headers["Content-Security-Policy"]
    inline = Inline()
    inline.feed(response.content.decode())
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert inline.found == []


def test_the_inbox_is_not_kept_by_the_browser(signed_in: Client) -> None:
    assert "no-store" in signed_in.get("/").headers["Cache-Control"]


def test_the_page_itself_asks_only_for_session_and_user(
    signed_in: Client, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(2):
        signed_in.get("/")


def test_every_text_that_the_scripts_ask_for_exists(signed_in: Client) -> None:
    page = signed_in.get("/").content.decode()
    sent = json.loads(re.search(r'id="texts"[^>]*>(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    scripts = "".join(path.read_text() for path in SCRIPTS.glob("*.js"))
    asked = set(re.findall(r'text\(\s*"(\w+)"', scripts))
    assert asked
    assert asked <= set(sent) == set(TEXTS)
    states = set(re.findall(r'(?:State|close)\("(\w+)"', scripts))
    assert states
    assert {f"state_{state}" for state in states} <= set(sent)


def test_every_element_that_the_scripts_look_up_exists(signed_in: Client) -> None:
    for path in SCRIPTS.glob("*.js"):
        own = "/preferences" if path.stem == "preferences" else "/"
        page = signed_in.get(own).content.decode()
        for name in re.findall(r'(?:byId|getElementById)\("([\w-]+)"\)', path.read_text()):
            assert f'id="{name}"' in page, f"{path.name} looks for #{name}"
