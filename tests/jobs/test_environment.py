from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from jobs import registry
from jobs.environment import apply_environment
from jobs.registry import periodic_jobs


@pytest.fixture(autouse=True)
def restore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.environment.periodic_jobs", dict(periodic_jobs))
    monkeypatch.setattr(registry, "periodic_jobs", dict(periodic_jobs))


def test_a_shorter_interval_is_honoured_whatever_at_least_says() -> None:
    registry.override("BROADCAST_ACTIVATION", every="10s")
    assert registry.periodic_jobs["BROADCAST_ACTIVATION"].at_least < timedelta(seconds=10)


def test_a_job_can_be_switched_off_and_timed_by_the_environment(settings: Any) -> None:
    settings.JOB_ENVIRONMENT = {
        "EVENT_RETENTION_ENABLED": "false",
        "EVENT_RETENTION_INTERVAL": "CRON_TZ=Europe/Berlin 30 3 * * *",
    }
    apply_environment()
    job = registry.periodic_jobs["EVENT_RETENTION"]
    assert (job.enabled, job.every) == (False, "CRON_TZ=Europe/Berlin 30 3 * * *")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("EVENT_RETENTION_INTERVAL", "5x"), ("EVENT_RETENTION_ENABLED", "maybe")],
)
def test_a_wrong_value_stops_the_start_with_the_name_of_the_variable(
    settings: Any, variable: str, value: str
) -> None:
    settings.JOB_ENVIRONMENT = {variable: value}
    with pytest.raises(ImproperlyConfigured, match=variable):
        apply_environment()
