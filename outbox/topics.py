"""Topics: `broadcasts` keeps one order for all streams; each domain has one, keyed by entity."""

BROADCASTS = "broadcasts"
DOMAIN_PARTITIONS = 6


def topic_of(event_type: str, *, addressed: bool) -> str:
    domain = event_type.partition(".")[0]
    return BROADCASTS if addressed or domain == "broadcast" else domain


def partitions_of(topic: str) -> int:
    return 1 if topic == BROADCASTS else DOMAIN_PARTITIONS
