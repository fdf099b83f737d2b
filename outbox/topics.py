"""Topics: `broadcasts` keeps one order for all streams; each domain has one, keyed by entity."""

import re

BROADCASTS = "broadcasts"
DOMAIN_PARTITIONS = 6


def topic_of(event_type: str, *, addressed: bool) -> str:
    domain = event_type.partition(".")[0]
    return BROADCASTS if addressed or domain == "broadcast" else domain


def partitions_of(topic: str) -> int:
    return 1 if topic == BROADCASTS else DOMAIN_PARTITIONS


def check_topic(topic: str) -> None:
    """Raise `ValueError` for what is no name of a topic everywhere; Kafka has its rules."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", topic):
        raise ValueError(
            f"{topic!r} is no topic: the type of an event begins with a domain of at most 100 "
            "letters (A to Z), digits, _ and -, then a dot"
        )
