"""Rows as files, however many: a batch of them is in memory at a time."""

import csv
import io
from collections.abc import AsyncIterator, Iterator
from datetime import datetime

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import close_old_connections
from django.http import HttpRequest, StreamingHttpResponse

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
MARK = "\ufeff"  # by which a spreadsheet knows UTF-8


def attachment(
    request: HttpRequest, chunks: Iterator[str], name: str, content_type: str
) -> StreamingHttpResponse:
    served = in_threads(chunks) if isinstance(request, ASGIRequest) else chunks
    response = StreamingHttpResponse(served, content_type=f"{content_type}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response


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

    def following() -> str | None:
        close_old_connections()
        try:
            return next(chunks, None)
        finally:
            close_old_connections()

    ask = sync_to_async(following)
    while (chunk := await ask()) is not None:
        yield chunk
