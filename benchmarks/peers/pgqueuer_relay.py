"""pgqueuer: a queue filled (`fill COUNT TOPIC`), then drained into Kafka by its worker."""

import asyncio
import os
import sys
import threading

import psycopg
from confluent_kafka import Producer
from pgqueuer import PgQueuer
from pgqueuer.db import PsycopgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

BATCH = 500  # as many as our relay takes


async def main(action: str, *arguments: str) -> None:
    url = os.environ["DATABASE_URL"].replace("postgres://", "postgresql://")
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    async with connection:
        driver = PsycopgDriver(connection)
        if action == "fill":
            await fill(Queries(driver), int(arguments[0]), arguments[1])
        else:
            await drain(PgQueuer(driver))


async def fill(queries: Queries, count: int, topic: str) -> None:
    if not await queries.schema_is_installed():
        await queries.install()
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        keys: list[bytes | None] = [f"{topic} key-{n}".encode() for n in numbers]
        await queries.enqueue(["publish"] * len(keys), keys, [0] * len(keys))


async def drain(worker: PgQueuer) -> None:
    options = {"acks": "all", "enable.idempotence": True, "linger.ms": 2}
    producer = Producer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"]} | options)
    loop = asyncio.get_running_loop()
    threading.Thread(target=lambda: [producer.poll(1) for _ in iter(int, 1)], daemon=True).start()

    @worker.entrypoint("publish")
    async def publish(job: Job) -> None:
        topic, key = (job.payload or b"").decode().split()
        delivered = loop.create_future()

        def report(error: object, _: object) -> None:
            loop.call_soon_threadsafe(delivered.set_result, error)

        producer.produce(topic, b"{}", key, on_delivery=report)
        if error := await delivered:
            raise RuntimeError(str(error))

    await worker.run(batch_size=BATCH, mode=QueueExecutionMode.drain)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
