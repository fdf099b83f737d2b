from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from pytest_django import Settings

from domains.links import services
from domains.links.models import (
    ALPHABET,
    Click,
    DailyCount,
    Link,
    Name,
    State,
    check_url,
    new_code,
)
from tests.databases import prefer_indexes
from tests.domains.links.conftest import link
from tests.racing import race

pytestmark = pytest.mark.django_db


def test_a_code_has_six_characters_none_of_which_looks_like_another() -> None:
    codes = {new_code() for _ in range(1_000)}
    assert {len(code) for code in codes} == {6}
    assert set("".join(codes)) <= set(ALPHABET)
    assert not set(ALPHABET) & set("0Oo1lIi")
    assert len(codes) > 990


def test_a_code_that_is_taken_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    link(custom_alias="aaaaaa")
    Link.objects.update(short_code="bbbbbb")
    Name.objects.exclude(name="aaaaaa").update(name="bbbbbb")
    codes = iter(["bbbbbb", "cccccc"])
    monkeypatch.setattr(services, "new_code", lambda: next(codes))
    made = services.save_new(Link(original_url="https://example.org", short_code="aaaaaa"))
    assert made.short_code == "cccccc"
    assert Link.objects.get(pk=made.pk).name_set.get().name == "cccccc"


@pytest.mark.parametrize("other", ["alias", "code"])
def test_an_alias_that_another_link_has_is_refused(other: str) -> None:
    first = link(custom_alias="party")
    name = "PARTY" if other == "alias" else first.short_code
    with pytest.raises(ValidationError, match="Another link has this name"):
        link(custom_alias=name)
    second = link(custom_alias="dance")
    with pytest.raises(ValidationError, match="Another link has this name"):
        services.edit(second, custom_alias=name)


@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_one_gets_the_alias() -> None:
    def make() -> Link:
        return link(custom_alias="party")

    outcomes = race(make, make)
    assert sorted(type(one).__name__ for one in outcomes) == ["Link", "ValidationError"]
    assert Link.objects.count() == 1
    assert Name.objects.filter(name="party").count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_that_are_renamed_at_once_one_gets_the_alias() -> None:
    first, second = link(custom_alias="one"), link(custom_alias="two")
    outcomes = race(
        lambda: services.edit(first, custom_alias="party"),
        lambda: services.edit(second, custom_alias="party"),
    )
    assert sorted(type(one).__name__ for one in outcomes) == ["Link", "ValidationError"]
    aliases = set(Link.objects.values_list("custom_alias", flat=True))
    assert "party" in aliases
    codes = set(Link.objects.values_list("short_code", flat=True))
    assert set(Name.objects.values_list("name", flat=True)) == aliases | codes


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/file",
        "javascript:alert(1)",
        "https://xn--/page",
        "https://example.org:65536/",
        "https://a..b/",
        "https://" + "a" * 64 + ".org/",
        "example.org",
        "//example.org",
        "https://",
        "https://user:secret@example.org",
        "https://exa mple.org",
        "https://example.org/" + "x" * 2_000,
        "https://example.org/" + "ü" * 400,
        "http://localhost:8000/s/abcdef",
        "http://LOCALHOST/S/abcdef",
        "http://127.0.0.1:8000/s/abcdef",
    ],
)
def test_where_no_link_may_lead(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        link(url)
    assert set(caught.value.message_dict) == {"original_url"}


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org",
        "https://example.org/s/abcdef",
        "https://bücher.example/straße?q=ü#part",
        "http://localhost:8000/preferences",
        "http://[2001:db8::1]:8080/",
    ],
)
def test_where_a_link_may_lead(url: str) -> None:
    assert link(url).original_url == url


@pytest.mark.parametrize("alias", ["with blank", "-begins", "umläut", "a/b", "x" * 51, "x\n"])
def test_what_is_no_alias(alias: str) -> None:
    with pytest.raises(ValidationError) as caught:
        link(custom_alias=alias)
    assert set(caught.value.message_dict) == {"custom_alias"}


def test_an_alias_of_fifty_characters_is_one() -> None:
    assert link(custom_alias="x" * 50).name == "x" * 50


def test_an_expiry_that_has_passed_is_refused_also_when_it_is_switched_on_again() -> None:
    past = timezone.now() - timedelta(seconds=1)
    with pytest.raises(ValidationError, match="This has passed"):
        link(expires_at=past)
    made = link()
    Link.objects.update(expires_at=past, is_active=False)
    made.refresh_from_db()
    with pytest.raises(ValidationError, match="This has passed"):
        services.activate(made)
    services.edit(made, expires_at=None, is_active=True)
    assert made.state(timezone.now()) == State.ACTIVE


def test_what_is_edited_leaves_clicks_alone_that_were_counted_meanwhile() -> None:
    made = link()
    Link.objects.update(click_count=7)
    services.edit(made, title="A title")
    assert Link.objects.values_list("title", "click_count").get() == ("A title", 7)


def test_a_link_is_switched_off_though_its_address_would_be_refused_today(
    settings: Settings,
) -> None:
    made = link("https://go.example/s/old", custom_alias="party")
    settings.SITE_URL = "https://go.example"
    services.deactivate(made)
    services.edit(made, custom_alias="Dance")
    assert Link.objects.values_list("is_active", "custom_alias").get() == (False, "dance")
    with pytest.raises(ValidationError, match="a short link already"):
        services.edit(made, original_url="https://go.example/s/new")


def test_a_link_is_found_by_its_reference_by_an_index() -> None:
    Link.objects.bulk_create(
        Link(original_url="https://example.org", short_code=f"c{number}", reference=reference)
        for number, reference in enumerate([""] * 900 + [f"broadcast-{n}" for n in range(100)])
    )
    prefer_indexes(Link)
    assert "links_reference" in Link.objects.filter(reference="broadcast-7").explain()


def test_the_states_of_the_table_are_those_of_the_row() -> None:
    now = timezone.now()
    made = [link() for _ in range(5)]
    Link.objects.filter(pk=made[1].pk).update(is_active=False)
    Link.objects.filter(pk=made[2].pk).update(expires_at=now)
    Link.objects.filter(pk=made[3].pk).update(expires_at=now, is_active=False)
    Link.objects.filter(pk=made[4].pk).update(expires_at=now + timedelta(seconds=1))
    for state in State:
        found = set(Link.objects.in_state(state, now))
        assert found == {one for one in Link.objects.all() if one.state(now) == state}
        assert found


def test_a_link_is_deleted_with_all_its_clicks() -> None:
    made, other = link(), link()
    now = timezone.now()
    Click.objects.bulk_create(
        Click(link=one, clicked_at=now, device="other", is_bot=False)
        for one in [made] * 12_000 + [other]
    )
    DailyCount.objects.create(link=made, day=now.date(), dimension=0, count=12_000)
    services.delete(made)
    assert list(Click.objects.values_list("link", flat=True)) == [other.pk]
    assert not DailyCount.objects.exists()
    assert list(Link.objects.all()) == [other]


def test_the_short_address_is_that_of_the_site(settings: Settings) -> None:
    settings.SITE_URL = "https://go.example.org"
    made = link()
    assert made.short_url == f"https://go.example.org/s/{made.short_code}"
    assert link(custom_alias="news").short_url == "https://go.example.org/s/news"


@pytest.mark.parametrize("host", ["www.example.org", "example.org.", "EXAMPLE.org:8000"])
def test_a_short_link_leads_to_no_other_whatever_the_site_is_called(
    settings: Settings, host: str
) -> None:
    settings.ALLOWED_HOSTS = [".example.org", "*"]
    with pytest.raises(ValidationError, match="a short link already"):
        check_url(f"https://{host}/s/loop")
    check_url("https://elsewhere.example/s/loop")


@pytest.mark.django_db(transaction=True)
def test_no_click_is_written_while_its_link_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would point to a row that is gone at the commit."""
    if connection.vendor == "sqlite":
        pytest.skip("one transaction writes at a time")
    made, delete = link(), Link.delete
    outcomes: list[Any] = []

    def hold() -> None:
        with transaction.atomic():
            Link.objects.select_for_update(no_key=True, nowait=True).get(pk=made.pk)

    def watched(self: Link) -> Any:
        outcomes.extend(race(hold))
        return delete(self)

    monkeypatch.setattr(Link, "delete", watched)
    services.delete(made)
    assert [type(outcome) for outcome in outcomes] == [OperationalError]
    assert not Link.objects.exists()
