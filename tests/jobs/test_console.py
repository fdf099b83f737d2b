import pytest

from jobs.console import all_workers, overview
from jobs.models import Job
from jobs.registry import Standing, periodic, standings

pytestmark = pytest.mark.django_db


def test_a_backlog_that_cannot_be_counted_takes_no_job_off_the_page() -> None:
    def fails() -> int:
        raise ValueError("a bug")

    @periodic("BROKEN", every="1h", backlog=fails)
    def broken() -> int:
        """Do nothing."""
        return 0

    Job.objects.create(name="BROKEN")
    states = {state.name: state for state in overview()}
    assert states["BROKEN"].backlog is None
    assert "BROADCAST_ACTIVATION" in states


def test_a_worker_that_cannot_be_told_takes_no_other_off_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails() -> Standing:
        raise ValueError("a bug")

    monkeypatch.setitem(standings, "BROADCAST_CLOCK", fails)
    standing = {worker.name: worker.standing for worker in all_workers()}
    assert standing["BROADCAST_CLOCK"] is None
    assert standing["OUTBOX_RELAY"]
