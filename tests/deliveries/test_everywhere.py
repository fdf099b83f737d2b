"""What the jobs of deliveries do, seen by who receives, and by operators through the API.

Both retry jobs are switched off while the site runs, so that it leaves what failed to them; as
an operator does who stops all retries until a receiver is well again.
"""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from standardwebhooks import Webhook

from deliveries.models import Delivery
from tests.deliveries.receiver import answer
from tests.everywhere import Everywhere
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

SWITCHES = ("WEBHOOK_RETRY_SCHEDULER_ENABLED", "NOTIFICATION_RETRY_ENABLED")
SITE = dict.fromkeys(SWITCHES, "false")
RETRY = {"WEBHOOK": "WEBHOOK_RETRY_SCHEDULER", "DISCORD": "NOTIFICATION_RETRY"}
CLEANUP = {"WEBHOOK": "WEBHOOK_CLEANUP", "DISCORD": "NOTIFICATION_CLEANUP"}
ENDPOINTS, DELIVERIES = "/api/admin/endpoints", "/api/admin/deliveries"

kinds = pytest.mark.parametrize("kind", ["WEBHOOK", "DISCORD"])


def endpoint(site: Everywhere, kind: str, path: str) -> Any:
    url = site.receiver.url(path)
    given = {"name": path, "kind": kind, "url": url, "patterns": ["nothing.of.it"]}
    return site.request("POST", ENDPOINTS, given)


def deliver(site: Everywhere, made: Any, until: str) -> int:
    """An event for this endpoint, once it was sent and has this status."""
    sent: int = site.request("POST", f"{ENDPOINTS}/{made['id']}/test")["id"]
    wait_until(lambda: shown(site, sent)["status"] == until, message=f"it is {until}")
    return sent


def shown(site: Everywhere, delivery: int) -> Any:
    return site.request("GET", f"{DELIVERIES}/{delivery}")


def run_retries(site: Everywhere, kind: str) -> None:
    """As by default: switched on again."""
    site.run_job(RETRY[kind], **dict.fromkeys(SWITCHES, "true"))


def time_passes(delivery: int) -> None:
    """Until its next attempt is due."""
    Delivery.objects.filter(pk=delivery).update(next_attempt_at=timezone.now())


@kinds
def test_what_failed_is_sent_again_in_time_and_told_once(site: Everywhere, kind: str) -> None:
    made = endpoint(site, kind, f"/failing/{kind}")
    path = f"/failing/{kind}"
    site.receiver.behaviours[path] = answer(500, "down")
    failed = deliver(site, made, until="FAILED")
    before = timezone.now()
    run_retries(site, kind)
    retrying = shown(site, failed)
    run_retries(site, kind)
    assert shown(site, failed) == retrying, "a second run changes nothing"
    wait = datetime.fromisoformat(retrying["next_attempt_at"]) - before
    assert retrying["status"] == "RETRYING"
    assert timedelta(minutes=2) <= wait < timedelta(minutes=4)
    site.receiver.behaviours[path] = answer(200, "ok")
    time_passes(failed)
    wait_until(lambda: shown(site, failed)["status"] == "SUCCESS", message="it arrives")
    of_both = shown(site, failed)["each_attempt"]
    assert [one["status"] for one in of_both] == [500, 200]
    first, second = (one for one in site.receiver.received if one.path.partition("?")[0] == path)
    assert first.body == second.body, "again from what was stored"
    if kind == "WEBHOOK":
        assert first.id == second.id
        Webhook(made["secret"]).verify(second.body, second.headers)


@kinds
def test_the_third_failure_is_the_last(site: Everywhere, kind: str) -> None:
    path = f"/dead/{kind}"
    site.receiver.behaviours[path] = answer(500, "down")
    failed = deliver(site, endpoint(site, kind, path), until="FAILED")
    for attempts in (2, 3):
        run_retries(site, kind)
        time_passes(failed)
        wait_until(lambda n=attempts: shown(site, failed)["attempts"] == n)  # type: ignore[misc]
    wait_until(lambda: shown(site, failed)["status"] == "DEAD", message="it is given up")
    run_retries(site, kind)
    assert shown(site, failed)["status"] == "DEAD"
    assert shown(site, failed)["next_attempt_at"] is None


@kinds
def test_what_was_finished_is_gone_after_30_days(site: Everywhere, kind: str) -> None:
    made = endpoint(site, kind, f"/finished/{kind}")
    old, young = (deliver(site, made, until="SUCCESS") for _ in range(2))
    site.receiver.behaviours[f"/finished/{kind}"] = answer(410, "gone")
    dead = deliver(site, made, until="DEAD")
    for delivery, days in ((old, 31), (young, 29), (dead, 31)):
        at = timezone.now() - timedelta(days=days)
        Delivery.objects.filter(pk=delivery).update(completed_at=at)
    site.run_job(CLEANUP[kind])
    site.run_job(CLEANUP[kind])
    rows = site.request("GET", f"{DELIVERIES}?endpoint={made['id']}")["results"]
    # Of Discord the documents delete what was delivered alone; the rest has a longer retention.
    kept = {young} if kind == "WEBHOOK" else {young, dead}
    assert {row["id"] for row in rows} == kept
