"""What other apps tell becomes an alert of operations: neither knows of the other."""

from typing import Any

from django.dispatch import receiver

from deliveries.models import Endpoint
from deliveries.signals import endpoint_enabled, endpoint_given_up
from operations.models import Alert
from operations.services import raise_alert, resolve

ENDPOINT = "ENDPOINT"  # none of the kinds that ALERT_CHECK resolves by itself


@receiver(endpoint_given_up)
def alert_of_endpoint(endpoint: Endpoint, **_: Any) -> None:
    raise_alert(ENDPOINT, f"endpoint-{endpoint.pk}", f"{endpoint}: {endpoint.reason}")


@receiver(endpoint_enabled)
def end_alert_of_endpoint(endpoint: Endpoint, **_: Any) -> None:
    for alert in Alert.objects.open().filter(kind=ENDPOINT, subject=f"endpoint-{endpoint.pk}"):
        resolve(alert)
