"""`/metrics`: what is documented is served, and what is served moves when the thing happens."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from broadcast_project.metrics import registry
from broadcasts.models import Receipt
from broadcasts.receipts import dismiss, mark_read, mark_seen, record_deliveries
from broadcasts.services import cancel
from connections import hub as hub_module
from connections.hub import Hub
from connections.models import Connection, Node
from connections.registry import get_registry
from connections.stream import Stream
from connections.wire import Frame, encode
from deliveries.models import Delivery, Endpoint
from deliveries.sender import Sender
from deliveries.services import collect, delete_endpoint
from deliveries.tasks import delete_old_webhooks, schedule_failed_webhooks
from jobs import execution
from jobs.models import Job, Run
from jobs.registry import Misfire, Outcome, PeriodicJob, override, periodic_jobs
from jobs.tasks import delete_old_runs
from operations.debezium.models import Cluster, Connector
from outbox.relay import Relay
from outbox.services import emit
from tests.conftest import Spawn
from tests.deliveries.conftest import envelope
from tests.deliveries.receiver import Server, answer, receiver
from tests.factories import ActiveFactory, DeadLetterFactory, DraftFactory, UserFactory
from tests.jobs.test_execution import EVERY, SLOT
from tests.processes import Environment
from tests.sse import Client, run_code, token_of
from tests.test_architecture import CHECKOUT
from tests.test_docs import rows
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.django_db

RULES = CHECKOUT / "docs" / "alerts.rules.yml"
Sample = tuple[str, frozenset[tuple[str, str]]]


def scrape() -> dict[Sample, float]:
    response = Browser().get("/metrics")
    assert response.status_code == HTTPStatus.OK
    return samples(response.text)


def samples(text: str) -> dict[Sample, float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(name: str, **labels: str) -> float:
    return scrape()[f"broadcast_{name}", frozenset(labels.items())]


def rise(name: str, act: Callable[[], object], **labels: str) -> float:
    before = value(name, **labels)
    act()
    return value(name, **labels) - before


@pytest.fixture
def watching(settings: Settings) -> None:
    settings.DEBEZIUM_URL = "http://connect.example"


def asked_connect(*connectors: Connector) -> None:
    Cluster.objects.update_or_create(name="connect", defaults={"checked_at": timezone.now()})
    for connector in connectors:
        connector.tasks.create(number=0, state="RUNNING", since=timezone.now())


def new_connector(name: str) -> Connector:
    facts = {"slot_active": True, "slot_retained": 700, "slot_lag": 7, "restarts_total": 3}
    return Connector.objects.create(name=name, state="RUNNING", since=timezone.now(), **facts)


# What is described


def served() -> dict[str, tuple[str, set[str]]]:
    """By name: the type, and the names of the labels; a counter by the name of its samples."""
    found = {}
    for family in registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels}
        found[name] = (family.type, labels)
    return found


@pytest.fixture
def something_of_everything(hub: Hub, job: PeriodicJob, watching: None) -> None:
    execution.tick(job.name)
    get_registry().start(hub.node)
    asked_connect(new_connector("orders"))


def described() -> dict[str, tuple[str, set[str]]]:
    return {
        name: (kind, set(re.findall(r"\w+", labels)))
        for name, (kind, labels, _meaning) in (rows("metrics.md") | without_labels()).items()
    }


def without_labels() -> dict[str, list[str]]:
    text = (CHECKOUT / "docs" / "metrics.md").read_text()
    found = re.findall(r"^\| `(\w+)` \| (\w+) \| \| (.+) \|$", text, re.MULTILINE)
    return {name: [kind, "", meaning] for name, kind, meaning in found}


@pytest.mark.usefixtures("something_of_everything")
def test_every_metric_is_described_with_its_type_and_labels() -> None:
    assert described() == served()


def test_alert_rules_use_only_what_is_described() -> None:
    used = set(re.findall(r"\bbroadcast_\w+", RULES.read_text()))
    known = set(described())
    summaries = {name + end for name in known for end in ("_count", "_sum")}
    assert used
    assert used <= known | summaries


def test_alert_rules_use_only_labels_that_there_are() -> None:
    known = {label for _, labels in described().values() for label in labels}
    expressions = RULES.read_text()
    matchers = set(re.findall(r"[{,](\w+)=~?\"", expressions))
    groupings = re.findall(r"\b(?:by|on) \(([\w, ]+)\)", expressions)
    shown = set(re.findall(r"\$labels\.(\w+)", expressions))
    assert matchers | set(", ".join(groupings).split(", ")) | shown <= known


# Who may ask, and what it costs


def test_this_machine_may_ask() -> None:
    assert Browser().get("/metrics").status_code == HTTPStatus.OK


@pytest.mark.parametrize("address", ["192.0.2.1", "::2", ""])
def test_another_machine_may_not(address: str) -> None:
    response = Browser(REMOTE_ADDR=address).get("/metrics")
    assert response.status_code == HTTPStatus.FORBIDDEN
    assert "METRICS_TOKEN" in response.text


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "Via"])
def test_nobody_may_from_behind_a_proxy_on_this_machine(header: str) -> None:
    response = Browser(headers={header: "127.0.0.1"}).get("/metrics")
    assert response.status_code == HTTPStatus.FORBIDDEN


@pytest.mark.parametrize(("staff", "status"), [(True, 200), (False, 403)])
def test_staff_may_from_anywhere(staff: bool, status: int) -> None:
    browser = Browser(REMOTE_ADDR="192.0.2.1")
    browser.force_login(UserFactory.create(is_staff=staff))
    assert browser.get("/metrics").status_code == status


@pytest.mark.parametrize(
    ("sent", "status"),
    [("Bearer hush", 200), ("bearer hush", 200), ("Bearer hus", 401), ("hush", 401), ("", 401)],
)
def test_with_a_token_only_who_sends_it_may(
    sent: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "METRICS_TOKEN", "hush")
    response = Browser(headers={"Authorization": sent}).get("/metrics")
    assert response.status_code == status
    assert ("WWW-Authenticate" in response.headers) == (status == HTTPStatus.UNAUTHORIZED)


def test_a_wrong_token_may_hold_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "METRICS_TOKEN", "hush")
    response = Browser(HTTP_AUTHORIZATION="Bearer h\xfcsh").get("/metrics")
    assert response.status_code == HTTPStatus.UNAUTHORIZED


def test_the_port_of_a_process_is_not_sent_to_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "SECURE_SSL_REDIRECT", True)
    assert Browser().get("/metrics").status_code == HTTPStatus.OK
    assert Browser().get("/login").status_code == HTTPStatus.MOVED_PERMANENTLY


def test_it_is_text_or_openmetrics_and_never_cached() -> None:
    plain = Browser().get("/metrics")
    openmetrics = Browser().get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert plain["Content-Type"].startswith("text/plain; version=0.0.4")
    assert openmetrics["Content-Type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")
    assert "no-store" in plain["Cache-Control"]


def test_only_reading_is_allowed() -> None:
    assert Browser().post("/metrics").status_code == HTTPStatus.METHOD_NOT_ALLOWED


def queries_of_a_scrape() -> int:
    with CaptureQueriesContext(connection) as queries:
        Browser().get("/metrics")
    return len(queries)


@pytest.mark.usefixtures("watching")
def test_a_scrape_costs_the_same_whatever_there_is(job: PeriodicJob) -> None:
    backlogs = [declared.backlog for declared in periodic_jobs.values() if declared is not job]
    counted = len(list(filter(None, backlogs)))
    before = queries_of_a_scrape()
    for n in range(5):
        broadcast = ActiveFactory.create()
        record_deliveries(broadcast.pk, [UserFactory.create().pk], timezone.now())
        DeadLetterFactory.create(source=f"group-{n}")
        Node.objects.create(name=f"web-{n}")
        Endpoint.objects.create(name=str(n), url="https://example.org", patterns=["*"])
        collect([envelope()])
        asked_connect(new_connector(f"orders-{n}"))
        run_again(job)
    assert queries_of_a_scrape() == before == 18 + counted


# Jobs

HOUR = timedelta(hours=1)
MEASURED = frozenset({("job_name", "MEASURED")})


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> PeriodicJob:
    return declare(monkeypatch, lambda: Outcome(items=5, failed=2, skipped=1))


def declare(
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[], Any],
    misfire: Misfire = Misfire.COALESCE,
    every: str = "1h",
) -> PeriodicJob:
    declared = PeriodicJob(
        name="MEASURED",
        run=run,
        every=every,
        at_least=timedelta(),
        at_most=timedelta(minutes=10),
        misfire=misfire,
        jitter=timedelta(),
        backlog=lambda: 7,
    )
    monkeypatch.setitem(periodic_jobs, "MEASURED", declared)
    Job.objects.create(name="MEASURED")
    return declared


def run_again(job: PeriodicJob) -> Run:
    execution.run_now(job.name)
    run = execution.run_due(job)
    assert run
    return run


def of_job(name: str, **labels: str) -> float:
    return value(f"job_{name}", job_name="MEASURED", **labels)


def test_a_run_that_succeeds_is_counted(job: PeriodicJob) -> None:
    first, second = run_again(job), run_again(job)
    assert of_job("runs_total", outcome="succeeded") == 2
    assert of_job("runs_total", outcome="failed") == 0
    results = [of_job("items_total", result=result) for result in ("done", "failed", "skipped")]
    assert results == [10, 4, 2]
    assert first.finished_at
    assert second.finished_at
    success = of_job("last_success_timestamp_seconds")
    assert success == pytest.approx(second.finished_at.timestamp(), abs=1)


def test_durations_are_those_of_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = iter([0.05, 0.2])

    def run() -> int:
        time.sleep(next(pauses))
        return 1

    job = declare(monkeypatch, run)
    run_again(job)
    run_again(job)
    assert of_job("duration_seconds_count") == 2
    assert 0.25 <= of_job("duration_seconds_sum") < 60
    assert 0.2 <= of_job("last_duration_seconds") < of_job("duration_seconds_sum")


def test_a_run_that_raises_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    run_again(declare(monkeypatch, lambda: 1 // 0))
    assert of_job("runs_total", outcome="failed") == 1
    assert of_job("duration_seconds_count") == 1
    assert ("broadcast_job_last_success_timestamp_seconds", MEASURED) not in scrape()


def test_a_lease_that_is_held_has_an_age_and_one_that_is_lost_is_counted(job: PeriodicJob) -> None:
    execution.run_now(job.name)
    lease = execution.claim(job)
    assert lease
    Job.objects.filter(name=job.name).update(since=timezone.now() - HOUR)
    assert of_job("lease_age_seconds") == pytest.approx(3600, abs=30)
    execution.release(job.name)
    assert of_job("lease_age_seconds") == 0
    assert of_job("runs_total", outcome="lost") == 1
    assert execution.execute(job, lease).status == "LOST"
    assert of_job("runs_total", outcome="succeeded") == 0


@pytest.mark.parametrize(("misfire", "missed"), [(Misfire.COALESCE, 3), (Misfire.RUN_EACH, 0)])
def test_slots_that_nobody_ran_are_counted_once(
    misfire: Misfire, missed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = declare(monkeypatch, lambda: 1, misfire, EVERY)
    long_ago = job.interval.slot(timezone.now()) - 4 * SLOT
    for _ in range(2):
        Job.objects.filter(name=job.name).update(last_slot=long_ago, until=None)
        Run.objects.exclude(status="MISSED").delete()
        execution.run_due(job)
    assert of_job("runs_total", outcome="missed") == missed


def test_counters_stay_when_old_runs_are_deleted(job: PeriodicJob) -> None:
    run_again(job)
    Run.objects.update(slot=timezone.now() - timedelta(days=400))
    assert delete_old_runs() == 1
    assert of_job("runs_total", outcome="succeeded") == 1
    assert of_job("duration_seconds_count") == 1


def test_a_job_that_is_late_by_twice_its_interval_is_overdue(job: PeriodicJob) -> None:
    assert of_job("overdue_seconds") == 0
    Job.objects.filter(name=job.name).update(last_slot=timezone.now() - 5 * HOUR)
    assert 4 * 3600 <= of_job("overdue_seconds") <= 5 * 3600 + 30


def test_backlog_and_pause_are_told(job: PeriodicJob) -> None:
    assert of_job("backlog") == 7
    assert of_job("paused") == 0
    execution.pause(job.name)
    assert of_job("paused") == 1


# The outbox


def test_an_event_waits_and_is_published() -> None:
    event = emit("link.expired", "link-1", {"link": 1})
    type(event).objects.update(created_at=timezone.now() - HOUR)
    assert value("outbox_pending") == 1
    assert value("outbox_oldest_pending_age_seconds") == pytest.approx(3600, abs=30)
    relay = Relay()
    assert rise("outbox_head_position", relay.step) == 1
    assert value("outbox_pending") == 0
    assert value("outbox_oldest_pending_age_seconds") == 0
    assert value("outbox_relay_leads") == 1
    relay.resign()
    assert value("outbox_relay_leads") == 0


def test_an_event_that_can_never_be_published_is_parked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "EVENT_MAX_BYTES", 10)
    emit("link.expired", "link-1", {"link": "a long one"})
    Relay().step()
    assert value("outbox_parked") == 1
    assert value("outbox_dead_letters", source="relay") == 1


def test_dead_letters_of_consumers_are_told_apart() -> None:
    DeadLetterFactory.create(source="discord")
    assert value("outbox_dead_letters", source="discord") == 1
    assert value("outbox_dead_letters", source="relay") == 0


# Connections and streams


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub("web-1")
    monkeypatch.setattr(hub_module, "_hub", made)
    return made


def of_streams(name: str) -> float:
    return value(f"stream{name}", node="web-1")


def test_connections_are_told_by_node(hub: Hub) -> None:
    get_registry().start("web-1")
    get_registry().start("web-2")
    connections = [Connection(user=UserFactory.create(), node="web-1") for _ in range(2)]
    get_registry().register(connections)
    assert value("connections", node="web-1") == 2
    assert value("connections", node="web-2") == 0
    get_registry().unregister({connections[0].pk: "gone"})
    assert value("connections", node="web-1") == 1


def test_a_silent_node_is_told_until_it_is_forgotten() -> None:
    node = Node.objects.create(name="web-3", last_heartbeat=timezone.now() - timedelta(minutes=2))
    assert value("node_heartbeat_age_seconds", node="web-3") == pytest.approx(120, abs=30)
    Node.objects.filter(pk=node.pk).update(last_heartbeat=timezone.now() - 2 * HOUR)
    assert not any("web-3" in str(labels) for _, labels in scrape())


def message(position: int, size: int = 10) -> Frame:
    body = encode("MESSAGE", {"text": "x" * size}, position)
    return Frame(body, position, ("all",), "broadcast.activated")


def follow(hub: Hub, *frames: Frame) -> bytes:
    """Open a stream, send it these at once, end it; what its socket was given."""
    written: list[bytes] = []

    async def write(body: bytes) -> None:
        written.append(body)

    async def run() -> None:
        stream = Stream(hub, uuid4(), 1, ["all"], 0)
        hub.add(stream, 0)
        running = asyncio.create_task(stream.run(write))
        await asyncio.sleep(0)
        hub.dispatch(list(frames))
        stream.close(Frame(b"bye"), "done")
        await running
        hub.remove(stream, stream.reason)

    asyncio.run(run())
    return b"".join(written)


def test_what_a_stream_is_written_is_counted(hub: Hub) -> None:
    names = ("s_opened_total", "s_closed_total", "_frames_total", "_bytes_total")
    before = [of_streams(name) for name in names]
    frames = [message(1), message(2), message(3)]
    follow(hub, *frames)
    opened, closed, written, size = (
        of_streams(name) - was for name, was in zip(names, before, strict=True)
    )
    assert (opened, closed, written) == (1, 1, 3)
    assert size == sum(len(frame.body) for frame in frames)


def test_a_stream_is_open_until_it_is_removed(hub: Hub) -> None:
    stream = Stream(hub, uuid4(), 1, ["all"], 0)
    asyncio.run(_call(lambda: hub.add(stream, 0)))
    assert of_streams("s_open") == 1
    hub.remove(stream, "done")
    assert of_streams("s_open") == 0


async def _call(function: Callable[[], object]) -> None:
    function()


def test_a_slow_client_is_counted(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "SSE_CLIENT_BUFFER_BYTES", 200)
    frames = [message(n, 100) for n in range(1, 6)]
    assert rise("streams_fallen_behind_total", lambda: follow(hub, *frames), node="web-1") == 1


def test_a_client_that_is_told_to_refetch_is_counted(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "SSE_REPLAY_LIMIT", 10)
    hub.head, hub.ring.since = 1_000, 990
    assert rise("streams_resets_total", lambda: follow(hub, message(1_001)), node="web-1") == 1


# Broadcasts and receipts


def test_broadcasts_are_counted_by_status() -> None:
    DraftFactory.create()
    active = ActiveFactory.create()
    assert value("broadcasts", status="DRAFT") == 1
    assert value("broadcasts", status="ACTIVE") == 1
    cancel(active, "wrong building")
    assert value("broadcasts", status="ACTIVE") == 0
    assert value("broadcasts", status="CANCELLED") == 1


@pytest.mark.django_db(transaction=True)
def test_each_stage_of_a_receipt_is_counted_once(hub: Hub) -> None:
    reader, broadcast = UserFactory.create(), ActiveFactory.create()
    acts: dict[str, Callable[[], object]] = {
        "delivered": lambda: record_deliveries(broadcast.pk, [reader.pk], timezone.now()),
        "seen": lambda: mark_seen(reader, [broadcast.pk]),
        "read": lambda: mark_read(reader, [broadcast.pk]),
        "dismissed": lambda: dismiss(reader, [broadcast.pk]),
    }
    for stage, act in acts.items():
        assert rise("receipts_total", act, node="web-1", stage=stage) == 1
    again = acts["delivered"]
    assert rise("receipts_total", again, node="web-1", stage="delivered") == 0


@pytest.mark.django_db(transaction=True)
def test_a_stamp_that_is_rolled_back_is_not_counted(hub: Hub) -> None:
    reader, broadcast = UserFactory.create(), ActiveFactory.create()

    def fail() -> None:
        with transaction.atomic():
            mark_seen(reader, [broadcast.pk])
            transaction.set_rollback(True)

    assert rise("receipts_total", fail, node="web-1", stage="seen") == 0
    assert not Receipt.objects.exists()


# The whole of it

SETUP = """
from django.contrib.auth.models import User
print(User.objects.create(username="reader").pk)
"""
SEND = """
from broadcasts.services import compose, send
send(compose(None, title="A title"))
"""


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_a_web_process_tells_of_the_cluster_and_of_itself(
    live_database: Environment, free_port: int, spawn: Spawn
) -> None:
    env = live_database | {"SSE_TOKEN_SECONDS": "3600", "METRICS_TOKEN": "hush"}
    web = spawn(["web", "--port", str(free_port)], env)
    wait_until(lambda: "Listening" in web.output(), message="web listens")
    relay = spawn(["relay"], env)
    wait_until(lambda: "BROADCAST_CLOCK started" in relay.output(), message="the relay works")
    node = {"node": f"{settings.NODE_NAME}:{free_port}"}
    client = Client(free_port, token_of(int(run_code(SETUP, env)), env))

    async def follow_a_broadcast() -> None:
        following = asyncio.create_task(client.follow(lambda _: False))
        async with asyncio.timeout(PATIENCE):
            while not client.counts["CONNECTED"]:
                await asyncio.sleep(0.02)
            await asyncio.to_thread(run_code, SEND, env)
            while not client.counts["MESSAGE"]:
                await asyncio.sleep(0.02)
            await asyncio.to_thread(wait_until, lambda: told("receipts_total", stage="delivered"))
        assert told("streams_open") == told("connections") == 1
        assert told("stream_frames_total") >= 1
        following.cancel()

    def told(name: str, **labels: str) -> float:
        url = f"http://localhost:{free_port}/metrics"
        response = httpx.get(url, headers={"Authorization": "Bearer hush"}, timeout=PATIENCE)
        assert response.status_code == HTTPStatus.OK
        return next(
            number
            for (sample, its), number in samples(response.text).items()
            if sample == f"broadcast_{name}" and its - node.items() == labels.items()
        )

    asyncio.run(follow_a_broadcast())
    assert httpx.get(f"http://localhost:{free_port}/metrics", timeout=PATIENCE).status_code == 401
    assert told("outbox_relay_leads") == 1
    assert told("outbox_head_position") >= 1
    assert told("broadcasts", status="ACTIVE") == 1
    wait_until(lambda: told("streams_closed_total") == 1)
    assert told("streams_open") == 0


# Deliveries


@pytest.fixture
def server(settings: Settings) -> Iterator[Server]:
    settings.WEBHOOK_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    with receiver() as server:
        yield server


@pytest.fixture
def endpoint(server: Server) -> Endpoint:
    return Endpoint.objects.create(name="shop", url=server.url(), patterns=["*"])


def send_all() -> None:
    sender = Sender()
    wait_until(lambda: sender.step() > 0)
    sender.stop()


def of_webhooks(name: str, **labels: str) -> float:
    return value(name, kind="WEBHOOK", **labels)


def test_what_is_sent_is_counted_and_stays_when_it_is_deleted(
    server: Server, endpoint: Endpoint
) -> None:
    collect([envelope(), envelope()])
    assert of_webhooks("deliveries_waiting") == 2
    send_all()
    assert of_webhooks("deliveries_waiting") == 0
    duration = "delivery_attempt_duration_seconds"
    assert of_webhooks("deliveries_total", outcome="delivered") == 2
    assert of_webhooks(f"{duration}_count", outcome="succeeded") == 2
    assert 0 < of_webhooks(f"{duration}_sum", outcome="succeeded") < 30
    delete_endpoint(endpoint)
    assert of_webhooks("deliveries_total", outcome="delivered") == 2
    assert value("deliveries_total", kind="DISCORD", outcome="delivered") == 0


def test_what_fails_and_what_dies_is_counted(
    server: Server, endpoint: Endpoint, settings: Settings
) -> None:
    duration = "delivery_attempt_duration_seconds"
    server.behaviours["/"] = answer(500)
    collect([envelope()])
    send_all()
    assert of_webhooks(f"{duration}_count", outcome="failed") == 1
    assert of_webhooks(f"{duration}_sum", outcome="failed") > 0
    assert of_webhooks("deliveries_total", outcome="dead") == 0
    settings.WEBHOOK_MAX_RETRIES = 1
    collect([envelope()])
    send_all()
    assert of_webhooks("deliveries_total", outcome="dead") == 1
    settings.WEBHOOK_MAX_RETRIES = 3
    override("WEBHOOK_RETRY_SCHEDULER", enabled=False)
    collect([envelope()])
    send_all()
    assert of_webhooks("deliveries_total", outcome="failed") == 1


def test_what_a_job_ends_is_counted(endpoint: Endpoint) -> None:
    collect([envelope(), envelope()])
    first, second = Delivery.objects.all()
    Endpoint.objects.update(state="PAUSED")
    long_ago = timezone.now() - timedelta(days=40)
    Delivery.objects.filter(pk=first.pk).update(next_attempt_at=long_ago)
    assert rise("deliveries_total", delete_old_webhooks, kind="WEBHOOK", outcome="dead") == 1
    Delivery.objects.filter(pk=second.pk).update(status="FAILED", next_attempt_at=None, attempts=9)
    assert rise("deliveries_total", schedule_failed_webhooks, kind="WEBHOOK", outcome="dead") == 1


def test_what_is_due_and_not_sent_is_late_unless_its_endpoint_is_at_fault(
    endpoint: Endpoint,
) -> None:
    assert of_webhooks("deliveries_late_seconds") == 0
    collect([envelope()])
    Delivery.objects.update(next_attempt_at=timezone.now() - HOUR)
    assert of_webhooks("deliveries_late_seconds") == pytest.approx(3600, abs=30)
    at_fault: list[dict[str, Any]] = [
        {"failures": 1},
        {"state": "PAUSED"},
        {"not_before": timezone.now() + HOUR},
    ]
    for fields in at_fault:
        well = {"failures": 0, "state": "ACTIVE", "not_before": None}
        Endpoint.objects.update(**well | fields)
        assert of_webhooks("deliveries_late_seconds") == 0


def test_endpoints_are_told_by_state_and_those_that_fail(endpoint: Endpoint) -> None:
    assert of_webhooks("endpoints", state="ACTIVE") == 1
    assert of_webhooks("endpoints_failing") == 0
    Endpoint.objects.update(failures=5)
    assert of_webhooks("endpoints_failing") == 1
    Endpoint.objects.update(state="DISABLED")
    assert of_webhooks("endpoints_failing") == 0
    assert of_webhooks("endpoints", state="ACTIVE") == 0
    assert of_webhooks("endpoints", state="DISABLED") == 1


# Connectors


@pytest.mark.usefixtures("watching")
def test_connectors_are_counted_as_the_last_check_found_them() -> None:
    orders = new_connector("orders")
    asked_connect(orders)
    assert value("connect_up") == 1
    assert 0 <= value("connect_check_age_seconds") < PATIENCE
    assert value("connector_up", connector="orders") == 1
    assert value("connector_state", connector="orders", state="RUNNING") == 1
    assert value("connector_tasks", connector="orders", state="FAILED") == 0
    assert value("connector_restarts_total", connector="orders") == 3
    assert value("connector_slot_retained_bytes", connector="orders") == 700
    assert value("connector_slot_lag_bytes", connector="orders") == 7
    assert value("connector_slot_active", connector="orders") == 1
    Connector.objects.update(problem="Task 0 failed.", slot_active=False)
    orders.tasks.update(state="FAILED")
    Cluster.objects.update(error="away")
    assert value("connector_up", connector="orders") == 0
    assert value("connector_tasks", connector="orders", state="FAILED") == 1
    assert value("connector_slot_active", connector="orders") == 0
    assert value("connect_up") == 0


@pytest.mark.usefixtures("watching")
def test_connectors_that_are_watched_no_more_have_no_metrics(settings: Settings) -> None:
    asked_connect(new_connector("orders"))
    assert ("broadcast_connect_up", frozenset()) in scrape()
    settings.DEBEZIUM_URL = ""
    assert not [name for name, _ in scrape() if re.match("broadcast_connect(or)?_", name)]
