import logging
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from jobs import execution
from jobs.leases import Fenced, held
from jobs.models import Job, Run, RunStatus
from jobs.registry import override, periodic, periodic_jobs
from operations import services
from operations.models import Alert, Kind
from operations.tasks import check_jobs
from outbox.models import Event
from tests.factories import operator

pytestmark = pytest.mark.django_db

NAME = "SWEEP_FOR_TESTS"
ALERTS = "/admin/operations/alert/"


class Waiting:
    count = 0


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Waiting:
    """What waits for the only job there is, which runs each hour."""
    waits = Waiting()
    for name in list(periodic_jobs):
        monkeypatch.delitem(periodic_jobs, name)

    @periodic(NAME, every="1h", backlog=lambda: waits.count)
    def run() -> int:
        """Sweep."""
        return 7

    Job.objects.create(name=NAME, last_slot=timezone.now())
    return waits


@pytest.fixture
def sweep(waiting: Waiting) -> Job:
    return Job.objects.get(name=NAME)


def late(hours: float) -> None:
    Job.objects.update(last_slot=timezone.now() - timedelta(hours=hours))


def fail(job: Job, times: int = 1, status: str = RunStatus.FAILED) -> None:
    for _ in range(times):
        Run.objects.create(job=job, slot=timezone.now(), status=status, error="no broom")


def open_kinds() -> list[str]:
    return list(Alert.objects.open().order_by("kind").values_list("kind", flat=True))


def told() -> list[str]:
    return list(Event.objects.order_by("id").values_list("type", flat=True))


def test_a_job_late_by_twice_its_interval_raises_an_alert(sweep: Job) -> None:
    late(2)  # and so due less than two hours ago
    assert check_jobs() == 0
    late(4.5)
    assert check_jobs() == 1
    assert open_kinds() == [Kind.OVERDUE]


def test_a_paused_job_and_one_switched_off_are_not_late(sweep: Job) -> None:
    late(9)
    execution.pause(NAME)
    assert check_jobs() == 0
    execution.resume(NAME)
    fail(sweep, 3)
    override(NAME, enabled=False)
    assert check_jobs() == 0


def test_three_failures_in_a_row_raise_an_alert(sweep: Job) -> None:
    fail(sweep, 2)
    assert check_jobs() == 0
    fail(sweep, 1, RunStatus.LOST)
    assert check_jobs() == 1
    assert "no broom" in Alert.objects.get().message


def counts(waiting: Waiting, *several: int) -> list[list[str]]:
    kinds = []
    for waiting.count in several:
        check_jobs()
        kinds.append(open_kinds())
    return kinds


def test_a_backlog_that_grows_three_checks_in_a_row_raises_an_alert(waiting: Waiting) -> None:
    assert counts(waiting, 1, 2, 3, 4) == [[], [], [], [Kind.BACKLOG]]


def test_a_backlog_that_shrinks_in_between_raises_none(waiting: Waiting) -> None:
    assert counts(waiting, 1, 2, 3, 2, 3, 4, 4, 5) == [[]] * 8


def test_a_backlog_that_grew_is_alarming_until_it_shrinks(waiting: Waiting) -> None:
    assert counts(waiting, 1, 2, 3, 4, 4, 5, 3) == [[], [], [], *[[Kind.BACKLOG]] * 3, []]


def test_an_alert_is_raised_once_and_resolves_itself(
    sweep: Job, caplog: pytest.LogCaptureFixture
) -> None:
    late(9)
    with caplog.at_level(logging.INFO, "operations"):
        assert [check_jobs(), check_jobs()] == [1, 0]
        late(0)
        assert [check_jobs(), check_jobs()] == [1, 0]
    assert Alert.objects.get().resolved_at
    assert told() == ["alert.raised", "alert.resolved"]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_an_event_names_its_job(sweep: Job) -> None:
    late(9)
    check_jobs()
    alert, event = Alert.objects.get(), Event.objects.get()
    assert (event.key, event.topic) == (f"alert-{NAME}", "alert")
    assert event.data == {
        "alert_id": alert.pk,
        "kind": "OVERDUE",
        "subject": NAME,
        "message": alert.message,
    }


def test_what_comes_back_raises_a_new_alert(sweep: Job) -> None:
    for hours in (9, 0, 9):
        late(hours)
        check_jobs()
    assert Alert.objects.count() == 2
    assert Alert.objects.open().count() == 1


def test_what_was_over_long_ago_is_deleted(settings: Settings, db: None) -> None:
    settings.RUN_RETENTION_DAYS = 30
    now = timezone.now()
    for subject, days in {"open": None, "lately": 29, "long ago": 31}.items():
        resolved = now - timedelta(days=days) if days else None
        Alert.objects.create(kind=Kind.CONNECT, subject=subject, resolved_at=resolved)
    settings.DEBEZIUM_URL = "http://localhost:8083"
    services.check()
    left = Alert.objects.filter(kind=Kind.CONNECT).values_list("subject", flat=True)
    assert set(left) == {"open", "lately"}


def test_two_open_alerts_of_one_kind_and_subject_cannot_be(db: None) -> None:
    Alert.objects.create(kind=Kind.FAILING, subject="A", resolved_at=timezone.now())
    Alert.objects.create(kind=Kind.FAILING, subject="A")
    with pytest.raises(IntegrityError), transaction.atomic():
        Alert.objects.create(kind=Kind.FAILING, subject="A")


def test_row_and_event_come_together_or_not_at_all(
    sweep: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no space")

    late(9)
    monkeypatch.setattr(services, "emit", refuse)
    with pytest.raises(OSError, match="no space"):
        check_jobs()
    assert not Alert.objects.exists()


def test_a_check_that_was_taken_over_writes_nothing(sweep: Job) -> None:
    late(9)
    job = periodic_jobs[NAME]
    lease = execution.claim(job)
    assert lease
    execution.release(NAME)
    late(9)
    with held(lease), pytest.raises(Fenced):
        check_jobs()
    assert not Alert.objects.exists()


def test_a_job_that_the_code_no_longer_has_leaves_no_alert_open(sweep: Job) -> None:
    services.raise_alert(Kind.FAILING, "GONE", "GONE failed.")
    assert check_jobs() == 1
    assert not Alert.objects.open().exists()


def test_connectors_that_are_watched_no_more_leave_no_alert_open(settings: Settings) -> None:
    for kind in (Kind.CONNECT, Kind.CONNECTOR, Kind.WAL, Kind.ENDPOINT):
        services.raise_alert(kind, "subject", "It is down.")
    settings.DEBEZIUM_URL = "http://connect.example"
    open_ones = Alert.objects.open().filter(subject="subject").values_list("kind", flat=True)
    check_jobs()
    assert len(open_ones) == 4
    settings.DEBEZIUM_URL = ""
    check_jobs()
    assert list(open_ones.all()) == [Kind.ENDPOINT]


@pytest.mark.parametrize("kind", [Kind.OVERDUE, Kind.FAILING, Kind.BACKLOG])
def test_messages_are_in_the_language_of_the_installation(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    late(9)
    fail(Job.objects.get(name=NAME), 3)
    counts(waiting, 1, 2, 3)
    monkeypatch.setattr(services, "_", lambda text: f"<<{text}>>")
    Alert.objects.all().delete()
    counts(waiting, 4)
    assert Alert.objects.get(kind=kind).message.startswith("<<")


def test_open_alerts_come_first_and_are_read_only(client: Client) -> None:
    client.force_login(operator("operations.view_alert"))
    old = Alert.objects.create(kind=Kind.FAILING, subject="OLD", message="It failed.")
    Alert.objects.create(kind=Kind.FAILING, subject="NEW", resolved_at=timezone.now())
    response = client.get(ALERTS)
    assert [row.subject for row in response.context["cl"].result_list] == ["OLD", "NEW"]
    only = client.get(f"{ALERTS}?state=resolved").context["cl"].result_list
    assert [row.subject for row in only] == ["NEW"]
    assert "It failed." in client.get(f"{ALERTS}{old.pk}/change/").text
    assert client.post(f"{ALERTS}{old.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.get(f"{ALERTS}add/").status_code == 403


def test_the_overview_warns_of_open_alerts_who_may_see_them(client: Client) -> None:
    alert = Alert.objects.create(kind=Kind.FAILING, subject="A", message="A failed.")
    client.force_login(operator())
    assert "A failed." not in client.get("/admin/").text
    client.force_login(operator("operations.view_alert"))
    assert "A failed." in client.get("/admin/").text
    services.resolve(alert)
    assert "A failed." not in client.get("/admin/").text


def test_the_overview_counts_failed_runs(client: Client, sweep: Job) -> None:
    fail(sweep, 2)
    client.force_login(operator("jobs.view_run"))
    assert "2 runs of jobs failed" in client.get("/admin/").text
