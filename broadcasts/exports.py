"""The receipts of a broadcast as CSV."""

from array import array
from collections.abc import Iterator

from django.http import HttpRequest, StreamingHttpResponse

from broadcasts.models import Broadcast, Receipt
from jobs.exports import MARK, as_csv, attachment, cell

BATCH = 2_000
COLUMNS = {
    "user_id": "user_id",
    "username": "user__username",
    "first_name": "user__first_name",
    "last_name": "user__last_name",
    "status": "status",
    "delivered_at": "delivered_at",
    "seen_at": "seen_at",
    "read_at": "read_at",
    "acknowledged_at": "acknowledged_at",
    "dismissed_at": "dismissed_at",
}


def export(request: HttpRequest, broadcast: Broadcast, *, mark: bool) -> StreamingHttpResponse:
    """A row a receipt; the header `X-Total-Count` says how many there will be."""
    ids = array("q", broadcast.receipts.order_by("pk").values_list("pk", flat=True).iterator())
    chunks = lines(ids, MARK if mark else "")
    response = attachment(request, chunks, f"broadcast-{broadcast.pk}.csv", "text/csv")
    response["X-Total-Count"] = str(len(ids))
    return response


def lines(ids: "array[int]", mark: str = "") -> Iterator[str]:
    yield mark + as_csv([list(COLUMNS)])
    for start in range(0, len(ids), BATCH):
        rows = Receipt.objects.filter(pk__in=ids[start : start + BATCH]).order_by("pk")
        yield as_csv([list(map(cell, row)) for row in rows.values_list(*COLUMNS.values())])
