"""Series through real processes whose clocks come to a change between summer and winter time."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from broadcasts.models import Broadcast, Series
from outbox.models import Event
from tests.conftest import Spawn
from tests.live import database_of
from tests.processes import Environment, off_by
from tests.sse import run_code
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

AHEAD = timedelta(seconds=10)  # of the moment, the processes are started; being late is no matter
COMPOSED = timedelta(hours=1)  # before that, so that no slow machine comes too late
START = """
from django.contrib.auth.models import User
from broadcasts.series import start
User.objects.create_user("reader")
start(None, title="At night", cron={cron!r}, zone={zone!r})
"""
CHANGES = [  # the moment in UTC, and what the clocks there show, then and the day after
    ("Europe/Berlin", "30 2 * * *", "2026-03-29T01:00", "29. 03:00 CEST", "30. 02:30 CEST"),
    ("Europe/Berlin", "30 2 * * *", "2026-10-25T00:30", "25. 02:30 CEST", "26. 02:30 CET"),
    ("America/New_York", "30 2 * * *", "2026-03-08T07:00", "08. 03:00 EDT", "09. 02:30 EDT"),
    ("America/New_York", "30 1 * * *", "2026-11-01T05:30", "01. 01:30 EDT", "02. 01:30 EST"),
]


def moment_of(broadcast: Broadcast) -> datetime:
    assert broadcast.occurrence
    return broadcast.occurrence


@pytest.mark.parametrize(("zone", "cron", "moment", "now", "then"), CHANGES)
def test_two_nodes_and_the_job_send_one_at_its_local_time(
    live_database: Environment,
    spawn: Spawn,
    faketime: str,
    zone: str,
    cron: str,
    moment: str,
    now: str,
    then: str,
) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("the clock of PostgreSQL is not that of the processes")
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC) - AHEAD

    def at_the_time(moment: datetime) -> Environment:
        distance = (moment - datetime.now(UTC)).total_seconds()
        return live_database | off_by(f"{distance:+.0f}s", faketime)

    run_code(START.format(cron=cron, zone=zone), at_the_time(at - COMPOSED))
    env = at_the_time(at)
    relays = [spawn(["relay"], env | {"NODE_NAME": name}) for name in ("one", "two")]
    for relay in relays:
        wait_until(lambda relay=relay: "BROADCAST_CLOCK started" in relay.output())  # type: ignore[misc]

    def outcome() -> dict[str, object]:
        """Asked here: the rows say what was, whatever the time is."""
        with database_of(env):
            series = Series.objects.get()
            rows = list(series.broadcasts.order_by("occurrence"))
            sent = Event.objects.filter(type="broadcast.activated").count()
        return {
            "rows": [(b.status, f"{series.local(moment_of(b)):%d. %H:%M %Z}") for b in rows],
            "early": [b for b in rows if b.activated_at and b.activated_at < moment_of(b)],
            "sent": sent,
        }

    expected = {"rows": [("ACTIVE", now), ("SCHEDULED", then)], "early": [], "sent": 1}
    wait_until(lambda: outcome() == expected, message=f"it goes out at {now}")
    job = spawn(["run_job", "BROADCAST_ACTIVATION"], env)
    assert job.wait() == 0
    assert outcome() == expected
