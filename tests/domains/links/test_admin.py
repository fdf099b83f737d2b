from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from domains.links.clicks import Visit, record
from domains.links.models import Link, State
from tests.domains.links.conftest import CHROME, link
from tests.factories import operator

pytestmark = pytest.mark.django_db

LIST = reverse("admin:links_link_changelist")
ADD = reverse("admin:links_link_add")
FORM = {"original_url": "https://example.org/page", "is_active": "on", "title": "A party"}


@pytest.fixture(autouse=True)
def boss(client: Client) -> User:
    user = User.objects.create_superuser("operator")
    client.force_login(user)
    return user


def change(made: Link) -> str:
    return reverse("admin:links_link_change", args=[made.pk])


def stats(made: Link) -> str:
    return reverse("admin:links_link_stats_one", args=[made.pk])


def act(client: Client, action: str, *links: Link) -> str:
    data = {"action": action, "_selected_action": [one.pk for one in links]}
    return client.post(LIST, data, follow=True).content.decode()


def test_a_link_is_made_and_leads_there_at_once(client: Client, boss: User) -> None:
    answer = client.post(ADD, FORM | {"custom_alias": "Party"})
    assert answer.status_code == 302, answer.context["errors"]
    made = Link.objects.get()
    assert (made.custom_alias, made.created_by) == ("party", boss)
    assert client.get("/s/party")["Location"] == FORM["original_url"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"original_url": "example.org"}, "begins with https:// or http://"),
        ({"custom_alias": "taken"}, "Another link has this name"),
        ({"custom_alias": "a/b"}, "Letters (a to z), digits"),
        ({"expires_at_0": "2020-01-01", "expires_at_1": "00:00"}, "This has passed"),
    ],
)
def test_what_is_wrong_is_said_in_the_form(
    client: Client, fields: dict[str, Any], said: str
) -> None:
    link(custom_alias="taken")
    assert said in client.post(ADD, FORM | fields).content.decode()
    assert said in client.post(change(link()), FORM | fields).content.decode()
    assert not Link.objects.filter(title="A party").exists()


def test_a_code_of_another_link_is_no_alias(client: Client) -> None:
    other = link()
    answer = client.post(ADD, FORM | {"custom_alias": other.short_code})
    assert "Another link has this name" in answer.content.decode()


def test_a_change_writes_what_was_changed_alone(client: Client) -> None:
    made = link()
    page = client.get(change(made))
    assert made.short_url in page.content.decode()
    Link.objects.update(click_count=5)
    client.post(change(made), FORM | {"original_url": made.original_url, "title": "New"})
    made.refresh_from_db()
    assert (made.title, made.click_count) == ("New", 5)


def test_the_list_says_the_state_and_costs_the_same_for_any_number(client: Client) -> None:
    made = [link(title=f"Link {n}") for n in range(3)]
    with CaptureQueriesContext(connection) as few:
        client.get(LIST)
    Link.objects.filter(pk=made[0].pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    Link.objects.filter(pk=made[1].pk).update(is_active=False)
    for _ in range(10):
        link()
    with CaptureQueriesContext(connection) as many:
        page = client.get(LIST).content.decode()
    assert len(many) == len(few)
    assert all(str(state.label) in page for state in State)
    expired = client.get(f"{LIST}?state=EXPIRED").content.decode()
    assert "Link 0" in expired
    assert "Link 1" not in expired


def test_selected_links_are_switched_off_and_on_and_what_cannot_is_said(client: Client) -> None:
    made, ended = link(), link()
    assert "2 links changed" in act(client, "deactivate_selected", made, ended)
    assert not Link.objects.filter(is_active=True).exists()
    Link.objects.filter(pk=ended.pk).update(expires_at=timezone.now())
    page = act(client, "activate_selected", made, ended)
    assert "1 link changed" in page
    assert "This has passed" in page
    assert Link.objects.get(is_active=True) == made


def test_the_page_of_a_link_checks_what_was_changed_on_it(client: Client, settings: Any) -> None:
    made = link("https://go.example/s/old", title="Old")
    settings.SITE_URL = "https://go.example"
    form = {"original_url": made.original_url, "title": "Old"}
    assert client.post(change(made), form).status_code == 302
    assert not Link.objects.get().is_active
    answer = client.post(change(made), form | {"original_url": "https://go.example/s/new"})
    assert "a short link already" in answer.content.decode()


def test_of_what_is_refused_the_first_are_told_and_the_others_counted(client: Client) -> None:
    ended = [link() for _ in range(12)]
    Link.objects.update(expires_at=timezone.now())
    page = act(client, "activate_selected", *ended)
    assert page.count("This has passed") == 10
    assert "2 more were refused" in page


def test_a_link_is_deleted_and_the_question_names_no_single_click(client: Client) -> None:
    made = link()
    record([Visit(made.pk, timezone.now(), user_agent=CHROME) for _ in range(100)])
    url = reverse("admin:links_link_delete", args=[made.pk])
    with CaptureQueriesContext(connection) as captured:
        client.get(url)
    assert len(captured) < 15
    client.post(url, {"post": "yes"})
    assert not Link.objects.exists()


def test_statistics_show_a_chart_shares_readers_and_single_clicks(client: Client) -> None:
    made, reader = link(), User.objects.create_user("ann")
    now = timezone.now()
    assert "Nobody has clicked in these days" in client.get(stats(made)).content.decode()
    record(
        [
            Visit(made.pk, now, "203.0.113.9", CHROME, "https://news.example/", reader.pk)
            for _ in range(3)
        ]
    )
    with CaptureQueriesContext(connection) as captured:
        page = client.get(f"{stats(made)}?days=7").content.decode()
    assert len(captured) < 25
    for text in ("<rect", "news.example", "100.0%", "Desktop", "ann", "203.0.113.0"):
        assert text in page
    assert f'href="{change(made)}"' in page
    assert client.get(f"{stats(made)}?days=nonsense").status_code == 200


def test_of_many_readers_the_latest_are_shown(client: Client) -> None:
    made, now = link(), timezone.now()
    readers = [User.objects.create_user(f"reader-{n:02}") for n in range(21)]
    record(
        [
            Visit(made.pk, now - timedelta(minutes=n), "203.0.113.9", CHROME, "", reader.pk)
            for n, reader in enumerate(readers)
        ]
    )
    page = client.get(stats(made)).content.decode()
    assert page.index("reader-00") < page.index("reader-19")
    assert "reader-20" not in page


def test_a_qr_code_is_downloaded(client: Client) -> None:
    url = reverse("admin:links_link_qr", args=[link().pk, "png"])
    assert client.get(url)["Content-Type"] == "image/png"
    assert client.get(url.replace("png", "gif")).status_code == 404


def test_who_may_not_see_links_sees_none_of_their_pages(client: Client) -> None:
    made = link()
    client.force_login(operator())
    for url in (LIST, change(made), stats(made), reverse("admin:links_link_qr", args=[1, "svg"])):
        assert client.get(url).status_code == 403
    client.force_login(operator("links.view_link"))
    for url in (LIST, change(made), stats(made)):
        assert client.get(url).status_code == 200
    assert client.post(ADD, FORM).status_code == 403
    act(client, "deactivate_selected", made)
    assert Link.objects.get().is_active
