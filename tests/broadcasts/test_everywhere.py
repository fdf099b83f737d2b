"""What the jobs of broadcasts do, seen from outside: their moment passes while nobody looks.

The clock of the relay is away, and the jobs are the net below it.
"""

import json
from datetime import timedelta
from typing import Any
from urllib.error import HTTPError

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.utils import timezone

from broadcasts.models import Broadcast
from tests.everywhere import READER, Everywhere

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

BROADCASTS = "/api/admin/broadcasts"
HOUR = timedelta(hours=1)


def composed(site: Everywhere, title: str, **moments: Any) -> int:
    reader = str(User.objects.get(username=READER).pk)
    fields = {"title": title, "content": "x", "audience": "SELECTED", "targets": [reader]}
    fields |= {name: at.isoformat() for name, at in moments.items()}
    return int(site.request("POST", BROADCASTS, fields)["id"])


def make_past(pk: int, *moments: str) -> None:
    """Two hours go by."""
    Broadcast.objects.filter(pk=pk).update(**{name: F(name) - 2 * HOUR for name in moments})


def status(site: Everywhere, pk: int) -> str:
    return str(site.request("GET", f"{BROADCASTS}/{pk}")["status"])


def inbox(site: Everywhere) -> list[int]:
    found = site.request("GET", "/api/user/messages?page_size=100", who=READER)
    return [message["broadcast_id"] for message in found["results"]]


def test_a_broadcast_whose_moment_was_missed_goes_out_everywhere_once(site: Everywhere) -> None:
    at = timezone.now() + HOUR
    due, later = (composed(site, name, scheduled_at=at) for name in ("due", "later"))
    with (
        site.watch_addressed("broadcast.activated", "MESSAGE") as seen,
        site.relay_away(),
    ):
        make_past(due, "scheduled_at")
        site.run_job("BROADCAST_ACTIVATION")
        site.run_job("BROADCAST_ACTIVATION")
    assert [one["data"]["broadcast_id"] for one in seen] == [due]
    assert (status(site, due), status(site, later)) == ("ACTIVE", "SCHEDULED")
    assert inbox(site).count(due) == 1
    assert later not in inbox(site)


def test_a_broadcast_whose_expiry_was_missed_leaves_the_screens_once(site: Everywhere) -> None:
    over, lasting = (
        composed(site, name, expires_at=timezone.now() + HOUR) for name in ("over", "lasting")
    )
    with (
        site.watch_addressed("broadcast.expired", "MESSAGE_REMOVED") as seen,
        site.relay_away(),
    ):
        make_past(over, "scheduled_at", "activated_at", "expires_at")
        site.run_job("BROADCAST_EXPIRATION")
        site.run_job("BROADCAST_EXPIRATION")
    assert [one["data"] for one in seen] == [{"broadcast_id": over, "reason": "EXPIRED"}]
    assert (status(site, over), status(site, lasting)) == ("EXPIRED", "ACTIVE")
    assert lasting in inbox(site)
    assert over not in inbox(site)
    (receipt,) = site.request("GET", f"{BROADCASTS}/{over}/deliveries")["results"]
    assert (receipt["username"], receipt["status"]) == (READER, "SUPERSEDED")


@pytest.mark.parametrize("pattern", ["broadcast.activated", "broadcast.expired", "connection.*"])
def test_no_rule_answers_to_what_broadcasts_cause(site: Everywhere, pattern: str) -> None:
    with pytest.raises(HTTPError, match="400") as refused:
        site.request("POST", "/api/admin/rules", {"pattern": pattern, "name": "x", "title": "x"})
    with refused.value as answer:
        assert "would answer to itself" in json.load(answer)["fields"]["pattern"][0]
