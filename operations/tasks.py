"""The clock of the alerts and of the API keys; connectors have tasks of their own."""

import operations.debezium.tasks  # noqa: F401 (it declares its job)
from jobs import clock
from jobs.registry import periodic, worker
from operations import services
from operations.audit.services import forget_old
from operations.keys import usage
from operations.keys.services import end_expired, next_ends, waiting_to_end


@periodic("ALERT_CHECK", every="60s", at_least="55s", at_most="59s")
def check_jobs() -> int:
    """Raise an alert for jobs that are overdue, fail, or fall behind; resolve what is over."""
    return services.check()


@periodic("API_KEY_STATS_SYNC", every="5m", at_least="1m", at_most="10m", backlog=usage.behind)
def sync_usage() -> int:
    """Bring what was counted of API keys to their rows."""
    return usage.sync()


@worker("API_KEY_CLOCK")
class KeyClock:
    """End API keys and rotated secrets at their very moment, with the streams that they opened."""

    wakes_on = "keys"  # the poll is enough: what is set now ends later

    def step(self) -> float:
        looked_at = clock.now()
        end_expired()
        return clock.seconds_until(*next_ends(looked_at))

    def stop(self) -> None:
        pass


@periodic("API_KEY_EXPIRATION", every="1h", at_least="1m", at_most="10m", backlog=waiting_to_end)
def end_expired_keys() -> int:
    """Disable API keys past their expiry that were missed, and secrets whose overlap is over."""
    return end_expired()


@periodic("AUDIT_RETENTION", every="24h")
def forget_old_entries() -> int:
    """Delete audit entries older than AUDIT_RETENTION_DAYS, in batches; 0 keeps them for ever."""
    return forget_old()
