import json
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.servers.java import Java
from tests.servers.programs import Daemon, find_program, is_free, lasting_ports

Options = dict[str, str | int | float | bool]

CLUSTER_ID = "YnJvYWRjYXN0LXRlc3RzIQ"  # sixteen bytes; an own one would take a JVM to make
LISTENERS = ("CLIENT", "BROKER", "CONTROLLER")
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


class Kafka:
    """Brokers that are controllers, too (KRaft); stopped and started, they keep ports and data.

    `secure`: clients need TLS, trusting `ca`, and `username` with `password` (PLAIN or
    SCRAM-SHA-512).
    """

    name = "Kafka"
    variable = "KAFKA_BOOTSTRAP_SERVERS"
    username = "broadcast"
    password = "for-tests-only"

    def __init__(self, directory: Path, brokers: int = 1, *, secure: bool = False) -> None:
        self.java = Java("kafka")
        self.openssl = find_program("openssl", "openssl") if secure else None
        self.directory = directory
        self.secure = secure
        self.brokers = [Daemon(directory / f"broker-{node}") for node in range(1, brokers + 1)]
        self.ca = directory / "ca.pem"

    def start(self) -> str:
        """Start the brokers that do not run, and return the addresses of all."""
        if not self._ports_file.exists():
            self._create()
        for broker in self.brokers:
            command = self.java.command("kafka.Kafka", self._properties(broker))
            broker.start(command, self.java.environment())
        self._wait()
        return self.url

    def stop(self) -> None:
        for broker in self.brokers:  # all at once: the last ones need the others to say goodbye
            broker.send(signal.SIGTERM)
        for broker in self.brokers:
            broker.stop()

    @property
    def url(self) -> str:
        return ",".join(f"127.0.0.1:{ports[0]}" for ports in self._ports())

    def options(self) -> Options:
        """What a client of librdkafka is made with."""
        options: Options = {"bootstrap.servers": self.url}
        if self.secure:
            options |= {
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "PLAIN",
                "sasl.username": self.username,
                "sasl.password": self.password,
                "ssl.ca.location": str(self.ca),
            }
        return options

    @property
    def _ports_file(self) -> Path:
        return self.directory / "ports"

    def _ports(self) -> list[list[int]]:
        """Of each broker, those of its listeners."""
        ports: list[list[int]] = json.loads(self._ports_file.read_text())
        return ports

    @staticmethod
    def _properties(broker: Daemon) -> str:
        return str(broker.directory / "server.properties")

    def _create(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.secure:
            self._make_certificate()
        free = lasting_ports(len(LISTENERS) * len(self.brokers))
        ports = [free[i : i + len(LISTENERS)] for i in range(0, len(free), len(LISTENERS))]
        for node, broker in enumerate(self.brokers, start=1):
            broker.directory.mkdir(exist_ok=True)
            options = self._options(node, ports) | (self._secure_options() if self.secure else {})
            lines = [f"{name}={value}\n" for name, value in options.items()]
            Path(self._properties(broker)).write_text("".join(lines))
        self.java.environment()  # fetched once, not by each of the threads
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._format, self.brokers))
        self._ports_file.write_text(json.dumps(ports))

    def _format(self, broker: Daemon) -> None:
        arguments = ["--cluster-id", CLUSTER_ID, "--config", self._properties(broker)]
        arguments += ["--ignore-formatted"]  # when the first attempt was interrupted
        if self.secure:
            login = f"name={self.username},password={self.password}"
            arguments += ["--add-scram", f"SCRAM-SHA-512=[{login}]"]
        self.java.run("kafka.tools.StorageTool", "format", *arguments)

    def _options(self, node: int, ports: list[list[int]]) -> dict[str, object]:
        addresses = [f"127.0.0.1:{port}" for port in ports[node - 1]]
        voters = [
            f"{voter}@127.0.0.1:{voter_ports[-1]}" for voter, voter_ports in enumerate(ports, 1)
        ]
        copies = min(3, len(ports))
        return {
            "process.roles": "broker,controller",
            "node.id": node,
            "controller.quorum.voters": ",".join(voters),
            "listeners": ",".join(map("://".join, zip(LISTENERS, addresses, strict=True))),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in LISTENERS),
            "inter.broker.listener.name": "BROKER",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.brokers[node - 1].directory / "data",
            "auto.create.topics.enable": "false",
            "default.replication.factor": copies,
            "min.insync.replicas": min(2, copies),
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": min(2, copies),
            "transaction.state.log.num.partitions": 1,
            "group.initial.rebalance.delay.ms": 0,
            "broker.session.timeout.ms": 3000,  # a broker that was killed is missed this soon
            "broker.heartbeat.interval.ms": 500,
            "log.cleaner.dedupe.buffer.size": 4_194_304,  # else a third of the heap
        }

    def _secure_options(self) -> dict[str, object]:
        client = "listener.name.client"
        protocols = "CLIENT:SASL_SSL,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT"
        plain = f'{PLAIN} required user_{self.username}="{self.password}";'
        return {
            "listener.security.protocol.map": protocols,
            f"{client}.ssl.keystore.type": "PEM",
            f"{client}.ssl.keystore.location": self.directory / "server.pem",
            f"{client}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            f"{client}.plain.sasl.jaas.config": plain,
            f"{client}.scram-sha-512.sasl.jaas.config": f"{SCRAM} required;",
        }

    def _make_certificate(self) -> None:
        """One that signs itself, so that whoever trusts it needs no other."""
        key = self.directory / "key.pem"
        arguments = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"]
        arguments += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        arguments += ["-keyout", str(key), "-out", str(self.ca)]
        subprocess.run([str(self.openssl), *arguments], check=True, capture_output=True)
        (self.directory / "server.pem").write_text(key.read_text() + self.ca.read_text())

    def _wait(self) -> None:
        from confluent_kafka import KafkaException  # to stop needs no more than Python
        from confluent_kafka.admin import AdminClient

        client = AdminClient(self.options() | {"reconnect.backoff.max.ms": 100, "log_level": 0})

        def all_answer() -> bool:
            # The cluster lists a broker that was killed for some seconds more: hence the ports.
            if any(is_free(client_port) for client_port, *_others in self._ports()):
                return False
            try:
                return len(client.list_topics(timeout=1).brokers) == len(self.brokers)
            except KafkaException:
                return False

        for broker in self.brokers:
            broker.wait_until(all_answer)
