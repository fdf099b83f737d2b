"""What is signed here is verified by the published libraries of Standard Webhooks."""

import hashlib
import hmac
import json
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings
from standardwebhooks import Webhook, WebhookVerificationError

from deliveries import services
from deliveries.models import Endpoint, new_secret
from tests.conftest import skip_or_fail
from tests.deliveries.conftest import NewEndpoint, Send, deliver
from tests.deliveries.receiver import Received, Server
from tests.npm import node
from tests.servers import MissingError

pytestmark = pytest.mark.django_db

JAVASCRIPT = Path(__file__).parent / "javascript"


@pytest.fixture(autouse=True)
def endpoint(new_endpoint: NewEndpoint) -> Endpoint:
    return new_endpoint()


@pytest.fixture
def received(send: Send, server: Server, endpoint: Endpoint) -> Received:
    deliver()
    send()
    return server.received[-1]


def current(endpoint: Endpoint) -> str:
    endpoint.refresh_from_db()
    return str(endpoint.secrets[0]["value"])


@pytest.fixture(scope="session")
def javascript() -> list[str]:
    """The command that asks the published library of JavaScript."""
    try:
        return node(JAVASCRIPT, "verify.js")
    except MissingError as missing:
        skip_or_fail(missing)


def verified_in_javascript(command: list[str], received: Received, secret: str) -> str:
    """What the library says."""
    given = {"secret": secret, "body": received.body, "headers": received.headers}
    ran = subprocess.run(
        command, input=json.dumps(given), capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


def test_python_verifies_it(received: Received, endpoint: Endpoint) -> None:
    event = Webhook(current(endpoint)).verify(received.body, received.headers)
    assert event["type"] == "link.expired"
    with pytest.raises(WebhookVerificationError):
        Webhook(current(endpoint)).verify(received.body + " ", received.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(received.body, received.headers)


def test_javascript_verifies_it(
    javascript: list[str], received: Received, endpoint: Endpoint
) -> None:
    event = json.loads(verified_in_javascript(javascript, received, current(endpoint)))
    assert event["type"] == "link.expired"
    verdict = verified_in_javascript(javascript, received, new_secret())
    assert verdict == "WebhookVerificationError"


def test_javascript_verifies_each_secret_while_they_rotate(
    javascript: list[str], send: Send, server: Server, endpoint: Endpoint
) -> None:
    secrets = [current(endpoint), services.rotate_secret(endpoint)]
    deliver()
    send()
    for secret in secrets:
        assert "link.expired" in verified_in_javascript(javascript, server.received[-1], secret)


def test_older_receivers_find_the_headers_that_they_know(
    received: Received, endpoint: Endpoint
) -> None:
    key = current(endpoint).encode()
    digest = hmac.new(key, received.body.encode(), hashlib.sha256).hexdigest()
    delivery = endpoint.deliveries.get()
    assert {
        "X-Webhook-Event": "link.expired",
        "X-Webhook-Delivery": str(delivery.pk),
        "X-Webhook-Attempt": "1",
        "X-Webhook-Timestamp": received.headers["webhook-timestamp"],
        "X-Webhook-Signature": digest,
        "X-Webhook-Signature-256": f"sha256={digest}",
    }.items() <= received.headers.items()


def test_while_secrets_rotate_each_of_them_verifies(
    send: Send, server: Server, endpoint: Endpoint
) -> None:
    secrets = [current(endpoint), *(services.rotate_secret(endpoint) for _ in range(2))]
    deliver()
    send()
    (received,) = server.received
    assert len(set(secrets)) == len(received.headers["webhook-signature"].split()) == 3
    for secret in secrets:
        Webhook(secret).verify(received.body, received.headers)


def test_after_the_overlap_only_the_new_secret_signs(
    send: Send, server: Server, endpoint: Endpoint, settings: Settings
) -> None:
    old = current(endpoint)
    settings.WEBHOOK_SECRET_OVERLAP = timedelta(seconds=-1)
    new = services.rotate_secret(endpoint)
    deliver()
    send()
    (received,) = server.received
    Webhook(new).verify(received.body, received.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(received.body, received.headers)


def test_a_further_rotation_lets_no_secret_live_longer(endpoint: Endpoint) -> None:
    services.rotate_secret(endpoint)
    first = endpoint.secrets[1]
    services.rotate_secret(endpoint)
    assert endpoint.secrets[2] == first
    assert len(endpoint.signing_secrets(timezone.now())) == 3
    assert len(endpoint.signing_secrets(timezone.now() + timedelta(days=2))) == 1
