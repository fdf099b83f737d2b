"""The jobs in numbers for `/metrics`: facts of the cluster, the same whichever process is asked."""

from collections.abc import Iterator
from datetime import datetime

from django.db.models.functions import Now
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import SummaryMetricFamily as Summary
from prometheus_client.metrics_core import Metric

from jobs.console import overdue_by
from jobs.models import Job
from jobs.registry import periodic_jobs

# Prometheus itself gives every sample a label `job`.
NAME = ["job_name"]


def metrics() -> Iterator[Metric]:
    """One query, and one a job that counts its backlog."""
    runs = Counter("broadcast_job_runs", "Runs that ended.", labels=[*NAME, "outcome"])
    items = Counter("broadcast_job_items", "What runs handled.", labels=[*NAME, "result"])
    duration = Summary("broadcast_job_duration_seconds", "How long runs took.", labels=NAME)
    last = Gauge("broadcast_job_last_duration_seconds", "How long the last one took.", labels=NAME)
    success = Gauge(
        "broadcast_job_last_success_timestamp_seconds", "When it last succeeded.", labels=NAME
    )
    lease = Gauge("broadcast_job_lease_age_seconds", "How long its lease is held.", labels=NAME)
    overdue = Gauge("broadcast_job_overdue_seconds", "How late the next run is.", labels=NAME)
    paused = Gauge("broadcast_job_paused", "1 when an operator paused it.", labels=NAME)
    backlog = Gauge("broadcast_job_backlog", "What waits for it.", labels=NAME)
    for row in Job.objects.filter(name__in=periodic_jobs).annotate(now=Now()):
        name, now, declared = row.name, row.now, periodic_jobs[row.name]
        late = overdue_by(declared, row, now)
        for outcome in ("succeeded", "failed", "lost", "missed"):
            runs.add_metric([name, outcome], getattr(row, f"runs_{outcome}"))
        for result in ("done", "failed", "skipped"):
            items.add_metric([name, result], getattr(row, f"items_{result}"))
        duration.add_metric([name], row.runs_succeeded + row.runs_failed, row.seconds_run)
        if row.seconds_of_last_run is not None:
            last.add_metric([name], row.seconds_of_last_run)
        if row.last_success_at:
            success.add_metric([name], row.last_success_at.timestamp())
        lease.add_metric([name], _lease_age(row, now))
        overdue.add_metric([name], late.total_seconds() if late else 0)
        paused.add_metric([name], row.paused_at is not None)
        if declared.backlog:
            backlog.add_metric([name], declared.backlog())
    yield from (runs, items, duration, last, success, lease, overdue, paused, backlog)


def _lease_age(row: Job, now: datetime) -> float:
    if not row.holder or not row.since or not row.until or row.until < now:
        return 0
    return (now - row.since).total_seconds()
