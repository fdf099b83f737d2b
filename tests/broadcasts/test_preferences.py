"""What people prefer, in the inbox and in the counts, and the end of what was held."""

from collections.abc import Iterator
from datetime import UTC, datetime, time
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from broadcasts import screening
from broadcasts.admin import page
from broadcasts.models import Preference
from broadcasts.preferences import categories_of, prefer, release_due
from broadcasts.receipts import NotInInbox, inbox_of, mark_all_read, mark_read, mark_seen
from broadcasts.reminders import remind
from broadcasts.screening import Preferences
from broadcasts.services import cancel, send
from broadcasts.tasks import QuietClock, quiet_standing
from connections.screening import RELEASE
from connections.services import CLOSE
from outbox.models import Event, Priority
from tests.factories import ActiveFactory, DraftFactory, GroupFactory, UserFactory

pytestmark = pytest.mark.django_db

NIGHT = {"quiet_start": time(22), "quiet_end": time(7), "time_zone": "Pacific/Auckland"}
EVENING = datetime(2030, 1, 31, 8, tzinfo=UTC)  # 21:00 in Auckland
MIDNIGHT = datetime(2030, 1, 31, 11, tzinfo=UTC)
BEFORE_SEVEN = datetime(2030, 1, 31, 17, 59, 59, tzinfo=UTC)
SEVEN = datetime(2030, 1, 31, 18, tzinfo=UTC)


@pytest.fixture
def reader() -> User:
    return UserFactory.create()


@pytest.fixture
def travel() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(EVENING, tick=False) as traveller:
        yield traveller


def titles(user: User) -> list[str]:
    return list(inbox_of(user).order_by("pk").values_list("title", flat=True))


def events(kind: str) -> list[Event]:
    return list(Event.objects.filter(type=kind).order_by("pk"))


def test_a_reader_far_away_gets_normal_at_the_end_of_their_night_and_urgent_at_once(
    reader: User, travel: time_machine.Traveller
) -> None:
    prefer(reader, **NIGHT)
    ActiveFactory.create(title="Evening")
    travel.move_to(MIDNIGHT)
    ActiveFactory.create(title="Normal")
    ActiveFactory.create(title="High", priority=Priority.HIGH)
    ActiveFactory.create(title="Urgent", priority=Priority.URGENT)
    assert titles(reader) == ["Evening", "Urgent"]
    travel.move_to(BEFORE_SEVEN)
    assert titles(reader) == ["Evening", "Urgent"]
    travel.move_to(SEVEN)
    assert titles(reader) == ["Evening", "Normal", "High", "Urgent"]


def test_others_do_not_wait(reader: User, travel: time_machine.Traveller) -> None:
    prefer(reader, **NIGHT)
    travel.move_to(MIDNIGHT)
    ActiveFactory.create(title="Normal")
    assert titles(UserFactory.create()) == ["Normal"]


def test_what_is_held_can_be_neither_read_nor_read_with_all_others(
    reader: User, travel: time_machine.Traveller
) -> None:
    prefer(reader, **NIGHT)
    travel.move_to(MIDNIGHT)
    held = ActiveFactory.create()
    with pytest.raises(NotInInbox):
        mark_read(reader, [held.pk])
    assert mark_all_read(reader) == 0
    travel.move_to(SEVEN)
    assert mark_all_read(reader) == 1


def test_what_has_arrived_stays_when_quiet_hours_are_chosen_during_them(
    reader: User, travel: time_machine.Traveller
) -> None:
    travel.move_to(MIDNIGHT)
    ActiveFactory.create(title="Here")
    travel.shift(1)
    prefer(reader, **NIGHT)
    ActiveFactory.create(title="Held")
    assert titles(reader) == ["Here"]


def test_a_muted_category_is_neither_shown_nor_counted_unless_urgent(reader: User) -> None:
    ActiveFactory.create(title="Lunch", category="canteen")
    ActiveFactory.create(title="Fire", category="canteen", priority=Priority.URGENT)
    ActiveFactory.create(title="News", category="news")
    prefer(reader, muted_categories=["canteen"])
    assert titles(reader) == ["Fire", "News"]
    prefer(reader, muted_categories=[])
    assert titles(reader) == ["Lunch", "Fire", "News"]


def test_preferences_cost_an_inbox_one_query(reader: User) -> None:
    prefer(reader, **NIGHT, muted_categories=["canteen"])
    with CaptureQueriesContext(connection) as queries:
        titles(reader)
    clocks = 1 if connection.vendor == "postgresql" else 0
    assert len(queries) == 4 + clocks  # roles, products, preference, rows


def test_choices_are_the_categories_of_what_one_was_sent(reader: User) -> None:
    ActiveFactory.create(category="news")
    ActiveFactory.create(category="news")
    ActiveFactory.create(category="layoffs", audience="ROLE", targets=[GroupFactory.create().name])
    ActiveFactory.create(category="for me", audience="SELECTED", targets=[str(reader.pk)])
    assert categories_of(reader) == ["for me", "news"]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"quiet_start": time(22)}, "__all__"),
        ({"quiet_start": time(22), "quiet_end": time(22)}, "__all__"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"quiet_days": [7]}, "quiet_days"),
        ({"muted_categories": "news"}, "muted_categories"),
        ({"email": "DAILY"}, "email"),  # there is no address
        ({"email_after": 7}, "email_after"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    reader: User, fields: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(ValidationError) as error:
        prefer(reader, **fields)
    assert list(error.value.message_dict) == [wrong]
    assert not Preference.objects.exists()
    assert not Event.objects.exists()


def test_streams_are_cut_by_what_they_must_know_and_by_nothing_else(reader: User) -> None:
    reader.email = "reader@example.org"
    prefer(reader, email="DAILY", time_zone="Europe/Berlin")
    assert events(CLOSE) == []
    prefer(reader, muted_categories=["news"])
    prefer(reader, muted_categories=["news"])
    assert [event.data["reconnect"] for event in events(CLOSE)] == [True]
    prefer(reader, quiet_start=time(22), quiet_end=time(7))
    assert len(events(CLOSE)) == 2


def test_the_end_of_quiet_hours_is_one_event_for_all_who_have_the_same(
    travel: time_machine.Traveller,
) -> None:
    sleepers = [UserFactory.create() for _ in range(3)]
    for sleeper in sleepers[:2]:
        prefer(sleeper, **NIGHT)
    prefer(sleepers[2], **NIGHT | {"quiet_start": time(23)})
    travel.move_to(BEFORE_SEVEN)
    assert (release_due(), quiet_standing().pending) == (0, 0)
    travel.move_to(SEVEN)
    assert quiet_standing().pending == 3
    assert release_due() == 3
    assert [(sorted(e.channels), e.data["since"][11:16]) for e in events(RELEASE)] == [
        (sorted(f"user-{sleeper.pk}" for sleeper in sleepers[:2]), "09:00"),
        ([f"user-{sleepers[2].pk}"], "10:00"),
    ]
    assert len({event.key for event in events(RELEASE)}) == 2  # neither waits for the other
    assert release_due() == 0
    assert {p.quiet_ends_at for p in Preference.objects.all()} == {
        datetime(2030, 2, 1, 18, tzinfo=UTC)
    }


def test_a_release_that_was_missed_is_made_up_for(
    reader: User, travel: time_machine.Traveller
) -> None:
    prefer(reader, **NIGHT)
    travel.move_to(datetime(2030, 2, 2, 20, tzinfo=UTC))
    while release_due():
        pass
    assert [e.data["until"] for e in events(RELEASE)] == [
        f"2030-{day}T18:00:00+00:00" for day in ("01-31", "02-01", "02-02")
    ]


def test_other_hours_release_what_was_held_and_hold_from_then_on(
    reader: User, travel: time_machine.Traveller
) -> None:
    prefer(reader, **NIGHT)
    travel.move_to(MIDNIGHT)
    ActiveFactory.create(title="Held before")
    travel.shift(60)
    prefer(reader, quiet_end=time(8))
    (release,) = events(RELEASE)
    assert release.data["until"] == timezone.now().isoformat()
    assert release.pk < events(CLOSE)[-1].pk
    ActiveFactory.create(title="Held after")
    assert titles(reader) == ["Held before"]


def test_who_gives_up_quiet_hours_gets_everything_at_once(
    reader: User, travel: time_machine.Traveller
) -> None:
    prefer(reader, **NIGHT)
    travel.move_to(MIDNIGHT)
    ActiveFactory.create(title="Held")
    travel.shift(60)
    prefer(reader, quiet_start=None, quiet_end=None)
    assert titles(reader) == ["Held"]
    assert len(events(RELEASE)) == 1
    assert Preferences().screens_of([reader.pk])  # its release may be on the way


def test_hours_that_are_over_release_what_their_clock_has_yet_to(
    reader: User, travel: time_machine.Traveller
) -> None:
    prefer(reader, **NIGHT)
    travel.move_to(SEVEN)
    prefer(reader, quiet_start=None, quiet_end=None)
    (release,) = events(RELEASE)
    assert release.data["until"] == SEVEN.isoformat()
    assert release_due() == 0


def test_the_clock_sleeps_until_the_next_end(reader: User, travel: time_machine.Traveller) -> None:
    prefer(reader, **NIGHT)
    travel.move_to(BEFORE_SEVEN)
    assert QuietClock().step() == 1.0
    travel.move_to(SEVEN)
    assert QuietClock().step() == 2.0
    assert len(events(RELEASE)) == 1


def test_a_screen_says_as_of_every_moment_what_the_inbox_says(
    reader: User, travel: time_machine.Traveller
) -> None:
    prefer(reader, **NIGHT)
    screen = Preferences().screens_of([reader.pk])[reader.pk]
    moments = [EVENING, MIDNIGHT, BEFORE_SEVEN, SEVEN, MIDNIGHT, EVENING]
    assert [screen.holds(at) for at in moments] == [False, True, True, False, True, False]
    screen.release(SEVEN)
    assert not screen.holds(MIDNIGHT)


def test_who_prefers_nothing_has_no_screen(reader: User) -> None:
    reader.email = "reader@example.org"
    prefer(reader, email="DAILY")
    assert Preferences().screens_of([reader.pk, UserFactory.create().pk]) == {}


def test_of_too_much_the_inbox_is_asked(
    reader: User, travel: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screening, "MOST", 2)
    ActiveFactory.create_batch(2)
    assert len(Preferences().held([reader.pk], EVENING, MIDNIGHT) or []) == 2
    ActiveFactory.create()
    assert Preferences().held([reader.pk], EVENING, MIDNIGHT) is None


def test_what_is_released_is_found_in_three_queries_for_all(
    travel: time_machine.Traveller,
) -> None:
    group = GroupFactory.create()
    people = [UserFactory.create() for _ in range(3)]
    travel.move_to(MIDNIGHT)
    everyone = ActiveFactory.create(title="All")
    role = ActiveFactory.create(audience="ROLE", targets=[group.name])
    named = ActiveFactory.create(audience="SELECTED", targets=[str(p.pk) for p in people[:2]])
    ActiveFactory.create(priority=Priority.URGENT)
    cancel(ActiveFactory.create())
    mark_read(people[0], [everyone.pk])
    travel.move_to(SEVEN)
    ActiveFactory.create(title="Later")
    with CaptureQueriesContext(connection) as queries:
        held = Preferences().held([p.pk for p in people[:2]], EVENING, SEVEN) or []
    assert len(queries) == 3
    assert [h.frame.data["broadcast_id"] for h in held if h.frame.data] == [
        everyone.pk,
        role.pk,
        named.pk,
    ]
    assert [h.frame.channels for h in held] == [
        ("all",),
        (f"role-{group.name}",),
        tuple(f"user-{p.pk}" for p in people[:2]),
    ]
    assert [h.without for h in held] == [{people[0].pk}, set(), set()]
    assert b'"held":true' in held[0].frame.body
    assert b"id:" not in held[0].frame.body.split(b"data:")[0]


def test_a_reminder_in_the_night_is_released_to_who_has_not_seen_it(
    reader: User, travel: time_machine.Traveller
) -> None:
    other = UserFactory.create()
    old = ActiveFactory.create()
    mark_seen(other, [old.pk])
    travel.move_to(MIDNIGHT)
    assert remind(old, None).people == 1
    (held,) = Preferences().held([reader.pk, other.pk], EVENING.replace(hour=9), SEVEN) or []
    assert held.without == {other.pk}
    assert held.frame.activated_at == MIDNIGHT
    assert titles(reader) == [old.title]  # it had come before the night


def test_a_reminder_of_another_time_is_not_part_of_what_is_released(
    reader: User, travel: time_machine.Traveller
) -> None:
    travel.move_to(MIDNIGHT)
    held = ActiveFactory.create()
    travel.move_to(SEVEN)
    remind(held, None)
    (frame,) = [one.frame for one in Preferences().held([reader.pk], EVENING, SEVEN) or []]
    assert frame.activated_at == MIDNIGHT
    assert b'"reminded_at":null' in frame.body


def test_a_test_that_an_operator_sends_to_themselves_does_not_wait(
    reader: User, travel: time_machine.Traveller
) -> None:
    prefer(reader, **NIGHT)
    travel.move_to(MIDNIGHT)
    test = send(page.test_of(DraftFactory.create(title="News"), reader))
    assert titles(reader) == ["[Test] News"]
    assert Event.objects.get(type="broadcast.activated").data["mandatory"]
    assert Preferences().held([reader.pk], EVENING, SEVEN) == []
    assert test.targeted == 1
