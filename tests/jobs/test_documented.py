"""Every job of the documents is there and runs by itself, as often as they say."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.db.models import F

from jobs.intervals import Every, parse_duration, parse_interval
from jobs.models import Run
from jobs.registry import periodic_jobs
from outbox import relay
from tests.everywhere import Everywhere
from tests.waiting import wait_until

DOCUMENTED = {
    "BROADCAST_ACTIVATION": "60s",
    "BROADCAST_EXPIRATION": "60s",
    "STALE_CONNECTION_CLEANUP": "60s",
    "CONNECTION_PURGE": "0 2 * * *",
    "SSE_CLIENT_CLEANUP": "5m",
    "EVENT_RETENTION": "24h",
    "RUN_RETENTION": "24h",
    "POST_PUBLISHER": "5m",
    "ITEM_EXPIRATION": "24h",
    "STOCK_LEVEL": "6h",
    "LINK_EXPIRATION": "1h",
    "NOTIFICATION_RETRY": "5m",
    "NOTIFICATION_CLEANUP": "24h",
    "MESSAGE_CLEANUP": "24h",
    "STREAM_CLOSER": "1h",
    "CHARACTER_SYNC": "6h",
    "GUILD_SYNC": "12h",
    "WEBHOOK_RETRY_SCHEDULER": "5m",
    "WEBHOOK_CLEANUP": "24h",
    "API_KEY_STATS_SYNC": "5m",
    "API_KEY_EXPIRATION": "1h",
    "DEBEZIUM_HEALTH_CHECK": "5m",
}
LEASES = {  # at least, at most
    "BROADCAST_ACTIVATION": ("55s", "59s"),
    "BROADCAST_EXPIRATION": ("55s", "59s"),
    "STALE_CONNECTION_CLEANUP": ("55s", "59s"),
    "CONNECTION_PURGE": ("0s", "15m"),
    "API_KEY_STATS_SYNC": ("1m", "10m"),
    "API_KEY_EXPIRATION": ("1m", "10m"),
    "DEBEZIUM_HEALTH_CHECK": ("1m", "5m"),
}
NEEDS_A_SETTING, AT_NIGHT = "DEBEZIUM_HEALTH_CHECK", "CONNECTION_PURGE"
JOBS = "/api/admin/jobs"


def every_job(site: Everywhere) -> dict[str, Any]:
    found = site.request("GET", f"{JOBS}?page_size=100")["results"]
    return {job["name"]: job for job in found if job["name"] in DOCUMENTED}


def is_next_on_time(site: Everywhere, name: str) -> bool:
    """An interval after the slot that ran; what is as short as its lease, a lease later."""
    job = site.request("GET", f"{JOBS}/{name}")
    interval = parse_interval(job["every"])
    assert isinstance(interval, Every)
    wait = datetime.fromisoformat(job["next_run_at"]) - datetime.fromisoformat(
        job["runs"][0]["slot"]
    )
    return interval.length <= wait <= interval.length + timedelta(minutes=1)


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_every_job_runs_at_start_and_then_at_its_documented_interval(site: Everywhere) -> None:
    cluster = site.spawn(["qcluster"], site.env)
    at_start = DOCUMENTED.keys() - {NEEDS_A_SETTING, AT_NIGHT}

    def all_ran() -> dict[str, Any]:
        found = every_job(site)
        return found if all(found[name]["last_run_at"] for name in at_start) else {}

    jobs = wait_until(all_ran, message="every job has run")
    assert {name: job["every"] for name, job in jobs.items()} == DOCUMENTED
    assert {name for name, job in jobs.items() if not job["enabled"]} == {NEEDS_A_SETTING}
    assert {jobs[name]["last_status"] for name in at_start} == {"SUCCEEDED"}
    for name in at_start:
        wait_until(lambda name=name: is_next_on_time(site, name), message=f"{name} is on time")  # type: ignore[misc]
    night = datetime.fromisoformat(jobs[AT_NIGHT]["next_run_at"])
    night = night.astimezone(ZoneInfo(settings.TIME_ZONE))
    assert (night.hour, night.minute) == (2, 0)
    workers = {worker["name"]: worker for worker in site.request("GET", "/api/admin/workers")}
    assert workers["OUTBOX_RELAY"]["standing"]["leader"]
    cluster.close()


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_a_run_is_history_for_thirty_days(site: Everywhere) -> None:
    def history() -> list[int]:
        return [run["id"] for run in site.request("GET", f"{JOBS}/LINK_EXPIRATION")["runs"]]

    for _ in range(3):
        site.run_job("LINK_EXPIRATION")
    *others, younger, older = history()
    for run, days in ((younger, 29.9), (older, 30.1)):
        Run.objects.filter(pk=run).update(slot=F("slot") - timedelta(days=days))
    site.run_job("RUN_RETENTION")
    assert sorted(history()) == sorted([*others, younger])


@pytest.mark.parametrize("name", LEASES)
def test_a_job_holds_its_lease_as_long_as_documented(name: str) -> None:
    job = periodic_jobs[name]
    assert (job.at_least, job.at_most) == tuple(map(parse_duration, LEASES[name]))


def test_the_outbox_is_looked_at_every_two_seconds_at_the_latest() -> None:
    assert relay.FALLBACK_POLL == 2.0
