"""The operators: a process of the project that composes, sends and cancels as planned.

`manage.py shell --command "from tests.chaos.operators import work; work()"`, with the plan in
VAR_DIR. Whoever is told that the database is away looks what has become of it, and tries again.
"""

import heapq
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import Group, User
from django.contrib.sessions.backends.db import SessionStore
from django.db import InterfaceError, OperationalError, connection

from broadcasts.models import Broadcast, Product, Status
from broadcasts.services import InvalidTransition, cancel, compose, send
from jobs import clock
from tests.chaos.plan import PRODUCTS, ROLES, Planned

Verb = Callable[[Planned], None]

OPERATORS = 3  # who work at the same time
PAUSE = 0.2  # seconds
PEOPLE, PLAN = "people.json", "plan.json"


def settle() -> None:
    """Make the people, what they belong to and their sessions; write down what became known."""
    path = Path(settings.VAR_DIR / PEOPLE)
    people = json.loads(path.read_text())
    users = User.objects.bulk_create(
        User(username=f"reader-{n}", password="!") for n in range(len(people))
    )
    roles = {name: Group.objects.create(name=name) for name in ROLES}
    products = {slug: Product.objects.create(slug=slug, name=slug) for slug in PRODUCTS}
    both = list(zip(users, people, strict=True))
    # Past the signals, which would tell each of them that its permissions have changed.
    User.groups.through.objects.bulk_create(
        User.groups.through(user=user, group=roles[name])
        for user, person in both
        for name in person["roles"]
    )
    Product.subscribers.through.objects.bulk_create(
        Product.subscribers.through(user=user, product=products[slug])
        for user, person in both
        for slug in person["products"]
    )
    for user, person in both:
        person["pk"] = user.pk
        if person["tabs"]:
            session = SessionStore()
            session[SESSION_KEY] = str(user.pk)
            session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
            session[HASH_SESSION_KEY] = user.get_session_auth_hash()
            session.create()
            person["session"] = session.session_key
    path.write_text(json.dumps(people))


def work() -> None:
    planned = [Planned(**item) for item in json.loads(Path(settings.VAR_DIR / PLAN).read_text())]
    begun = time.monotonic()
    with ThreadPoolExecutor(OPERATORS) as operators:
        list(operators.map(lambda n: follow(planned[n::OPERATORS], begun), range(OPERATORS)))


def follow(planned: list[Planned], begun: float) -> None:
    todo: list[tuple[float, int, Verb, Planned]] = [
        (item.at, number, put_out, item) for number, item in enumerate(planned)
    ]
    heapq.heapify(todo)
    while todo:
        at, number, verb, item = heapq.heappop(todo)
        time.sleep(max(0, begun + at - time.monotonic()))
        persist(verb, item)
        if verb is put_out and item.cancelled_after is not None:
            after = time.monotonic() - begun + item.cancelled_after
            heapq.heappush(todo, (after, number, call_off, item))
    connection.close()


def persist(verb: Verb, item: Planned) -> None:
    while True:
        try:
            verb(item)
        except (OperationalError, InterfaceError) as error:
            print(item.reference, verb.__name__, str(error).strip(), flush=True)
            connection.close()
            time.sleep(PAUSE)
        else:
            return


def put_out(item: Planned) -> None:
    broadcast = Broadcast.objects.filter(reference=item.reference).first()
    if broadcast is None:
        now = clock.now()
        broadcast = compose(
            None,
            title=f"Number {item.reference}",
            reference=item.reference,
            audience=item.audience,
            targets=item.targets,
            priority=item.priority,
            scheduled_at=later(now, item.delay),
            expires_at=later(now, item.expires_after),
        )
    if broadcast.status == Status.DRAFT:
        send(broadcast)


def later(now: datetime, seconds: float | None) -> datetime | None:
    return None if seconds is None else now + timedelta(seconds=seconds)


def call_off(item: Planned) -> None:
    try:
        cancel(Broadcast.objects.get(reference=item.reference), "chaos")
    except InvalidTransition:
        pass  # it was, although the answer was lost
