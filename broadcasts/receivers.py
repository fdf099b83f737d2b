"""What broadcasts do about facts of other apps."""

from datetime import datetime
from typing import Any

from django.db.models.signals import m2m_changed, pre_delete
from django.dispatch import receiver

from broadcasts.models import Product
from broadcasts.receipts import record_deliveries
from broadcasts.services import mark_failed, mark_redriven, renew
from connections.receivers import cut_streams_of_members
from connections.signals import delivered
from outbox.models import Event
from outbox.signals import event_parked, event_redriven

PUBLISHING = {"broadcast.activated", "broadcast.sent"}


@receiver(event_parked)
def fail_broadcast_of_parked_event(event: Event, **_: Any) -> None:
    if event.type in PUBLISHING:
        mark_failed(event.data["broadcast_id"], event.error)


@receiver(event_redriven)
def revive_broadcast_of_redriven_event(event: Event, **_: Any) -> None:
    if event.type in PUBLISHING:
        mark_redriven(event.data["broadcast_id"])
    if event.type == "broadcast.sent":
        renew(event)


@receiver(delivered)
def record_deliveries_to_sockets(
    data: dict[str, Any], user_ids: set[int], at: datetime, **_: Any
) -> None:
    record_deliveries(data["broadcast_id"], user_ids, at)


@receiver(m2m_changed, sender=Product.subscribers.through)
def cut_streams_when_subscriptions_change(
    instance: Any, action: str, reverse: bool, pk_set: set[int] | None, **_: Any
) -> None:
    people = {instance.pk} if reverse else pk_set
    cut_streams_of_members(action, people, cleared=None if reverse else instance.subscribers)


@receiver(pre_delete, sender=Product)
def cut_streams_of_a_product_that_goes(instance: Product, **_: Any) -> None:
    cut_streams_of_members("pre_clear", None, cleared=instance.subscribers)
