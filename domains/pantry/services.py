"""Verbs on pieces; admin, API and jobs call them."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from domains.pantry.models import MOST_PIECES, Level, Location, Piece, PieceQuerySet, Variant
from jobs import clock
from jobs.acting import did, differences
from jobs.transitions import InvalidTransition as InvalidTransition


def today() -> date:
    """By the database's clock, in TIME_ZONE."""
    return timezone.localdate(clock.now())


@transaction.atomic
def stock_up(variant: Variant, count: int = 1, **fields: Any) -> list[Piece]:
    """So many new pieces, all with these fields; frozen when the variant normally is."""
    pieces = put_away(variant, count, **fields)
    did("foodfolio.variant.stocked_up", variant, pieces=count)
    return pieces


def put_away(variant: Variant, count: int, **fields: Any) -> list[Piece]:
    """As `stock_up`, as a part of something else that tells of it."""
    if not 1 <= count <= MOST_PIECES:
        raise InvalidTransition(_("Put away 1 to %(most)s pieces at once.") % {"most": MOST_PIECES})
    now = clock.now()
    fields["purchased_on"] = fields.get("purchased_on") or today()
    if variant.is_normally_frozen:
        fields.setdefault("frozen_on", today())
    pieces = [Piece(variant=variant, created_at=now, **fields) for _ in range(count)]
    Piece.objects.bulk_create(pieces, batch_size=100)
    recover([variant.pk])
    return pieces


def recover(variants: Iterable[int]) -> None:
    """What is enough again is no longer announced as low: should it fall again, that is news."""
    enough = Variant.objects.with_stock(today()).filter(pk__in=variants, level=Level.ENOUGH)
    low = enough.exclude(announced=Level.ENOUGH).values_list("pk", flat=True)
    if found := list(low):
        Variant.objects.filter(pk__in=found).update(announced=Level.ENOUGH)


def open_piece(piece: Piece) -> None:
    """From now on it is no stock, though it is still here."""
    _move(piece, Piece.objects.filter(opened_on=None), _("open"), opened_on=today())


def consume(piece: Piece, *, wasted: bool = False) -> None:
    """It is used up, or `wasted`: thrown away."""
    _move(piece, Piece.objects.all(), _("used up"), consumed_at=clock.now(), wasted=wasted)


def throw_away(piece: Piece) -> None:
    consume(piece, wasted=True)


def freeze(piece: Piece) -> None:
    """It does not expire while it is frozen; what has expired cannot be frozen."""
    on = today()
    fresh = Piece.objects.filter(frozen_on=None).exclude(pk__in=Piece.objects.expired(on))
    _move(piece, fresh, _("frozen, or expired"), frozen_on=on)


@transaction.atomic
def thaw(piece: Piece) -> None:
    """It has as many days left as when it was frozen."""
    row = Piece.objects.select_for_update().get(pk=piece.pk)
    if row.frozen_on is None:
        raise InvalidTransition(_("%(piece)s is not frozen.") % {"piece": piece})
    left = row.expires_on - row.frozen_on if row.expires_on else None
    until = today() + left if left is not None else None
    frozen = Piece.objects.filter(frozen_on__isnull=False)
    _move(piece, frozen, _("thawed"), frozen_on=None, expires_on=until)


@transaction.atomic
def move(pieces: PieceQuerySet, to: Location | None) -> int:
    """How many were moved: those that are still here."""
    place = to.pk if to else None
    here = pieces.here().select_related("variant__item").select_for_update(of=("self",))
    for piece in here:
        if piece.location_id != place:
            changes = {"location": [piece.location_id, place]}
            did("foodfolio.piece.changed", piece, changes=changes)
    return Piece.objects.filter(pk__in=[piece.pk for piece in here]).update(location=to)


def put_back(piece: Piece) -> None:
    """It was marked as used up, or thrown away, by mistake."""
    gone = Piece.objects.filter(pk=piece.pk, consumed_at__isnull=False)
    with transaction.atomic():
        if not gone.update(consumed_at=None, wasted=False):
            raise InvalidTransition(_("%(piece)s is still here.") % {"piece": piece})
        recover([piece.variant_id])
        did("foodfolio.piece.put_back", piece)
    piece.refresh_from_db()


def take(variant: Variant) -> Piece:
    """Use up the one that should go first. Raises `InvalidTransition` when none is here."""
    return _first(variant, Piece.objects.first_to_use(), consumed_at=clock.now())


def open_one(variant: Variant) -> Piece:
    """Open the one in stock that should go first. Raises `InvalidTransition` when there is none."""
    on = today()
    stock = Piece.objects.first_to_use().filter(pk__in=Piece.objects.in_stock(on))
    return _first(variant, stock, opened_on=on)


@transaction.atomic
def _first(variant: Variant, pieces: QuerySet[Piece], **fields: date | datetime) -> Piece:
    """Two people may reach for the same piece: who comes second gets the next one."""
    while piece := pieces.filter(variant=variant).first():
        if pieces.order_by().filter(pk=piece.pk).update(**fields):
            _tell(piece, fields)
            piece.refresh_from_db()
            return piece
    raise InvalidTransition(_("None of %(variant)s is here.") % {"variant": variant})


@transaction.atomic
def _move(piece: Piece, allowed: QuerySet[Piece], already: str, **fields: Any) -> None:
    if not allowed.filter(pk=piece.pk, consumed_at=None).update(**fields):
        piece.refresh_from_db()
        state = _("used up") if piece.consumed_at else already
        raise InvalidTransition(
            _("%(piece)s is %(state)s already.") % {"piece": piece, "state": state}
        )
    _tell(piece, fields)
    for name, value in fields.items():
        setattr(piece, name, value)


def _tell(piece: Piece, fields: dict[str, Any]) -> None:
    """Of a piece as it was."""
    changes = differences({name: getattr(piece, name) for name in fields}, fields)
    did("foodfolio.piece.changed", piece, changes=changes)
