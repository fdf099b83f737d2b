import pytest
from pytest_django import Settings

from jobs.registry import periodic, periodic_jobs, workers


@pytest.mark.parametrize("name", list(periodic_jobs))
def test_a_job_says_what_it_does(name: str) -> None:
    assert periodic_jobs[name].description.endswith(".")


def test_the_fast_work_is_registered() -> None:
    assert {"OUTBOX_RELAY", "BROADCAST_CLOCK"} <= set(workers)


def test_a_job_without_the_setting_that_it_needs_is_off(settings: Settings) -> None:
    settings.DEBEZIUM_URL = ""
    periodic("NEEDS_A_SETTING", every="1h", needs="DEBEZIUM_URL")(lambda: 0)
    assert not periodic_jobs["NEEDS_A_SETTING"].enabled
    settings.DEBEZIUM_URL = "http://connect.example"
    periodic("NEEDS_A_SETTING", every="1h", needs="DEBEZIUM_URL")(lambda: 0)
    assert periodic_jobs["NEEDS_A_SETTING"].enabled
