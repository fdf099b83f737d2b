"""An event, from the transaction in which it happens to all who are to see it."""

import pytest
from django.db import transaction

from operations.models import Kind
from operations.services import raise_alert
from outbox.services import emit
from tests.everywhere import Everywhere

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


def test_an_alert_is_seen_everywhere(everywhere: Everywhere) -> None:
    with everywhere.watch("alert.raised") as seen:
        raise_alert(Kind.FAILING, "LINK_EXPIRATION", "LINK_EXPIRATION failed 3 times in a row.")
    assert [one["data"]["subject"] for one in seen] == ["LINK_EXPIRATION"]


def test_several_at_once_are_each_seen_once_everywhere(everywhere: Everywhere) -> None:
    with everywhere.watch("link.expired") as seen, transaction.atomic():
        for number in range(20):
            emit("link.expired", f"link-{number}", {"code": f"code-{number}"})
        emit("link.created", "link-99", {"code": "new"})
    assert len(seen) == 20


def test_what_does_not_happen_is_missed(everywhere: Everywhere) -> None:
    missed = pytest.raises(AssertionError, match=r"no link\.expired happened")
    with missed, everywhere.watch("link.expired"):
        pass


def test_an_event_that_a_job_causes_is_seen_everywhere(everywhere: Everywhere) -> None:
    """As the jobs of domains do: here that of alerts, which finds that nothing is wrong."""
    with everywhere.watch("alert.resolved"):
        raise_alert(Kind.FAILING, "RUN_RETENTION", "It failed.")
        everywhere.run_job("ALERT_CHECK")
