from pathlib import Path

from tests.servers.java import Java
from tests.servers.programs import Daemon, answers, lasting_ports

OPTIONS = {
    "group.id": "connect",
    "config.storage.topic": "connect-configs",
    "offset.storage.topic": "connect-offsets",
    "status.storage.topic": "connect-status",
    "config.storage.replication.factor": -1,  # as many as the brokers make by default
    "offset.storage.replication.factor": -1,
    "status.storage.replication.factor": -1,
    "offset.storage.partitions": 1,
    "status.storage.partitions": 1,
    "offset.flush.interval.ms": 1000,
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "key.converter.schemas.enable": "false",
    "value.converter.schemas.enable": "false",
    "plugin.discovery": "service_load",  # not a scan of every class
    "scheduled.rebalance.max.delay.ms": 0,  # else a new worker waits five minutes for the old one
}


class KafkaConnect:
    """A worker that keeps connectors and offsets in Kafka, with Debezium's for PostgreSQL."""

    name = "Kafka Connect"
    variable = "DEBEZIUM_URL"

    def __init__(self, directory: Path, bootstrap_servers: str) -> None:
        self.java = Java("connect")
        self.directory = directory
        self.bootstrap_servers = bootstrap_servers
        self.worker = Daemon(directory)

    def start(self) -> str:
        """Start it unless it runs, and return the URL of its REST API."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self._port_file.exists():
            self._port_file.write_text(str(lasting_ports(1)[0]))
        options = OPTIONS | {"bootstrap.servers": self.bootstrap_servers, "listeners": self.url}
        properties = self.directory / "connect.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in options.items()))
        main = "org.apache.kafka.connect.cli.ConnectDistributed"
        self.worker.start(self.java.command(main, str(properties)), self.java.environment())
        self.worker.wait_until(lambda: answers(f"{self.url}/connectors"))
        return self.url

    def stop(self) -> None:
        self.worker.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port_file.read_text()}"

    @property
    def _port_file(self) -> Path:
        return self.directory / "port"
