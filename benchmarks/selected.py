"""A broadcast to 100,000 selected people: from IN_PROGRESS to ACTIVE, and its end.

Peer, in the same run: a receipt saved for one person after the other, on a sample.
"""

import tracemalloc

from django.contrib.auth.models import User
from django.db import transaction

from benchmarks.reports import Report, seconds
from broadcasts.models import Audience, Broadcast, Receipt
from broadcasts.services import CHUNK, activate, cancel, compose, send

SAMPLE = 2_000  # people


def run(*, quick: bool) -> Report:
    people = 10_000 if quick else 100_000
    users = (User(username=f"selected-{number:06}") for number in range(people))
    User.objects.bulk_create(users, batch_size=CHUNK)
    targets = [str(pk) for pk in User.objects.values_list("pk", flat=True)]

    first = prepare(targets)
    activation = seconds(lambda: activate(first))
    first.refresh_from_db()
    assert (first.status, first.receipts.count()) == ("ACTIVE", people)
    cancelling = seconds(lambda: cancel(first))
    peak = peak_of_activation(prepare(targets))
    sample = targets[:SAMPLE]
    naive = seconds(lambda: save_each(sample)) / SAMPLE * people
    return Report(
        "selected",
        {
            "people": people,
            "activation_s": round(activation, 2),
            "rows_per_s": round(people / activation),
            "peak_mb": round(peak, 1),
            "cancelling_s": round(cancelling, 2),
            "row_by_row_estimated_s": round(naive, 2),
        },
        {"row_by_row_to_activation": round(naive / activation, 1)},
    )


def prepare(targets: list[str]) -> Broadcast:
    fields = {"title": "To many", "content": "Some *text*.", "audience": Audience.SELECTED}
    broadcast = send(compose(None, targets=targets, **fields))
    assert broadcast.status == "IN_PROGRESS"
    return Broadcast.objects.get(pk=broadcast.pk)


def peak_of_activation(broadcast: Broadcast) -> float:
    """MB, with the targets that it reads."""
    tracemalloc.start()
    activate(Broadcast.objects.get(pk=broadcast.pk))
    peak = tracemalloc.get_traced_memory()[1] / 1_048_576
    tracemalloc.stop()
    return peak


def save_each(targets: list[str]) -> None:
    """In one transaction, so that the peer does not pay for a commit a row."""
    broadcast = compose(None, title="Row by row", audience=Audience.SELECTED, targets=targets)
    with transaction.atomic():
        for pk in targets:
            Receipt(broadcast=broadcast, user_id=int(pk)).save()
