"""Verbs on endpoints and deliveries; admin, API, workers and jobs call them."""

import json
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from deliveries.models import (
    Delivery,
    DeliveryQuerySet,
    Endpoint,
    Retry,
    State,
    Status,
    Tally,
    new_secret,
)
from deliveries.signals import endpoint_enabled, endpoint_given_up
from jobs import clock
from jobs.acting import did, differences
from jobs.leases import fenced
from jobs.progress import advance
from jobs.transitions import InvalidTransition as InvalidTransition
from jobs.wake import notify
from outbox.consumers import Envelope
from outbox.models import Priority
from outbox.services import emit

DELIVERIES = "deliveries"  # the channel that wakes the sender
TEST = "webhook.test"
BATCH = 5_000
ANEW: dict[str, Any] = {"failures": 0, "failing_since": None, "not_before": None}


@transaction.atomic
def collect(envelopes: list[Envelope]) -> None:
    """One delivery for each event and each endpoint that wants it; again changes nothing.

    What is told to a large audience in several events is one fact to an endpoint.
    """
    endpoints = list(Endpoint.objects.collecting())
    if not endpoints:
        return
    now = clock.now()
    wanted = [
        build_delivery(endpoint, envelope, now)
        for envelope in envelopes
        if "part" not in envelope
        for endpoint in endpoints
        if endpoint.wants(envelope["type"])
    ]
    if wanted:
        Delivery.objects.bulk_create(wanted, batch_size=500, ignore_conflicts=True)
        notify(DELIVERIES)


def build_delivery(endpoint: Endpoint, envelope: Envelope, due: datetime) -> Delivery:
    return Delivery(
        endpoint=endpoint,
        event_id=uuid.UUID(envelope["id"]),
        type=envelope["type"],
        key=envelope["subject"],
        body=json.dumps(envelope, separators=(",", ":")),
        next_attempt_at=due,
    )


@transaction.atomic
def send_test(endpoint: Endpoint) -> Delivery:
    """An event of its own for this endpoint alone, whatever its patterns."""
    envelope = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": settings.EVENT_SOURCE,
        "type": TEST,
        "subject": f"endpoint-{endpoint.pk}",
        "time": timezone.now().isoformat(),
        "datacontenttype": "application/json",
        "data": {"endpoint_id": endpoint.pk, "message": "This is a test."},
    }
    delivery = build_delivery(endpoint, envelope, clock.now())
    delivery.save()
    did("endpoint.tested", endpoint)
    notify(DELIVERIES)
    return delivery


@transaction.atomic
def edit(endpoint: Endpoint, **fields: Any) -> None:
    """Write these fields alone: what senders wrote meanwhile stays.

    At another address the circuit starts anew.
    """
    stored = Endpoint.objects.get(pk=endpoint.pk)
    changes = differences({name: getattr(stored, name) for name in fields}, fields)
    if "url" in changes:  # that of Discord is a secret
        changes["url"] = ["…", "…"]
    if changes:
        did("endpoint.changed", endpoint, changes=changes)
    if "url" in fields:
        fields |= ANEW
    Endpoint.objects.filter(pk=endpoint.pk).update(**fields)
    for name, value in fields.items():
        setattr(endpoint, name, value)
    notify(DELIVERIES)


@transaction.atomic
def rotate_secret(endpoint: Endpoint) -> str:
    """A new secret; those before it sign as well until WEBHOOK_SECRET_OVERLAP has passed."""
    row = Endpoint.objects.select_for_update().get(pk=endpoint.pk)
    now = clock.now()
    until = (now + settings.WEBHOOK_SECRET_OVERLAP).isoformat()
    old = [
        {"value": value, "until": _until(row, value) or until} for value in row.signing_secrets(now)
    ]
    endpoint.secrets = [{"value": new_secret(), "until": None}, *old]
    Endpoint.objects.filter(pk=row.pk).update(secrets=endpoint.secrets)
    did("endpoint.secret_rotated", endpoint)
    return str(endpoint.secrets[0]["value"])


def show_secrets(endpoint: Endpoint) -> list[str]:
    """Those that sign now, the newest first; it is noted who saw them."""
    did("endpoint.secret_shown", endpoint)
    return endpoint.signing_secrets(timezone.now())


def _until(endpoint: Endpoint, value: str) -> str | None:
    until: str | None = next(s["until"] for s in endpoint.secrets if s["value"] == value)
    return until


@transaction.atomic
def pause(endpoint: Endpoint) -> None:
    """Events are collected, and wait until it is resumed."""
    _move(endpoint, [State.ACTIVE], State.PAUSED)
    did("endpoint.paused", endpoint)


@transaction.atomic
def enable(endpoint: Endpoint) -> None:
    """From paused or disabled; its circuit starts anew, and what waited goes out."""
    was_disabled = endpoint.state == State.DISABLED
    _move(endpoint, [State.PAUSED, State.DISABLED], State.ACTIVE, **ANEW)
    if was_disabled:
        emit("endpoint.enabled", f"endpoint-{endpoint.pk}", facts(endpoint))
        endpoint_enabled.send(Endpoint, endpoint=endpoint)
    did("endpoint.enabled", endpoint)
    notify(DELIVERIES)


@transaction.atomic
def disable(endpoint: Endpoint, reason: str) -> None:
    """Nothing is collected for it any more; what waits stays until it is enabled."""
    _move(endpoint, [State.ACTIVE, State.PAUSED], State.DISABLED, reason=reason)
    emit(
        "endpoint.disabled",
        f"endpoint-{endpoint.pk}",
        facts(endpoint),
        priority=Priority.HIGH,
    )
    did("endpoint.disabled", endpoint, reason=reason)


@transaction.atomic
def give_up(endpoint: Endpoint, reason: str) -> None:
    """Disable one that does not want or take anything; whoever listens alerts operators."""
    disable(endpoint, reason)
    endpoint_given_up.send(Endpoint, endpoint=endpoint)


def _move(endpoint: Endpoint, before: list[State], after: State, **fields: Any) -> None:
    fields = {"reason": ""} | fields | {"state": after}
    if not Endpoint.objects.filter(pk=endpoint.pk, state__in=before).update(**fields):
        endpoint.refresh_from_db(fields=["state"])
        raise InvalidTransition(f"{endpoint} is {endpoint.get_state_display()} already.")
    for name, value in fields.items():
        setattr(endpoint, name, value)


def delete_endpoint(endpoint: Endpoint) -> None:
    """With its deliveries, in batches; it collects and sends nothing from here on."""
    Endpoint.objects.filter(pk=endpoint.pk).update(state=State.DISABLED)
    delete_in_batches(Delivery.objects.filter(endpoint=endpoint))
    endpoint.delete()


def facts(endpoint: Endpoint) -> dict[str, Any]:
    """What an event tells of it; its address may be a secret (Discord's is)."""
    return {
        "endpoint_id": endpoint.pk,
        "name": endpoint.name,
        "kind": endpoint.kind,
        "reason": endpoint.reason,
    }


def retry(deliveries: DeliveryQuerySet, what: str, by: str) -> Retry:
    """Send what is finished once more, with as many attempts as the first time.

    In batches, so that a whole time range holds no lock for long. Where nothing is finished, the
    retry that comes back counts 0 and has no row.
    """
    finished = deliveries.filter(next_attempt_at=None)
    ids = list(finished.order_by("id").values_list("pk", flat=True))
    made = Retry(what=what[:300], by=by, created_at=clock.now())
    if ids:
        with transaction.atomic():
            made.save()
            did("delivery.retried", made, what=made.what, count=len(ids))
    for start in range(0, len(ids), BATCH):
        with transaction.atomic():
            made.count += Delivery.objects.filter(
                pk__in=ids[start : start + BATCH], next_attempt_at=None
            ).update(
                status=Status.RETRYING,
                next_attempt_at=clock.now(),
                forgiven=F("attempts"),
                completed_at=None,
                retry=made,
            )
            made.save(update_fields=["count"])
            notify(DELIVERIES)
    return made


def bury(kind: str, age: timedelta) -> int:
    """End what has waited so long at endpoints that are paused or disabled; how many."""
    waited = Delivery.objects.due(clock.now() - age).filter(endpoint__kind=kind)
    held = waited.exclude(endpoint__state=State.ACTIVE)
    buried = 0
    while ids := list(held.order_by("id").values_list("pk", flat=True)[:BATCH]):
        with fenced():
            now = clock.now()
            count = held.filter(pk__in=ids).update(
                status=Status.DEAD,
                next_attempt_at=None,
                completed_at=now,
                claimed_by="",
                error=f"Its endpoint was paused or disabled for {age.days} days.",
            )
            Tally.objects.add(kind, dead=count)
        advance(len(ids))
        buried += count
    return buried


def delete_in_batches(deliveries: DeliveryQuerySet) -> int:
    """With their attempts; under the lease of the job that asks."""
    deleted = 0
    while ids := list(deliveries.order_by("id").values_list("pk", flat=True)[:BATCH]):
        with fenced():
            Delivery.objects.filter(pk__in=ids).delete()
        advance(len(ids))
        deleted += len(ids)
    return deleted
