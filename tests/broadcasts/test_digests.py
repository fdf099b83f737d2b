"""E-mail about what stayed unread: when, about what, once, and how it is ended."""

import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import translation

from broadcasts import digests
from broadcasts.digests import mail_unread, unsubscribe_url, waiting
from broadcasts.directory import ModelDirectory, UserServiceUnavailable, channels_of
from broadcasts.models import Broadcast, Digest, DigestEntry, Preference
from broadcasts.preferences import prefer, preference_of, stop_email
from broadcasts.receipts import dismiss, mark_read, mark_seen
from broadcasts.services import cancel
from jobs import clock
from jobs.leases import Fenced
from jobs.registry import Outcome
from outbox.models import Priority
from tests.conftest import Spawn
from tests.databases import prefer_indexes
from tests.factories import ActiveFactory, GroupFactory, ProductFactory, UserFactory
from tests.processes import Environment
from tests.servers.smtp import Smtp, receiving
from tests.sse import run_code
from tests.waiting import wait_until

NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def travel() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


@pytest.fixture
def reader() -> User:
    return UserFactory.create(email="reader@example.org", first_name="Ann", last_name="Lee")


def at(clock_time: str) -> datetime:
    return datetime.fromisoformat(f"2030-01-31T{clock_time}:00+00:00")


def subjects() -> list[str]:
    return [str(message.subject) for message in mail.outbox]


@pytest.mark.django_db
class TestWhen:
    def test_after_the_delay_and_not_before(
        self, reader: User, travel: time_machine.Traveller
    ) -> None:
        prefer(reader, email="DELAYED", email_after=15)
        travel.shift(MINUTE)
        ActiveFactory.create(title="Hello")
        travel.shift(15 * MINUTE - timedelta(seconds=1))
        assert mail_unread() == Outcome(0)
        travel.shift(1)
        assert mail_unread() == Outcome(1)
        assert subjects() == ["Hello"]

    def test_once_a_day_at_the_hour_of_their_wall(
        self, reader: User, travel: time_machine.Traveller
    ) -> None:
        prefer(reader, email="DAILY", email_at=time(8), time_zone="America/New_York")
        for title in ("One", "Two"):
            travel.shift(MINUTE)
            ActiveFactory.create(title=title)
        travel.move_to(datetime(2030, 1, 31, 12, 59, 59, tzinfo=UTC))
        mail_unread()
        assert subjects() == []
        travel.move_to(datetime(2030, 1, 31, 13, tzinfo=UTC))
        mail_unread()
        assert subjects() == ["Two (and 1 more)"]
        travel.shift(MINUTE)
        ActiveFactory.create(title="Three")
        travel.move_to(datetime(2030, 2, 1, 13, tzinfo=UTC))
        mail_unread()
        assert subjects()[1:] == ["Three"]

    def test_what_was_held_counts_from_the_end_of_the_quiet_hours(
        self, reader: User, travel: time_machine.Traveller
    ) -> None:
        prefer(reader, email="DELAYED", email_after=60, quiet_start=time(11), quiet_end=time(14))
        travel.shift(MINUTE)
        ActiveFactory.create(title="Held")
        for moment, sent in (("13:30", 0), ("14:00", 0), ("14:59", 0), ("15:00", 1)):
            travel.move_to(at(moment))
            mail_unread()
            assert len(mail.outbox) == sent, moment

    def test_nothing_comes_in_quiet_hours_and_nobody_is_looked_at_in_vain(
        self, reader: User, travel: time_machine.Traveller
    ) -> None:
        hours = {"quiet_start": time(12, 30), "quiet_end": time(20)}
        prefer(reader, email="DELAYED", email_after=60, **hours)
        travel.shift(MINUTE)
        ActiveFactory.create(title="Before")
        travel.shift(45 * MINUTE)
        ActiveFactory.create(title="Held")
        for moment in ("13:02", "13:50", "19:59", "20:00", "20:30", "21:00"):
            travel.move_to(at(moment))
            mail_unread()
            assert not waiting(clock.now()), moment
            sent = ["Before", "Held"][: (moment >= "20:00") + (moment >= "21:00")]
            assert subjects() == sent, moment

    def test_who_changes_quiet_hours_in_them_is_looked_at_again(
        self, reader: User, travel: time_machine.Traveller
    ) -> None:
        prefer(reader, email="DELAYED", quiet_start=time(12, 30), quiet_end=time(20))
        travel.shift(MINUTE)
        ActiveFactory.create(title="Before")
        travel.move_to(at("13:02"))
        mail_unread()
        prefer(reader, quiet_start=None, quiet_end=None)
        mail_unread()
        assert subjects() == ["Before"]

    @pytest.mark.parametrize(("hour", "sent"), [(15, []), (20, ["Held"])])
    def test_a_daily_one_comes_at_its_hour_whatever_is_quiet_and_without_what_is_held(
        self, reader: User, travel: time_machine.Traveller, hour: int, sent: list[str]
    ) -> None:
        hours = {"quiet_start": time(12, 30), "quiet_end": time(20)}
        prefer(reader, email="DAILY", email_at=time(hour), **hours)
        travel.shift(MINUTE)
        ActiveFactory.create(title="Before")
        travel.shift(45 * MINUTE)
        ActiveFactory.create(title="Held")
        travel.move_to(at(f"{hour}:00"))
        mail_unread()
        (message,) = mail.outbox
        assert ("Held" in message.body, "Before" in message.body) == (bool(sent), True)

    def test_not_about_what_was_there_before_they_asked(
        self, reader: User, travel: time_machine.Traveller
    ) -> None:
        ActiveFactory.create(title="Old")
        travel.shift(MINUTE)
        prefer(reader, email="DELAYED", email_after=5)
        travel.shift(6 * MINUTE)
        assert mail_unread() == Outcome(0)

    def test_who_has_nothing_new_is_not_looked_at(
        self, reader: User, travel: time_machine.Traveller
    ) -> None:
        prefer(reader, email="DELAYED", email_after=15)
        travel.shift(MINUTE)
        ActiveFactory.create()
        assert not waiting(clock.now())
        travel.shift(15 * MINUTE)
        assert waiting(clock.now())
        mail_unread()
        assert not waiting(clock.now())


@pytest.fixture
def asked(reader: User, travel: time_machine.Traveller) -> User:
    """They want e-mail after five minutes."""
    prefer(reader, email="DELAYED", email_after=5)
    travel.shift(MINUTE)
    return reader


@pytest.mark.django_db
class TestWhat:
    def test_only_what_is_unread_in_the_inbox(
        self, asked: User, travel: time_machine.Traveller
    ) -> None:
        prefer(asked, muted_categories=["canteen"])
        ActiveFactory.create(title="Unread")
        ActiveFactory.create(title="Lunch", category="canteen")
        ActiveFactory.create(audience="ROLE", targets=[GroupFactory.create().name])
        mark_read(asked, [ActiveFactory.create(title="Read").pk])
        cancel(ActiveFactory.create(title="Cancelled"))
        travel.shift(6 * MINUTE)
        mail_unread()
        assert subjects() == ["Unread"]
        assert DigestEntry.objects.count() == 1

    def test_a_broadcast_is_in_one_e_mail_of_a_person(
        self, asked: User, travel: time_machine.Traveller
    ) -> None:
        ActiveFactory.create(title="Hello")
        for _ in range(3):
            travel.shift(6 * MINUTE)
            mail_unread()
        prefer(asked, email="NEVER")
        prefer(asked, email="DELAYED")
        Preference.objects.update(mailed_to=NOON)  # even so
        travel.shift(120 * MINUTE)
        mail_unread()
        assert subjects() == ["Hello"]

    def test_text_and_html_with_all_that_a_mail_program_asks_for(
        self, asked: User, travel: time_machine.Traveller, settings: Any
    ) -> None:
        settings.SITE_URL = "https://broadcast.example.org"
        prefer(asked, time_zone="Asia/Tokyo")
        content = "It is **read-only** & <b>slow</b>."
        ActiveFactory.create(title="Maintenance", content=content, category="it")
        ActiveFactory.create(title="Fire\ndrill", priority=Priority.URGENT)
        travel.shift(6 * MINUTE)
        mail_unread()
        (message,) = mail.outbox
        assert isinstance(message, mail.EmailMultiAlternatives)
        assert (message.to, message.subject) == (
            ["reader@example.org"],
            "Urgent: Fire drill (and 1 more)",
        )
        html = str(message.alternatives[0][0])
        assert "Hello Ann Lee," in message.body
        assert content in message.body
        assert "<strong>read-only</strong> &amp; &lt;b&gt;slow&lt;/b&gt;." in html
        assert "31 Jan 2030, 21:01" in message.body
        url = unsubscribe_url(asked.pk)
        assert url.startswith("https://broadcast.example.org/unsubscribe/")
        assert message.extra_headers["List-Unsubscribe"] == f"<{url}>"
        assert message.extra_headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert message.extra_headers["Message-ID"].endswith("@broadcast.example.org>")
        assert url in message.body
        assert f'href="{url}"' in html
        assert "https://broadcast.example.org/preferences" in html

    def test_more_than_fit_are_counted(
        self, asked: User, travel: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(digests, "SHOWN", 2)
        for _ in range(5):
            ActiveFactory.create()
        travel.shift(6 * MINUTE)
        mail_unread()
        assert "And 3 more." in mail.outbox[0].body

    @pytest.mark.parametrize("gone", [{"is_active": False}, {"email": ""}])
    def test_nobody_who_cannot_get_it(
        self, asked: User, travel: time_machine.Traveller, gone: dict[str, Any]
    ) -> None:
        ActiveFactory.create()
        User.objects.filter(pk=asked.pk).update(**gone)
        travel.shift(6 * MINUTE)
        assert mail_unread() == Outcome(0)

    def test_one_that_cannot_be_written_does_not_stop_the_others(
        self, asked: User, travel: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = UserFactory.create(email="other@example.org")
        prefer(other, email="DELAYED", email_after=5)
        travel.shift(MINUTE)
        ActiveFactory.create()
        write = digests._write

        def fail_for_one(unread: dict[int, list[int]], now: datetime) -> list[Digest]:
            if asked.pk in unread:
                raise RuntimeError("poison")
            return write(unread, now)

        monkeypatch.setattr(digests, "_write", fail_for_one)
        travel.shift(6 * MINUTE)
        assert mail_unread() == Outcome(1, failed=1)
        assert mail.outbox[0].to == ["other@example.org"]
        monkeypatch.setattr(digests, "_write", write)
        assert mail_unread() == Outcome(1)  # nor is it forgotten
        assert mail.outbox[1].to == ["reader@example.org"]

    def test_old_ones_are_forgotten(self, asked: User, travel: time_machine.Traveller) -> None:
        ActiveFactory.create()
        travel.shift(6 * MINUTE)
        mail_unread()
        Digest.objects.update(created_at=NOON)
        travel.shift(timedelta(days=31))
        mail_unread()
        assert not Digest.objects.exists()
        assert len(mail.outbox) == 1

    def test_each_person_costs_the_same_few_queries(
        self, asked: User, travel: time_machine.Traveller
    ) -> None:
        counts = []
        for more in (2, 18):
            for _ in range(more):
                ActiveFactory.create()
            travel.shift(6 * MINUTE)
            with CaptureQueriesContext(connection) as queries:
                mail_unread()
            counts.append(len(queries))
        assert counts[0] == counts[1]

    @pytest.mark.parametrize(
        ("wish", "sent"),
        [({"email": "DAILY", "email_at": time(13)}, 1), ({"muted_categories": ["it"]}, 0)],
    )
    def test_what_they_prefer_meanwhile_is_kept(
        self,
        asked: User,
        travel: time_machine.Traveller,
        monkeypatch: pytest.MonkeyPatch,
        wish: dict[str, Any],
        sent: int,
    ) -> None:
        look = digests._unread_of_each

        def change_first(*args: Any) -> dict[int, list[int]]:
            travel.shift(1)
            prefer(asked, **wish)
            return look(*args)

        ActiveFactory.create(category="it")
        travel.shift(6 * MINUTE)
        monkeypatch.setattr(digests, "_unread_of_each", change_first)
        assert mail_unread() == Outcome(0)
        monkeypatch.setattr(digests, "_unread_of_each", look)
        travel.move_to(at("13:00"))
        assert mail_unread() == Outcome(sent)

    def test_who_wants_none_any_more_meanwhile_gets_none(
        self, asked: User, travel: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look = digests._unread_of_each

        def stop_first(*args: Any) -> dict[int, list[int]]:
            stop_email(asked.pk)
            return look(*args)

        ActiveFactory.create()
        travel.shift(6 * MINUTE)
        monkeypatch.setattr(digests, "_unread_of_each", stop_first)
        assert mail_unread() == Outcome(0)
        assert not Digest.objects.exists()


def ask(count: int) -> list[User]:
    """So many who want e-mail after five minutes."""
    people = [UserFactory.create() for _ in range(count)]
    for user in people:
        User.objects.filter(pk=user.pk).update(email=f"{user.username}@example.org")
        user.refresh_from_db()
        prefer(user, email="DELAYED", email_after=5)
    return people


@pytest.mark.django_db
class TestMany:
    def test_all_are_looked_at_in_as_many_queries_as_one(
        self, travel: time_machine.Traveller
    ) -> None:
        counts = []
        for more in (2, 18):
            people = ask(more)
            travel.shift(MINUTE)
            ActiveFactory.create()
            ActiveFactory.create(audience="SELECTED", targets=[str(user.pk) for user in people])
            travel.shift(6 * MINUTE)
            looked_at = list(waiting(clock.now()))
            with CaptureQueriesContext(connection) as queries:
                written = digests.collect(looked_at, clock.now())
            assert len(written) == len(looked_at) == (2 if more == 2 else 20)
            counts.append(len(queries))
        assert counts[0] == counts[1]

    def test_what_is_sent_costs_a_few_queries_more_each(
        self, travel: time_machine.Traveller
    ) -> None:
        counts = []
        for more in (2, 18):
            ask(more)
            travel.shift(MINUTE)
            ActiveFactory.create()
            travel.shift(6 * MINUTE)
            with CaptureQueriesContext(connection) as queries:
                mail_unread()
            counts.append(len(queries))
        assert len(mail.outbox) == 2 + 20
        assert (counts[1] - counts[0]) / 18 <= 6  # a savepoint is two of them

    def test_the_first_are_sent_before_the_last_are_looked_at(
        self, travel: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        people = ask(5)
        travel.shift(MINUTE)
        ActiveFactory.create()
        travel.shift(6 * MINUTE)
        monkeypatch.setattr(digests, "CHUNK", 2)
        collect, steps = digests.collect, []

        def note(chunk: Sequence[Preference], now: datetime) -> list[Digest]:
            steps.append((len(chunk), len(mail.outbox)))
            return collect(chunk, now)

        monkeypatch.setattr(digests, "collect", note)
        assert mail_unread() == Outcome(5)
        assert steps == [(2, 0), (2, 2), (1, 4)]
        assert [message.to for message in mail.outbox] == [[user.email] for user in people]

    def test_it_is_about_what_their_inboxes_have_unread(
        self, travel: time_machine.Traveller
    ) -> None:
        """Looked at together, and each by itself by what their page asks."""
        ann, bob, cat = people = ask(3)
        prefer(bob, muted_categories=["canteen"])
        role, product = GroupFactory.create(), ProductFactory.create()
        bob.groups.add(role)
        product.subscribers.add(cat)
        travel.shift(MINUTE)
        everyone = ActiveFactory.create()
        for fields in (
            {"category": "canteen"},
            {"category": "canteen", "priority": Priority.URGENT},
            {"audience": "ROLE", "targets": [role.name]},
            {"audience": "PRODUCT", "targets": [product.slug]},
            {"audience": "SELECTED", "targets": [str(ann.pk), str(cat.pk)]},
            {"expires_at": clock.now() + 2 * MINUTE},
            {"fire_and_forget": True},
        ):
            ActiveFactory.create(**fields)
        cancel(ActiveFactory.create())
        mark_read(ann, [everyone.pk])
        mark_seen(bob, [everyone.pk])
        dismiss(cat, [everyone.pk])
        travel.shift(6 * MINUTE)
        expected = {}
        for user in people:
            inbox = Broadcast.objects.inbox(user.pk, channels_of(user), clock.now())
            unread = preference_of(user).shown(inbox, None).filter(read_at=None)
            expected[user.pk] = set(unread.values_list("pk", flat=True))
        assert [len(pks) for pks in expected.values()] == [3, 3, 4]
        mail_unread()
        for user in people:
            entries = DigestEntry.objects.filter(user_id=user.pk)
            assert set(entries.values_list("broadcast_id", flat=True)) == expected[user.pk]

    def test_without_one_whose_roles_cannot_be_told(
        self, travel: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lost = ask(3)[1]
        travel.shift(MINUTE)
        ActiveFactory.create()
        travel.shift(6 * MINUTE)
        memberships = ModelDirectory.memberships

        def fail_for_one(self: ModelDirectory, users: Sequence[User]) -> Any:
            if lost in users:
                raise RuntimeError("poison")
            return memberships(self, users)

        with monkeypatch.context() as patch:
            patch.setattr(ModelDirectory, "memberships", fail_for_one)
            assert mail_unread() == Outcome(2, failed=1)
        for digest in digests.collect(list(waiting(clock.now())), clock.now()):
            assert digest.user_id == lost.pk
        monkeypatch.setattr(ModelDirectory, "memberships", fail_for_one)
        assert mail_unread() == Outcome(0, failed=1)
        assert state()[-1] == ("PENDING", 1)
        assert Digest.objects.latest("pk").last_error == "poison"

    def test_forgetting_reads_no_whole_table(self) -> None:
        prefer_indexes(Digest)
        assert "broadcasts_digest_created" in digests.old(clock.now())[:1_000].explain()


@pytest.fixture
def smtp(settings: Any) -> Iterator[Smtp]:
    with receiving() as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        yield server


def state() -> list[tuple[str, int]]:
    return list(Digest.objects.order_by("pk").values_list("status", "attempts"))


@pytest.mark.django_db
class TestOverSmtp:
    @pytest.fixture(autouse=True)
    def unread(self, asked: User, travel: time_machine.Traveller) -> None:
        ActiveFactory.create(title="Grüße", content="Zürich")
        travel.shift(6 * MINUTE)

    def test_it_arrives_with_both_parts_and_its_headers(self, smtp: Smtp) -> None:
        assert mail_unread() == Outcome(1)
        (message,) = smtp.messages
        assert (message["Subject"], message["To"]) == ("Grüße", "reader@example.org")
        assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert "\n" not in str(message["List-Unsubscribe"])
        parts = {part.get_content_type(): part for part in message.iter_parts()}
        assert list(parts) == ["text/plain", "text/html"]
        assert all("Zürich" in part.get_content() for part in parts.values())
        assert state() == [("SENT", 1)]

    def test_a_server_that_hangs_up_gets_the_same_again_later(
        self, smtp: Smtp, travel: time_machine.Traveller
    ) -> None:
        smtp.then = lambda: None
        assert mail_unread() == Outcome(0, failed=1)
        smtp.then = lambda: "250 taken"
        assert mail_unread() == Outcome(0)  # not yet
        travel.shift(5 * MINUTE)
        assert mail_unread() == Outcome(1)
        assert len({message["Message-ID"] for message in smtp.messages}) == 1
        assert state() == [("SENT", 2)]

    def test_what_was_read_meanwhile_is_not_sent_again(
        self, smtp: Smtp, asked: User, travel: time_machine.Traveller
    ) -> None:
        smtp.then = lambda: "451 try later"
        mail_unread()
        mark_read(asked, list(DigestEntry.objects.values_list("broadcast_id", flat=True)))
        travel.shift(5 * MINUTE)
        assert mail_unread() == Outcome(0)
        assert state() == [("OBSOLETE", 2)]

    def test_after_some_attempts_it_is_given_up(
        self, smtp: Smtp, travel: time_machine.Traveller
    ) -> None:
        smtp.then = lambda: "451 try later"
        for _ in range(6):
            mail_unread()
            travel.shift(timedelta(hours=2))
        assert state() == [("FAILED", 5)]
        assert len(smtp.messages) == 5
        assert "try later" in Digest.objects.get().last_error

    def test_an_address_that_is_refused_for_good_is_not_tried_again(
        self, smtp: Smtp, travel: time_machine.Traveller
    ) -> None:
        smtp.says["reader@example.org"] = "550 nobody"
        assert mail_unread() == Outcome(0, failed=1)
        travel.shift(timedelta(hours=2))
        assert mail_unread() == Outcome(0)
        assert state() == [("FAILED", 1)]

    @pytest.mark.parametrize("address", ["ann, Lee", "ann@", "reader@example.org\nBcc: x@y.z"])
    def test_what_is_no_address_is_given_up_at_once_and_stops_nobody(
        self, smtp: Smtp, asked: User, travel: time_machine.Traveller, address: str
    ) -> None:
        ask(1)
        travel.shift(MINUTE)
        ActiveFactory.create(title="News")
        User.objects.filter(pk=asked.pk).update(email=address)
        travel.shift(6 * MINUTE)
        assert mail_unread() == Outcome(1, failed=1)
        assert [message["Subject"] for message in smtp.messages] == ["News"]
        assert state() == [("FAILED", 1), ("SENT", 1)]
        assert Digest.objects.get(user=asked).last_error

    def test_one_that_cannot_be_made_is_given_up_after_some_attempts_and_says_why(
        self, smtp: Smtp, travel: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(broadcasts: Any) -> str:
            raise RuntimeError("no subject")

        monkeypatch.setattr(digests, "subject_of", fail)
        assert mail_unread() == Outcome(0, failed=1)
        assert state() == [("PENDING", 1)]
        for _ in range(5):
            travel.shift(timedelta(hours=2))
            mail_unread()
        assert state() == [("FAILED", 5)]
        assert Digest.objects.get().last_error == "no subject"
        assert smtp.messages == []

    @pytest.mark.parametrize("error", [Fenced, UserServiceUnavailable])
    def test_who_may_not_go_on_ends_the_run(
        self, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
    ) -> None:
        def fail(*args: Any) -> None:
            raise error("not now")

        monkeypatch.setattr(digests, "email_of", fail)
        with pytest.raises(error):
            mail_unread()
        assert state() == [("PENDING", 1)]

    def test_while_the_directory_is_away_nothing_has_failed(
        self, travel: time_machine.Traveller, smtp: Smtp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        digests.collect(list(waiting(clock.now())), clock.now())

        def fail(*args: Any) -> None:
            raise UserServiceUnavailable("away")

        with monkeypatch.context() as patch:
            patch.setattr(ModelDirectory, "memberships", fail)
            with pytest.raises(UserServiceUnavailable):
                mail_unread()
        assert state() == [("PENDING", 0)]
        assert mail_unread() == Outcome(1)

    def test_another_attempt_waits_for_the_end_of_quiet_hours(
        self, smtp: Smtp, asked: User, travel: time_machine.Traveller
    ) -> None:
        smtp.then = lambda: "451 try later"
        prefer(asked, quiet_start=time(12, 10), quiet_end=time(20))
        mail_unread()
        smtp.then = lambda: "250 taken"
        for moment in ("12:15", "19:59"):
            travel.move_to(at(moment))
            assert mail_unread() == Outcome(0)
            assert state() == [("PENDING", 1)]
        travel.move_to(at("20:00"))
        assert mail_unread() == Outcome(1)

    def test_while_there_is_no_server_nothing_has_failed(
        self, settings: Any, free_port: int
    ) -> None:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port
        with pytest.raises(ConnectionRefusedError):
            mail_unread()
        assert state() == [("PENDING", 0)]


PREPARE = """
from datetime import timedelta
from django.contrib.auth.models import User
from broadcasts.models import Broadcast, Preference
from broadcasts.preferences import prefer
from broadcasts.services import compose, send
for name in ("one", "two"):
    prefer(User.objects.create_user(name, name + "@example.org"), email="DELAYED", email_after=5)
send(compose(None, title="Hello"))
Broadcast.objects.update(activated_at=Broadcast.objects.get().activated_at - timedelta(hours=1))
Preference.objects.update(mailed_to=Broadcast.objects.get().activated_at - timedelta(hours=1))
"""
LATER = """
from django.utils import timezone
from broadcasts.models import Digest
from jobs.execution import release
release("BROADCAST_DIGEST")
Digest.objects.update(next_attempt_at=timezone.now())
"""
STATE = """
from broadcasts.models import Digest
print(*Digest.objects.order_by("pk").values_list("status", flat=True))
"""


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_a_process_that_is_killed_while_it_sends_forgets_nobody(
    live_database: Environment, spawn: Spawn
) -> None:
    """kill -9 between the server's yes and our note of it: that one comes twice, the same."""
    with receiving() as smtp:
        env = live_database | {"EMAIL_URL": f"smtp://127.0.0.1:{smtp.port}"}
        run_code(PREPARE, env)
        job = spawn(["run_job", "BROADCAST_DIGEST"], env)

        def kill() -> str | None:
            job.send(signal.SIGKILL)
            return None

        smtp.then = kill
        wait_until(lambda: smtp.messages, message="the first is handed over")
        job.wait()
        smtp.then = lambda: "250 taken"
        assert run_code(STATE, env).split() == ["PENDING", "PENDING"]
        run_code(LATER, env)  # the lease of who was killed is over, and so is the pause
        again = spawn(["run_job", "BROADCAST_DIGEST"], env)
        wait_until(lambda: len(smtp.messages) == 3, message="both are sent")
        again.wait()
        assert run_code(STATE, env).split() == ["SENT", "SENT"]
    first, *others = [(message["To"], message["Message-ID"]) for message in smtp.messages]
    assert others[0] == first
    assert [to for to, _ in others] == ["one@example.org", "two@example.org"]


@pytest.mark.django_db
def test_an_e_mail_is_in_the_language_of_its_reader(
    reader: User, travel: time_machine.Traveller
) -> None:
    prefer(reader, email="DELAYED", email_after=5, language="de")
    travel.shift(MINUTE)
    german = {"title": "Guten Morgen", "content": "*Grüße*"}
    ActiveFactory.create(title="Good morning", translations={"de": german})
    travel.shift(5 * MINUTE)
    mail_unread()
    (message,) = mail.outbox
    assert message.subject == "Guten Morgen"
    assert "*Grüße*" in str(message.body)
    assert "<em>Grüße</em>" in str(message.alternatives[0][0])  # type: ignore[attr-defined]


@pytest.mark.django_db
@pytest.mark.parametrize(("theirs", "server"), [("de", "en"), ("", "de")])
def test_its_dates_are_in_the_language_of_its_reader_or_of_the_server(
    reader: User, travel: time_machine.Traveller, settings: Any, theirs: str, server: str
) -> None:
    settings.LANGUAGE_CODE = server
    prefer(reader, email="DELAYED", email_after=5, language=theirs)
    travel.shift(MINUTE)
    ActiveFactory.create()
    travel.shift(5 * MINUTE)
    with translation.override("en"):
        mail_unread()
    (message,) = mail.outbox
    html = str(message.alternatives[0][0])  # type: ignore[union-attr]
    assert "31. Januar 2030 12:01" in message.body
    assert "31. Januar 2030 12:01" in html
    assert '<html lang="de">' in html
