"""Rows for tests; whatever a service writes is written by the service."""

from typing import Any

import factory
from django.contrib.auth.models import Group, Permission, User
from django.utils import timezone

from broadcasts.models import Broadcast, Product
from broadcasts.services import compose, send
from outbox.models import DeadLetter, Event
from outbox.services import build_event


class UserFactory(factory.django.DjangoModelFactory[User]):
    class Meta:
        model = User

    username = factory.Sequence(lambda n: f"person-{n}")
    password = "!"  # nobody signs in by it: tests use `force_login`


class GroupFactory(factory.django.DjangoModelFactory[Group]):
    class Meta:
        model = Group

    name = factory.Sequence(lambda n: f"role-{n}")


class ProductFactory(factory.django.DjangoModelFactory[Product]):
    class Meta:
        model = Product

    slug = factory.Sequence(lambda n: f"product-{n}")
    name = factory.SelfAttribute("slug")


class DraftFactory(factory.Factory[Broadcast]):
    """A draft by `compose`, for everyone unless `audience` and `targets` say otherwise."""

    class Meta:
        model = Broadcast

    title = factory.Sequence(lambda n: f"Broadcast {n}")
    content = "The shop is **read-only** tonight."
    sender = None

    @classmethod
    def _create(cls, model_class: type[Broadcast], *args: Any, **fields: Any) -> Broadcast:
        return compose(fields.pop("sender"), **fields)


class ActiveFactory(DraftFactory):
    """Sent: ACTIVE, or SENT with `fire_and_forget`, or SCHEDULED with `scheduled_at`."""

    @classmethod
    def _create(cls, model_class: type[Broadcast], *args: Any, **fields: Any) -> Broadcast:
        return send(super()._create(model_class, **fields), allow_empty=True)


class DeadLetterFactory(factory.django.DjangoModelFactory[DeadLetter]):
    """A parked event and its dead letter, as the relay leaves them."""

    class Meta:
        model = DeadLetter

    source = DeadLetter.RELAY
    type = "link.expired"
    topic = "link"
    key = factory.Sequence(lambda n: f"link-{n}")
    payload = factory.LazyFunction(lambda: {"specversion": "1.0"})
    error = "the broker refused it"
    attempts = 5
    event_id = factory.LazyAttribute(lambda letter: parked_event(letter.type, letter.key).event_id)


def parked_event(kind: str, key: str) -> Event:
    event = build_event(kind, key, {"link": 1})
    event.parked_at = timezone.now()
    event.save()
    return event


def operator(*permissions: str) -> User:
    """Staff with permissions, named as `broadcasts.view_broadcast`."""
    user = UserFactory(is_staff=True)
    for permission in permissions:
        app, codename = permission.split(".")
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label=app, codename=codename)
        )
    return user
