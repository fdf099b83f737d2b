"""What is asked in front of the fridge: what must be eaten, what is missing, where is the rice."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Exists, OuterRef, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from domains.pantry import services, shopping
from domains.pantry.admin.pieces import PlaceForm, pieces_url
from domains.pantry.models import (
    MOST_PIECES,
    Entry,
    Freshness,
    Kitchen,
    Level,
    Location,
    Piece,
    Variant,
)
from domains.pantry.services import InvalidTransition, today
from jobs import clock
from jobs.pages import ReadOnlyAdmin, digits

SHOWN = 30  # rows of a section; a link leads to the others
FOUND = 10
REMEMBERED = timedelta(hours=2)  # for which what was used up can be put back here

OF_PIECES: dict[str, tuple[Any, Callable[[Piece], object]]] = {
    "open": (_("Open"), services.open_piece),
    "use": (_("Used up"), services.consume),
    "waste": (_("Thrown away"), services.throw_away),
    "freeze": (_("Freeze"), services.freeze),
    "thaw": (_("Thaw"), services.thaw),
    "put-back": (_("Put back"), services.put_back),
}
OF_VARIANTS: dict[str, tuple[Any, Callable[[Variant], Piece]]] = {
    "take": (_("Used up"), services.take),
    "open-one": (_("Open"), services.open_one),
}


class PutAwayForm(PlaceForm):
    count = forms.IntegerField(
        label=_("Pieces"),
        min_value=1,
        max_value=MOST_PIECES,
        initial=1,
        widget=UnfoldAdminIntegerFieldWidget,
    )
    expires_on = forms.DateField(
        label=_("Good until"),
        required=False,
        widget=UnfoldAdminTextInputWidget({"type": "date"}),
    )
    field_order = ["count", "expires_on", "location"]


@admin.register(Kitchen)
class KitchenAdmin(ReadOnlyAdmin):
    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.do))
        return [path("do/", view, name="pantry_kitchen_do"), *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        words = request.GET.get("q", "").strip()
        context = self.admin_site.each_context(request) | {
            "title": _("Kitchen"),
            "opts": self.model._meta,
            "words": words,
            "may_change": request.user.has_perm("pantry.change_piece"),
            "may_add": request.user.has_perm("pantry.add_piece"),
            "may_shop": request.user.has_perm("pantry.add_entry"),
        }
        context |= page(words)
        return TemplateResponse(request, "admin/pantry/kitchen/page.html", context)

    def do(self, request: HttpRequest) -> HttpResponse:
        """One step: `verb` of a `piece` or of a `variant`."""
        verb, words = request.POST.get("verb", ""), request.POST.get("q", "")
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            done = self._step(request, verb)
        except InvalidTransition as error:
            messages.error(request, str(error))
        else:
            if done:
                messages.success(request, done)
        query = f"?{urlencode({'q': words})}" if words else ""
        return redirect(reverse("admin:pantry_kitchen_changelist") + query)

    def _step(self, request: HttpRequest, verb: str) -> str:
        """What was done, in words."""
        pk = number(request.POST.get("id", ""))
        if verb in OF_PIECES:
            require(request, "pantry.change_piece")
            noted, of_piece = OF_PIECES[verb]
            piece = get_object_or_404(Piece.objects.select_related("variant__item"), pk=pk)
            of_piece(piece)
            return self._note(request, piece, noted)
        variant = get_object_or_404(Variant.objects.select_related("item"), pk=pk)
        if verb in OF_VARIANTS:
            require(request, "pantry.change_piece")
            noted, of_variant = OF_VARIANTS[verb]
            return self._note(request, of_variant(variant), noted)
        if verb == "shop":
            require(request, "pantry.add_entry")
            return self._shop(variant)
        require(request, "pantry.add_piece")
        return self._put_away(request, variant)

    def _note(self, request: HttpRequest, piece: Piece, noted: Any) -> str:
        self.log_change(request, piece, str(noted))
        return f"{piece.variant}: {noted}"

    def _shop(self, variant: Variant) -> str:
        stock = Variant.objects.with_stock(today()).get(pk=variant.pk).stock
        entry = shopping.put_on(shopping.current_list(), variant, max(variant.aim - stock, 1))
        return str(_("On the list: %(entry)s") % {"entry": entry})

    def _put_away(self, request: HttpRequest, variant: Variant) -> str:
        form = PutAwayForm(request.POST)
        if not form.is_valid():
            problems = [str(text) for several in form.errors.values() for text in several]
            raise InvalidTransition(" ".join(problems))
        pieces = services.stock_up(variant, **form.cleaned_data)
        for piece in pieces:
            self.log_addition(request, piece, str(_("Put away")))
        text = ngettext(
            "%(count)s piece of %(variant)s put away.",
            "%(count)s pieces of %(variant)s put away.",
            len(pieces),
        )
        return text % {"count": digits(len(pieces)), "variant": variant}


def require(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


def number(given: str) -> int:
    """Of a form; 0 for what is none, or more than a column holds."""
    return int(given) if given.isdecimal() and len(given) < 19 else 0


def page(words: str) -> dict[str, Any]:
    """What it shows; a fixed number of queries, whatever there is."""
    on = today()
    expired, expiring = Piece.objects.expired(on), Piece.objects.expiring(on)
    missing = Variant.objects.select_related("item").with_stock(on).exclude(level=Level.ENOUGH)
    missing = missing.filter(min_sku__gt=0).order_by("stock", "item__name", "pk")
    listed = Exists(Entry.objects.open().filter(variant=OuterRef("pk")))
    used = Piece.objects.filter(consumed_at__gt=clock.now() - REMEMBERED).order_by("-consumed_at")
    places = Location.paths()
    counts = {
        "expired": expired.count(),
        "expiring": expiring.count(),
        "missing": missing.count(),
        "shopping": Entry.objects.open().count(),
    }
    return {
        "numbers": list(_numbers(counts)),
        "found": found(words, on) if words else [],
        "sections": [
            section(_("Expired"), expired, counts["expired"], Freshness.EXPIRED, on, places),
            section(
                _("To be eaten soon"), expiring, counts["expiring"], Freshness.SOON, on, places
            ),
        ],
        "missing": missing.annotate(is_listed=listed)[:SHOWN],
        "more_missing": max(counts["missing"] - SHOWN, 0),
        "missing_url": f"{reverse('admin:pantry_variant_changelist')}?stock=short",
        "used": used.select_related("variant__item")[:5],
        "is_empty": not Piece.objects.exists() and not Variant.objects.exists(),
    }


def _numbers(counts: dict[str, int]) -> Iterator[tuple[Any, str, str, bool]]:
    """Label, count, where they are, whether it is bad."""
    expired, soon = (pieces_url(state=f.value) for f in (Freshness.EXPIRED, Freshness.SOON))
    yield _("Expired"), digits(counts["expired"]), expired, counts["expired"] > 0
    yield _("Within 7 days"), digits(counts["expiring"]), soon, False
    missing = f"{reverse('admin:pantry_variant_changelist')}?stock=short"
    yield _("Low or empty"), digits(counts["missing"]), missing, False
    shopping_url = reverse("admin:pantry_shoppinglist_changelist")
    yield _("On the list"), digits(counts["shopping"]), shopping_url, False


def section(
    title: Any, pieces: Any, count: int, state: Freshness, on: date, places: dict[int, str]
) -> dict[str, Any]:
    rows = pieces.select_related("variant__item").order_by("expires_on", "pk")[:SHOWN]
    return {
        "title": title,
        "rows": [row_of(piece, on, places) for piece in rows],
        "more": max(count - SHOWN, 0),
        "url": pieces_url(state=state.value),
        "is_bad": state == Freshness.EXPIRED,
    }


def row_of(piece: Piece, on: date, places: dict[int, str]) -> dict[str, Any]:
    return {
        "piece": piece,
        "place": places.get(piece.location_id or 0, ""),
        "left": "" if piece.frozen_on or not piece.expires_on else left(piece.expires_on, on),
    }


def left(until: date, on: date) -> str:
    """As people say it."""
    days = (until - on).days
    if days == 0:
        return str(_("today"))
    if days < 0:
        text = ngettext("%(days)s day ago", "%(days)s days ago", -days)
        return text % {"days": digits(-days)}
    text = ngettext("%(days)s day left", "%(days)s days left", days)
    return text % {"days": digits(days)}


def found(words: str, on: date) -> list[dict[str, Any]]:
    """The variant of this barcode, else those that have each of the words in their names."""
    variants = Variant.objects.select_related("item").with_stock(on)
    rows = list(variants.filter(barcode=words)) or list(_named(variants, words)[:FOUND])
    places = Location.paths()
    pieces = Piece.objects.filter(variant__in=[row.pk for row in rows])
    here = dict(pieces.here().order_by().values_list("variant").annotate(Count("pk")))
    by_variant: dict[int, list[dict[str, Any]]] = {row.pk: [] for row in rows}
    last: dict[int, int | None] = {}
    for piece in pieces.first_of_each(SHOWN):
        by_variant[piece.variant_id].append(row_of(piece, on, places))
        last.setdefault(piece.variant_id, piece.location_id)
    return [
        {
            "variant": row,
            "level": Level(row.level),
            "here": here.get(row.pk, 0),
            "pieces": by_variant[row.pk],
            "more": max(here.get(row.pk, 0) - SHOWN, 0),
            "url": pieces_url(variant__id__exact=row.pk, state="here"),
            "form": PutAwayForm(
                initial={"location": last.get(row.pk)}, auto_id=f"v{row.pk}_%s", paths=places
            ),
        }
        for row in rows
    ]


def _named(variants: Any, words: str) -> Any:
    for word in words.split()[:10]:
        variants = variants.filter(Q(item__name__icontains=word) | Q(name__icontains=word))
    return variants
