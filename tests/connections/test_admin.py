import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from connections.models import Connection, ConnectionStatus, Node
from outbox.models import Event

pytestmark = pytest.mark.django_db

CONNECTIONS = "/admin/connections/connection/"
NODES = "/admin/connections/node/"


@pytest.fixture
def console(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator", password="x"))
    return client


def staff(*permissions: str) -> Client:
    user = User.objects.create_user(f"staff-{uuid.uuid4()}", is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def connected(**fields: Any) -> Connection:
    user = User.objects.create_user(f"user-{uuid.uuid4()}")
    return Connection.objects.create(
        **{"user": user, "node": "web-1", "channels": ["all"]} | fields
    )


def rows(response: Any) -> list[Any]:
    return list(response.context["cl"].result_list)


def closes() -> list[dict[str, Any]]:
    events = Event.objects.filter(type="connection.close").order_by("id")
    return [event.data for event in events if event.data["connection_id"]]


def test_the_active_come_first(console):
    active = connected(connected_at=timezone.now() - timedelta(days=1))
    over = connected(status=ConnectionStatus.INACTIVE)
    assert rows(console.get(CONNECTIONS)) == [active, over]


def test_connections_are_filtered_and_searched(console):
    first = connected()
    second = connected(node="web-2", status=ConnectionStatus.INACTIVE)
    assert rows(console.get(f"{CONNECTIONS}?status__exact=INACTIVE")) == [second]
    assert rows(console.get(f"{CONNECTIONS}?node=web-1")) == [first]
    assert rows(console.get(f"{CONNECTIONS}?q={first.user.username}")) == [first]


def test_disconnecting_one_asks_and_then_tells_its_node(console):
    one = connected()
    url = f"{CONNECTIONS}{one.pk}/disconnect/"
    assert console.get(url).status_code == 200
    assert not closes()
    console.post(url, {"confirmed": "yes"})
    one.refresh_from_db()
    assert one.status == ConnectionStatus.INACTIVE
    assert [event["connection_id"] for event in closes()] == [str(one.pk)]
    assert LogEntry.objects.get(object_id=one.pk).get_change_message() == "Disconnected"


def test_the_selected_are_disconnected(console):
    chosen, other = connected(), connected()
    form = {"action": "disconnect_selected", "_selected_action": [str(chosen.pk)]}
    assert "do not come back" in console.post(CONNECTIONS, form).text
    console.post(CONNECTIONS, form | {"confirmed": "yes"})
    assert list(Connection.objects.active()) == [other]


def test_disconnecting_twice_is_a_message(console):
    over = connected(status=ConnectionStatus.INACTIVE)
    url = f"{CONNECTIONS}{over.pk}/disconnect/"
    assert "Already disconnected" in console.post(url, {"confirmed": "yes"}, follow=True).text
    assert not closes()


def test_an_open_stream_has_the_heartbeat_of_its_node(console):
    long_ago = timezone.now() - timedelta(hours=1)
    Node.objects.create(name="web-1")
    for status in ConnectionStatus.values:
        connected(last_heartbeat=long_ago, status=status)
    active, over = rows(console.get(CONNECTIONS))
    assert active.heartbeat_at > long_ago
    assert over.heartbeat_at == long_ago


def test_a_node_lives_as_long_as_its_heartbeat_is_fresh(console):
    now = timezone.now()
    Node.objects.create(name="living", last_heartbeat=now)
    Node.objects.create(name="dead", last_heartbeat=now - timedelta(minutes=2))
    Node.objects.create(name="gone", last_heartbeat=now - timedelta(hours=1), stopped_at=now)
    connected(node="living")
    page = console.get(NODES)
    assert [(node.name, node.active_streams) for node in rows(page)] == [
        ("living", 1),
        ("dead", 0),
        ("gone", 0),
    ]
    for word in ("Living", "Dead", "Stopped"):
        assert word in page.text


def test_nodes_and_connections_are_read_only(console):
    node, one = Node.objects.create(name="web-1"), connected()
    assert console.get(f"{NODES}{node.pk}/change/").status_code == 200
    assert console.get(f"{CONNECTIONS}{one.pk}/change/").status_code == 200
    assert console.post(f"{NODES}{node.pk}/change/", {"name": "x"}).status_code == 403
    assert console.post(f"{CONNECTIONS}{one.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("path", [CONNECTIONS, NODES])
def test_a_list_costs_the_same_with_2_rows_and_with_20(console, path):
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert console.get(path).status_code == 200
        return len(queries)

    def add(count: int) -> None:
        for _ in range(count):
            Node.objects.create(name=connected(node=str(uuid.uuid4())).node)

    add(2)
    console.get(path)
    few = cost()
    add(18)
    assert cost() == few < 20


def test_the_anonymous_are_sent_to_the_login(client):
    one = connected()
    for url in [CONNECTIONS, NODES, f"{CONNECTIONS}{one.pk}/disconnect/"]:
        assert client.get(url).url.startswith("/admin/login/")


def test_viewing_does_not_include_disconnecting():
    one = connected()
    url = f"{CONNECTIONS}{one.pk}/disconnect/"
    assert staff().get(CONNECTIONS).status_code == 403
    assert staff().post(url, {"confirmed": "yes"}).status_code == 403
    viewer = staff("view_connection")
    assert viewer.get(CONNECTIONS).status_code == 200
    assert viewer.post(url, {"confirmed": "yes"}).status_code == 403
    assert Connection.objects.active().exists()
