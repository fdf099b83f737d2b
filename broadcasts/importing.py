"""Broadcasts from a file of JSON lines, one broadcast a line.

A line that cannot be taken is refused with its reason and stops nothing. What is in is known by
its external id: running again imports what is missing and finishes what a killed run began.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, BinaryIO

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, transaction
from rest_framework import serializers

from broadcasts import approval_rules, services
from broadcasts.api.fields import TranslationsField
from broadcasts.directory import get_directory
from broadcasts.models import Approval, Audience, Broadcast, Product, Status
from jobs import clock
from outbox.models import Priority

LINE_MAX_BYTES = 8 * 1024 * 1024  # room for 100,000 recipients; memory stays flat whatever comes


@dataclass(frozen=True)
class Entry:
    """One line, as a mapping understands it."""

    fields: dict[str, Any]
    """As in the API, with `external_id`."""
    send: bool = True
    cancelled: str = ""
    """Why it is over already: it is kept for the record and reaches nobody."""
    products: dict[str, str] = field(default_factory=dict)
    """Names by slug; those that do not exist are created."""


Mapping = Callable[[dict[str, Any]], Entry]


class Outcome(StrEnum):
    IMPORTED = "imported"
    CANCELLED = "imported as cancelled"
    RESUMED = "finished, a run before had begun them"
    WAITING = "kept as drafts until somebody approves them"
    EXISTING = "already there"
    REFUSED = "refused"


@dataclass(frozen=True)
class Line:
    number: int
    outcome: Outcome
    reason: str = ""


class Refused(Exception):
    """The line cannot be imported; the message says why."""


class LineSerializer(serializers.Serializer[Any]):
    """The shape of the API's fields; what a broadcast itself checks is left to it."""

    external_id = serializers.CharField(max_length=200)
    title = serializers.CharField(max_length=200)
    content = serializers.CharField(allow_blank=True, trim_whitespace=False, required=False)
    language = serializers.CharField(required=False)
    translations = TranslationsField(required=False)
    category = serializers.CharField(max_length=100, allow_blank=True, required=False)
    priority = serializers.ChoiceField(choices=Priority.names, required=False)
    reference = serializers.CharField(max_length=500, allow_blank=True, required=False)
    audience = serializers.ChoiceField(choices=Audience.choices, required=False)
    targets = serializers.ListField(child=serializers.CharField(), required=False)
    fire_and_forget = serializers.BooleanField(required=False)
    force_logoff = serializers.BooleanField(required=False)
    requires_acknowledgement = serializers.BooleanField(required=False)
    scheduled_at = serializers.DateTimeField(allow_null=True, required=False)
    expires_at = serializers.DateTimeField(allow_null=True, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(self.initial_data) - set(self.fields))
        if unknown:
            raise serializers.ValidationError(dict.fromkeys(unknown, "There is no such field."))
        if "priority" in attrs:
            attrs["priority"] = Priority[attrs["priority"]]
        return attrs


def as_in_the_api(item: dict[str, Any]) -> Entry:
    """The mapping of a file that has the fields of the API, and optionally `send`."""
    send = item.pop("send", True)
    if not isinstance(send, bool):
        raise Refused("send: true or false is wanted.")
    return Entry(item, send=send)


class Import:
    """Takes one file. With `dry_run` nothing is written, and the outcomes are the same."""

    def __init__(
        self,
        mapping: Mapping = as_in_the_api,
        *,
        sender: AbstractUser | None = None,
        dry_run: bool = False,
    ) -> None:
        self.mapping = mapping
        self.sender = sender
        self.dry_run = dry_run
        self.outcomes: Counter[Outcome] = Counter()
        self.line_of: dict[str, int] = {}

    def run(self, file: BinaryIO) -> Iterator[Line]:
        """Import line by line, saying what became of each. Raises `UserServiceUnavailable`."""
        for number, raw in _numbered(file):
            line = self._line(number, raw)
            self.outcomes[line.outcome] += 1
            yield line

    def _line(self, number: int, raw: bytes) -> Line:
        try:
            entry = self._map(_json_object(raw))
            fields = _checked(entry.fields)
            self._refuse_duplicate(number, fields["external_id"])
            return Line(number, self._take(entry, fields))
        except (Refused, ValidationError, serializers.ValidationError) as error:
            return Line(number, Outcome.REFUSED, _reason(error))
        except (ValueError, DataError) as error:  # what only the database finds wrong
            return Line(number, Outcome.REFUSED, f"cannot be stored: {error}")

    def _map(self, item: dict[str, Any]) -> Entry:
        try:
            return self.mapping(item)
        except Refused:
            raise
        except Exception as error:  # whatever a mapping stumbles over, only its line is refused
            reason = f"the mapping cannot read it: {type(error).__name__}: {error}"
            raise Refused(reason) from error

    def _refuse_duplicate(self, number: int, external_id: str) -> None:
        first = self.line_of.setdefault(external_id, number)
        if first != number:
            raise Refused(f"external_id: line {first} has {external_id} already.")

    def _take(self, entry: Entry, fields: dict[str, Any]) -> Outcome:
        same = Broadcast.objects.filter(external_id=fields["external_id"])
        if existing := same.defer("content", "targets").first():
            return self._resume(existing, entry)
        return self._compose(services.draft(self.sender, **fields), entry)

    def _resume(self, broadcast: Broadcast, entry: Entry) -> Outcome:
        """Finish what a killed run had composed, or scheduled for now, and no more."""
        if not _is_unfinished(broadcast, entry):
            return Outcome.EXISTING
        return Outcome.RESUMED if self._move(broadcast, entry) else Outcome.WAITING

    def _compose(self, broadcast: Broadcast, entry: Entry) -> Outcome:
        # Django asks the database about each constraint; when the row is written anyway, that
        # is asked only after the database has refused it.
        broadcast.full_clean(exclude=["external_id", "sender"], validate_constraints=self.dry_run)
        services.refuse_unknown(self._unknown(broadcast, entry))
        if not self.dry_run:
            try:
                with transaction.atomic():
                    broadcast.save()
            except IntegrityError:
                broadcast.validate_constraints(exclude=["external_id"])
                return Outcome.EXISTING  # another import was quicker
        if not self._move(broadcast, entry):
            return Outcome.WAITING
        return Outcome.CANCELLED if entry.cancelled else Outcome.IMPORTED

    def _move(self, broadcast: Broadcast, entry: Entry) -> bool:
        """On from the draft; in no transaction, since sending asks the directory for the count.

        False when it stays a draft, since a second person must approve it.
        """
        if self.dry_run:
            return not _waits(broadcast, entry)
        self._create_products(entry)
        try:
            if entry.cancelled:
                services.cancel(broadcast, entry.cancelled)
            elif broadcast.status == Status.SCHEDULED:
                services.activate(broadcast, only_small=True)
            elif entry.send:
                services.send(broadcast, allow_empty=True)
        except services.ApprovalNeeded:
            return False
        except services.InvalidTransition:
            pass  # another import, which found the draft, was quicker
        return True

    def _unknown(self, broadcast: Broadcast, entry: Entry) -> list[str]:
        if broadcast.audience == Audience.ROLE:
            known = self._roles
        elif broadcast.audience == Audience.PRODUCT:
            known = self._products | entry.products.keys()
        else:
            return get_directory().unknown(broadcast.audience, broadcast.targets)
        return [target for target in broadcast.targets if target not in known]

    # Asked once a file: it has thousands of lines, and a directory may be a network away.
    @cached_property
    def _roles(self) -> set[str]:
        return {target.key for target in get_directory().targets(Audience.ROLE)}

    @cached_property
    def _products(self) -> set[str]:
        return {target.key for target in get_directory().targets(Audience.PRODUCT)}

    def _create_products(self, entry: Entry) -> None:
        for slug, name in entry.products.items():
            if slug not in self._products:
                Product.objects.get_or_create(slug=slug, defaults={"name": name})
                self._products.add(slug)


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank; of one that is too long, only its beginning."""
    number = 0
    while raw := file.readline(LINE_MAX_BYTES + 1):
        number += 1
        rest = raw
        while len(rest) > LINE_MAX_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(LINE_MAX_BYTES + 1)
        if raw.strip():
            yield number, raw


def _json_object(raw: bytes) -> dict[str, Any]:
    if len(raw) > LINE_MAX_BYTES:
        raise Refused(f"the line has more than {LINE_MAX_BYTES} bytes: shorten it.")
    try:
        item = json.loads(raw.strip().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Refused(f"not UTF-8: {error.reason} at byte {error.start}.") from error
    except (ValueError, RecursionError) as error:
        raise Refused(f"not JSON: {error}.") from error
    if not isinstance(item, dict):
        raise Refused("not a JSON object: one in braces is wanted.")
    return item


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    serializer = LineSerializer(data=fields)
    serializer.is_valid(raise_exception=True)
    checked: dict[str, Any] = serializer.validated_data
    return checked


def _is_unfinished(broadcast: Broadcast, entry: Entry) -> bool:
    if broadcast.status == Status.DRAFT:
        return entry.send or bool(entry.cancelled)
    if broadcast.status != Status.SCHEDULED:
        return False
    return Broadcast.objects.due(clock.now()).filter(pk=broadcast.pk).exists()


def _waits(broadcast: Broadcast, entry: Entry) -> bool:
    if not entry.send or entry.cancelled or broadcast.status != Status.DRAFT:
        return False
    return broadcast.approval != Approval.APPROVED and bool(approval_rules.reasons(broadcast))


def _reason(error: Exception) -> str:
    """All that is wrong in one line, with the names of the fields."""
    if isinstance(error, serializers.ValidationError):
        return _flat(error.detail)
    if isinstance(error, ValidationError):
        return _flat(error.message_dict)
    return str(error)


def _flat(messages: Any) -> str:
    if isinstance(messages, dict):
        return "; ".join(f"{name}: {_flat(what)}" for name, what in messages.items())
    return " ".join(map(_flat, messages)) if isinstance(messages, list) else str(messages)
