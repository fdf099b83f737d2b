"""Series: what goes out when, once each, and what operators do with them."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from broadcasts import series as services
from broadcasts.approvals import OwnWork
from broadcasts.directory import ModelDirectory, UserServiceUnavailable
from broadcasts.models import Approval, Broadcast, Series, Status
from broadcasts.series import (
    approve,
    change,
    end,
    left_out,
    pause,
    put_back,
    reject,
    resume,
    skip,
    start,
    upcoming,
)
from broadcasts.series_models import State
from broadcasts.services import ApprovalNeeded, ChangedMeanwhile, InvalidTransition, cancel
from broadcasts.tasks import BroadcastClock, process_scheduled_broadcasts
from outbox.models import Event
from tests.factories import UserFactory
from tests.racing import race

pytestmark = pytest.mark.django_db

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
MONDAY = datetime(2026, 6, 1, 7, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def somebody() -> None:
    UserFactory.create()


@pytest.fixture
def travel() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(MONDAY, tick=False) as traveller:
        yield traveller


def daily(**fields: Any) -> Series:
    return start(None, **{"title": "Good morning", "cron": "0 9 * * *", "zone": "UTC"} | fields)


def rows(series: Series, *statuses: str) -> list[str]:
    """The moments of its broadcasts, in its own time."""
    found = series.broadcasts.filter(status__in=statuses or list(Status)).order_by("occurrence")
    return [f"{series.local(b.occurrence):%d. %H:%M %Z}" for b in found if b.occurrence]


def told(series: Series) -> list[str]:
    events = Event.objects.filter(key=f"series-{series.pk}").order_by("id")
    return [
        kind.removeprefix("broadcast.series.") for kind in events.values_list("type", flat=True)
    ]


def run(traveller: time_machine.Traveller, until: datetime, step: timedelta) -> None:
    """The clock of broadcasts ticks until then, as it does every other second."""
    worker = BroadcastClock()
    moment = datetime.now(UTC)
    while moment <= until:
        traveller.move_to(moment, tick=False)
        worker.step()
        moment += step


@pytest.mark.parametrize(
    ("zone", "first", "expected"),
    [
        (BERLIN, "2026-03-28", ["28. 02:30 CET", "29. 03:00 CEST", "30. 02:30 CEST"]),
        (BERLIN, "2026-10-24", ["24. 02:30 CEST", "25. 02:30 CEST", "26. 02:30 CET"]),
        (NEW_YORK, "2026-03-07", ["07. 02:30 EST", "08. 03:00 EDT", "09. 02:30 EDT"]),
        (NEW_YORK, "2026-10-31", ["31. 02:30 EDT", "01. 02:30 EST", "02. 02:30 EST"]),
    ],
)
def test_across_both_changes_each_goes_out_once_at_its_local_time(zone, first, expected, travel):
    midnight = datetime.fromisoformat(first).replace(tzinfo=ZoneInfo(zone))
    travel.move_to(midnight, tick=False)
    series = daily(cron="30 2 * * *", zone=zone)
    run(travel, midnight + timedelta(days=2, hours=12), timedelta(minutes=15))

    assert rows(series, Status.ACTIVE) == expected
    sent = series.broadcasts.filter(status=Status.ACTIVE)
    assert all(broadcast.activated_at == broadcast.occurrence for broadcast in sent)
    assert len(rows(series, Status.SCHEDULED)) == 1
    assert Event.objects.filter(type="broadcast.activated").count() == len(expected)


def test_the_job_alone_sends_them_when_no_clock_runs(travel):
    series = daily(cron="*/5 * * * *")
    for minute in range(11):
        travel.move_to(MONDAY + timedelta(minutes=minute), tick=False)
        process_scheduled_broadcasts()
    assert rows(series, Status.ACTIVE) == ["01. 07:05 UTC", "01. 07:10 UTC"]


def test_an_occurrence_is_a_broadcast_with_the_words_of_its_series(travel):
    sender = UserFactory.create(first_name="Ann", last_name="Lee")
    fields = {"content": "*Hi*", "category": "news", "priority": 30, "life": "8h"}
    series = start(sender, title="Hello", cron="0 9 * * *", zone="UTC", **fields)

    broadcast = series.broadcasts.get()
    assert (broadcast.title, broadcast.content, broadcast.category) == ("Hello", "*Hi*", "news")
    assert (broadcast.status, broadcast.priority) == (Status.SCHEDULED, 30)
    assert (broadcast.sender, broadcast.sender_name) == (sender, "Ann Lee")
    nine = MONDAY + timedelta(hours=2)
    assert (broadcast.scheduled_at, broadcast.expires_at) == (nine, nine + timedelta(hours=8))


def test_one_waits_at_a_time_and_the_next_is_made_as_it_goes_out(travel):
    series = daily()
    assert rows(series) == ["01. 09:00 UTC"]
    run(travel, MONDAY + timedelta(hours=2), timedelta(hours=1))
    assert rows(series, Status.ACTIVE) == ["01. 09:00 UTC"]
    assert rows(series, Status.SCHEDULED) == ["02. 09:00 UTC"]


def test_it_ends_by_itself_after_its_count(travel):
    series = daily(count=2)
    run(travel, MONDAY + timedelta(days=4), timedelta(hours=1))
    series.refresh_from_db()
    assert rows(series) == ["01. 09:00 UTC", "02. 09:00 UTC"]
    assert (series.state, told(series)) == (State.ENDED, ["started", "ended"])


def test_it_begins_on_its_first_day_and_ends_after_its_last(travel):
    series = daily(starts_on=datetime(2026, 6, 3).date(), ends_on=datetime(2026, 6, 4).date())  # noqa: DTZ001
    run(travel, MONDAY + timedelta(days=6), timedelta(hours=1))
    series.refresh_from_db()
    assert rows(series, Status.ACTIVE) == ["03. 09:00 UTC", "04. 09:00 UTC"]
    assert series.state == State.ENDED


def test_a_paused_series_sends_nothing_and_makes_up_for_nothing(travel):
    series = pause(daily())
    run(travel, MONDAY + timedelta(days=2), timedelta(hours=1))
    assert rows(series) == []

    resume(series)
    run(travel, MONDAY + timedelta(days=3), timedelta(hours=1))
    assert rows(series) == ["03. 09:00 UTC", "04. 09:00 UTC"]
    assert told(series) == ["started", "paused", "resumed"]


def test_an_occurrence_withdrawn_by_a_pause_can_go_out_after_all(travel):
    series = resume(pause(daily()))
    assert rows(series, Status.SCHEDULED) == ["01. 09:00 UTC"]


def test_a_skipped_occurrence_does_not_go_out_and_the_others_do(travel):
    series = daily()
    skip(series, MONDAY + timedelta(hours=2))
    skip(series, MONDAY + timedelta(days=2, hours=2))
    assert [f"{moment:%d}" for moment in upcoming(series, 3)] == ["02", "04", "05"]
    run(travel, MONDAY + timedelta(days=3, hours=12), timedelta(hours=1))
    assert rows(series, Status.ACTIVE) == ["02. 09:00 UTC", "04. 09:00 UTC"]


def test_what_was_left_out_can_be_put_back_until_its_moment(travel):
    series = daily()
    first, second = MONDAY + timedelta(hours=2), MONDAY + timedelta(days=1, hours=2)
    for occurrence in (first, second):
        skip(series, occurrence)
    assert rows(series) == ["03. 09:00 UTC"]
    put_back(series, second)
    assert (rows(series), left_out(series)) == (["02. 09:00 UTC"], [first])
    assert told(series)[-1] == "restored"
    run(travel, MONDAY + timedelta(days=2, hours=3), timedelta(hours=1))
    assert rows(series, Status.ACTIVE) == ["02. 09:00 UTC", "03. 09:00 UTC"]
    for occurrence in (first, second, MONDAY + timedelta(days=9, hours=2)):
        with pytest.raises(ValidationError, match="none of those that are left out"):
            put_back(series, occurrence)


def test_what_it_does_not_come_to_any_more_is_not_left_out(travel):
    series = daily()
    skip(series, MONDAY + timedelta(days=1, hours=2))
    change(series, cron="0 10 * * *")
    assert left_out(series) == []


def test_what_is_put_back_in_a_pause_waits_for_its_end(travel):
    series = daily()
    skip(series, MONDAY + timedelta(hours=2))
    pause(series)
    put_back(series, MONDAY + timedelta(hours=2))
    assert rows(series) == []
    resume(series)
    assert rows(series) == ["01. 09:00 UTC"]


@pytest.mark.parametrize("hours", [1, -22, 24 * 60 + 2])
def test_only_what_lies_ahead_can_be_skipped(hours, travel):
    with pytest.raises(ValidationError, match="none of the next 50"):
        skip(daily(), MONDAY + timedelta(hours=hours))


def test_a_change_leaves_what_has_gone_out_and_what_lies_ahead_follows(travel):
    series = daily()
    run(travel, MONDAY + timedelta(hours=3), timedelta(hours=1))
    change(series, title="Good evening", cron="0 18 * * *")
    run(travel, MONDAY + timedelta(hours=12), timedelta(hours=1))

    sent = series.broadcasts.filter(status=Status.ACTIVE).order_by("occurrence")
    assert [broadcast.title for broadcast in sent] == ["Good morning", "Good evening"]
    assert rows(series) == ["01. 09:00 UTC", "01. 18:00 UTC", "02. 18:00 UTC"]


def test_a_change_of_words_keeps_the_moment(travel):
    series = change(daily(), title="Good day")
    assert [(b.title, b.occurrence) for b in series.broadcasts.all()] == [
        ("Good day", MONDAY + timedelta(hours=2))
    ]


@pytest.mark.parametrize("count", [1, None])
def test_a_change_takes_along_what_is_due_and_waits(count, travel):
    series = daily(count=count)
    travel.move_to(MONDAY + timedelta(hours=2), tick=False)  # the clock has not looked yet
    change(series, title="Good day")
    BroadcastClock().step()
    assert [b.title for b in series.broadcasts.filter(status=Status.ACTIVE)] == ["Good day"]
    assert rows(series) == ["01. 09:00 UTC", "02. 09:00 UTC"][: count or 2]


def test_a_change_of_the_moment_drops_what_is_due_and_waits(travel):
    series = daily()
    travel.move_to(MONDAY + timedelta(hours=2), tick=False)
    change(series, cron="0 10 * * *")
    BroadcastClock().step()
    assert rows(series, Status.ACTIVE) == []
    assert rows(series, Status.SCHEDULED) == ["01. 10:00 UTC"]


def test_a_paused_series_can_be_changed_and_stays_paused(travel):
    series = change(pause(daily()), cron="0 18 * * *")
    assert (series.state, rows(series)) == (State.PAUSED, [])


def test_an_ended_series_is_over(travel):
    series = end(daily())
    run(travel, MONDAY + timedelta(days=1), timedelta(hours=1))
    assert rows(series) == []
    for verb in (pause, resume, change, end):
        with pytest.raises(InvalidTransition, match="This series is Ended"):
            verb(series)


def test_who_looks_at_an_old_state_is_told(travel):
    series = daily()
    old = Series.objects.get(pk=series.pk)
    pause(series)
    with pytest.raises(InvalidTransition, match="This series is Paused"):
        pause(old)


def test_a_cancelled_occurrence_is_not_made_again(travel):
    series = daily()
    cancel(series.broadcasts.get())
    change(series, title="Good day")
    run(travel, MONDAY + timedelta(days=1, hours=3), timedelta(hours=1))
    assert rows(series, Status.CANCELLED) == ["01. 09:00 UTC"]
    assert rows(series, Status.ACTIVE) == ["02. 09:00 UTC"]


# What was missed


def away(traveller: time_machine.Traveller, until: datetime) -> None:
    """Nothing ran until then."""
    traveller.move_to(until, tick=False)
    BroadcastClock().step()
    BroadcastClock().step()


def test_after_an_outage_only_the_latest_goes_out(travel):
    series = daily(cron="0 * * * *")
    away(travel, MONDAY + timedelta(hours=4, minutes=20))
    assert rows(series, Status.ACTIVE) == ["01. 11:00 UTC"]
    assert rows(series, Status.SCHEDULED) == ["01. 12:00 UTC"]
    missed = series.broadcasts.get(status=Status.CANCELLED)
    assert (missed.occurrence, missed.activated_at) == (MONDAY + timedelta(hours=1), None)
    assert missed.cancel_reason == "It could not be sent in time."


def test_what_was_missed_by_more_than_the_grace_goes_out_no_more(travel, settings):
    series = daily()
    away(travel, MONDAY + timedelta(hours=2, minutes=settings.SERIES_GRACE_MINUTES, seconds=1))
    assert rows(series, Status.CANCELLED) == ["01. 09:00 UTC"]
    assert rows(series, Status.SCHEDULED) == ["02. 09:00 UTC"]


def test_within_the_grace_the_one_that_waits_goes_out_late(travel):
    series = daily()
    away(travel, MONDAY + timedelta(hours=2, minutes=59))
    assert rows(series, Status.ACTIVE) == ["01. 09:00 UTC"]


def test_what_its_expiry_overtook_does_not_count(travel):
    series = daily(count=1, life="10m")
    away(travel, MONDAY + timedelta(hours=2, minutes=30))
    assert rows(series, Status.EXPIRED) == ["01. 09:00 UTC"]
    assert rows(series, Status.SCHEDULED) == ["02. 09:00 UTC"]


def test_what_failed_before_it_went_out_does_not_count(travel):
    series = daily(count=1)
    series.broadcasts.update(status=Status.FAILED)
    away(travel, MONDAY + timedelta(hours=2))
    assert rows(series, Status.SCHEDULED) == ["02. 09:00 UTC"]


def test_a_week_away_costs_no_more_than_an_hour(travel):
    series = daily(cron="* * * * *")
    travel.move_to(MONDAY + timedelta(days=7), tick=False)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        services.catch_up()
    assert len(queries) < 40
    assert len(rows(series)) == 3  # the one of then, the latest, and the next


def test_what_waits_for_the_directory_is_overtaken_by_the_next(travel, monkeypatch):
    series = daily(cron="*/10 * * * *")

    def down(*args: object) -> int:
        raise UserServiceUnavailable("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(ModelDirectory, "count", down)
        run(travel, MONDAY + timedelta(minutes=19), timedelta(minutes=1))
    assert rows(series) == ["01. 07:10 UTC", "01. 07:20 UTC"]
    run(travel, MONDAY + timedelta(minutes=20), timedelta(minutes=1))
    assert rows(series, Status.ACTIVE) == ["01. 07:20 UTC"]
    assert rows(series, Status.CANCELLED) == ["01. 07:10 UTC"]


def test_a_series_that_cannot_be_planned_does_not_stop_the_others(travel):
    broken, good = daily(), daily()
    Series.objects.filter(pk=broken.pk).update(cron="nonsense")
    run(travel, MONDAY + timedelta(days=1, hours=3), timedelta(hours=1))
    assert rows(good, Status.ACTIVE) == ["01. 09:00 UTC", "02. 09:00 UTC"]


# Rules


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"cron": "at nine"}, "cron", "write minute, hour|Write minute, hour"),
        ({"zone": "Mars/Base"}, "zone", "no time zone"),
        ({"zone": "localtime"}, "zone", "no time zone"),
        ({"starts_on": date(1, 1, 1)}, "starts_on", "a day from 2000 to 2199"),
        ({"ends_on": date(9999, 12, 31)}, "ends_on", "a day from 2000 to 2199"),
        ({"life": "long"}, "life", "30m, 8h or 7d"),
        ({"count": 0}, "count", "greater than or equal to 1"),
        ({"cron": "0 9 31 4 *"}, "cron", "It never comes"),
        ({"ends_on": datetime(2026, 5, 1).date()}, "cron", "It never comes"),  # noqa: DTZ001
        ({"audience": "ROLE", "targets": ["nobody"]}, "targets", "1 unknown: nobody"),
        ({"title": ""}, "title", "blank"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(fields, field, words, travel):
    with pytest.raises(ValidationError, match=words) as caught:
        daily(**fields)
    assert set(caught.value.message_dict) == {field}
    assert not Series.objects.exists()


def test_its_last_day_does_not_lie_before_its_first(travel):
    june = datetime(2026, 6, 5).date()  # noqa: DTZ001
    with pytest.raises(ValidationError, match="must not lie before"):
        daily(starts_on=june, ends_on=june - timedelta(days=1))


def test_a_look_for_what_is_due_costs_the_same_with_1_series_and_with_20(travel):
    daily()
    with CaptureQueriesContext(connection) as with_one:
        BroadcastClock().step()
    for _ in range(19):
        daily()
    with CaptureQueriesContext(connection) as with_twenty:
        BroadcastClock().step()
    assert len(with_twenty) == len(with_one)


@pytest.mark.django_db(transaction=True)
def test_two_nodes_make_one_and_send_one():
    UserFactory.create()
    with time_machine.travel(MONDAY, tick=False) as traveller:
        series = daily(cron="*/10 * * * *")
        for number in range(1, 5):
            traveller.move_to(MONDAY + timedelta(minutes=10 * number), tick=False)
            outcomes = race(*[BroadcastClock().step, process_scheduled_broadcasts] * 2)
            assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert len(rows(series, Status.ACTIVE)) == 4
    assert len(rows(series, Status.SCHEDULED)) == 1
    assert Event.objects.filter(type="broadcast.activated").count() == 4
    assert Broadcast.objects.count() == 5


class TestApproval:
    @pytest.fixture(autouse=True)
    def everyone_needs_it(self, settings: Settings) -> None:
        settings.BROADCAST_APPROVAL_FOR = ["ALL"]

    @pytest.fixture
    def composer(self) -> User:
        return UserFactory.create(username="composer")

    @pytest.fixture
    def approver(self) -> User:
        return UserFactory.create(username="approver")

    @pytest.fixture
    def series(self, composer: User, travel: time_machine.Traveller) -> Series:
        return start(composer, title="Good morning", cron="0 9 * * *", zone="UTC")

    def test_it_waits_from_its_start(self, series: Series, travel: time_machine.Traveller) -> None:
        assert (series.state, series.approval) == (State.PAUSED, Approval.REQUESTED)
        assert told(series) == ["started", "approval.requested"]
        run(travel, MONDAY + timedelta(days=2), timedelta(hours=1))
        assert rows(series) == []

    def test_a_second_person_starts_it_and_each_occurrence_goes_out(
        self, series: Series, approver: User, travel: time_machine.Traveller
    ) -> None:
        approve(series, approver)
        assert Series.objects.get().state == State.RUNNING
        run(travel, MONDAY + timedelta(days=2), timedelta(hours=1))
        assert rows(series, Status.ACTIVE) == ["01. 09:00 UTC", "02. 09:00 UTC"]

    def test_who_composed_it_can_neither_approve_nor_resume_it(
        self, series: Series, composer: User
    ) -> None:
        with pytest.raises(OwnWork, match="a second person must approve it"):
            approve(series, composer)
        with pytest.raises(ApprovalNeeded, match="It is for everyone"):
            resume(series)
        assert Series.objects.get().state == State.PAUSED

    def test_who_changed_it_last_cannot_approve_it(
        self, series: Series, composer: User, approver: User
    ) -> None:
        change(approve(series, approver), editor=approver, title="Good evening")
        assert (series.state, series.approval) == (State.PAUSED, Approval.REQUESTED)
        assert rows(series) == []
        for own in (composer, approver):
            with pytest.raises(OwnWork):
                approve(series, own)
        approve(series, UserFactory.create())
        assert [b.title for b in series.broadcasts.all()] == ["Good evening"]

    def test_a_rejected_one_stays_paused_until_it_is_asked_for_again(
        self, series: Series, composer: User, approver: User
    ) -> None:
        with pytest.raises(ValidationError, match="Say why"):
            reject(series, approver, " ")
        reject(series, approver, "At ten, please.")
        assert (series.state, series.approval) == (State.PAUSED, Approval.REJECTED)
        with pytest.raises(InvalidTransition, match="waits for no approval"):
            approve(series, approver)
        change(series, editor=composer, cron="0 10 * * *")
        approve(series, approver, "Fine.")
        assert rows(series) == ["01. 10:00 UTC"]
        assert told(series)[2:] == [
            "approval.rejected", "changed", "approval.requested", "approval.approved",
        ]  # fmt: skip
        steps = series.approval_steps.order_by("id")
        assert list(steps.values_list("version", "decision", "person_name", "comment")) == [
            (1, "REQUESTED", "composer", ""),
            (1, "REJECTED", "approver", "At ten, please."),
            (2, "REQUESTED", "composer", ""),
            (2, "APPROVED", "approver", "Fine."),
        ]

    def test_who_asked_again_for_it_cannot_approve_it(self, series: Series, approver: User) -> None:
        reject(series, approver, "Not now.")
        with pytest.raises(ApprovalNeeded):
            resume(series, approver)
        assert series.approval == Approval.REQUESTED
        with pytest.raises(OwnWork):
            approve(series, approver)

    def test_an_approved_one_is_paused_and_resumed_by_its_author(
        self, series: Series, approver: User
    ) -> None:
        resume(pause(approve(series, approver)))
        assert (series.state, series.approval) == (State.RUNNING, Approval.APPROVED)
        pause(series)
        with pytest.raises(InvalidTransition, match="It waits for no approval"):
            approve(series, approver)

    def test_what_was_changed_meanwhile_is_not_approved_unread(
        self, series: Series, composer: User, approver: User
    ) -> None:
        read = Series.objects.get()
        change(series, editor=composer, translations={"de": {"title": "Moin", "content": ""}})
        with pytest.raises(ChangedMeanwhile, match="it is now version 2"):
            approve(read, approver)
        with pytest.raises(ChangedMeanwhile):
            change(Series.objects.get(), editor=approver, version=1, title="Mine")
        assert Series.objects.get().state == State.PAUSED

    def test_a_change_that_needs_none_goes_on(self, series: Series, composer: User) -> None:
        person = UserFactory.create()
        change(series, editor=composer, audience="SELECTED", targets=[str(person.pk)])
        assert (series.state, series.approval) == (State.PAUSED, Approval.NONE)
        assert resume(series).state == State.RUNNING

    def test_a_rule_that_came_later_is_asked_at_the_resume(
        self, composer: User, approver: User, settings: Settings
    ) -> None:
        settings.BROADCAST_APPROVAL_FOR = []
        series = pause(start(composer, title="Hi", cron="0 9 * * *", zone="UTC"))
        settings.BROADCAST_APPROVAL_FOR = ["ALL"]
        with pytest.raises(ApprovalNeeded):
            resume(series)
        assert Series.objects.awaiting_approval().get() == series
        settings.BROADCAST_APPROVAL_FOR = []
        assert resume(series).approval == Approval.NONE
