"""The receipts of a broadcast as CSV, however many: a batch of them is in memory at a time."""

import csv
import io
from array import array
from collections.abc import AsyncIterator, Iterator
from datetime import datetime

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

from broadcasts.models import Broadcast, Receipt
from connections.hub import database_task

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
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
MARK = "\ufeff"  # by which a spreadsheet knows UTF-8


def export(request: HttpRequest, broadcast: Broadcast, *, mark: bool) -> StreamingHttpResponse:
    """A row a receipt; the header `X-Total-Count` says how many there will be."""
    ids = array("q", broadcast.receipts.order_by("pk").values_list("pk", flat=True).iterator())
    chunks = lines(ids, MARK if mark else "")
    served = in_threads(chunks) if isinstance(request, ASGIRequest) else chunks
    response = StreamingHttpResponse(served, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="broadcast-{broadcast.pk}.csv"'
    response["X-Total-Count"] = str(len(ids))
    response["Cache-Control"] = "no-store"
    return response


def lines(ids: "array[int]", mark: str = "") -> Iterator[str]:
    yield mark + as_csv([list(COLUMNS)])
    for start in range(0, len(ids), BATCH):
        rows = Receipt.objects.filter(pk__in=ids[start : start + BATCH]).order_by("pk")
        yield as_csv([list(map(cell, row)) for row in rows.values_list(*COLUMNS.values())])


def as_csv(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def cell(value: object) -> str:
    """Without what a spreadsheet would take for a formula: people choose their names."""
    if isinstance(value, datetime):
        return value.isoformat()
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


async def in_threads(chunks: Iterator[str]) -> AsyncIterator[str]:
    """Each in a thread that holds a database connection no longer than for it."""
    following = sync_to_async(database_task(lambda: next(chunks, None)))
    while (chunk := await following()) is not None:
        yield chunk
