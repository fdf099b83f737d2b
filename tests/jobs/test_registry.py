import pytest

from jobs.registry import periodic_jobs, workers


@pytest.mark.parametrize("name", list(periodic_jobs))
def test_a_job_says_what_it_does(name: str) -> None:
    assert periodic_jobs[name].description.endswith(".")


def test_the_fast_work_is_registered() -> None:
    assert {"OUTBOX_RELAY", "BROADCAST_CLOCK"} <= set(workers)
