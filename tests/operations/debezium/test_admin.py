from datetime import timedelta
from http import HTTPStatus

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from jobs.models import Job
from operations.debezium import services, steering
from operations.debezium.models import Connector, State
from operations.debezium.tasks import check_connectors
from operations.models import Alert, Kind
from operations.services import raise_alert
from tests.factories import operator
from tests.operations.debezium.conftest import row
from tests.operations.debezium.fakes import FakeConnect

pytestmark = pytest.mark.django_db

HEALTH = "/admin/operations/connector/"
CHANGES = "/admin/operations/connectorchange/"
VIEW, STEER = "operations.view_connector", "operations.steer_connector"


@pytest.fixture
def boss(client: Client) -> Client:
    client.force_login(operator(VIEW, STEER))
    return client


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "WATCHED", 0)


def text(client: Client, path: str = HEALTH) -> str:
    response = client.get(path)
    assert response.status_code == HTTPStatus.OK
    return response.text


def test_the_page_shows_connectors_with_tasks_lag_wal_and_alert(
    boss: Client, fake: FakeConnect
) -> None:
    fake.has("orders", "RUNNING", "RUNNING", "FAILED")
    check_connectors()
    Connector.objects.update(
        slot="orders", slot_active=False, slot_lag=2048, slot_retained=5_242_880
    )
    page = text(boss)
    for words in (
        "orders",
        "Task 1 failed",
        "2.0",
        "KB",
        "5.0",
        "MB",
        "read by nobody",
        "worker-1",
    ):
        assert words in page
    assert "restarted 1 of 5 times" in page
    assert "Connector down" in page
    assert "Last check" in page


def test_the_open_page_is_refreshed_by_parts(boss: Client, fake: FakeConnect) -> None:
    fake.has("orders")
    check_connectors()
    board = text(boss, f"{HEALTH}board/")
    assert f'data-part="{row("orders").pk}"' in board
    assert "<html" not in board


def test_without_an_address_the_page_says_what_to_set(boss: Client, settings: Settings) -> None:
    settings.DEBEZIUM_URL = ""
    assert "Set DEBEZIUM_URL" in text(boss)
    assert "No connector yet" in text(boss)


def test_an_outage_of_connect_stands_on_the_page(boss: Client, fake: FakeConnect) -> None:
    fake.has("orders")
    check_connectors()
    fake.away = True
    check_connectors()
    page = text(boss)
    assert "Kafka Connect does not answer" in page
    assert "connect.example:8083 cannot be reached" in page
    assert "orders" in page


def test_the_page_of_one_has_the_trace_in_full(boss: Client, fake: FakeConnect) -> None:
    fake.has("orders", "RUNNING", "FAILED")
    check_connectors()
    page = text(boss, f"{HEALTH}{row('orders').pk}/change/")
    assert "io.debezium.Some.method(Some.java:7)" in page
    assert "Task 0: Failed since" in page


def test_a_task_that_failed_stays_in_the_history_with_its_trace(fake: FakeConnect) -> None:
    fake.has("orders", "RUNNING", "FAILED")
    check_connectors()
    client = Client()
    client.force_login(operator("operations.view_connectorchange"))
    page = text(client, f"{CHANGES}?connector__id__exact={row('orders').pk}")
    assert "Restarted: 1 of 5" in page
    change = row("orders").changes.filter(task=0).get()
    assert "the other side went" in text(client, f"{CHANGES}{change.pk}/change/")
    assert client.post(f"{CHANGES}{change.pk}/delete/").status_code == HTTPStatus.FORBIDDEN


@pytest.mark.parametrize(
    ("verb", "before", "asked"),
    [
        ("restart", "RUNNING", "POST /connectors/orders/restart"),
        ("pause", "RUNNING", "PUT /connectors/orders/pause"),
        ("resume", "PAUSED", "PUT /connectors/orders/resume"),
    ],
)
def test_a_button_steers_and_tells_what_came_of_it(
    boss: Client, fake: FakeConnect, verb: str, before: str, asked: str
) -> None:
    fake.has("orders", before, before)
    check_connectors()
    response = boss.post(f"{HEALTH}{row('orders').pk}/{verb}/", follow=True)
    assert len(fake.asked(asked)) == 1
    assert "Kafka Connect says now" in response.text
    assert LogEntry.objects.count() == 1
    assert row("orders").changes.exclude(by="").count() == 1


def test_what_connect_took_is_told_when_it_is_away_afterwards(
    boss: Client, fake: FakeConnect
) -> None:
    fake.has("orders")
    check_connectors()
    fake.leaves_after = "/pause"
    page = boss.post(f"{HEALTH}{row('orders').pk}/pause/", follow=True).text
    assert "orders – Paused. Its state is not known yet." in page
    assert "cannot be reached" not in page


def test_what_a_button_cannot_do_is_told(boss: Client, fake: FakeConnect) -> None:
    fake.has("orders")
    check_connectors()
    url = f"{HEALTH}{row('orders').pk}"
    assert "is not paused" in boss.post(f"{url}/resume/", follow=True).text
    fake.away = True
    assert "cannot be reached" in boss.post(f"{url}/pause/", follow=True).text
    assert not LogEntry.objects.exists()


def test_a_check_can_be_asked_for(client: Client, fake: FakeConnect) -> None:
    Job.objects.get_or_create(name="DEBEZIUM_HEALTH_CHECK")
    client.force_login(operator(VIEW, "jobs.steer_job"))
    assert "Check now" in text(client)
    client.post(f"{HEALTH}check/")
    assert Job.objects.get(name="DEBEZIUM_HEALTH_CHECK").requested_at


def test_who_may_not_is_refused(client: Client, fake: FakeConnect) -> None:
    fake.has("orders")
    check_connectors()
    url = f"{HEALTH}{row('orders').pk}"
    assert client.get(HEALTH).status_code == HTTPStatus.FOUND  # to the login
    client.force_login(operator())
    assert client.get(HEALTH).status_code == HTTPStatus.FORBIDDEN
    assert client.get(f"{HEALTH}board/").status_code == HTTPStatus.FORBIDDEN
    client.force_login(operator(VIEW))
    assert "Restart" not in text(client)
    assert client.get(f"{url}/restart/").status_code == HTTPStatus.METHOD_NOT_ALLOWED
    for verb in ("restart", "pause", "resume"):
        assert client.post(f"{url}/{verb}/").status_code == HTTPStatus.FORBIDDEN
    assert client.post(f"{HEALTH}check/").status_code == HTTPStatus.FORBIDDEN
    assert not fake.asked("restart|pause|resume")


def test_the_page_costs_the_same_for_1_connector_and_for_20(
    boss: Client, fake: FakeConnect
) -> None:
    counts = []
    for number in (1, 20):
        for n in range(number):
            fake.has(f"orders-{n}", "RUNNING", "RUNNING", "FAILED")
        check_connectors()
        text(boss, f"{HEALTH}board/")  # content types and permissions are known from here on
        with CaptureQueriesContext(
            connection,
        ) as queries:
            text(boss, f"{HEALTH}board/")
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_an_alert_leads_to_its_connector_and_that_of_connect_to_the_page(client: Client) -> None:
    orders = Connector.objects.create(name="orders", state=State.FAILED, since=timezone.now())
    raise_alert(Kind.CONNECTOR, services.subject_of(orders), "orders: down")
    raise_alert(Kind.CONNECT, services.CONNECT, "away")
    client.force_login(operator("operations.view_alert"))
    page = text(client, "/admin/operations/alert/")
    assert f'href="{HEALTH}{orders.pk}/change/"' in page
    assert f'href="{HEALTH}"' in page
    assert Alert.objects.open().count() == 2


def test_problems_come_first(boss: Client, fake: FakeConnect) -> None:
    fake.has("a")
    fake.has("z", "RUNNING", "FAILED")
    check_connectors()
    names = [one.connector.name for one in boss.get(HEALTH).context["board"].rows]
    assert names == ["z", "a"]


def test_the_next_restart_is_told(boss: Client, fake: FakeConnect) -> None:
    fake.has("orders", "RUNNING", "FAILED")
    check_connectors()
    Connector.objects.update(next_restart_at=timezone.now() + timedelta(minutes=4, seconds=30))
    assert "next in 4 min" in text(boss)
