"""Links of a broadcast: shortened when it is sent, counted, and shown in its proof."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from broadcasts.models import Broadcast
from broadcasts.services import compose, duplicate, edit, send
from broadcasts.shortening import shortened
from domains.links.clicks import Visit, record
from domains.links.models import Link
from domains.links.services import create
from outbox.models import Event
from tests.factories import UserFactory, operator

pytestmark = pytest.mark.django_db

CONTENT = "See [the page](https://example.org/page), <https://example.org/other> and more."
BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36"
)


def sent(content: str = CONTENT, **fields: Any) -> Broadcast:
    UserFactory.create()
    return send(compose(None, title="News", content=content, **{"shorten_links": True} | fields))


def upper(url: str) -> str:
    return f"<{url}>"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[a](https://x.org/a)", "[a](<https://x.org/a>)"),
        ("[a](https://x.org/a_(b))", "[a](<https://x.org/a_(b)>)"),
        (
            "[a](https://x.org/a)[b](https://x.org/b)",
            "[a](<https://x.org/a>)[b](<https://x.org/b>)",
        ),
        ('[a](https://x.org "https")', '[a](<https://x.org> "https")'),
        ("[a][1]\n\n[1]: https://x.org/a", "[a][1]\n\n[1]: <https://x.org/a>"),
        ("Look: https://x.org/a.", "Look: <https://x.org/a>."),
        ("(https://x.org/a?b=c&d=e#f)!", "(<https://x.org/a?b=c&d=e#f>)!"),
        ("[a](https://x.org/a?b=1&amp;c=2)", "[a](<https://x.org/a?b=1&c=2>)"),
        (
            "[a](https://x.org/?a&amp;b)[c](https://x.org/d\\_e)!",
            "[a](<https://x.org/?a&b>)[c](<https://x.org/d_e>)!",
        ),
        ("[a](https://x.org/a)" * 200, "[a](<https://x.org/a>)" * 200),
        ("**https://x.org/a**", "**<https://x.org/a>**"),
        ("https://x.org/straße", "<https://x.org/straße>"),
        ("| a |\n|---|\n|https://x.org|", "| a |\n|---|\n|<https://x.org>|"),
        ("`https://x.org/a`", "`https://x.org/a`"),
        ("    https://x.org/a", "    https://x.org/a"),
        ("```\nhttps://x.org/a\n```", "```\nhttps://x.org/a\n```"),
        ("mailto:a@x.org ftp://x.org", "mailto:a@x.org ftp://x.org"),
        ("Nothing at all", "Nothing at all"),
    ],
)
def test_what_readers_see_as_a_link_is_replaced_and_nothing_else(
    content: str, expected: str
) -> None:
    assert shortened(content, upper) == expected


class Counted(set[str]):
    """What is looked up in it, in characters."""

    characters = 0

    def __contains__(self, address: object) -> bool:
        self.characters += len(str(address))
        return super().__contains__(address)


@pytest.mark.parametrize(
    "row",
    ["https://a.example/(x).", "https://x.org/a).", "[a](https://x.org/a)", "https://x.org/a&amp;"],
)
def test_twice_the_addresses_in_a_row_take_twice_the_work(
    row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(times: int) -> int:
        links = Counted({"https://x.org/a", "https://x.org/a?b=c"})
        monkeypatch.setattr("broadcasts.shortening.links_of", lambda _: links)
        shortened(f"https://x.org/a {row * times}", upper)
        return links.characters

    assert work(100) < 3 * work(50)


def test_links_are_looked_for_before_the_transaction_that_shortens_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[bool] = []

    def links_of(content: str) -> set[str]:
        looked.append(atomic_depth() > around)
        return set()

    around = atomic_depth()
    monkeypatch.setattr("broadcasts.shortening.links_of", links_of)
    german = {"de": {"title": "Neues", "content": "https://example.org/before/de"}}
    sent("https://example.org/before", translations=german)
    assert looked == [False, False]


def atomic_depth() -> int:
    return len(connection.atomic_blocks)


def test_links_are_shortened_in_all_languages_when_it_is_sent() -> None:
    german = {"de": {"title": "Neues", "content": "[Seite](https://example.org/page)"}}
    broadcast = sent(translations=german)
    page, other = Link.objects.order_by("id")
    broadcast.refresh_from_db()
    assert broadcast.content == f"See [the page]({page.short_url}), <{other.short_url}> and more."
    assert broadcast.translations["de"]["content"] == f"[Seite]({page.short_url})"
    assert (page.original_url, other.original_url) == (
        "https://example.org/page",
        "https://example.org/other",
    )
    assert {page.reference, other.reference} == {f"broadcast-{broadcast.pk}"}
    assert page.title == "News"
    message = Event.objects.get(type="broadcast.activated").data
    assert page.short_url in message["html"]
    assert "example.org/page" not in str(message)


def test_a_draft_and_one_that_does_not_ask_for_it_stay_as_they_are() -> None:
    draft = compose(None, title="Draft", content=CONTENT, shorten_links=True)
    plain = sent(shorten_links=False)
    assert draft.content == plain.content == CONTENT
    assert not Link.objects.exists()


def test_a_scheduled_one_is_shortened_once_when_it_is_scheduled() -> None:
    broadcast = sent(scheduled_at=timezone.now() + timedelta(hours=1))
    broadcast.refresh_from_db()
    assert broadcast.status == "SCHEDULED"
    assert Link.objects.count() == 2
    assert "example.org" not in broadcast.content


def test_a_copy_gets_links_of_its_own() -> None:
    first = sent()
    copy = duplicate(Broadcast.objects.get(pk=first.pk), None)
    send(edit(copy, shorten_links=True))
    references = set(Link.objects.values_list("reference", "original_url"))
    assert len(references) == Link.objects.count() == 4
    assert {reference for reference, _ in references} == {
        f"broadcast-{first.pk}",
        f"broadcast-{copy.pk}",
    }


def test_somebodys_own_short_link_stays_and_so_does_what_cannot_be_shortened() -> None:
    own = create("https://example.org", custom_alias="party")
    long = "https://example.org/" + "x" * 2_000
    broadcast = sent(f"<{own.short_url}> <{long}> <https://a:b@example.org>")
    broadcast.refresh_from_db()
    assert broadcast.content == f"<{own.short_url}> <{long}> <https://a:b@example.org>"


def test_where_nothing_shortens_links_no_form_offers_it_and_the_api_says_so(
    client: Client, settings: Settings
) -> None:
    client.force_login(User.objects.create_superuser("operator"))
    add = reverse("admin:broadcasts_broadcast_add")
    body = {"title": "News", "content": CONTENT, "shorten_links": True, "send": False}
    address = "/api/admin/broadcasts"
    assert "id_shorten_links" in client.get(add).content.decode()
    assert client.post(address, body, content_type="application/json").status_code == 201
    settings.LINK_SHORTENER = ""
    assert "id_shorten_links" not in client.get(add).content.decode()
    refused = client.post(address, body, content_type="application/json")
    assert refused.status_code == 400
    assert "shorten_links" in refused.json()["fields"]
    broadcast = sent()
    assert broadcast.content == CONTENT


def test_the_proof_says_which_links_were_followed_and_by_whom(client: Client) -> None:
    broadcast = sent()
    ann = User.objects.create_user("ann")
    page = Link.objects.earliest("id")
    now = timezone.now()
    record([Visit(page.pk, now, user_agent=BROWSER, user_id=pk) for pk in (ann.pk, ann.pk, None)])
    client.force_login(operator("broadcasts.view_broadcast"))
    shown = client.get(reverse("admin:broadcasts_broadcast_proof", args=[broadcast.pk]))
    text = shown.content.decode()
    assert "https://example.org/page" in text
    assert "Signed-in people who clicked: 1." in text
    assert ">ann</span>" in text
    stats = client.get(f"/api/admin/broadcasts/{broadcast.pk}/stats").json()
    assert [(one["clicks"], one["people"]) for one in stats["links"]] == [(3, 1), (0, 0)]
    other = sent(shorten_links=False)
    stats = client.get(f"/api/admin/broadcasts/{other.pk}/stats").json()
    assert stats["links"] is None


def test_the_proof_leads_to_the_statistics_of_a_link_only_who_may_see_them(client: Client) -> None:
    proof = reverse("admin:broadcasts_broadcast_proof", args=[sent().pk])
    statistics = reverse("admin:links_link_stats_one", args=[Link.objects.earliest("id").pk])
    for permissions, leads in (([], False), (["links.view_link"], True)):
        client.force_login(operator("broadcasts.view_broadcast", *permissions))
        text = client.get(proof).content.decode()
        assert "https://example.org/page" in text
        assert (f'href="{statistics}"' in text) is leads
        assert client.get(statistics).status_code == (200 if leads else 403)


def test_a_reader_who_clicks_in_the_inbox_is_known(client: Client) -> None:
    """Through the doors: the message's own link, followed by who is signed in."""
    from domains.links.clicks import collector

    broadcast = sent()
    reader = User.objects.create_user("reader")
    client.force_login(reader)
    (message,) = client.get("/api/user/messages").json()["results"]
    assert message["broadcast_id"] == broadcast.pk
    link = Link.objects.earliest("id")
    assert link.short_url in message["html"]
    collector._start = lambda: None  # type: ignore[method-assign]  # its thread sees no test's rows
    try:
        path = link.short_url.removeprefix("http://localhost:8000")
        answer = client.get(path, headers={"user-agent": BROWSER})
        collector.flush()
    finally:
        del collector._start
    assert answer["Location"] == "https://example.org/page"
    assert link.readers.get().user == reader


def test_an_operator_asks_for_it_in_the_form_and_sends_it(client: Client) -> None:
    client.force_login(User.objects.create_superuser("operator"))
    form = {"title": "News", "content": CONTENT, "priority": 20, "audience": "ALL"}
    add = reverse("admin:broadcasts_broadcast_add")
    client.post(add, form | {"shorten_links": "on", "_save": "1"})
    draft = Broadcast.objects.get()
    assert draft.shorten_links
    assert draft.content == CONTENT
    url = reverse("admin:broadcasts_broadcast_send_one", args=[draft.pk])
    client.post(url, {"confirmed": "yes", "version": draft.version})
    draft.refresh_from_db()
    assert draft.status == "ACTIVE"
    assert "example.org" not in draft.content
