"""What a first look needs: people, products, and broadcasts in every state. Never in production."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.utils import timezone

from broadcasts import approval_rules, approvals, rules, series, services
from broadcasts.advisories import entry
from broadcasts.importing import Import
from broadcasts.models import Approval, Audience, Broadcast, Product, Rule, Series, Status, Template
from broadcasts.receipts import mark_read, mark_seen
from outbox.models import Priority

EXCERPT = settings.BASE_DIR / "fixtures" / "advisories-excerpt.jsonl"
LAST = "demo-welcome"  # made last, so that it proves the rest
FIRST_OF_MANY = 11  # the fixture has user-001 to user-010
FIXTURE_PEOPLE = ["admin", *(f"user-{number:03}" for number in range(1, FIRST_OF_MANY))]
PASSWORD_OF_MANY = "demo"  # noqa: S105
BATCH = 1_000
TEMPLATES: list[dict[str, Any]] = [
    {
        "name": "Maintenance",
        "title": "{{ product }}: maintenance on {{ day }}",
        "content": "**{{ product }}** is read-only from {{ start }} to {{ end }}.",
        "translations": {
            "de": {
                "title": "{{ product }}: Wartung am {{ day }}",
                "content": "**{{ product }}** ist von {{ start }} bis {{ end }} nur lesbar.",
            }
        },
    },
    {
        "name": "Incident",
        "title": "{{ product }} is disturbed",
        "content": "Since {{ start }}: {{ what }}. We are looking into it.",
    },
]
SERIES: dict[str, Any] = {
    "title": "The week begins",
    "content": "What is planned stands in the [calendar](https://example.org/calendar).",
    "category": "organisation",
    "audience": Audience.ROLE,
    "targets": ["Moderators"],
    "cron": "0 9 * * mon",
    "zone": "Europe/Berlin",
    "life": "8h",
}
RULES: list[dict[str, Any]] = [
    {
        "name": "Empty shelves",
        "pattern": "foodfolio.variant.stock.empty",
        "title": "{{ item_name }} is used up",
        "content": "Nothing is left of {{ variant_name }}. Who goes past a shop?",
        "category": "pantry",
        "priority": Priority.LOW,
        "life": "1d",
        "cool_down": "8h",
        "per_key": True,
    },
    {
        "name": "New posts",
        "pattern": "blog.post.*",
        "conditions": [{"field": "published_at", "operator": "exists"}],
        "title": "New in the blog: {{ title }}",
        "content": f"[Read it]({settings.SITE_URL}/blog/{{{{ slug }}}})",
        "category": "news",
        "life": "7d",
        "cool_down": "1d",
        "per_key": True,
    },
]


def create() -> bool:
    """Make what is missing; False when nothing was."""
    if Broadcast.objects.filter(external_id=LAST).exists():
        return False
    call_command("loaddata", "demo", verbosity=0)
    for user in User.objects.filter(password=""):  # as the fixture has them
        user.set_password(user.username)
        user.save(update_fields=["password"])
    with EXCERPT.open("rb") as file:
        for _ in Import(entry).run(file):
            pass
    admin = User.objects.get(username="admin")
    for fields in TEMPLATES:
        Template.objects.get_or_create(name=fields["name"], defaults=fields)
    if not Series.objects.filter(title=SERIES["title"]).exists():
        series.start(admin, **SERIES)
    for fields in RULES:
        if not Rule.objects.filter(name=fields["name"]).exists():
            rules.create(Rule(**fields), admin)
    for fields in _broadcasts(timezone.now()):
        _send(admin, **fields)
    return True


def known_logins() -> list[str]:
    """Usernames of the demo whose password everybody knows; one stands for those of many."""
    one_of_many = f"user-{FIRST_OF_MANY:05}"
    passwords = {name: name for name in FIXTURE_PEOPLE} | {one_of_many: PASSWORD_OF_MANY}
    users = User.objects.filter(username__in=passwords, is_active=True).order_by("username")
    return [u.username for u in users if u.check_password(passwords[u.username])]


def create_people(count: int, subscriptions: int, *, seed: int = 1) -> int:
    """As many more users (user-00011, ...) at random products; how many were missing.

    They share one password, `demo`: hashing one for each would take half a minute a hundred.
    """
    chance = random.Random(seed)  # noqa: S311
    password = make_password(PASSWORD_OF_MANY)
    products = list(Product.objects.order_by("pk").values_list("pk", flat=True))
    everyone, _ = Group.objects.get_or_create(name="Users")
    made = 0
    for names in _names(count):
        there = set(User.objects.filter(username__in=names).values_list("username", flat=True))
        missing = [User(username=n, password=password) for n in names if n not in there]
        users = User.objects.bulk_create(missing)
        User.groups.through.objects.bulk_create(
            User.groups.through(user_id=user.pk, group_id=everyone.pk) for user in users
        )
        subscriber = Product.subscribers.through
        subscriber.objects.bulk_create(
            subscriber(user_id=user.pk, product_id=product)
            for user in users
            for product in chance.sample(products, min(subscriptions, len(products)))
        )
        made += len(users)
    return made


def _names(count: int) -> Iterator[list[str]]:
    numbers = range(FIRST_OF_MANY, FIRST_OF_MANY + count)
    for start in range(0, count, BATCH):
        yield [f"user-{number:05}" for number in numbers[start : start + BATCH]]


def _send(admin: User, external_id: str, end: str = "", **fields: Any) -> None:
    """Through the services, as an operator would; `end` is how its life has gone."""
    broadcast = Broadcast.objects.filter(external_id=external_id).first()
    if broadcast is None:
        broadcast = services.compose(admin, external_id=external_id, **fields)
    if end != "draft" and broadcast.status == Status.DRAFT:
        _approve(broadcast, admin)
        services.send(broadcast)
    if end == "expired" and broadcast.status == Status.ACTIVE:
        services.expire(broadcast)
    if end == "cancelled" and broadcast.status == Status.ACTIVE:
        services.cancel(broadcast, "Sent to the wrong people.")
    if end == "read":
        _read(broadcast)


def _approve(broadcast: Broadcast, admin: User) -> None:
    """As two people would, where the settings ask for it."""
    if not approval_rules.reasons(broadcast):
        return
    if broadcast.approval == Approval.NONE:
        approvals.request(broadcast, admin)
    if broadcast.approval == Approval.REQUESTED:
        approvals.approve(broadcast, User.objects.get(username="user-010"))


def _read(broadcast: Broadcast) -> None:
    """Some have read it and some have only seen it, so that its page has numbers."""
    people = list(User.objects.filter(username__in=["user-001", "user-002", "user-003"]))
    for user in people[:2]:
        mark_read(user, [broadcast.pk])
    for user in people[2:]:
        mark_seen(user, [broadcast.pk])


def _broadcasts(now: datetime) -> list[dict[str, Any]]:
    weekend = now + timedelta(days=3)
    some = User.objects.filter(username__in=["user-001", "user-004", "user-007"])
    return [
        {
            "external_id": "demo-draft",
            "end": "draft",
            "title": "Summer party",
            "content": "Place and date are *still open*.",
            "category": "organisation",
        },
        {
            "external_id": "demo-scheduled",
            "title": "Maintenance on the weekend",
            "content": "Payments will be **read-only** for an hour.",
            "category": "maintenance",
            "audience": Audience.PRODUCT,
            "targets": ["payments"],
            "scheduled_at": weekend,
            "expires_at": weekend + timedelta(hours=1),
        },
        {
            "external_id": "demo-expired",
            "end": "expired",
            "title": "Signing in is slow",
            "content": "We are looking into it.",
            "category": "incident",
            "priority": Priority.HIGH,
            "expires_at": now + timedelta(seconds=10),
        },
        {
            "external_id": "demo-cancelled",
            "end": "cancelled",
            "title": "Reports of last month",
            "content": "They are ready for download.",
            "category": "reports",
            "audience": Audience.PRODUCT,
            "targets": ["analytics"],
        },
        {
            "external_id": "demo-role",
            "title": "New house rules",
            "content": "1. Be kind.\n2. Say who you are.\n3. Close what you have answered.",
            "category": "organisation",
            "audience": Audience.ROLE,
            "targets": ["Moderators", "Administrators"],
            "requires_acknowledgement": True,
        },
        {
            "external_id": "demo-product",
            "title": "Refunds take longer today",
            "content": "A bank is late. See the [status page](https://example.org/status).",
            "category": "incident",
            "priority": Priority.URGENT,
            "reference": "INC-1042",
            "audience": Audience.PRODUCT,
            "targets": ["payments", "analytics"],
        },
        {
            "external_id": "demo-selected",
            "title": "Your desk moves",
            "content": "From Monday on you sit on the second floor.",
            "priority": Priority.LOW,
            "audience": Audience.SELECTED,
            "targets": [str(pk) for pk in some.values_list("pk", flat=True)],
        },
        {
            "external_id": LAST,
            "end": "read",
            "title": "Welcome",
            "content": "This is a **broadcast**. Write one in the admin: it appears here at once.",
            "category": "news",
        },
    ]
