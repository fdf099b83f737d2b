import pytest
from django.core.management import call_command
from django.db import transaction

from outbox.logs import DatabaseLog
from outbox.models import Event
from outbox.relay import Relay
from outbox.services import emit

pytestmark = pytest.mark.django_db


def publish(key: str) -> None:
    with transaction.atomic():
        emit("link.expired", key, {})
    relay = Relay(DatabaseLog())
    relay.step()
    relay.resign()


def test_no_position_is_given_twice_after_a_restore(capsys: pytest.CaptureFixture[str]) -> None:
    publish("before")
    call_command("after_restore")
    assert "The next event is at position 1000002." in capsys.readouterr().out
    publish("after")
    assert Event.objects.get(key="after").position == 1_000_002
    records = DatabaseLog().replay("link", 1, 10) or []
    assert [record.key for record in records] == ["after"]


def test_a_relay_of_the_old_database_is_fenced() -> None:
    old = Relay(DatabaseLog())
    assert old.lead()
    call_command("after_restore")
    new = Relay(DatabaseLog())
    assert new.lead()
    assert not old.lead()


def test_a_fresh_database_can_be_told_too() -> None:
    call_command("after_restore")
    publish("first")
    assert Event.objects.get().position == 1_000_001
