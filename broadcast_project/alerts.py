"""What other apps tell becomes an alert of operations: neither knows of the other."""

from typing import Any

from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.urls import reverse

from deliveries.models import Endpoint
from deliveries.signals import endpoint_enabled, endpoint_given_up
from operations.admin import PAGES
from operations.models import Alert, Kind
from operations.services import raise_alert, resolve


@receiver(endpoint_given_up)
def alert_of_endpoint(endpoint: Endpoint, **_: Any) -> None:
    raise_alert(Kind.ENDPOINT, subject_of(endpoint), f"{endpoint}: {endpoint.reason}")


@receiver(endpoint_enabled)
def end_alert_of_endpoint(endpoint: Endpoint, **_: Any) -> None:
    open_ones = Alert.objects.open().filter(kind=Kind.ENDPOINT, subject=subject_of(endpoint))
    for alert in open_ones:
        resolve(alert)


@receiver(post_delete, sender=Endpoint)
def end_alert_of_deleted(instance: Endpoint, **_: Any) -> None:
    end_alert_of_endpoint(instance)


def subject_of(endpoint: Endpoint) -> str:
    return f"endpoint-{endpoint.pk}"


def page_of(subject: str) -> str:
    return reverse("admin:deliveries_endpoint_change", args=[subject.removeprefix("endpoint-")])


PAGES[Kind.ENDPOINT] = page_of
