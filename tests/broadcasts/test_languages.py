"""A text in several languages: who reads which, in the inbox and in the stream alike."""

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from selenium.webdriver import Chrome

from broadcasts.languages import best_of
from broadcasts.services import compose, duplicate
from outbox.models import Event
from tests.conftest import Spawn
from tests.factories import ActiveFactory, DraftFactory, UserFactory
from tests.pages import Page, Site
from tests.processes import Environment

MESSAGES = "/api/user/messages"
TRANSLATIONS = {
    "de": {"title": "Guten Morgen", "content": "*Grüße*"},
    "pt-br": {"title": "Bom dia", "content": ""},
}
HELLO = {"title": "Good morning", "content": "*Hi*", "translations": TRANSLATIONS}

CHOICES = [  # what there is, what is wanted, what is chosen
    (["en", "de"], ["de"], "de"),
    (["en", "de"], ["de-AT"], "de"),
    (["en", "de", "de-at"], ["de-AT", "en"], "de-at"),
    (["en", "pt-br", "pt-ao"], ["pt"], "pt-ao"),
    (["en", "pt-br"], ["pt-PT", "en"], "pt-br"),
    (["en", "de"], ["fr", "en", "de"], "en"),
    (["en", "zh-hant"], ["zh-Hant-TW"], "zh-hant"),
    (["en", "den"], ["de"], None),
    (["en"], [], None),
]


@pytest.mark.parametrize(("available", "wanted", "chosen"), CHOICES)
def test_the_best_of_the_wanted_languages_is_chosen(available, wanted, chosen):
    assert best_of(available, wanted) == chosen


def titles(client: Client, accept: str = "", **query: str) -> list[str]:
    body = client.get(MESSAGES, query, headers={"Accept-Language": accept}).json()
    return [message["title"] for message in body["results"]]


@pytest.fixture
def reader(client: Client) -> User:
    user = UserFactory.create()
    client.force_login(user)
    return user


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("accept", "title"),
    [
        ("de", "Guten Morgen"),
        ("de-CH, fr;q=0.9", "Guten Morgen"),
        ("fr, pt;q=0.5", "Bom dia"),
        ("en, de;q=0.9", "Good morning"),
        ("fr", "Good morning"),
        ("de;q=0", "Good morning"),
        ("", "Good morning"),
        ("*", "Good morning"),
        ("x" * 5_000, "Good morning"),
        ("de;q=x", "Good morning"),
    ],
)
def test_the_inbox_is_in_the_reader_s_language(client, reader, accept, title):
    ActiveFactory.create(**HELLO)
    assert titles(client, accept) == [title]


@pytest.mark.django_db
def test_who_asks_for_a_language_gets_it_before_those_of_the_browser(client, reader):
    ActiveFactory.create(**HELLO)
    assert titles(client, "en", language="de") == ["Guten Morgen"]
    assert titles(client, "en", language="'; DROP") == ["Good morning"]


@pytest.mark.django_db
def test_a_message_of_the_inbox_has_one_language_and_says_which(client, reader):
    ActiveFactory.create(**HELLO)
    body = client.get(MESSAGES, headers={"Accept-Language": "de-AT, en;q=0.8"}).json()
    message = body["results"][0]
    assert (message["language"], message["content"]) == ("de", "*Grüße*")
    assert message["html"] == "<p><em>Grüße</em></p>\n"
    assert "translations" not in message
    assert body["languages"] == ["de-at", "en"]


@pytest.mark.django_db
def test_a_message_is_found_by_the_words_that_its_reader_sees(client, reader):
    ActiveFactory.create(**HELLO)
    assert titles(client, "de", search="grüße guten") == ["Guten Morgen"]
    assert titles(client, "de-AT", search="guten") == ["Guten Morgen"]
    assert titles(client, "en", search="guten") == []
    assert titles(client, "de", search="title") == []


@pytest.mark.django_db
def test_languages_cost_no_query(client, reader):
    ActiveFactory.create()
    titles(client)
    with CaptureQueriesContext(connection) as plain:
        titles(client)
    ActiveFactory.create_batch(5, **HELLO)
    titles(client)
    with CaptureQueriesContext(connection) as translated:
        titles(client, "de, en, fr")
    assert len(translated) == len(plain)


@pytest.mark.django_db
def test_one_event_has_all_languages_for_all_readers(reader):
    UserFactory.create_batch(2)
    ActiveFactory.create(**HELLO)
    data = Event.objects.get(type="broadcast.activated").data  # one, whatever they read
    assert (data["title"], data["language"]) == ("Good morning", "en")
    assert data["translations"]["de"] == {
        "title": "Guten Morgen",
        "content": "*Grüße*",
        "html": "<p><em>Grüße</em></p>\n",
    }


@pytest.mark.django_db
def test_a_copy_has_the_translations(reader):
    copy = duplicate(DraftFactory.create(**HELLO, language="en"), None)
    assert (copy.translations, copy.language) == (TRANSLATIONS, "en")


@pytest.mark.django_db
def test_a_text_of_another_language_can_be_the_one_for_all(client, reader):
    ActiveFactory.create(title="Bonjour", language="fr", translations=TRANSLATIONS)
    assert titles(client, "en") == ["Bonjour"]
    assert titles(client, "en, fr;q=0.5, de;q=0.2") == ["Bonjour"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"language": "English"}, "language", "is no language: write en, de or pt-br"),
        ({"translations": {"Deutsch": {}}}, "translations", "“Deutsch” is no language"),
        ({"translations": {"de": {"title": "Hallo"}}}, "translations", "de: a title and a content"),
        ({"translations": {"de": {"title": " ", "content": ""}}}, "translations", "is missing"),
        ({"translations": {"de": {"title": "x" * 201, "content": ""}}}, "translations", "200"),
        ({"translations": {"de": {"title": 1, "content": ""}}}, "translations", "are texts"),
        ({"translations": {"de": "Hallo"}}, "translations", "a title and a content"),
        ({"translations": {"en": {"title": "Hi", "content": ""}}}, "translations", "itself is in"),
        ({"translations": ["de"]}, "translations", "by language"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_language_is_said(fields, field, words):
    with pytest.raises(ValidationError, match=words) as caught:
        compose(None, title="Hello", **fields)
    assert list(caught.value.message_dict) == [field]


@pytest.mark.django_db
def test_all_languages_together_have_the_size_of_one_content(settings):
    settings.BROADCAST_CONTENT_MAX_BYTES = 100
    half = {"de": {"title": "Hallo", "content": "x" * 51}}
    with pytest.raises(ValidationError, match="101 bytes in all its languages together"):
        compose(None, title="Hello", content="x" * 50, translations=half)


# In Chromium


GERMAN = {"userAgent": "Chromium", "acceptLanguage": "de-AT,en"}


@pytest.fixture
def site(live_database: Environment, free_port: int, spawn: Spawn) -> Site:
    return Site(live_database | {"DEBUG": "true"}, free_port, spawn).start()


@pytest.mark.chromium
@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_stream_and_inbox_are_in_the_language_of_the_browser(site: Site, browser: Chrome) -> None:
    browser.execute_cdp_cmd("Emulation.setUserAgentOverride", GERMAN)
    page = Page(browser, site)
    page.sign_in()
    site.send("Good morning", content="*Hi*", translations=TRANSLATIONS)
    page.wait(lambda: page.titles == ["Guten Morgen"], "the stream's message is German")
    assert page.find(".message .body em").text == "Grüße"
    assert page.find(".message .title").get_attribute("lang") == "de"
    page.open()
    page.wait(lambda: page.titles == ["Guten Morgen"], "the inbox's message is German")
    assert page.complaints() == []


@pytest.mark.chromium
@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_the_client_chooses_as_the_inbox_does(site: Site, browser: Chrome) -> None:
    page = Page(browser, site)
    page.open()
    choose = """
    const [cases, done] = arguments;
    import("/static/broadcast/language.js").then(({ bestOf }) =>
      done(cases.map(([available, wanted]) => bestOf(available, wanted))));
    """
    cases = [[available, wanted] for available, wanted, _ in CHOICES]
    assert browser.execute_async_script(choose, cases) == [chosen for *_, chosen in CHOICES]
