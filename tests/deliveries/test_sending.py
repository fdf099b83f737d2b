"""Deliveries to real servers that behave well, badly, and worse."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from deliveries import services
from deliveries.client import BODY_BYTES
from deliveries.models import TRIP, Attempt, Delivery, Endpoint, Retry, State, Status
from deliveries.sender import Sender
from deliveries.services import collect
from jobs.registry import override
from outbox.models import Event
from tests.deliveries.conftest import NewEndpoint, Send, deliver, envelope
from tests.deliveries.receiver import (
    GIGABYTE,
    Behaviour,
    Server,
    answer,
    break_off_early,
    break_off_halfway,
    flood,
    hang,
    in_turn,
    receiver,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def endpoint(new_endpoint: NewEndpoint) -> Endpoint:
    return new_endpoint()


def sent(send: Send) -> Delivery:
    (delivery,) = deliver()
    send()
    delivery.refresh_from_db()
    return delivery


def waits(delivery: Delivery) -> timedelta:
    """Between the last attempt's end and the next one."""
    last = delivery.attempt_set.latest("number")
    assert delivery.next_attempt_at
    return delivery.next_attempt_at - last.started_at - timedelta(milliseconds=last.duration_ms)


def about(wait: timedelta, expected: timedelta) -> bool:
    return expected - timedelta(seconds=1) < wait < expected + timedelta(seconds=20)


def make_due() -> None:
    Delivery.objects.waiting().update(next_attempt_at=timezone.now())
    Endpoint.objects.update(not_before=None)


def test_2xx_is_success(send: Send, server: Server) -> None:
    server.behaviours["/"] = answer(204)
    delivery = sent(send)
    assert (delivery.status, delivery.attempts, delivery.error) == (Status.SUCCESS, 1, "")
    assert delivery.completed_at
    assert (delivery.next_attempt_at, delivery.claimed_by) == (None, "")


def test_an_attempt_tells_what_was_asked_and_answered(send: Send, server: Server) -> None:
    server.behaviours["/"] = answer(201, "made", {"X-Shop": "open"})
    attempt = sent(send).attempt_set.get()
    (received,) = server.received
    assert attempt.request_headers.items() <= received.headers.items()
    assert (attempt.number, attempt.url, attempt.status) == (1, server.url(), 201)
    assert attempt.response_headers["x-shop"] == "open"
    assert (attempt.response_body, attempt.error, attempt.succeeded) == ("made", "", True)


def test_the_body_is_the_cloud_event(send: Send, server: Server) -> None:
    delivery = sent(send)
    (received,) = server.received
    assert received.body == delivery.body
    assert json.loads(received.body)["id"] == str(delivery.event_id) == received.id
    assert received.headers["Content-Type"].startswith("application/cloudevents+json")


def test_an_event_of_somebody_else_may_say_nonsense_of_where_it_comes_from(
    send: Send, server: Server, endpoint: Endpoint
) -> None:
    collect([envelope() | {"correlationid": 5, "traceparent": ["x"]}])
    send()
    assert Delivery.objects.get().status == Status.SUCCESS


def test_what_goes_wrong_around_an_attempt_does_not_hold_the_sender(
    sender: Sender, server: Server, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(delivery: Delivery) -> None:
        raise RuntimeError("no span")

    monkeypatch.setattr("deliveries.dispatch._about", broken)
    (delivery,) = deliver()
    sender.step()
    wait_until(lambda: sender.step() and not sender.in_hand)
    delivery.refresh_from_db()
    assert (delivery.status, delivery.error) == (Status.RETRYING, "RuntimeError: no span")


@pytest.mark.parametrize("status", [400, 404, 500])
def test_any_other_answer_is_tried_again_after_2_4_minutes_and_then_dead(
    send: Send, server: Server, status: int
) -> None:
    server.behaviours["/"] = answer(status)
    delivery = sent(send)
    for minutes in (2, 4):
        assert delivery.status == Status.RETRYING
        assert about(waits(delivery), timedelta(minutes=minutes))
        make_due()
        send()
        delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts) == (Status.DEAD, 3)
    assert delivery.error == f"answered {status}"
    assert len(set(server.ids())) == 1, "always under the same id"
    assert [a.request_headers["X-Webhook-Attempt"] for a in Attempt.objects.all()] == [*"123"]


def test_the_longer_schedule_has_its_own_end(
    send: Send, server: Server, settings: Settings
) -> None:
    settings.WEBHOOK_RETRY_SCHEDULE = ["5s", "5m"]
    server.behaviours["/"] = answer(500)
    delivery = sent(send)
    for seconds in (5, 300):
        assert about(waits(delivery), timedelta(seconds=seconds))
        make_due()
        send()
        delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts) == (Status.DEAD, 3)


def test_without_its_job_a_failed_one_waits_for_an_operator(send: Send, server: Server) -> None:
    override("WEBHOOK_RETRY_SCHEDULER", enabled=False)
    server.behaviours["/"] = answer(500)
    delivery = sent(send)
    assert (delivery.status, delivery.next_attempt_at) == (Status.FAILED, None)


def test_a_hanging_endpoint_fails_after_the_timeout_and_delays_nobody(
    send: Send,
    server: Server,
    sender: Sender,
    new_endpoint: NewEndpoint,
    settings: Settings,
) -> None:
    settings.WEBHOOK_TIMEOUT = 3.0
    living = new_endpoint("/living")
    server.behaviours["/"] = hang
    deliveries = deliver(50)

    def all_arrived() -> bool:
        sender.step()
        return living.deliveries.filter(status=Status.SUCCESS).count() == 50

    wait_until(all_arrived)
    assert not Attempt.objects.filter(delivery__endpoint__name="/").exists()
    send()
    errors = set(Attempt.objects.filter(succeeded=False).values_list("error", flat=True))
    assert errors == {"no answer within 3 s"}
    assert len(server.ids()) < TRIP + settings.WEBHOOK_CONCURRENCY
    assert len(deliveries) == 100


def test_429_waits_as_long_as_it_is_told_and_costs_no_retry(send: Send, server: Server) -> None:
    server.behaviours["/"] = answer(429, headers={"Retry-After": "600"})
    delivery = sent(send)
    assert (delivery.status, delivery.counted) == (Status.RETRYING, 0)
    assert about(waits(delivery), timedelta(seconds=600))
    endpoint = Endpoint.objects.get()
    assert endpoint.not_before == delivery.next_attempt_at, "others for it wait, too"
    assert endpoint.failures == 0


def test_503_may_name_a_date(send: Send, server: Server) -> None:
    later = (timezone.now() + timedelta(hours=1)).replace(microsecond=0)
    date = later.strftime("%a, %d %b %Y %H:%M:%S GMT")
    server.behaviours["/"] = answer(503, headers={"Retry-After": date})
    delivery = sent(send)
    assert delivery.next_attempt_at
    assert abs(delivery.next_attempt_at - later) < timedelta(minutes=1)


@pytest.mark.parametrize("nonsense", ["soon", "nan", "1e400", ""])
def test_a_wait_that_is_none_is_a_failure(send: Send, server: Server, nonsense: str) -> None:
    server.behaviours["/"] = answer(503, headers={"Retry-After": nonsense})
    delivery = sent(send)
    assert about(waits(delivery), timedelta(minutes=2))
    assert delivery.counted == 1


def test_410_disables_the_endpoint_and_says_so(send: Send, server: Server) -> None:
    server.behaviours["/"] = answer(410)
    delivery = sent(send)
    endpoint = Endpoint.objects.get()
    assert (delivery.status, endpoint.state) == (Status.DEAD, State.DISABLED)
    assert "410" in endpoint.reason
    assert Event.objects.get(type="endpoint.disabled").data["endpoint_id"] == endpoint.pk


def test_a_redirect_is_not_followed(send: Send, server: Server) -> None:
    with receiver() as inside:
        server.behaviours["/"] = answer(307, headers={"Location": inside.url()})
        delivery = sent(send)
        assert (delivery.status, delivery.error) == (Status.RETRYING, "answered 307")
        assert not inside.received


def test_a_gigabyte_does_no_harm(send: Send, server: Server) -> None:
    server.behaviours["/"] = flood
    delivery = sent(send)
    attempt = delivery.attempt_set.get()
    assert delivery.status == Status.SUCCESS
    assert attempt.response_body == "x" * BODY_BYTES
    assert "only the first" in attempt.error
    assert server.sent < GIGABYTE / 10, "nobody took it"


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [(break_off_early, Status.RETRYING), (break_off_halfway, Status.SUCCESS)],
)
def test_who_breaks_off_has_the_outcome_that_was_said_until_then(
    send: Send, server: Server, behaviour: Behaviour, status: Status
) -> None:
    server.behaviours["/"] = behaviour
    delivery = sent(send)
    assert delivery.status == status
    assert delivery.attempt_set.get().error


def test_nobody_there_is_a_failure(send: Send, endpoint: Endpoint) -> None:
    with receiver() as gone:
        Endpoint.objects.update(url=gone.url())
    delivery = sent(send)
    assert delivery.status == Status.RETRYING
    assert "refused" in delivery.error.lower()


def test_an_answer_with_what_a_database_cannot_hold_is_held(send: Send, server: Server) -> None:
    server.behaviours["/"] = answer(200, "a\0b")
    assert sent(send).attempt_set.get().response_body == "a\ufffdb"


def test_the_circuit_opens_lets_one_ask_and_closes(send: Send, server: Server) -> None:
    server.behaviours["/"] = answer(500)
    deliver(30)
    send()
    endpoint = Endpoint.objects.get()
    assert (endpoint.failures, endpoint.circuit(timezone.now())) == (TRIP, "open")
    assert Delivery.objects.filter(status=Status.PENDING).count() >= 20, "they cost no attempt"
    server.behaviours["/"] = answer(200)
    Endpoint.objects.update(not_before=timezone.now())
    send()
    endpoint.refresh_from_db()
    assert (endpoint.failures, endpoint.failing_since) == (0, None)
    assert Delivery.objects.filter(status=Status.SUCCESS).count() >= 20


def test_a_probe_that_fails_opens_it_for_longer(send: Send, server: Server) -> None:
    server.behaviours["/"] = answer(500)
    deliver(30)
    send()
    before = len(server.received)
    Endpoint.objects.update(not_before=timezone.now())
    send()
    endpoint = Endpoint.objects.get()
    assert len(server.received) == before + 1
    assert endpoint.not_before
    assert endpoint.not_before - timezone.now() > timedelta(seconds=40)


def test_days_of_failure_disable_it(send: Send, server: Server, settings: Settings) -> None:
    server.behaviours["/"] = answer(500)
    long_ago = timezone.now() - timedelta(days=settings.WEBHOOK_DISABLE_AFTER_DAYS, hours=1)
    Endpoint.objects.update(failing_since=long_ago)
    deliver()
    send()
    endpoint = Endpoint.objects.get()
    assert endpoint.state == State.DISABLED
    assert endpoint.reason.startswith("Nothing got through since")


def test_what_waits_at_a_disabled_endpoint_goes_out_when_it_is_enabled(
    send: Send, server: Server, endpoint: Endpoint
) -> None:
    deliver(3)
    services.disable(endpoint, "by an operator")
    send()
    assert not server.received
    services.enable(endpoint)
    send()
    assert len(server.received) == 3


def test_a_rate_is_kept(sender: Sender, server: Server) -> None:
    Endpoint.objects.update(rate=5)
    deliver(20)
    claimed = sender.claim()
    assert len(claimed) == 5
    assert sender.claim() == [], "the second has not passed"
    sender.dispatcher.send(claimed)


def test_two_senders_share_and_send_nothing_twice(sender: Sender, server: Server) -> None:
    deliver(100)
    other = Sender()

    def all_arrived() -> bool:
        sender.step()
        other.step()
        return Delivery.objects.filter(status=Status.SUCCESS).count() == 100

    wait_until(all_arrived)
    other.stop()
    assert len(server.ids()) == len(set(server.ids())) == 100
    assert Attempt.objects.count() == 100


def test_what_a_killed_sender_held_is_sent_by_another_when_its_claim_has_run_out(
    send: Send, server: Server
) -> None:
    (delivery,) = deliver()
    killed = Sender()
    assert len(killed.claim()) == 1
    send()
    assert not server.received
    make_due()
    send()
    assert server.ids() == [str(delivery.event_id)]


def test_what_a_sleeper_wakes_up_with_changes_nothing(
    send: Send, sender: Sender, server: Server
) -> None:
    """Its claim ran out, and another has sent it meanwhile."""
    deliver()
    sleeper = Sender()
    sleeper.dispatcher.send(sleeper.claim())
    sleeper.unwritten = sleeper.dispatcher.gather(10, 0)
    make_due()
    send()
    sleeper.record()
    sleeper.stop()
    delivery = Delivery.objects.get()
    assert (delivery.status, delivery.attempts, delivery.attempt_set.count()) == (
        Status.SUCCESS,
        1,
        1,
    )
    assert len(set(server.ids())) == 1


def test_who_stops_gives_back_what_was_not_sent(sender: Sender, server: Server) -> None:
    deliver(3)
    stopped = Sender()
    stopped.claim()
    stopped.in_hand.clear()
    stopped.stop()
    assert Delivery.objects.due(timezone.now()).filter(claimed_by="").count() == 3


def test_a_database_that_is_away_loses_no_answer(
    sender: Sender, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver()
    with monkeypatch.context() as patch:
        patch.setattr("deliveries.sender.write_attempts", refuse)
        with pytest.raises(ConnectionError):
            wait_until(lambda: sender.step() < 0)
    wait_until(lambda: sender.step() > 0)
    assert Delivery.objects.get().status == Status.SUCCESS
    assert len(server.received) == 1


def refuse(sent: object) -> None:
    raise ConnectionError


def test_what_has_waited_too_long_in_memory_is_given_back(
    sender: Sender, server: Server, settings: Settings
) -> None:
    deliver(5)
    claimed = sender.claim()
    for sending in claimed:
        sending.start_by = 0.0
    sender.dispatcher.send(claimed)
    wait_until(lambda: sender.step() > 0 or not sender.in_hand)
    wait_until(lambda: Delivery.objects.filter(status=Status.SUCCESS).count() == 5 or sender.step())
    assert Attempt.objects.count() == 5


def test_retrying_what_is_finished_starts_a_new_round(
    send: Send, server: Server, endpoint: Endpoint
) -> None:
    server.behaviours["/"] = answer(500)
    delivery = sent(send)
    for _ in range(2):
        make_due()
        send()
    server.behaviours["/"] = in_turn(answer(500), answer(200))
    Endpoint.objects.update(not_before=None)
    assert services.retry(Delivery.objects.undelivered(), "all", "operator").count == 1
    send()
    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts, delivery.counted) == (Status.RETRYING, 4, 1)
    make_due()
    send()
    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts) == (Status.SUCCESS, 5)
    assert services.retry(Delivery.objects.undelivered(), "all", "operator").count == 0
    assert [retry.what for retry in Retry.objects.all()] == ["all"]
