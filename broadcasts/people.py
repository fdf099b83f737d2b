"""People from a list: usernames, e-mail addresses or ids, pasted or in a CSV file.

Whoever is not found is named with the line, so that nothing is lost in silence. A file is read as
it comes: of 100,000 lines only the ids, and what is wrong, are kept.
"""

import codecs
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import IO, BinaryIO, cast

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models.functions import Lower
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from broadcasts.directory import existing_user_ids

CHUNK = 10_000  # values a question: e-mail addresses have no index, each question reads them all
MOST_BYTES = 20 * 1024 * 1024
MOST_PEOPLE = 250_000  # what a form can carry; for more, a role or a product is the audience
BLOCK = 64 * 1024  # bytes
DELIMITERS = ";,\t|"
COLUMNS = {  # by what spreadsheets and exports call them
    "id": {"id", "user_id", "user id", "userid"},
    "username": {"username", "user_name", "user name", "user", "login", "account"},
    "email": {"email", "e-mail", "mail", "email address", "e-mail address", "email_address"},
}
ANY = ("username", "id", "email")  # of a column without a known name, in this order


@dataclass(frozen=True)
class Missing:
    line: int
    value: str
    reason: str


@dataclass
class Found:
    """`ids` in the order of the file, each once; `missing` is who was not found, and why."""

    ids: dict[str, None] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    repeated: int = 0
    encoding: str = "utf-8"


Row = tuple[int, dict[str, str]]
"""The line, and what it says of a person by the name of a column (or "any")."""


def from_csv(file: IO[bytes], size: int) -> Found:
    """The people of a file of `size` bytes. `ValidationError` when it cannot be read as a CSV."""
    if size > MOST_BYTES:
        message = _("The file has %(size)s bytes; at most %(most)s are read. Split it.")
        raise ValidationError(message % {"size": size, "most": MOST_BYTES})
    found = Found(encoding=_encoding(file))
    file.seek(0)
    text = io.TextIOWrapper(cast(BinaryIO, file), encoding=found.encoding, newline="")
    try:
        _read(text, found)
    finally:
        text.detach()  # else it closes what is the caller's
    if not found.ids and not found.missing:
        raise ValidationError(_("The file is empty: it needs a line for each person."))
    return found


def _read(text: Iterable[str], found: Found) -> None:
    rows = _rows(text)
    while chunk := list(islice(rows, CHUNK)):
        _look_up(chunk, found)
        if len(found.ids) + len(found.missing) + found.repeated > MOST_PEOPLE:
            message = _("More than %(most)s lines: address a role or a product instead.")
            raise ValidationError(message % {"most": MOST_PEOPLE})


def ids_of(words: Sequence[str]) -> dict[str, str]:
    """The id of each that is an active person's username, id or e-mail address."""
    found: dict[str, str] = {}
    for start in range(0, len(words), CHUNK):
        ids, _shared = _ids_by("any", words[start : start + CHUNK])
        found |= ids
    return found


def _encoding(file: IO[bytes]) -> str:
    """UTF-8, UTF-16 by its mark, or else what spreadsheets in the West write: Windows-1252."""
    start = file.read(4)
    if start.startswith(b"PK"):
        raise ValidationError(_("This is a spreadsheet, not a CSV file: save it as CSV first."))
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    for encoding in ("utf-8-sig", "cp1252"):
        file.seek(0)
        if _is_in(encoding, file):
            return encoding
    raise ValidationError(
        _("The file's encoding is not known. Save it as “CSV UTF-8” and choose it again.")
    )


def _is_in(encoding: str, file: IO[bytes]) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        while block := file.read(BLOCK):
            if b"\0" in block:
                return False
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _rows(lines: Iterable[str]) -> Iterator[Row]:
    """What each line that is not blank says, by the columns of the header if there is one."""
    lines = iter(lines)
    try:
        first, delimiter, before = _first(lines)
        reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
        columns: dict[str, int] | None = None
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            while cells and not cells[-1]:
                cells.pop()
            if not cells:
                continue
            if columns is None:
                columns = _columns(cells)
                if "any" not in columns:
                    continue
            values = {name: cells[at] for name, at in columns.items() if at < len(cells)}
            yield before + reader.line_num, {n: v for n, v in values.items() if v} or {"any": ""}
    except UnicodeError as error:
        text = _("The file cannot be read: %(error)s. Save it as “CSV UTF-8” and choose it again.")
        raise ValidationError(text % {"error": error}) from error
    except csv.Error as error:
        text = _("The file cannot be read as CSV (%(error)s). Is a quotation mark left open?")
        raise ValidationError(text % {"error": error}) from error


def _first(lines: Iterator[str]) -> tuple[str, str, int]:
    """The first line with something in it, what divides its cells, and how many came before."""
    before = 0
    given = ""
    for line in lines:
        text = line.strip().lstrip("\ufeff")
        if text.lower().startswith("sep=") and len(text) == 5:  # as Excel says it
            given = text[4]
        elif text:
            return line.lstrip("\ufeff"), given or _delimiter(text), before
        before += 1
    return "", ",", before


def _delimiter(line: str) -> str:
    counts = {delimiter: line.count(delimiter) for delimiter in DELIMITERS}
    most = max(counts, key=lambda delimiter: counts[delimiter])
    return most if counts[most] else ","


def _columns(first: list[str]) -> dict[str, int]:
    """Where each known column is; a single unknown one may hold any of them."""
    names = [cell.casefold() for cell in first]
    known = {
        column: at
        for column, aliases in COLUMNS.items()
        for at, name in enumerate(names)
        if name in aliases
    }
    if known:
        return known
    if len(first) == 1:
        return {"any": 0}
    text = _(
        "None of the columns (%(names)s) is known. Name one of them username, email or id, or send"
        " one column without a name."
    )
    raise ValidationError(text % {"names": ", ".join(first[:10])})


NOBODY = gettext_lazy("nobody's username, e-mail address or id")
SHARED = gettext_lazy("the e-mail address of several people")
EMPTY = gettext_lazy("no name in this line")


def _look_up(rows: list[Row], found: Found) -> None:
    """Add who is found by the surest column that a row has, and name who is not."""
    ids: dict[tuple[str, str], str] = {}
    shared: set[str] = set()
    for column in ("id", "username", "email", "any"):
        values = list(dict.fromkeys(row[column] for _line, row in rows if row.get(column)))
        by_value, several = _ids_by(column, values)
        ids |= {(column, value): pk for value, pk in by_value.items()}
        shared |= several
    for line, row in rows:
        pk = next((ids[item] for item in row.items() if item in ids), None)
        if pk is None:
            reason = NOBODY if any(row.values()) else EMPTY
            reason = SHARED if shared.intersection(row.values()) else reason
            found.missing.append(Missing(line, " ".join(row.values()), str(reason)))
        elif pk in found.ids:
            found.repeated += 1
        else:
            found.ids[pk] = None


def _ids_by(column: str, values: Sequence[str]) -> tuple[dict[str, str], set[str]]:
    """The ids of active people by their `values`, and the e-mail addresses that several share."""
    found: dict[str, str] = {}
    shared: set[str] = set()
    values = [value for value in values if "\0" not in value]  # which PostgreSQL does not take
    for kind in ANY if column == "any" else (column,):
        left = [value for value in values if value not in found]
        if kind == "username":
            found |= _by_username(left)
        elif kind == "id":
            found |= _by_id(left)
        else:
            by_email, shared = _by_email([value for value in left if "@" in value])
            found |= by_email
    return found, shared


def _by_username(names: Sequence[str]) -> dict[str, str]:
    people = User.objects.filter(is_active=True, username__in=names).order_by()
    return {name: str(pk) for name, pk in people.values_list("username", "pk")} if names else {}


def _by_id(ids: Sequence[str]) -> dict[str, str]:
    known = {str(pk) for pk in existing_user_ids(ids)} if ids else set()
    return {text: text for text in ids if text in known}


def _by_email(addresses: Sequence[str]) -> tuple[dict[str, str], set[str]]:
    """However it is written: upper and lower case are one address."""
    owners: dict[str, list[str]] = {}
    asked = {address.lower() for address in addresses}
    people = User.objects.annotate(address=Lower("email")).filter(is_active=True, address__in=asked)
    for address, pk in people.order_by().values_list("address", "pk") if asked else ():
        owners.setdefault(address, []).append(str(pk))
    found = {a: owners[a.lower()] for a in addresses if a.lower() in owners}
    one = {address: pks[0] for address, pks in found.items() if len(pks) == 1}
    return one, found.keys() - one.keys()
