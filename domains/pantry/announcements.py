"""What changed is told once: the row remembers what was said of it last."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from django.db.models import Model

from domains.pantry.models import Freshness, Level, Location, Piece, Variant
from domains.pantry.services import today
from jobs import clock
from jobs.leases import fenced
from jobs.progress import advance
from outbox.models import Event
from outbox.services import build_event, emit_all

BATCH = 1_000


def announce_expiry() -> int:
    """Tell which pieces expired, or soon will, since it was last looked at; how many changed."""
    on, done, last = today(), 0, 0
    while True:
        with fenced():
            changed = Piece.objects.changed(on).filter(pk__gt=last).order_by("pk")
            locked = changed.select_for_update(of=("self",)).select_related("variant__item")
            rows: list[Any] = list(locked[:BATCH])
            if not rows:
                return done
            _note(Piece, rows, "freshness")
            emit_all(_expiry_events(rows, on, clock.now()))
        last = rows[-1].pk
        advance(len(rows))
        done += len(rows)


def announce_stock() -> int:
    """Tell which variants ran low or out since it was last looked at; how many changed."""
    on, done, last = today(), 0, 0
    while True:
        with fenced():
            changed = Variant.objects.changed(on).filter(pk__gt=last).order_by("pk")
            locked = changed.select_for_update(of=("self",)).select_related("item")
            rows: list[Any] = list(locked[:BATCH])
            if not rows:
                return done
            _note(Variant, rows, "level")
            emit_all(_stock_events(rows, clock.now()))
        last = rows[-1].pk
        advance(len(rows))
        done += len(rows)


def _note(model: type[Model], rows: Iterable[Any], state: str) -> None:
    """One statement for all that came into the same state; the rows are locked."""
    by_state = defaultdict(list)
    for row in rows:
        by_state[getattr(row, state)].append(row.pk)
    for said, pks in by_state.items():
        model._default_manager.filter(pk__in=pks).update(announced=said)


def _expiry_events(rows: Iterable[Any], on: date, now: datetime) -> list[Event]:
    places = Location.paths()
    events = []
    for piece in rows:
        data = {
            "detail_id": piece.pk,
            "variant_id": piece.variant_id,
            "item_name": piece.variant.item.name,
            "variant_name": piece.variant.name,
            "location": places.get(piece.location_id, ""),
            "expiry_date": str(piece.expires_on),
            "detected_at": now.isoformat(),
        }
        key = f"detail-{piece.pk}"
        if piece.freshness == Freshness.EXPIRED:
            events.append(build_event("foodfolio.detail.expired", key, data))
        elif piece.freshness == Freshness.SOON:
            data["days_left"] = (piece.expires_on - on).days
            events.append(build_event("foodfolio.detail.expiring.soon", key, data))
    return events


def _stock_events(rows: Iterable[Any], now: datetime) -> list[Event]:
    events = []
    for variant in rows:
        data = {
            "variant_id": variant.pk,
            "item_id": variant.item_id,
            "item_name": variant.item.name,
            "variant_name": variant.name,
            "detected_at": now.isoformat(),
        }
        key = f"variant-{variant.pk}"
        if variant.level == Level.EMPTY:
            events.append(build_event("foodfolio.variant.stock.empty", key, data))
        elif variant.level == Level.LOW:
            data |= {"current_stock": variant.stock, "min_sku": variant.min_sku}
            events.append(build_event("foodfolio.variant.stock.low", key, data))
    return events
