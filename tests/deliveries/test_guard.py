import asyncio
import socket
import subprocess
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from deliveries.guard import Forbidden, check, resolve
from deliveries.models import Delivery, Endpoint, Status
from tests.conftest import skip_or_fail
from tests.deliveries.conftest import NewEndpoint, Send, deliver
from tests.deliveries.receiver import Server, answer, receiver
from tests.servers import MissingError


@pytest.fixture
def nothing_allowed(settings: Settings) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",  # carriers
        "100.100.100.200",  # a cloud's metadata
        "169.254.169.254",  # the others'
        "168.63.129.16",
        "192.0.0.192",
        "198.18.0.1",
        "192.88.99.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:93.184.215.14",
        "fe80::1",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::1",
        "2002:a00:1::",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
        "2001:db8::1",
    ],
)
@pytest.mark.usefixtures("nothing_allowed")
def test_what_lies_inside_is_forbidden(address: str) -> None:
    with pytest.raises(Forbidden, match="WEBHOOK_ALLOWED_NETWORKS"):
        check(ip_address(address))


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "64:ff9b::5db8:d70e"])
@pytest.mark.usefixtures("nothing_allowed")
def test_what_is_public_is_allowed(address: str) -> None:
    check(ip_address(address))


def test_the_environment_allows_networks_of_ones_own(settings: Settings) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = ["10.1.0.0/16", "fd00::/8"]
    check(ip_address("10.1.2.3"))
    check(ip_address("fd00::1"))
    with pytest.raises(Forbidden):
        check(ip_address("10.2.0.1"))


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost"])
@pytest.mark.usefixtures("nothing_allowed")
def test_another_spelling_of_an_address_hides_nothing(host: str) -> None:
    with pytest.raises((Forbidden, socket.gaierror)):
        asyncio.run(resolve(host, 80))


class Names:
    """A name server that answers otherwise each time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.answers = list(answers)
        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", self.look_up)

    async def look_up(self, host: str, port: int, **_: Any) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in self.answers.pop(0)
        ]


def outcome(endpoint: Endpoint, send: Send) -> Delivery:
    Endpoint.objects.update(not_before=None)
    (delivery,) = deliver()
    send()
    delivery.refresh_from_db()
    return delivery


@pytest.mark.django_db
def test_a_name_that_turns_inwards_on_the_second_look_gains_nothing(
    server: Server, new_endpoint: NewEndpoint, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.1 stands for outside here, and 127.0.0.2 for inside."""
    server.behaviours["/"] = answer(200, headers={"Connection": "close"})
    endpoint = new_endpoint(url=f"http://rebinding.example:{server.server_port}/")
    names = Names(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
    with receiver("127.0.0.2") as inside:
        Endpoint.objects.update(url=f"http://rebinding.example:{server.server_port}/")
        assert outcome(endpoint, send).status == Status.SUCCESS
        assert len(names.answers) == 1, "looked up once: what was checked is what is used"
        refused = outcome(endpoint, send)
        assert not inside.received
    assert refused.status == Status.RETRYING
    assert "127.0.0.2 is not a public address" in refused.error
    assert server.received[0].headers["Host"].startswith("rebinding.example:")


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Key and certificate of shop.example, which senders made from here on trust."""
    path = tmp_path / "shop.pem"
    name = ["-subj", "/CN=shop.example", "-addext", "subjectAltName=DNS:shop.example"]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(path)]
    try:
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", *name, *files]
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        skip_or_fail(MissingError("no openssl found; apt-get install openssl"))
    path.write_text(path.read_text() + (tmp_path / "key").read_text())
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "fits"), [("shop.example", True), ("other.example", False)])
def test_the_certificate_is_to_be_of_the_name_not_of_the_address(
    certificate: Path,
    new_endpoint: NewEndpoint,
    send: Send,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    fits: bool,
) -> None:
    Names(monkeypatch, ["127.0.0.1"])
    with receiver(certificate=certificate) as secure:
        endpoint = new_endpoint(url=f"https://{name}:{secure.server_port}/")
        delivery = outcome(endpoint, send)
        assert bool(secure.received) is fits
    assert delivery.status == (Status.SUCCESS if fits else Status.RETRYING)
    assert fits or "certificate" in delivery.error


@pytest.mark.django_db
def test_one_forbidden_address_among_several_is_enough(
    server: Server, new_endpoint: NewEndpoint, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = new_endpoint(url=f"http://mixed.example:{server.server_port}/")
    Names(monkeypatch, ["127.0.0.1", "10.0.0.1"])
    assert "10.0.0.1" in outcome(endpoint, send).error
    assert not server.received


@pytest.mark.django_db
def test_an_address_that_does_not_answer_is_followed_by_the_next(
    server: Server,
    new_endpoint: NewEndpoint,
    send: Send,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    endpoint = new_endpoint(url=f"http://several.example:{server.server_port}/")
    Names(monkeypatch, ["127.0.0.3", "127.0.0.1"])
    assert outcome(endpoint, send).status == Status.SUCCESS
