from jobs.registry import Outcome, periodic
from operations.debezium import services


@periodic("DEBEZIUM_HEALTH_CHECK", every="5m", at_least="1m", at_most="5m", needs="DEBEZIUM_URL")
def check_connectors() -> Outcome:
    """Ask Kafka Connect for its connectors; restart what failed, tell what cannot be mended."""
    return services.check()
