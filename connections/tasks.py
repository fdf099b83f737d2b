"""The clock of connections."""

from django.conf import settings

from connections.publisher import GripPublisher, standing
from connections.services import close_idle, purge_inactive, sweep_stale
from jobs.registry import periodic, worker

if settings.GRIP_URLS:
    worker("GRIP_PUBLISHER", standing=standing)(GripPublisher)


@periodic("STALE_CONNECTION_CLEANUP", every="60s", at_least="55s", at_most="59s")
def cleanup_stale_sse_sessions() -> int:
    """Close streams without a heartbeat for SSE_CLIENT_TIMEOUT."""
    return sweep_stale()


@periodic("SSE_CLIENT_CLEANUP", every="5m")
def cleanup_sse_clients() -> int:
    """Close connections that no process holds: idle for SSE_CLIENT_CLEANUP_INACTIVE_TIMEOUT."""
    return close_idle()


@periodic("CONNECTION_PURGE", every="0 2 * * *", at_most="15m")
def purge_old_inactive_sessions() -> int:
    """Delete inactive connections older than CONNECTION_RETENTION_DAYS."""
    return purge_inactive()
