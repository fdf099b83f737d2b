"""The clock of the alerts."""

from jobs.registry import periodic
from operations import services


@periodic("ALERT_CHECK", every="60s", at_least="55s", at_most="59s")
def check_jobs() -> int:
    """Raise an alert for jobs that are overdue, fail, or fall behind; resolve what is over."""
    return services.check()
