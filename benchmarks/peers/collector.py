"""Reads a topic in a process of its own: `key seconds seconds`, when it was produced and came."""

import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition


def main(servers: str, topic: str, partitions: int, count: int) -> None:
    options = {"bootstrap.servers": servers, "group.id": "collector", "enable.auto.commit": False}
    consumer = Consumer(options)
    consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in range(partitions)])
    seen: dict[str, tuple[float, float]] = {}
    while len(seen) < count:
        message = consumer.poll(10)
        if message is not None and not message.error():
            produced = message.timestamp()[1] / 1_000
            seen.setdefault((message.key() or b"").decode(), (produced, time.time()))
    consumer.close()
    for key, moments in seen.items():
        print(key, *moments)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
