"""What the jobs of operations do, seen from outside."""

from datetime import timedelta
from urllib.error import HTTPError

import pytest
from django.utils import timezone

from operations.keys.usage import OUTCOMES
from operations.models import ApiKey, UsageBatch
from operations.services import FAILURES
from outbox.consumers import Envelope
from tests.deliveries.receiver import answer
from tests.everywhere import Everywhere
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

KEYS, INBOX = "/api/admin/api-keys", "/api/user/messages"
NOWHERE = f"{KEYS}/999999"


def status_of(site: Everywhere, path: str, key: str) -> int:
    try:
        site.request("GET", path, key=key)
    except HTTPError as error:
        return error.code
    return 200


def test_what_a_key_was_used_for_is_counted_once(site: Everywhere) -> None:
    made = site.request("POST", KEYS, {"name": "Shop", "scopes": ["read"]})
    answers = [status_of(site, path, made["api_key"]) for path in [INBOX] * 5 + [NOWHERE] * 2]
    assert answers == [200] * 5 + [404] * 2
    wait_until(lambda: uses_on_their_way(made["id"]) == 7, message="all are counted")
    assert site.request("GET", f"{KEYS}/{made['id']}")["total"] == 0
    site.run_job("API_KEY_STATS_SYNC")
    site.run_job("API_KEY_STATS_SYNC")
    shown = site.request("GET", f"{KEYS}/{made['id']}")
    assert (shown["total"], shown["succeeded"], shown["failed_4xx"]) == (7, 5, 2)
    today = site.request("GET", f"{KEYS}/{made['id']}/usage?days=1")[-1]
    assert (today["succeeded"], today["failed_4xx"]) == (5, 2)


def uses_on_their_way(key: int) -> int:
    return sum(
        count
        for batch in UsageBatch.objects.waiting()
        for name, count in batch.counts.items()
        if name.startswith(f"{key}:") and name.endswith(tuple(OUTCOMES))
    )


def test_of_a_key_that_expired_all_are_told_once(site: Everywhere) -> None:
    soon = (timezone.now() + timedelta(hours=1)).isoformat()
    key = {"name": "For an hour", "scopes": ["read"], "expires_at": soon}
    made, other = (site.request("POST", KEYS, key) for _ in range(2))
    assert status_of(site, INBOX, made["api_key"]) == 200
    with site.watch("key.expired") as seen, site.relay_away():  # whose clock would do it first
        expired = ApiKey.objects.filter(pk=made["id"])
        expired.update(expires_at=timezone.now() - timedelta(seconds=1))
        site.run_job("API_KEY_EXPIRATION")
        site.run_job("API_KEY_EXPIRATION")
    assert [one["data"]["key_id"] for one in seen] == [made["key_id"]]
    assert "api_key" not in seen[0]["data"]
    assert status_of(site, INBOX, made["api_key"]) == 401
    assert status_of(site, INBOX, other["api_key"]) == 200
    assert site.request("GET", f"{KEYS}/{made['id']}")["reason"] == "expired"


def test_of_a_job_that_fails_all_are_told_once_and_when_that_is_over(site: Everywhere) -> None:
    site.receiver.behaviours["/token"] = answer(401, "no such client")
    refused = {"BATTLENET_CLIENT_ID": "client", "BATTLENET_CLIENT_SECRET": "wrong"}
    refused["BATTLENET_TOKEN_URL"] = site.receiver.url("/token")
    thrall = {"name": "Thrall", "realm": "Area 52", "region": "us"}
    with site.made("/api/warcraft/characters", thrall):
        for _ in range(FAILURES):
            assert "refuses the credentials" in site.run_failing_job("CHARACTER_SYNC", **refused)
    with site.watch("alert.raised") as raised:
        site.run_job("ALERT_CHECK")
        site.run_job("ALERT_CHECK")
    assert kinds_of("CHARACTER_SYNC", raised) == ["FAILING"]
    site.run_job("CHARACTER_SYNC")  # nobody is followed any more
    with site.watch("alert.resolved") as resolved:
        site.run_job("ALERT_CHECK")
        site.run_job("ALERT_CHECK")
    assert kinds_of("CHARACTER_SYNC", resolved) == ["FAILING"]


def kinds_of(subject: str, seen: list[Envelope]) -> list[str]:
    """Of a job: here nobody runs any other, so that the shortest are soon late."""
    return [one["data"]["kind"] for one in seen if one["data"]["subject"] == subject]
