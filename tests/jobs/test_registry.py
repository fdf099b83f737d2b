from importlib import import_module

import pytest

from jobs.registry import periodic_jobs, workers


@pytest.mark.parametrize("name", list(periodic_jobs))
def test_a_job_is_found_by_its_path_and_says_what_it_does(name: str) -> None:
    job = periodic_jobs[name]
    module, _, function = job.path.rpartition(".")
    assert getattr(import_module(module), function) is job.run
    assert job.description


def test_the_fast_work_is_registered() -> None:
    assert {"OUTBOX_RELAY", "BROADCAST_CLOCK"} <= set(workers)
