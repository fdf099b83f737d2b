"""What `python -m benchmarks domains` measures is real work: the jobs do what the fillers made."""

import pytest
from django.test import override_settings

from benchmarks.domains import cases
from benchmarks.filling import fill, make_ready
from domains.warcraft import sync
from jobs.registry import Outcome, periodic_jobs

ROWS = 7


@pytest.mark.django_db
@pytest.mark.parametrize(("app", "job"), list(cases()))
def test_a_job_does_all_rows_that_its_filler_makes(
    app: str, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(app, job, ROWS)
    monkeypatch.setattr(sync, "RUN_FOR", sync.RUN_FOR)  # what is made ready is put back
    with override_settings():
        make_ready(app, job)
        done = periodic_jobs[job].run()
    assert (done.items if isinstance(done, Outcome) else done) == ROWS
