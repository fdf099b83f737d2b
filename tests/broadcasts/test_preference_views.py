from datetime import UTC, datetime, time
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client

from broadcasts.digests import unsubscribe_url
from broadcasts.models import Preference
from broadcasts.preferences import prefer
from tests.broadcasts.test_views import Inline
from tests.factories import ActiveFactory, UserFactory

pytestmark = pytest.mark.django_db

CHOSEN = {
    "muted_categories": ["canteen"],
    "quiet_start": "22:00",
    "quiet_end": "07:00",
    "quiet_days": ["0", "1", "2", "3", "4", "5", "6"],
    "time_zone": "Pacific/Auckland",
    "language": "de",
    "email": "DAILY",
    "email_after": "60",
    "email_at": "08:00",
}


@pytest.fixture
def reader(client: Client) -> User:
    user = UserFactory.create(email="reader@example.org")
    client.force_login(user)
    ActiveFactory.create(category="canteen")
    return user


def post(client: Client, **changes: Any) -> Any:
    return client.post("/preferences", CHOSEN | changes)


def test_a_visitor_is_asked_to_sign_in(client: Client) -> None:
    assert client.get("/preferences").headers["Location"] == "/login?next=/preferences"


def test_what_is_chosen_is_kept_and_shown(client: Client, reader: User) -> None:
    assert post(client).headers["Location"] == "/preferences"
    kept = Preference.objects.get()
    assert (kept.muted_categories, kept.quiet_days, kept.email) == (["canteen"], [], "DAILY")
    page = client.get("/preferences").content.decode()
    assert "Your preferences are saved." in page
    assert 'value="22:00"' in page
    assert '<option value="Pacific/Auckland" selected>' in page
    assert '<option value="de" selected>German</option>' in page
    assert page.count("checked") == 1 + 7 + 1


def test_what_is_wrong_stands_beside_its_field(client: Client, reader: User) -> None:
    page = post(client, quiet_end="").content.decode()
    assert "Nothing was saved." in page
    assert "Quiet hours need a start and an end, or neither." in page
    assert not Preference.objects.exists()
    page = post(client, email_after="0").content.decode()
    assert "Select a valid choice" in page


def test_a_category_that_one_was_never_sent_is_refused(client: Client, reader: User) -> None:
    assert "Select a valid choice" in post(client, muted_categories="layoffs").content.decode()


def test_it_says_until_when_it_is_quiet(client: Client, reader: User) -> None:
    with time_machine.travel(datetime(2030, 1, 31, 12, tzinfo=UTC)):
        client.force_login(reader)
        prefer(reader, quiet_start=time(22), quiet_end=time(7), time_zone="Pacific/Auckland")
        assert "until 1 Feb 2030, 07:00" in client.get("/preferences").content.decode()


def test_who_has_no_address_is_told(client: Client) -> None:
    client.force_login(UserFactory.create())
    assert "has no e-mail address" in client.get("/preferences").content.decode()
    page = post(client, muted_categories=[]).content.decode()
    assert page.count("has no e-mail address") == 2


@pytest.mark.parametrize("path", ["/preferences", "/unsubscribe"])
def test_nothing_on_the_page_is_inline(client: Client, reader: User, path: str) -> None:
    answer = client.get(path if path == "/preferences" else path_of(reader))
    inline = Inline()
    inline.feed(answer.content.decode())
    assert inline.found == []
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


def path_of(user: User) -> str:
    return "/" + unsubscribe_url(user.pk).split("/", 3)[3]


def test_a_link_that_is_looked_at_unsubscribes_nobody(client: Client, reader: User) -> None:
    prefer(reader, email="DAILY")
    assert "Stop these e-mails?" in client.get(path_of(reader)).content.decode()
    assert Preference.objects.get().email == "DAILY"


def test_a_mail_program_unsubscribes_by_one_post_without_a_session(reader: User) -> None:
    prefer(reader, email="DAILY", muted_categories=["canteen"])
    for _ in range(2):
        stranger = Client(enforce_csrf_checks=True)
        answer = stranger.post(path_of(reader), {"List-Unsubscribe": "One-Click"})
        assert answer.status_code == 200
        assert "sessionid" not in answer.cookies
    kept = Preference.objects.get()
    assert (kept.email, kept.email_due_at, kept.muted_categories) == ("NEVER", None, ["canteen"])


def test_a_forged_link_is_404_and_unsubscribes_nobody(client: Client, reader: User) -> None:
    prefer(reader, email="DAILY")
    forged = path_of(reader).replace(f"/{reader.pk}:", f"/{reader.pk + 1}:")
    for path in (forged, "/unsubscribe/x", path_of(reader)[:-1]):
        assert client.post(path).status_code == 404
    assert Preference.objects.get().email == "DAILY"
