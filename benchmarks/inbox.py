"""The inbox of a person among 2,658 broadcasts, 662 products and 10,000 subscribers.

Peers, in the same run: the same rows fetched by their primary keys, which no inbox can beat, and
the same page from one receipt a person and broadcast, as a design that fans out on write has them
(written here for the sample of people only).
"""

import io
import json
import random

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from benchmarks.reports import Report, Times, seconds, times
from broadcasts.advisories import entry
from broadcasts.demo import create_people
from broadcasts.importing import Import
from broadcasts.models import Broadcast, Receipt
from broadcasts.receipts import inbox_of

URL = "/api/user/messages"
PAGE = 50
SAMPLE = 200  # people


def run(*, quick: bool) -> Report:
    scale = 10 if quick else 1
    broadcasts, products, people = 2_658 // scale, 662 // scale, 10_000 // scale
    importing = seconds(lambda: import_advisories(broadcasts, products))
    create_people(people, subscriptions=20)
    sample = list(User.objects.order_by("pk")[:: people // SAMPLE])

    clients = signed_in(sample)
    pages = times(sample, page)
    answers = times(clients, lambda client: client.get(URL))
    keys = {user: [broadcast.pk for broadcast in page(user)] for user in sample}
    by_key = times(sample, lambda user: list(Broadcast.objects.filter(pk__in=keys[user])))
    receipts = fan_out(sample)
    fanned_out = times(sample, page_of_receipts)
    return Report(
        "inbox",
        {
            "broadcasts": broadcasts,
            "products": products,
            "people": people,
            "import_s": round(importing, 2),
            "page_queries": queries(lambda: page(sample[0])),
            "page_p50_ms": pages.p50,
            "page_p95_ms": pages.p95,
            "answer_queries": queries(lambda: clients[0].get(URL)),
            "answer_p50_ms": answers.p50,
            "answer_p95_ms": answers.p95,
            "by_primary_key_p50_ms": by_key.p50,
            "fanned_out_p50_ms": fanned_out.p50,
            "rows_that_fan_out_would_write": receipts * people // len(sample),
            "rows_written_instead": 2 * broadcasts,
        },
        {
            "page_to_primary_key": ratio(pages, by_key),
            "page_to_fanned_out": ratio(pages, fanned_out),
        },
    )


def import_advisories(count: int, packages: int) -> None:
    chance = random.Random(1)
    lines = []
    for number in range(count):
        name = f"package-{number if number < packages else chance.randrange(packages)}"
        advisory = {
            "id": f"GEN-{number}",
            "package": [name],
            "aliases": [f"CVE-0000-{number}"],
            "fixed_in": ["1.0"],
            "severity": [],
            "details": f"Advisory {number}. "
            + "A sentence of *usual* length about `something`. " * 12,
        }
        lines.append(json.dumps(advisory))
    file = io.BytesIO("\n".join(lines).encode())
    assert all(line.outcome != "refused" for line in Import(entry).run(file))


def page(user: User) -> list[Broadcast]:
    return list(inbox_of(user).order_by("-activated_at", "-id")[:PAGE])


def page_of_receipts(user: User) -> list[Receipt]:
    mine = Receipt.objects.filter(user=user, dismissed_at=None, broadcast__status="ACTIVE")
    mine = mine.exclude(broadcast__expires_at__lte=timezone.now())
    return list(
        mine.select_related("broadcast").order_by("-broadcast__activated_at", "-broadcast")[:PAGE]
    )


def fan_out(users: list[User]) -> int:
    ids = {user: list(inbox_of(user).values_list("pk", flat=True)) for user in users}
    rows = [Receipt(user=user, broadcast_id=pk) for user, pks in ids.items() for pk in pks]
    return len(Receipt.objects.bulk_create(rows, batch_size=1_000))


def signed_in(users: list[User]) -> list[Client]:
    clients = []
    for user in users:
        client = Client(headers={"host": settings.ALLOWED_HOSTS[0]})
        client.force_login(user)
        clients.append(client)
    assert clients[0].get(URL).status_code == 200
    return clients


def queries(action) -> int:
    with CaptureQueriesContext(connection) as captured:
        action()
    return len(captured)


def ratio(ours: Times, peer: Times) -> float:
    return round(ours.p50 / peer.p50, 2)
