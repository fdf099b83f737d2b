from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import override_settings
from django.utils import timezone

from broadcasts import services
from broadcasts.directory import (
    ModelDirectory,
    UserServiceUnavailable,
    existing_user_ids,
    get_directory,
)
from broadcasts.messages import message_of
from broadcasts.models import Address, Broadcast, Receipt, Status
from broadcasts.receipts import inbox_of, mark_read
from broadcasts.services import (
    InvalidTransition,
    activate,
    activate_due,
    cancel,
    compose,
    compose_and_send,
    duplicate,
    edit,
    expire,
    expire_overdue,
    preview,
    resume,
    retry,
    send,
)
from outbox.deadletters import purge, redrive, redrive_all
from outbox.logs import DatabaseLog
from outbox.models import DeadLetter, Event, Priority
from outbox.relay import Relay
from tests.factories import ActiveFactory, DraftFactory, GroupFactory, ProductFactory, UserFactory

pytestmark = pytest.mark.django_db

SOON = timedelta(hours=1)


class UnreliableDirectory(ModelDirectory):
    error: Exception | None = None

    def count(self, audience: str, targets: Any) -> int:
        if self.error:
            raise self.error
        return super().count(audience, targets)


@pytest.fixture
def directory() -> Iterator[UnreliableDirectory]:
    get_directory.cache_clear()
    path = f"{__name__}.UnreliableDirectory"
    with override_settings(DIRECTORY_BACKEND=path):
        chosen = get_directory()
        assert isinstance(chosen, UnreliableDirectory)
        yield chosen
    get_directory.cache_clear()


@pytest.fixture
def reader() -> User:
    return UserFactory.create()


def people(count: int) -> list[str]:
    created = User.objects.bulk_create(User(username=f"p-{n}") for n in range(count))
    return [str(user.pk) for user in created]


def addressed(broadcast: Broadcast) -> list[Event]:
    """What goes to streams; `broadcasts` is also the topic of what does not."""
    events = Event.objects.filter(key=f"broadcast-{broadcast.pk}").order_by("id")
    return [event for event in events if event.channels]


def types(broadcast: Broadcast) -> list[str]:
    events = Event.objects.filter(key=f"broadcast-{broadcast.pk}").order_by("id")
    return list(events.values_list("type", flat=True))


def in_status(status: Status, **fields: Any) -> Broadcast:
    """A row as its services would have left it."""
    now = timezone.now()
    broadcast = DraftFactory.create(**fields)
    moments = {
        "scheduled_at": None if status == Status.DRAFT else now - SOON,
        "activated_at": now if status in (Status.ACTIVE, Status.SENT) else None,
    }
    Broadcast.objects.filter(pk=broadcast.pk).update(status=status, **moments)
    broadcast.refresh_from_db()
    return broadcast


def relay() -> None:
    relay = Relay(DatabaseLog())
    relay.step()
    relay.resign()


def let_pause_pass() -> None:
    Broadcast.objects.update(next_attempt_at=timezone.now())


# Transitions

VERBS: dict[str, Callable[[Broadcast], Any]] = {
    "edit": lambda broadcast: edit(broadcast, title="New"),
    "send": send,
    "cancel": cancel,
    "expire": expire,
    "retry": retry,
}
ALLOWED = {
    ("edit", Status.DRAFT): (Status.DRAFT, []),
    ("send", Status.DRAFT): (Status.ACTIVE, ["broadcast.scheduled", "broadcast.activated"]),
    ("cancel", Status.DRAFT): (Status.CANCELLED, ["broadcast.cancelled"]),
    ("cancel", Status.SCHEDULED): (Status.CANCELLED, ["broadcast.cancelled"]),
    ("cancel", Status.IN_PROGRESS): (Status.CANCELLED, ["broadcast.cancelled"]),
    ("cancel", Status.ACTIVE): (Status.CANCELLED, ["broadcast.cancelled"]),
    ("cancel", Status.FAILED): (Status.CANCELLED, ["broadcast.cancelled"]),
    ("expire", Status.SCHEDULED): (Status.EXPIRED, ["broadcast.expired"]),
    ("expire", Status.IN_PROGRESS): (Status.EXPIRED, ["broadcast.expired"]),
    ("expire", Status.ACTIVE): (Status.EXPIRED, ["broadcast.expired"]),
    ("retry", Status.FAILED): (Status.SCHEDULED, ["broadcast.retried"]),
}


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("verb", VERBS)
def test_each_transition_is_allowed_with_one_event_or_refused_with_none(
    verb: str, status: Status
) -> None:
    broadcast = in_status(status)
    if (verb, status) in ALLOWED:
        wanted, events = ALLOWED[verb, status]
        VERBS[verb](broadcast)
    else:
        wanted, events = status, []
        with pytest.raises(InvalidTransition):
            VERBS[verb](broadcast)
    broadcast.refresh_from_db()
    assert (broadcast.status, types(broadcast)) == (wanted, events)


@pytest.mark.parametrize("status", list(Status))
def test_activation_touches_only_what_waits(status: Status) -> None:
    broadcast = in_status(status)
    activate(broadcast)
    broadcast.refresh_from_db()
    assert broadcast.status == (Status.ACTIVE if status == Status.SCHEDULED else status)


@pytest.mark.usefixtures("reader")
def test_a_refused_transition_says_what_stands_in_its_way() -> None:
    broadcast = ActiveFactory.create()
    with pytest.raises(InvalidTransition, match="Active"):
        send(broadcast)


def test_a_deleted_broadcast_cannot_be_sent(reader: User) -> None:
    broadcast = DraftFactory.create()
    Broadcast.objects.all().delete()
    with pytest.raises(InvalidTransition, match="deleted"):
        send(broadcast)


def test_the_end_of_a_broadcast_moves_its_time_of_change(reader: User) -> None:
    broadcast = ActiveFactory.create()
    Broadcast.objects.update(updated_at=timezone.now() - SOON)
    broadcast = cancel(Broadcast.objects.get(), "a mistake")
    broadcast.refresh_from_db()
    assert timezone.now() - broadcast.updated_at < SOON / 2
    assert broadcast.finished_at
    assert broadcast.cancel_reason == "a mistake"


# Sending and its write costs


def test_everyone_is_one_event_and_no_receipt(django_assert_max_num_queries: Any) -> None:
    people(50)
    broadcast = DraftFactory.create()
    with django_assert_max_num_queries(25):
        send(broadcast)
    (event,) = addressed(broadcast)
    assert event.channels == ["all"]
    assert event.data["broadcast_id"] == broadcast.pk
    assert not Receipt.objects.exists()
    assert broadcast.targeted == 50


@pytest.mark.parametrize(
    ("audience", "factory"), [("ROLE", GroupFactory), ("PRODUCT", ProductFactory)]
)
def test_several_channels_are_one_event_so_that_nobody_gets_it_twice(
    reader: User, audience: str, factory: Any
) -> None:
    first, second = factory.create(), factory.create()
    keys = [getattr(one, "name" if audience == "ROLE" else "slug") for one in (first, second)]
    for one in (first, second):
        getattr(one, "user_set" if audience == "ROLE" else "subscribers").add(reader)
    broadcast = ActiveFactory.create(audience=audience, targets=keys)
    (event,) = addressed(broadcast)
    assert event.channels == [f"{audience.lower()}-{key}" for key in keys]
    assert (broadcast.targeted, Receipt.objects.count()) == (1, 0)
    assert inbox_of(reader).count() == 1


def test_selected_people_are_receipts_and_an_event_a_thousand() -> None:
    targets = people(2_001)
    broadcast = send(DraftFactory.create(audience="SELECTED", targets=targets))
    assert broadcast.status == Status.IN_PROGRESS
    resume()
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.targeted, broadcast.progress) == ("ACTIVE", 2001, 2001)
    assert Receipt.objects.filter(broadcast=broadcast, status="PENDING").count() == 2_001
    assert [len(event.channels) for event in addressed(broadcast)] == [1000, 1000, 1]
    assert {c for event in addressed(broadcast) for c in event.channels} == {
        f"user-{pk}" for pk in targets
    }


def test_few_selected_people_have_it_at_once(reader: User) -> None:
    broadcast = ActiveFactory.create(audience="SELECTED", targets=[str(reader.pk)])
    assert broadcast.status == Status.ACTIVE
    assert types(broadcast) == [
        "broadcast.scheduled",
        "broadcast.preparing",
        "broadcast.activated",
    ]


def test_who_was_deleted_or_shut_out_since_it_was_written_is_left_out(reader: User) -> None:
    gone, out = UserFactory.create(), UserFactory.create()
    targets = [str(user.pk) for user in (reader, gone, out)]
    broadcast = DraftFactory.create(audience="SELECTED", targets=targets)
    gone.delete()
    User.objects.filter(pk=out.pk).update(is_active=False)
    send(broadcast)
    assert broadcast.targeted == 1
    assert addressed(broadcast)[0].channels == [f"user-{reader.pk}"]


def test_what_happened_is_told_even_when_nobody_is_left() -> None:
    gone = UserFactory.create()
    broadcast = DraftFactory.create(audience="SELECTED", targets=[str(gone.pk)])
    gone.delete()
    send(broadcast, allow_empty=True)
    assert (broadcast.status, broadcast.targeted) == (Status.ACTIVE, 0)
    assert types(broadcast)[-1] == "broadcast.activated"


def test_the_priority_of_a_broadcast_is_that_of_its_event(reader: User) -> None:
    broadcast = ActiveFactory.create(priority=Priority.URGENT)
    assert addressed(broadcast)[0].priority == Priority.URGENT


def test_fire_and_forget_is_kept_in_no_inbox(reader: User) -> None:
    broadcast = ActiveFactory.create(fire_and_forget=True)
    assert (broadcast.status, types(broadcast)[-1]) == (Status.SENT, "broadcast.sent")
    assert not inbox_of(reader).exists()


def test_sending_reads_what_another_operator_edited_meanwhile(reader: User) -> None:
    stale = DraftFactory.create()
    edit(Broadcast.objects.get(), title="Corrected")
    send(stale)
    assert addressed(stale)[0].data["title"] == "Corrected"


def test_an_edit_never_revives_what_was_sent(reader: User) -> None:
    stale = DraftFactory.create()
    send(Broadcast.objects.get())
    with pytest.raises(InvalidTransition):
        edit(stale, title="Too late")
    row = Broadcast.objects.get()
    assert (row.status, row.title != "Too late") == (Status.ACTIVE, True)


def test_a_duplicate_is_a_draft_without_moments(reader: User) -> None:
    original = ActiveFactory.create(priority=Priority.HIGH, expires_at=timezone.now() + SOON)
    copy = duplicate(original, reader)
    assert (copy.status, copy.title, copy.priority) == (Status.DRAFT, original.title, 30)
    assert (copy.scheduled_at, copy.expires_at, copy.activated_at) == (None, None, None)
    assert (copy.sender, copy.correlation_id != original.correlation_id) == (reader, True)


# Moments


def test_a_moment_ahead_is_waited_for(reader: User) -> None:
    broadcast = send(DraftFactory.create(), timezone.now() + SOON)
    assert activate_due() == 0
    assert (broadcast.status, addressed(broadcast)) == (Status.SCHEDULED, [])
    Broadcast.objects.update(scheduled_at=timezone.now())
    assert activate_due() == 1
    broadcast.refresh_from_db()
    assert broadcast.status == Status.ACTIVE


def test_a_moment_that_is_past_means_now(reader: User) -> None:
    broadcast = send(DraftFactory.create(scheduled_at=timezone.now() - SOON))
    assert broadcast.status == Status.ACTIVE


def test_the_most_urgent_of_what_is_due_goes_first(reader: User) -> None:
    moment = timezone.now() + SOON
    for priority in (Priority.LOW, Priority.URGENT, Priority.NORMAL):
        send(DraftFactory.create(priority=priority), moment)
    Broadcast.objects.update(scheduled_at=timezone.now())
    activate_due()
    told = Event.objects.filter(type="broadcast.activated").order_by("id")
    ordered = told.values_list("priority", flat=True)
    assert list(ordered) == [40, 20, 10]


def test_what_expired_before_it_could_be_sent_is_never_sent(reader: User) -> None:
    broadcast = send(DraftFactory.create(), timezone.now() + SOON)
    past = timezone.now() - SOON
    Broadcast.objects.update(scheduled_at=past - SOON, expires_at=past)
    activate_due()
    broadcast.refresh_from_db()
    assert (broadcast.status, addressed(broadcast)) == (Status.EXPIRED, [])
    assert types(broadcast) == ["broadcast.scheduled", "broadcast.expired"]


def test_a_draft_past_its_expiry_is_never_sent(reader: User) -> None:
    broadcast = send(DraftFactory.create(expires_at=timezone.now() - SOON))
    assert (broadcast.status, addressed(broadcast)) == (Status.EXPIRED, [])


def test_what_expires_while_it_is_prepared_is_never_sent(
    reader: User, directory: UnreliableDirectory
) -> None:
    broadcast = send(
        DraftFactory.create(expires_at=timezone.now() + SOON), timezone.now() + SOON / 2
    )
    broadcast.scheduled_at = timezone.now()
    count = directory.count

    def slowly(audience: str, targets: Any) -> int:
        broadcast.expires_at = timezone.now()
        return count(audience, targets)

    directory.count = slowly  # type: ignore[method-assign]
    activate(broadcast)
    broadcast.refresh_from_db()
    assert (broadcast.status, addressed(broadcast)) == (Status.EXPIRED, [])


def test_an_expiry_before_the_moment_is_refused(reader: User) -> None:
    broadcast = DraftFactory.create(expires_at=timezone.now() + SOON)
    with pytest.raises(ValidationError, match="after the moment"):
        send(broadcast, timezone.now() + 2 * SOON)
    assert types(broadcast) == []


def test_an_expiry_counts_before_the_job_has_noticed(reader: User) -> None:
    broadcast = ActiveFactory.create(expires_at=timezone.now() + SOON)
    assert inbox_of(reader).count() == 1
    Broadcast.objects.update(expires_at=timezone.now())
    assert (inbox_of(reader).count(), broadcast.status) == (0, Status.ACTIVE)


def test_what_is_over_leaves_inboxes_and_screens_of_those_addressed(reader: User) -> None:
    role = GroupFactory.create()
    role.user_set.add(reader)
    broadcast = ActiveFactory.create(
        audience="ROLE", targets=[role.name], expires_at=timezone.now() + SOON
    )
    Broadcast.objects.update(expires_at=timezone.now())
    assert expire_overdue() == 1
    last = addressed(broadcast)[-1]
    assert (last.type, last.channels) == ("broadcast.expired", [f"role-{role.name}"])
    assert not inbox_of(reader).exists()
    assert expire_overdue() == 0


def test_however_many_are_over_all_are_ended(reader: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "TOGETHER", 2)
    ActiveFactory.create_batch(5)
    Broadcast.objects.update(expires_at=timezone.now())
    assert expire_overdue() == 5
    assert set(Broadcast.objects.values_list("status", flat=True)) == {Status.EXPIRED}


def test_one_that_cannot_be_ended_does_not_keep_the_others(
    reader: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ActiveFactory.create(), ActiveFactory.create()
    Broadcast.objects.update(expires_at=timezone.now())
    real = services.expire

    def fail_once(broadcast: Broadcast) -> Broadcast:
        if broadcast.pk == second.pk:
            raise OSError
        return real(broadcast)

    monkeypatch.setattr(services, "expire", fail_once)
    assert expire_overdue() == 1
    first.refresh_from_db()
    assert first.status == Status.EXPIRED


# Bad input


def test_an_empty_audience_is_refused_now_and_nothing_is_kept() -> None:
    GroupFactory.create(name="empty")
    with pytest.raises(ValidationError, match="Nobody belongs"):
        compose_and_send(None, title="T", audience="ROLE", targets=["empty"])
    assert not Broadcast.objects.exists()
    assert not Event.objects.exists()


def test_an_empty_audience_may_fill_until_the_moment_comes(reader: User) -> None:
    role = GroupFactory.create()
    broadcast = DraftFactory.create(audience="ROLE", targets=[role.name])
    send(broadcast, timezone.now() + SOON)
    role.user_set.add(reader)
    Broadcast.objects.update(scheduled_at=timezone.now())
    activate_due()
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.targeted) == (Status.ACTIVE, 1)


def test_an_empty_audience_is_allowed_on_request() -> None:
    role = GroupFactory.create()
    broadcast = DraftFactory.create(audience="ROLE", targets=[role.name])
    assert send(broadcast, allow_empty=True).status == Status.ACTIVE


@pytest.mark.parametrize(
    ("fields", "field", "text"),
    [
        ({"audience": "ROLE", "targets": ["gone"]}, "targets", "1 unknown: gone"),
        ({"audience": "SELECTED", "targets": ["0", "x", "9" * 40, "²"]}, "targets", "4 unknown"),
        ({"audience": "SELECTED", "targets": ["1", "1"]}, "targets", "once"),
        ({"audience": "ROLE", "targets": []}, "targets", "at least one"),
        ({"audience": "ALL", "targets": ["x"]}, "targets", "no targets"),
        ({"audience": "SELECTED", "targets": [1]}, "targets", "list of strings"),
        ({"audience": "SELECTED", "targets": "1"}, "targets", "list of strings"),
        ({"audience": "MARTIANS"}, "audience", "not a valid choice"),
        ({"content": "x" * 1_000_000}, "content", "at most"),
        ({"title": ""}, "title", "blank"),
        ({"priority": 7}, "priority", "not a valid choice"),
        ({"force_logoff": True}, "__all__", "needs fire and forget"),
    ],
)
def test_what_is_wrong_is_said_of_its_field_and_nothing_is_kept(
    fields: dict[str, Any], field: str, text: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        compose(None, **{"title": "T"} | fields)
    assert text in " ".join(caught.value.message_dict[field])
    assert not Broadcast.objects.exists()


def test_an_expiry_before_the_schedule_is_refused() -> None:
    now = timezone.now()
    with pytest.raises(ValidationError, match="after the scheduled moment"):
        compose(None, title="T", scheduled_at=now + SOON, expires_at=now)


def test_many_unknown_targets_are_counted_and_some_named() -> None:
    with pytest.raises(ValidationError, match=r"25 unknown: .*, …"):
        compose(None, title="T", audience="PRODUCT", targets=[f"p-{n}" for n in range(25)])


def test_a_preview_counts_people_and_shows_some(reader: User) -> None:
    shown = preview("SELECTED", [str(reader.pk)])
    assert (shown.count, [person.username for person in shown.people]) == (1, [reader.username])


# Failures


def test_a_directory_that_is_down_leaves_it_scheduled_with_the_reason(
    reader: User, directory: UnreliableDirectory
) -> None:
    directory.error = UserServiceUnavailable("no route to host")
    broadcast = send(DraftFactory.create())
    assert (broadcast.status, broadcast.last_error) == (Status.SCHEDULED, "no route to host")
    assert addressed(broadcast) == []
    directory.error = None
    assert activate_due() == 0  # it is not asked again at once
    let_pause_pass()
    activate_due()
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.last_error) == (Status.ACTIVE, "")


def test_a_long_outage_alone_never_fails_a_broadcast(
    reader: User, directory: UnreliableDirectory
) -> None:
    directory.error = UserServiceUnavailable("down")
    broadcast = send(DraftFactory.create())
    for _ in range(20):
        let_pause_pass()
        activate_due()
    directory.error = ValueError("a bug")
    let_pause_pass()
    activate_due()
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.attempts) == (Status.SCHEDULED, 1)


def test_one_that_fails_does_not_keep_the_rest_of_its_batch(
    reader: User, directory: UnreliableDirectory
) -> None:
    moment = timezone.now() + SOON
    role = GroupFactory.create()
    bad = send(DraftFactory.create(audience="ROLE", targets=[role.name]), moment)
    good = send(DraftFactory.create(audience="SELECTED", targets=[str(reader.pk)]), moment)
    Broadcast.objects.update(scheduled_at=timezone.now())
    directory.error = UserServiceUnavailable("down")
    assert activate_due() == 2
    for broadcast, status in ((bad, Status.SCHEDULED), (good, Status.ACTIVE)):
        broadcast.refresh_from_db()
        assert broadcast.status == status


def test_one_that_is_deleted_meanwhile_does_not_keep_the_rest(
    reader: User, directory: UnreliableDirectory
) -> None:
    first, _ = DraftFactory.create(priority=40), DraftFactory.create()
    for broadcast in Broadcast.objects.all():
        send(broadcast, timezone.now() + SOON)
    Broadcast.objects.update(scheduled_at=timezone.now())
    count = directory.count

    def delete_first(audience: str, targets: Any) -> int:
        if Broadcast.objects.filter(pk=first.pk).delete()[0]:
            raise ValueError("it is gone")
        return count(audience, targets)

    directory.count = delete_first  # type: ignore[method-assign]
    assert activate_due() == 2
    assert Broadcast.objects.get().status == Status.ACTIVE


def test_one_that_cannot_be_written_does_not_keep_those_that_are_sent_with_it(
    reader: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, *good = [send(DraftFactory.create(), timezone.now() + SOON) for _ in range(3)]
    Broadcast.objects.update(scheduled_at=timezone.now())

    def fail_for_one(broadcast: Broadcast) -> Any:
        return 1 / 0 if broadcast.pk == bad.pk else message_of(broadcast)

    monkeypatch.setattr(services, "message_of", fail_for_one)
    assert activate_due() == 3
    for broadcast, status in ((bad, Status.SCHEDULED), *((b, Status.ACTIVE) for b in good)):
        broadcast.refresh_from_db()
        assert (broadcast.status, len(addressed(broadcast))) == (status, status == Status.ACTIVE)
    bad.refresh_from_db()
    assert (bad.attempts, bad.last_error) == (1, "division by zero")


def test_what_is_due_together_is_sent_in_few_statements(
    reader: User, django_assert_max_num_queries: Any
) -> None:
    for n in range(50):
        send(DraftFactory.create(fire_and_forget=n % 2 == 1), timezone.now() + SOON)
    Broadcast.objects.update(scheduled_at=timezone.now())
    with django_assert_max_num_queries(20):
        assert activate_due() == 50
    assert Event.objects.filter(type="broadcast.activated").count() == 25
    assert Event.objects.filter(type="broadcast.sent").count() == 25
    assert Address.objects.count() == 50


def test_a_selected_audience_tells_the_same_whether_it_is_sent_alone_or_with_others(
    reader: User,
) -> None:
    gone = UserFactory.create()
    fields = {"audience": "SELECTED", "targets": [str(reader.pk), str(gone.pk)]}
    with_others, alone = [send(DraftFactory.create(**fields), timezone.now() + SOON) for _ in "ab"]
    gone.delete()
    Broadcast.objects.update(scheduled_at=timezone.now())
    activate(alone)
    activate_due()
    with_others.refresh_from_db()
    alone.refresh_from_db()
    assert types(with_others) == types(alone)
    for field in ("status", "targeted", "progress", "last_error"):
        assert getattr(with_others, field) == getattr(alone, field)
    assert [e.channels for e in addressed(with_others)] == [e.channels for e in addressed(alone)]


@override_settings(BROADCAST_MAX_ATTEMPTS=3)
def test_other_errors_fail_it_after_the_allowed_attempts_and_it_can_be_retried(
    reader: User, directory: UnreliableDirectory
) -> None:
    broadcast = send(DraftFactory.create(), timezone.now() + SOON)
    Broadcast.objects.update(scheduled_at=timezone.now())
    directory.error = ZeroDivisionError()
    seen = []
    for _ in range(4):
        activate_due()
        let_pause_pass()
        broadcast.refresh_from_db()
        seen.append(broadcast.status)
    assert seen == ["SCHEDULED", "SCHEDULED", "FAILED", "FAILED"]
    assert broadcast.last_error == "ZeroDivisionError"
    assert types(broadcast).count("broadcast.failed") == 1
    directory.error = None
    retry(broadcast)
    activate_due()
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.last_error) == (Status.ACTIVE, "")


def test_what_fails_half_way_leaves_nothing_half_published(
    reader: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "message_of", lambda broadcast: 1 / 0)
    broadcast = send(DraftFactory.create())
    assert (broadcast.status, broadcast.activated_at) == (Status.SCHEDULED, None)
    assert not Address.objects.exists()
    assert types(broadcast) == ["broadcast.scheduled"]


# Preparation in chunks


def prepared_until(progress: int, count: int) -> Broadcast:
    """A selected broadcast whose process died after `progress` people."""
    targets = people(count)
    broadcast = send(DraftFactory.create(audience="SELECTED", targets=targets))
    assert broadcast.status == Status.IN_PROGRESS
    Receipt.objects.bulk_create(
        Receipt(broadcast=broadcast, user_id=int(pk)) for pk in targets[:progress]
    )
    Broadcast.objects.update(progress=progress)
    broadcast.refresh_from_db()
    return broadcast


def test_a_stuck_preparation_goes_on_where_it_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "CHUNK", 2)
    monkeypatch.setattr(services, "RECEIPTS", 2)
    broadcast = prepared_until(4, 7)
    asked: list[list[str]] = []

    def ask(ids: Any) -> Any:
        asked.append(list(ids))
        return existing_user_ids(ids)

    monkeypatch.setattr(services, "existing_user_ids", ask)
    resume()
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.targeted) == (Status.ACTIVE, 7)
    assert [len(ids) for ids in asked] == [2, 1]
    assert [len(event.channels) for event in addressed(broadcast)] == [2, 2, 2, 1]


def test_a_preparation_that_died_before_it_published_is_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(services, "CHUNK", 2)
    monkeypatch.setattr(services, "RECEIPTS", 2)
    broadcast = prepared_until(3, 3)
    resume()
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.targeted) == (Status.ACTIVE, 3)


def test_a_cancel_between_two_chunks_is_not_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "CHUNK", 2)
    monkeypatch.setattr(services, "RECEIPTS", 2)
    broadcast = prepared_until(0, 5)

    def cancel_in_between(ids: Any) -> Any:
        if Receipt.objects.count() == 2:
            cancel(Broadcast.objects.get(pk=broadcast.pk), "stop")
        return existing_user_ids(ids)

    monkeypatch.setattr(services, "existing_user_ids", cancel_in_between)
    activate(Broadcast.objects.get(pk=broadcast.pk))
    resume()
    broadcast.refresh_from_db()
    assert (broadcast.status, addressed(broadcast)) == (Status.CANCELLED, [])
    assert Receipt.objects.filter(status="SUPERSEDED").count() >= 2
    assert types(broadcast)[-1] == "broadcast.cancelled"


def test_nobody_sees_what_is_still_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "CHUNK", 2)
    monkeypatch.setattr(services, "RECEIPTS", 2)
    prepared_until(2, 5)
    first = User.objects.order_by("pk").first()
    assert first
    assert not inbox_of(first).exists()


def test_memory_and_statements_of_a_preparation_do_not_grow_with_its_people(
    django_assert_max_num_queries: Any,
) -> None:
    broadcast = send(DraftFactory.create(audience="SELECTED", targets=people(5_000)))
    with django_assert_max_num_queries(90):
        resume()
    broadcast.refresh_from_db()
    assert broadcast.targeted == 5_000


def test_the_clock_leaves_large_audiences_to_the_preparation(
    reader: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "CHUNK", 2)
    monkeypatch.setattr(services, "RECEIPTS", 2)
    moment = timezone.now() + SOON
    large = send(DraftFactory.create(audience="SELECTED", targets=people(3)), moment)
    small = send(DraftFactory.create(), moment)
    Broadcast.objects.update(scheduled_at=timezone.now())
    activate_due(only_small=True)
    for broadcast, status in ((large, Status.IN_PROGRESS), (small, Status.ACTIVE)):
        broadcast.refresh_from_db()
        assert broadcast.status == status


# Cancelling


def test_a_cancel_by_who_read_it_before_it_was_sent_still_clears_the_screens(
    reader: User,
) -> None:
    stale = DraftFactory.create()
    send(Broadcast.objects.get())
    cancel(stale)
    assert addressed(stale)[-1].type == "broadcast.cancelled"


def test_cancelling_what_nobody_has_seen_tells_no_screen(reader: User) -> None:
    broadcast = send(DraftFactory.create(), timezone.now() + SOON)
    cancel(broadcast)
    assert addressed(broadcast) == []


def test_a_cancel_reaches_only_those_who_were_addressed(reader: User) -> None:
    broadcast = ActiveFactory.create(audience="SELECTED", targets=[str(reader.pk)])
    UserFactory.create()
    cancel(broadcast)
    assert addressed(broadcast)[-1].channels == [f"user-{reader.pk}"]


def test_what_was_read_stays_read_when_it_is_cancelled(reader: User) -> None:
    other = UserFactory.create()
    targets = [str(reader.pk), str(other.pk)]
    broadcast = ActiveFactory.create(audience="SELECTED", targets=targets)
    mark_read(reader, [broadcast.pk])
    cancel(broadcast)
    assert dict(Receipt.objects.values_list("user_id", "status")) == {
        reader.pk: "READ",
        other.pk: "SUPERSEDED",
    }


# Parked and redriven


@pytest.fixture
def parked(reader: User) -> Broadcast:
    """Its event was too large for the log when it was sent."""
    broadcast = ActiveFactory.create(
        audience="SELECTED", targets=[str(reader.pk)], content="x" * 2_000
    )
    with override_settings(EVENT_MAX_BYTES=1_500):
        relay()
    broadcast.refresh_from_db()
    return broadcast


def test_a_broadcast_whose_event_is_parked_has_failed(parked: Broadcast, reader: User) -> None:
    assert parked.status == Status.FAILED
    assert "EVENT_MAX_BYTES" in parked.last_error
    assert Receipt.objects.get().status == "FAILED"
    assert not inbox_of(reader).exists()
    assert DeadLetter.objects.get().type == "broadcast.activated"


def test_the_failure_is_told_past_the_event_that_is_parked(parked: Broadcast) -> None:
    relay()
    event = Event.objects.published().get(type="broadcast.failed")
    assert event.data["broadcast_id"] == parked.pk


def test_a_redrive_puts_everything_right_that_the_failure_marked(
    parked: Broadcast, reader: User
) -> None:
    redrive(DeadLetter.objects.get())
    relay()
    parked.refresh_from_db()
    assert (parked.status, parked.last_error) == (Status.ACTIVE, "")
    assert Receipt.objects.get().status == "PENDING"
    assert inbox_of(reader).get() == parked
    assert Event.objects.published().filter(type="broadcast.activated").count() == 1
    assert not DeadLetter.objects.exists()


def test_a_redriven_fire_and_forget_is_sent_again(reader: User) -> None:
    broadcast = ActiveFactory.create(fire_and_forget=True, content="x" * 2_000)
    with override_settings(EVENT_MAX_BYTES=1_500):
        relay()
    redrive(DeadLetter.objects.get())
    broadcast.refresh_from_db()
    assert broadcast.status == Status.SENT


def test_a_redrive_does_not_revive_what_was_cancelled_meanwhile(
    parked: Broadcast, reader: User
) -> None:
    cancel(parked, "too late anyway")
    assert redrive_all(DeadLetter.objects.all()).succeeded == 1
    relay()
    parked.refresh_from_db()
    assert (parked.status, Receipt.objects.get().status) == (Status.CANCELLED, "SUPERSEDED")
    last = Event.objects.published().filter(key=f"broadcast-{parked.pk}").order_by("position")
    assert [event.type for event in last][-2:] == ["broadcast.activated", "broadcast.cancelled"]


def test_a_parked_broadcast_is_redriven_not_retried(parked: Broadcast) -> None:
    with pytest.raises(InvalidTransition, match="redrive"):
        retry(parked)


def test_a_purge_lets_what_waited_behind_it_go(parked: Broadcast) -> None:
    cancel(parked)
    relay()
    assert not Event.objects.published().filter(type="broadcast.cancelled").exists()
    purge(DeadLetter.objects.get())
    relay()
    assert Event.objects.published().filter(type="broadcast.cancelled").exists()
