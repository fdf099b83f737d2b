from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.utils import timezone

from broadcasts.models import Product
from connections.models import Connection, ConnectionStatus, Node
from connections.services import CLOSE, disconnect, purge_inactive, sweep_stale
from outbox.models import Event

pytestmark = pytest.mark.django_db


@pytest.fixture
def user() -> User:
    return User.objects.create_user("reader")


def connect(user: User, *, node: str = "a", quiet_for: float = 0, **fields: Any) -> Connection:
    beat = timezone.now() - timedelta(seconds=quiet_for)
    return Connection.objects.create(user=user, node=node, last_heartbeat=beat, **fields)


def live(node: str, *, quiet_for: float = 0) -> Node:
    return Node.objects.create(
        name=node, last_heartbeat=timezone.now() - timedelta(seconds=quiet_for)
    )


def told_to_close() -> list[str | None]:
    return [event.data["connection_id"] for event in Event.objects.filter(type=CLOSE)]


@time_machine.travel("2030-01-01", tick=False)
def test_a_stream_with_heartbeats_is_left_alone(user: User) -> None:
    live("a")
    connect(user, quiet_for=59)
    assert sweep_stale() == 0
    assert Connection.objects.active().count() == 1


def test_a_stale_stream_of_a_living_node_is_told_to_close(user: User) -> None:
    live("a")
    stale = connect(user, quiet_for=61)
    assert sweep_stale() == 1
    assert told_to_close() == [str(stale.pk)]
    stale.refresh_from_db()
    assert (stale.status, stale.reason) == (ConnectionStatus.INACTIVE, "stale")


def test_the_streams_of_a_dead_node_are_marked_without_a_word(user: User) -> None:
    node = live("a", quiet_for=61)
    stale = connect(user, quiet_for=61)
    assert sweep_stale() == 1
    assert told_to_close() == []
    stale.refresh_from_db()
    node.refresh_from_db()
    assert (stale.status, stale.reason) == (ConnectionStatus.INACTIVE, "node died")
    assert node.stopped_at


def test_sweeping_twice_finds_nothing_more(user: User) -> None:
    connect(user, quiet_for=61)
    assert [sweep_stale(), sweep_stale()] == [1, 0]


def test_only_inactive_rows_past_their_retention_are_purged(user: User, settings: Any) -> None:
    old = timezone.now() - timedelta(days=settings.CONNECTION_RETENTION_DAYS, minutes=1)
    for _ in range(5):
        connect(user, status=ConnectionStatus.INACTIVE, disconnected_at=old)
    recent = connect(user, status=ConnectionStatus.INACTIVE, disconnected_at=timezone.now())
    active = connect(user, quiet_for=999_999)
    assert purge_inactive(batch=2) == 5
    assert set(Connection.objects.all()) == {recent, active}


def test_disconnecting_ends_the_row_and_tells_the_holder(user: User) -> None:
    connection = connect(user)
    disconnect(connection, "by an operator")
    connection.refresh_from_db()
    assert (connection.status, connection.reason) == ("INACTIVE", "by an operator")
    event = Event.objects.get(type=CLOSE)
    assert event.channels == [f"user-{user.pk}"]
    assert event.data == {
        "connection_id": str(connection.pk),
        "reason": "by an operator",
        "reconnect": False,
    }


@pytest.mark.parametrize("change", ["add", "remove", "clear", "clear members", "delete"])
def test_every_change_of_a_group_cuts_the_streams_of_its_members(user: User, change: str) -> None:
    group = Group.objects.create(name="Crew")
    if change != "add":
        user.groups.add(group)
    Event.objects.all().delete()
    match change:
        case "add":
            user.groups.add(group)
        case "remove":
            group.user_set.remove(user)
        case "clear":
            user.groups.clear()
        case "clear members":
            group.user_set.clear()
        case "delete":
            group.delete()
    assert [event.channels for event in Event.objects.filter(type=CLOSE)] == [[f"user-{user.pk}"]]


@pytest.mark.parametrize("change", ["add", "remove", "clear", "clear mine", "delete"])
def test_every_change_of_a_subscription_cuts_the_streams(user: User, change: str) -> None:
    product = Product.objects.create(slug="payments", name="Payments")
    if change != "add":
        product.subscribers.add(user)
    Event.objects.all().delete()
    match change:
        case "add":
            user.products.add(product)
        case "remove":
            product.subscribers.remove(user)
        case "clear":
            product.subscribers.clear()
        case "clear mine":
            user.products.clear()
        case "delete":
            product.delete()
    assert [event.channels for event in Event.objects.filter(type=CLOSE)] == [[f"user-{user.pk}"]]


def test_a_disabled_account_loses_its_streams_for_good(user: User) -> None:
    user.is_active = False
    user.save()
    assert Event.objects.get(type=CLOSE).data["reconnect"] is False


def test_a_new_password_cuts_the_streams_and_who_knows_it_returns(user: User) -> None:
    user.set_password("another")
    user.save()
    assert Event.objects.get(type=CLOSE).data["reconnect"] is True


def test_a_person_who_is_deleted_loses_their_streams_for_good(user: User) -> None:
    channel = f"user-{user.pk}"
    user.delete()
    event = Event.objects.get(type=CLOSE)
    assert (event.channels, event.data["reconnect"]) == ([channel], False)


def test_signing_out_cuts_the_streams_of_the_other_tabs(user: User, client: Client) -> None:
    client.force_login(user)
    client.logout()
    assert Event.objects.get(type=CLOSE).channels == [f"user-{user.pk}"]


@pytest.mark.parametrize("right", ["is_staff", "is_superuser"])
@pytest.mark.parametrize("only", [True, False])
def test_who_loses_a_right_loses_their_streams_and_returns_without(
    user: User, right: str, only: bool
) -> None:
    User.objects.filter(pk=user.pk).update(**{right: True})
    assert not getattr(user, right)
    user.save(update_fields=[right] if only else None)
    event = Event.objects.get(type=CLOSE)
    assert (event.channels, event.data["reconnect"]) == ([f"user-{user.pk}"], True)


def test_who_is_given_a_right_keeps_their_streams(user: User) -> None:
    user.is_staff = user.is_superuser = True
    user.save()
    user.is_staff = False
    user.save(update_fields=["last_login"])  # as signing in does
    assert not Event.objects.exists()


@pytest.mark.parametrize("change", ["remove", "clear", "set", "from there", "clear there"])
def test_a_permission_that_a_group_loses_cuts_the_streams_of_its_staff(
    user: User, change: str
) -> None:
    group = Group.objects.create(name="Crew")
    permission = Permission.objects.get(codename="view_event", content_type__app_label="outbox")
    group.permissions.add(permission)
    User.objects.filter(pk=user.pk).update(is_staff=True)
    group.user_set.add(user, User.objects.create(username="no staff"))
    Event.objects.all().delete()
    match change:
        case "remove":
            group.permissions.remove(permission)
        case "clear":
            group.permissions.clear()
        case "set":
            group.permissions.set([])
        case "from there":
            permission.group_set.remove(group)
        case "clear there":
            permission.group_set.clear()
    assert [event.channels for event in Event.objects.filter(type=CLOSE)] == [[f"user-{user.pk}"]]


def test_a_permission_that_a_group_is_given_cuts_nothing(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_staff=True)
    group = Group.objects.create(name="Crew")
    user.groups.add(group)
    Event.objects.all().delete()
    group.permissions.add(Permission.objects.get(codename="view_broadcast"))
    assert not Event.objects.exists()


def test_saving_a_person_otherwise_cuts_nothing(user: User) -> None:
    user.first_name = "Ada"
    user.save()
    assert not Event.objects.exists()
