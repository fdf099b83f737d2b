import json
import subprocess
import threading
import uuid
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from django.db import connection

from tests import servers
from tests.conftest import NewPushpin, needed
from tests.servers import Kafka, KafkaConnect, Postgres, Pushpin
from tests.servers.__main__ import main
from tests.waiting import PATIENCE, wait_until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(connection.vendor != "sqlite", reason="the project's database has no part"),
]


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with needed(servers.running(Postgres)) as server:
        yield server


@pytest.fixture
def secure_cluster() -> Iterator[Kafka]:
    def make(directory: Path) -> Kafka:
        return Kafka(directory, brokers=3, secure=True)

    with needed(servers.running(make)) as server:
        yield server


@pytest.fixture
def backend_port() -> Iterator[int]:
    class Backend(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Backend) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def left_of(server: Kafka | KafkaConnect | Pushpin) -> list[str]:
    """The processes that name the server's directory."""
    listed = subprocess.run(["ps", "-ewwo", "args="], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if str(server.directory) in line]


def new_topic(kafka: Kafka, name: str, copies: int = 1) -> str:
    client = AdminClient(kafka.options())
    client.create_topics([NewTopic(name, 1, copies)])[name].result(PATIENCE)
    return name


def produce(kafka: Kafka, topic: str, value: bytes) -> None:
    producer = Producer(kafka.options() | {"acks": "all"})
    producer.produce(topic, value)
    assert producer.flush(PATIENCE) == 0


def polled(consumer: Consumer) -> bytes | None:
    """A broker that does not know the topic yet is an error, and passes."""
    message = consumer.poll(1)
    return message.value() if message and not message.error() else None


def consume(kafka: Kafka, topic: str) -> bytes | None:
    options = kafka.options() | {"group.id": topic, "auto.offset.reset": "earliest"}
    consumer = Consumer(options)
    consumer.subscribe([topic])
    try:
        return wait_until(lambda: polled(consumer), message="a record has come")
    finally:
        consumer.close()


def ask(url: str, body: object = None, method: str = "GET") -> Any:
    data = json.dumps(body).encode() if body else None
    request = Request(url, data, {"Content-Type": "application/json"}, method=method)
    with wait_until(lambda: answer_to(request), message="Connect has settled") as response:
        return json.loads(response.read() or b"null")


def answer_to(request: Request) -> Any:
    """Of Connect, which asks to come again later while its workers settle who does what."""
    try:
        return urlopen(request, timeout=PATIENCE)
    except HTTPError as error:
        if error.code != HTTPStatus.CONFLICT:
            raise
        return None


def test_kafka_keeps_its_address_and_records_and_leaves_no_process(kafka: Kafka) -> None:
    topic = new_topic(kafka, uuid.uuid4().hex)
    produce(kafka, topic, b"before")
    url = kafka.url
    kafka.stop()
    try:
        assert left_of(kafka) == []
    finally:
        assert kafka.start() == url
    assert consume(kafka, topic) == b"before"


def test_kafka_makes_no_topic_by_itself(kafka: Kafka) -> None:
    name = uuid.uuid4().hex
    assert AdminClient(kafka.options()).list_topics(name, PATIENCE).topics[name].error


def test_a_secure_cluster_wants_a_login_and_survives_a_broker(secure_cluster: Kafka) -> None:
    topic = new_topic(secure_cluster, uuid.uuid4().hex, copies=3)
    wrong = AdminClient(secure_cluster.options() | {"sasl.password": "wrong", "log_level": 0})
    with pytest.raises(KafkaException):
        wrong.list_topics(timeout=2)
    secure_cluster.brokers[0].kill()
    produce(secure_cluster, topic, b"by two")
    assert consume(secure_cluster, topic) == b"by two"


def test_debezium_carries_a_row_to_kafka_and_connect_keeps_the_connector(
    kafka: Kafka, connect: KafkaConnect, postgres: Postgres
) -> None:
    (plugin,) = ask(f"{connect.url}/connector-plugins")
    name = f"test{uuid.uuid4().hex}"
    topic = new_topic(kafka, f"{name}.public.seen")
    with psycopg.connect(postgres.start(), autocommit=True) as database:
        database.execute("CREATE TABLE seen AS SELECT 42 AS id")
    config = {
        "connector.class": plugin["class"],
        "plugin.name": "pgoutput",  # PostgreSQL's own
        "database.hostname": "127.0.0.1",
        "database.port": urlsplit(postgres.start()).port,
        "database.user": "broadcast",
        "database.dbname": "postgres",
        "topic.prefix": name,
    }
    ask(f"{connect.url}/connectors/{name}/config", config, "PUT")
    try:
        assert json.loads(consume(kafka, topic) or b"{}")["after"] == {"id": 42}
        connect.stop()
        assert left_of(connect) == []
        connect.start()
        assert name in ask(f"{connect.url}/connectors")
    finally:
        ask(f"{connect.start()}/connectors/{name}", method="DELETE")


def test_pushpin_passes_on_what_the_server_says_and_stops_as_a_whole(
    new_pushpin: NewPushpin, backend_port: int
) -> None:
    pushpin = new_pushpin(backend_port)
    with urlopen(pushpin.public_url, timeout=PATIENCE) as response:
        assert response.read() == b"hello"
    assert len(left_of(pushpin)) > 1
    pushpin.stop()
    wait_until(lambda: not left_of(pushpin), message="its processes ended")


def test_a_missing_program_is_a_comment_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.servers.__main__.SERVERS", [Kafka])
    monkeypatch.setenv("PATH", str(tmp_path))
    main("start")
    said = "# Kafka: no java found; apt-get install openjdk-17-jre-headless maven\n"
    assert capsys.readouterr().out == said
