import pytest

from jobs.console import overview
from jobs.models import Job
from jobs.registry import periodic

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
