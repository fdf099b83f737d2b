"""What is done to keys, once, with its event."""

from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.clock import LONGEST_SLEEP
from jobs.registry import periodic_jobs
from operations.keys import services
from operations.keys.models import ApiKey, State
from operations.keys.services import InvalidTransition, end_expired, next_ends, waiting_to_end
from operations.tasks import KeyClock
from outbox.models import Event
from tests.racing import race


def types() -> list[str]:
    events = Event.objects.filter(type__startswith="key.").order_by("id")
    return list(events.values_list("type", flat=True))


def test_each_change_is_an_event_of_the_log(key: ApiKey) -> None:
    services.edit(key, name="Shop 2")
    services.rotate(key, timedelta(hours=1))
    services.disable(key, "leaked")
    services.enable(key)
    name = key.key_id
    services.delete(key)
    verbs = ["created", "changed", "rotated", "disabled", "enabled", "deleted"]
    assert types() == [f"key.{verb}" for verb in verbs]
    events = Event.objects.filter(key=name)
    assert {(event.topic, event.data["key_id"]) for event in events} == {("key", name)}
    assert Event.objects.get(type="key.disabled").data["reason"] == "leaked"
    assert "sk_" not in str([event.data for event in events])


def test_what_is_so_already_is_told(key: ApiKey) -> None:
    with pytest.raises(InvalidTransition, match="enabled already"):
        services.enable(key)
    services.disable(key, "once")
    with pytest.raises(InvalidTransition, match="disabled already"):
        services.disable(key, "twice")
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(InvalidTransition, match="later expiry"):
        services.enable(key)
    assert ApiKey.objects.get().reason == "once"


def test_who_saves_it_as_it_is_has_changed_nothing(key: ApiKey) -> None:
    services.edit(key, name=key.name, scopes=list(key.scopes))
    assert types() == ["key.created"]
    services.edit(key, name="Stall", scopes=list(key.scopes))
    assert Event.objects.get(type="key.changed").data["changed"] == ["name"]


def test_an_edit_leaves_what_was_counted_meanwhile(key: ApiKey) -> None:
    ApiKey.objects.update(succeeded=5)
    services.edit(key, name="Other")
    found = ApiKey.objects.get()
    assert (found.name, found.succeeded) == ("Other", 5)


@pytest.mark.django_db(transaction=True)
def test_of_two_that_disable_one_wins(key: ApiKey) -> None:
    outcomes = race(*[lambda: services.disable(ApiKey.objects.get(), "by two")] * 2)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == [
        "InvalidTransition",
        "NoneType",
    ]
    assert types() == ["key.created", "key.disabled"]


@pytest.mark.django_db(transaction=True)
def test_of_two_that_end_what_expired_each_key_is_ended_once(owner: User) -> None:
    for n in range(5):
        services.make(owner, f"{n}", ["read"])
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert sum(race(end_expired, end_expired)) == 5
    assert types().count("key.expired") == 5


def test_the_clock_ends_a_key_at_its_moment_and_sleeps_until_the_next(key: ApiKey) -> None:
    now = timezone.now()
    soon = now + timedelta(hours=1)
    ApiKey.objects.update(expires_at=soon, old_until=soon)
    assert next_ends(now) == [soon, soon]
    assert KeyClock().step() == LONGEST_SLEEP
    assert types() == ["key.created"]
    ApiKey.objects.update(expires_at=now)
    assert KeyClock().step() == LONGEST_SLEEP
    assert types() == ["key.created", "key.expired"]
    assert next_ends(now) == [None, soon]


def test_the_job_disables_what_has_expired_and_nothing_else(owner: User, key: ApiKey) -> None:
    now = timezone.now()
    over, _ = services.make(owner, "Over", ["read"], expires_at=now + timedelta(hours=1))
    later, _ = services.make(owner, "Later", ["read"], expires_at=now + timedelta(days=2))
    off, _ = services.make(owner, "Off", ["read"], expires_at=now + timedelta(hours=1))
    services.disable(off, "before")
    with time_machine.travel(now + timedelta(hours=4)):
        assert over.state(timezone.now()) == State.EXPIRED
        assert end_expired() == 1
        found = {
            state: {key.name for key in ApiKey.objects.in_state(state, timezone.now())}
            for state in State
        }
        assert found == {"ACTIVE": {"Shop", "Later"}, "EXPIRED": {"Over", "Off"}, "DISABLED": set()}
        assert {key.state(timezone.now()) for key in ApiKey.objects.filter(enabled=False)} == {
            State.EXPIRED
        }
        assert end_expired() == 0
    states = {one.name: (one.enabled, one.reason) for one in ApiKey.objects.all()}
    assert states == {
        "Shop": (True, ""),
        "Over": (False, "expired"),
        "Later": (True, ""),
        "Off": (False, "before"),
    }
    assert Event.objects.get(type="key.expired").key == over.key_id
    assert later.state(timezone.now()) == State.ACTIVE


def test_2500_keys_are_ended_and_what_waits_is_told(owner: User) -> None:
    over = timezone.now() - timedelta(hours=3)
    ApiKey.objects.bulk_create(
        ApiKey(key_id=f"ak_{n:016x}", name="x", owner=owner, scopes=["read"], expires_at=over)
        for n in range(2_500)
    )
    job = periodic_jobs["API_KEY_EXPIRATION"]
    assert (job.every, job.at_least, job.at_most) == (
        "1h",
        timedelta(minutes=1),
        timedelta(minutes=10),
    )
    assert job.backlog is waiting_to_end
    assert waiting_to_end() == 2_500
    with CaptureQueriesContext(connection) as queries:
        assert job.run() == 2_500
    assert len(queries) < 200
    assert waiting_to_end() == 0
    assert ApiKey.objects.filter(enabled=True).count() == 0
    assert types().count("key.expired") == 2_500
