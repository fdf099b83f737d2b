"""Two at once, each with a connection of its own: one winner, one event."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from broadcasts import services
from broadcasts.approvals import approve, reject, request, withdraw
from broadcasts.models import Broadcast, Receipt, Status
from broadcasts.services import InvalidTransition, activate_due, cancel, edit, expire, resume, send
from outbox.models import Event
from tests.factories import ActiveFactory, DraftFactory, UserFactory
from tests.racing import race

pytestmark = [pytest.mark.django_db(transaction=True)]

ROUNDS = 8


def fresh(verb: Callable[[Broadcast], Any], broadcast: Broadcast) -> Callable[[], Any]:
    """`verb` on an instance that was read before the race."""
    mine = Broadcast.objects.get(pk=broadcast.pk)
    return lambda: verb(mine)


def types(broadcast: Broadcast) -> list[str]:
    events = Event.objects.filter(key=f"broadcast-{broadcast.pk}").order_by("id")
    return list(events.values_list("type", flat=True))


def winners(outcomes: list[Any]) -> int:
    assert all(o is None or isinstance(o, (Broadcast, InvalidTransition, int)) for o in outcomes)
    return sum(not isinstance(outcome, InvalidTransition) for outcome in outcomes)


@pytest.mark.parametrize("audience", ["ALL", "SELECTED"])
def test_two_that_send_at_once_send_once(audience: str) -> None:
    reader = UserFactory.create()
    targets = [str(reader.pk)] if audience == "SELECTED" else []
    for _ in range(ROUNDS):
        broadcast = DraftFactory.create(audience=audience, targets=targets)
        assert winners(race(*[fresh(send, broadcast)] * 2 + [fresh(send, broadcast)])) == 1
        assert types(broadcast).count("broadcast.activated") == 1


def test_sending_and_cancelling_at_once_ends_consistently() -> None:
    UserFactory.create()
    for _ in range(ROUNDS):
        broadcast = DraftFactory.create()
        outcomes = race(fresh(send, broadcast), fresh(cancel, broadcast))
        assert not isinstance(outcomes[1], InvalidTransition)  # a cancel is never refused here
        broadcast.refresh_from_db()
        told = types(broadcast)
        assert broadcast.status == Status.CANCELLED
        assert told.count("broadcast.cancelled") == 1
        assert told[-1] == "broadcast.cancelled"
        last = Event.objects.filter(key=f"broadcast-{broadcast.pk}").latest("id")
        assert bool(last.channels) == ("broadcast.activated" in told)


def test_cancelling_and_expiring_at_once_have_one_winner() -> None:
    UserFactory.create()
    for _ in range(ROUNDS):
        broadcast = ActiveFactory.create(expires_at=timezone.now() + timedelta(hours=1))
        assert winners(race(fresh(cancel, broadcast), fresh(expire, broadcast))) == 1
        ends = [t for t in types(broadcast) if t in ("broadcast.cancelled", "broadcast.expired")]
        broadcast.refresh_from_db()
        assert ends == [f"broadcast.{broadcast.status.lower()}"]


def test_clocks_of_several_processes_send_what_is_due_once() -> None:
    UserFactory.create()
    made = [send(DraftFactory.create(), timezone.now() + timedelta(hours=1)) for _ in range(10)]
    Broadcast.objects.update(scheduled_at=timezone.now())
    race(activate_due, activate_due, activate_due)
    for broadcast in made:
        assert types(broadcast) == ["broadcast.scheduled", "broadcast.activated"]


def test_two_preparations_of_one_audience_write_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "CHUNK", 10)
    users = User.objects.bulk_create(User(username=f"p-{n}") for n in range(95))
    broadcast = send(DraftFactory.create(audience="SELECTED", targets=[str(u.pk) for u in users]))
    assert broadcast.status == Status.IN_PROGRESS
    race(resume, resume, resume)
    resume()
    broadcast.refresh_from_db()
    assert (broadcast.status, broadcast.targeted) == (Status.ACTIVE, 95)
    addressed = Event.objects.filter(type="broadcast.activated")
    assert sum(len(event.channels) for event in addressed) == 95


def test_a_cancel_during_preparation_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(services, "CHUNK", 5)
    users = User.objects.bulk_create(User(username=f"p-{n}") for n in range(100))
    for _ in range(ROUNDS // 2):
        broadcast = send(
            DraftFactory.create(audience="SELECTED", targets=[str(u.pk) for u in users])
        )
        race(resume, fresh(cancel, broadcast))
        broadcast.refresh_from_db()
        left = Receipt.objects.filter(broadcast=broadcast).exclude(status="SUPERSEDED")
        assert (broadcast.status, left.count()) == (Status.CANCELLED, 0)


@pytest.fixture
def needs_approval(settings: Settings) -> None:
    settings.BROADCAST_APPROVAL_FOR = ["ALL"]


@pytest.mark.usefixtures("needs_approval")
def test_of_two_who_approve_at_once_one_is_told_of_the_other() -> None:
    people = UserFactory.create_batch(3)
    for _ in range(ROUNDS):
        broadcast = request(DraftFactory.create(), people[0])
        verbs = [partial(approve, person=person) for person in people[1:]]
        assert winners(race(*(fresh(verb, broadcast) for verb in verbs))) == 1
        assert broadcast.approval_steps.filter(decision="APPROVED").count() == 1
        assert types(broadcast).count("broadcast.approval.approved") == 1


@pytest.mark.usefixtures("needs_approval")
def test_approving_and_rejecting_at_once_have_one_winner() -> None:
    people = UserFactory.create_batch(3)
    for _ in range(ROUNDS):
        broadcast = request(DraftFactory.create(), people[0])
        outcomes = race(
            fresh(partial(approve, person=people[1]), broadcast),
            fresh(partial(reject, person=people[2], comment="No"), broadcast),
        )
        assert winners(outcomes) == 1
        broadcast.refresh_from_db()
        said = broadcast.approval_steps.exclude(decision="REQUESTED").get().decision
        assert said == broadcast.approval


@pytest.mark.usefixtures("needs_approval")
def test_an_approval_withdrawn_while_it_is_sent_comes_in_time_or_too_late() -> None:
    one, other = UserFactory.create_batch(2)
    for _ in range(ROUNDS):
        broadcast = approve(request(DraftFactory.create(), one), other)
        outcomes = race(fresh(send, broadcast), fresh(partial(withdraw, person=other), broadcast))
        assert winners(outcomes) == 1
        broadcast.refresh_from_db()
        went_out = "broadcast.activated" in types(broadcast)
        assert (broadcast.status == Status.ACTIVE) == went_out
        assert (broadcast.approval == "APPROVED") == went_out
        assert ("broadcast.approval.withdrawn" in types(broadcast)) != went_out


@pytest.mark.usefixtures("needs_approval")
def test_what_is_changed_while_it_is_sent_goes_out_as_it_was_approved_or_not_at_all() -> None:
    one, other = UserFactory.create_batch(2)
    for _ in range(ROUNDS):
        broadcast = approve(request(DraftFactory.create(title="Approved"), one), other)
        race(fresh(send, broadcast), fresh(partial(edit, title="Changed"), broadcast))
        broadcast.refresh_from_db()
        if broadcast.status == Status.ACTIVE:
            assert (broadcast.title, broadcast.version) == ("Approved", 1)
        else:
            assert (broadcast.status, broadcast.title) == (Status.DRAFT, "Changed")
