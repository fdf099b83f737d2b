"""Rows for tests; whatever a service writes is written by the service."""

from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.utils import timezone
from factory.base import Factory
from factory.declarations import LazyAttribute, LazyFunction, SelfAttribute, Sequence
from factory.django import DjangoModelFactory

from broadcasts.models import Broadcast, Product
from broadcasts.services import compose, send
from outbox.models import DeadLetter, Event
from outbox.services import build_event


class UserFactory(DjangoModelFactory[User]):
    class Meta:
        model = User

    username = Sequence(lambda n: f"person-{n}")
    password = "!"  # nobody signs in by it: tests use `force_login`


class GroupFactory(DjangoModelFactory[Group]):
    class Meta:
        model = Group

    name = Sequence(lambda n: f"role-{n}")


class ProductFactory(DjangoModelFactory[Product]):
    class Meta:
        model = Product

    slug = Sequence(lambda n: f"product-{n}")
    name = SelfAttribute("slug")


class DraftFactory(Factory[Broadcast]):
    """A draft by `compose`, for everyone unless `audience` and `targets` say otherwise."""

    class Meta:
        model = Broadcast

    title = Sequence(lambda n: f"Broadcast {n}")
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


class DeadLetterFactory(DjangoModelFactory[DeadLetter]):
    """A parked event and its dead letter, as the relay leaves them."""

    class Meta:
        model = DeadLetter

    source = DeadLetter.RELAY
    type = "link.expired"
    topic = "link"
    key = Sequence(lambda n: f"link-{n}")
    payload = LazyFunction(lambda: {"specversion": "1.0"})
    error = "the broker refused it"
    attempts = 5
    event_id = LazyAttribute(lambda letter: parked_event(letter.type, letter.key).event_id)


def parked_event(kind: str, key: str) -> Event:
    event = build_event(kind, key, {"link": 1})
    event.parked_at = timezone.now()
    event.save()
    return event


def operator(*permissions: str) -> User:
    """Staff with permissions, named as `broadcasts.view_broadcast`."""
    user = UserFactory.create(is_staff=True)
    for permission in permissions:
        app, codename = permission.split(".")
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label=app, codename=codename)
        )
    return user
