"""Verbs on shopping lists."""

from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from domains.pantry.models import MOST_PIECES, Entry, Piece, ShoppingList, Variant
from domains.pantry.services import InvalidTransition, put_away, today
from jobs import clock
from jobs.acting import acting_as, did

BATCH = 1_000


class BoughtAlready(InvalidTransition):
    """Somebody else with the same list was faster."""


@transaction.atomic
def fill(to: ShoppingList) -> int:
    """Put on the list what is short and not on it yet, up to its maximum; how many were added.

    No more of one than can be put away at once.
    """
    listed = to.entries.filter(purchased_at=None).values("variant")
    short = Variant.objects.short(today()).exclude(pk__in=listed).order_by("pk")
    added, last = 0, 0
    while rows := list(short.filter(pk__gt=last)[:BATCH]):
        last = rows[-1].pk
        entries = [
            Entry(list=to, variant=row, quantity=min(row.aim - row.stock, MOST_PIECES))
            for row in rows
        ]
        Entry.objects.bulk_create(entries, ignore_conflicts=True)
        added += len(entries)
    if added:
        did("foodfolio.list.filled", to, entries=added)
    return added


@transaction.atomic
def put_on(to: ShoppingList, variant: Variant, quantity: int = 1) -> Entry:
    """So many, whether or not it stands on the list already; no more than are put away at once."""
    if quantity < 1:
        raise InvalidTransition(_("Buy at least one."))
    quantity = min(quantity, MOST_PIECES)
    entry, _is_new = Entry.objects.get_or_create(
        list=to, variant=variant, purchased_at=None, defaults={"quantity": quantity}
    )
    if entry.quantity != quantity:
        Entry.objects.filter(pk=entry.pk).update(quantity=quantity)
        did("foodfolio.entry.changed", entry, changes={"quantity": [entry.quantity, quantity]})
        entry.quantity = quantity
    return entry


@transaction.atomic
def buy(entry: Entry, count: int | None = None, **fields: Any) -> list[Piece]:
    """Move it to the stock: so many pieces (else as many as wanted), with these fields.

    Raises `BoughtAlready` when it was: two people with one list.
    """
    count = entry.quantity if count is None else count
    if not Entry.objects.open().filter(pk=entry.pk).update(purchased_at=clock.now()):
        raise BoughtAlready(_("%(entry)s was bought already.") % {"entry": entry})
    pieces = put_away(entry.variant, count, **fields)
    did("foodfolio.list.bought", entry.list, variant=str(entry.variant), pieces=count)
    entry.refresh_from_db()
    return pieces


def buy_all(of: ShoppingList, **fields: Any) -> tuple[int, list[str]]:
    """All that is left on the list, each in a transaction of its own.

    How many entries, and why others were refused.
    """
    bought = 0
    refused: list[str] = []
    for entry in of.entries.filter(purchased_at=None).select_related("variant__item"):
        try:
            buy(entry, **fields)
        except BoughtAlready:
            continue
        except InvalidTransition as error:
            refused.append(f"{entry}: {error}")
        else:
            bought += 1
    return bought, refused


@transaction.atomic
def clear_bought(of: ShoppingList) -> int:
    """Take off the list what was bought; how many entries."""
    with acting_as(None):  # it is told once, not of each
        deleted, _models = of.entries.filter(purchased_at__isnull=False).delete()
    if deleted:
        did("foodfolio.list.cleared", of, entries=deleted)
    return deleted


def current_list() -> ShoppingList:
    """The newest, on which the kitchen puts what is missing; made when there is none."""
    return ShoppingList.objects.first() or ShoppingList.objects.create(name=_("Groceries"))
