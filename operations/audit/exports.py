"""Audit entries as CSV or JSON lines, the newest first."""

import json
from collections.abc import Iterator

from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest, StreamingHttpResponse

from jobs.exports import MARK, as_csv, attachment, cell
from operations.audit.models import AuditEntry, AuditEntryQuerySet

BATCH = 2_000
COLUMNS = [
    "id",
    "at",
    "action",
    "person",
    "user_id",
    "door",
    "via",
    "address",
    "subject_type",
    "subject_id",
    "subject",
    "correlation_id",
    "detail",
]
TYPES = {"csv": "text/csv", "jsonl": "application/x-ndjson"}


def export(request: HttpRequest, rows: AuditEntryQuerySet, kind: str) -> StreamingHttpResponse:
    """Of these entries; those that come meanwhile are not among them."""
    chunks = csv_of(rows) if kind == "csv" else lines_of(rows)
    return attachment(request, chunks, f"audit.{kind}", TYPES[kind])


def csv_of(rows: AuditEntryQuerySet) -> Iterator[str]:
    yield MARK + as_csv([COLUMNS])
    for batch in batches(rows):
        yield as_csv([[_cell(name, entry) for name in COLUMNS] for entry in batch])


def lines_of(rows: AuditEntryQuerySet) -> Iterator[str]:
    for batch in batches(rows):
        yield "".join(_line({name: getattr(entry, name) for name in COLUMNS}) for entry in batch)


def batches(rows: AuditEntryQuerySet) -> Iterator[list[AuditEntry]]:
    """Each asked for when it is wanted, from behind the one before: what no cursor has to hold."""
    found = rows.order_by("-pk")
    batch = list(found[:BATCH])
    while batch:
        yield batch
        batch = list(found.filter(pk__lt=batch[-1].pk)[:BATCH])


def _cell(name: str, entry: AuditEntry) -> str:
    value = getattr(entry, name)
    return cell(_json(value) if name == "detail" else value)


def _line(values: dict[str, object]) -> str:
    return _json(values) + "\n"


def _json(value: object) -> str:
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False)
