"""`compose.yaml` and `Dockerfile` are read, not run: the machines that test have no Docker."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from django.core.management import get_commands

from broadcast_project.health import PROBES
from tests.servers import CHECKOUT
from tests.test_docs import rows

COMPOSE = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OWN = {name: service for name, service in SERVICES.items() if "build" in service}
PROFILES = {"connect", "pushpin"}

IMAGE = re.compile(r"[a-z]+(/[a-z]+)?:\d[\w.-]*")  # a number, not a word like latest


def images() -> list[str]:
    bases = re.findall(r"^FROM (\S+)", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)
    return [*bases, *(service["image"] for service in SERVICES.values())]


@pytest.mark.parametrize("image", images())
def test_an_image_has_a_version(image: str) -> None:
    assert IMAGE.fullmatch(image)


def test_the_project_runs_as_its_processes_after_one_migration() -> None:
    assert set(OWN) == {"web", "relay", "qcluster", "migrate"}
    for name, service in OWN.items():
        assert service["command"][0] == name
        assert name in get_commands()
        assert name == "migrate" or "migrate" in service["depends_on"]


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_variable_of_the_project_is_described(name: str) -> None:
    assert set(OWN[name]["environment"]) <= set(rows("settings.md"))


def test_what_a_developer_may_set_is_described() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (CHECKOUT / "compose.yaml").read_text()))
    assert asked <= set(rows("settings.md"))


@pytest.mark.parametrize(
    ("variable", "host", "port"),
    [("DATABASE_URL", "postgres", 5432), ("REDIS_URL", "redis", 6379)],
)
def test_an_address_is_that_of_a_service_that_always_runs(
    variable: str, host: str, port: int
) -> None:
    url = urlsplit(OWN["web"]["environment"][variable])
    assert (url.hostname, url.port) == (host, port)
    assert "profiles" not in SERVICES[host]


def test_the_database_is_asked_as_it_was_made() -> None:
    url = urlsplit(OWN["web"]["environment"]["DATABASE_URL"])
    made = SERVICES["postgres"]["environment"]
    assert url.username == made["POSTGRES_USER"]
    assert url.password == made["POSTGRES_PASSWORD"]
    assert url.path == f"/{made['POSTGRES_DB']}"


def test_clients_of_kafka_use_the_address_that_it_gives_them() -> None:
    kafka = SERVICES["kafka"]["environment"]
    address = OWN["web"]["environment"]["KAFKA_BOOTSTRAP_SERVERS"]
    assert kafka["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{address}"
    assert SERVICES["connect"]["environment"]["BOOTSTRAP_SERVERS"] == address


def test_pushpin_leads_to_the_port_of_web() -> None:
    command = OWN["web"]["command"]
    assert f"--route=* web:{command[command.index('--port') + 1]}" in SERVICES["pushpin"]["command"]


def test_what_is_not_always_needed_has_a_profile() -> None:
    assert {name for name, service in SERVICES.items() if "profiles" in service} == PROFILES


def test_ports_are_open_to_this_machine_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_what_is_waited_for_as_healthy_tells_its_health() -> None:
    awaited = {
        name
        for service in SERVICES.values()
        for name in service.get("depends_on", [])
        if "service_healthy" in str(service["depends_on"][name])
    }
    assert awaited
    assert all("healthcheck" in SERVICES[name] for name in awaited)


def test_the_probe_of_web_asks_an_address_that_there_is() -> None:
    asked = str(SERVICES["web"]["healthcheck"])
    assert set(re.findall(r"http://127\.0\.0\.1:8000(/\w+)", asked)) < set(PROBES)


def test_the_image_has_no_probe() -> None:
    """Relay and qcluster listen on no port: who runs them by it would take them for dead."""
    assert "HEALTHCHECK" not in (CHECKOUT / "Dockerfile").read_text()


def test_the_container_is_not_root() -> None:
    assert re.search(r"^USER (?!root)\w+$", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)
