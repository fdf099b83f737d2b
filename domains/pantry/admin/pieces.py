from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RadioFilter, RelatedDropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget

from domains.pantry import services
from domains.pantry.admin.goods import PlaceFilter
from domains.pantry.models import MOST_PIECES, Freshness, Location, Piece, PieceQuerySet
from domains.pantry.services import InvalidTransition, today
from jobs.pages import Question, ask, confirmed, digits, some_of, tell_refused

STATES: dict[str, Any] = {
    "stock": _("In stock"),
    "open": _("Open"),
    "frozen": _("Frozen"),
    Freshness.SOON.value: Freshness.SOON.label,
    Freshness.EXPIRED.value: Freshness.EXPIRED.label,
    "used": _("Used up"),
    "wasted": _("Thrown away"),
}
STATE_LABELS = {
    "stock": "success",
    "open": "info",
    "frozen": "info",
    "SOON": "warning",
    "EXPIRED": "danger",
    "used": "",
    "wasted": "",
}


def state_of(piece: Piece, on: Any) -> str:
    """The one word that says most."""
    if piece.consumed_at:
        return "wasted" if piece.wasted else "used"
    if freshness := piece.freshness_on(on):
        return str(freshness.value)
    if piece.frozen_on:
        return "frozen"
    return "open" if piece.opened_on else "stock"


class StateFilter(RadioFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("here", _("Still here")), *STATES.items()]

    def queryset(self, request: HttpRequest, queryset: PieceQuerySet) -> Any:
        on = today()
        of: dict[str | None, Callable[[], Any]] = {
            "here": queryset.here,
            "stock": lambda: queryset.in_stock(on),
            "open": lambda: queryset.here().filter(opened_on__isnull=False),
            "frozen": lambda: queryset.here().filter(frozen_on__isnull=False),
            Freshness.SOON.value: lambda: queryset.expiring(on),
            Freshness.EXPIRED.value: lambda: queryset.expired(on),
            "used": lambda: queryset.filter(consumed_at__isnull=False, wasted=False),
            "wasted": lambda: queryset.filter(wasted=True),
        }
        return of.get(self.value(), lambda: queryset)()


class PieceForm(forms.ModelForm):  # type: ignore[type-arg]
    count = forms.IntegerField(
        label=_("Pieces"),
        min_value=1,
        max_value=MOST_PIECES,
        initial=1,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text=_("So many of the same are put away."),
    )

    class Meta:
        model = Piece
        fields = "__all__"  # noqa: DJ007 (the admin names them)


class PlaceForm(forms.Form):
    location = forms.ModelChoiceField(
        Location.objects.all(),
        label=_("Into"),
        required=False,
        empty_label=_("No place"),
        widget=UnfoldAdminSelectWidget,
    )

    def __init__(self, *args: Any, paths: dict[int, str] | None = None, **kwargs: Any) -> None:
        """`paths` of all places, where several forms share them."""
        super().__init__(*args, **kwargs)
        places = Location.paths() if paths is None else paths
        field: Any = self.fields["location"]
        by_path = sorted(places.items(), key=lambda place: place[1])
        field.choices = [("", field.empty_label), *by_path]


@admin.register(Piece)
class PieceAdmin(ModelAdmin):
    list_display = ("variant", "place", "state_label", "expires_on", "purchased_on", "price")
    list_filter = (StateFilter, PlaceFilter, ("warehouse", RelatedDropdownFilter))
    list_select_related = ("variant__item",)
    search_fields = ("variant__item__name", "variant__name", "variant__barcode", "article_number")
    search_help_text = _("Name, barcode or article number")
    show_full_result_count = False
    list_per_page = 50
    autocomplete_fields = ("variant", "location", "warehouse")
    readonly_fields = ("state_in_words", "consumed_at")
    actions = (
        "open_selected",
        "use_selected",
        "waste_selected",
        "freeze_selected",
        "thaw_selected",
        "put_back_selected",
        "move_selected",
    )
    WHAT = ("variant", "location", "expires_on")
    BOUGHT = ("warehouse", "purchased_on", "price", "article_number", "has_deposit")

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: Any = False, **kw: Any
    ) -> Any:
        if not change:
            kw["form"] = PieceForm
        return super().get_form(request, obj, change=change, **kw)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        bought = (_("Purchase"), {"fields": self.BOUGHT})
        if obj is None:
            return ((None, {"fields": ("variant", "count", "location", "expires_on")}), bought)
        life = ("state_in_words", "opened_on", "frozen_on", "consumed_at")
        return ((None, {"fields": self.WHAT}), (_("Life"), {"fields": life}), bought)

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist: ChangeList = super().get_changelist_instance(request)
        paths, on = Location.paths(), today()
        for piece in changelist.result_list:
            piece.place, piece.state = paths.get(piece.location_id, "–"), state_of(piece, on)
        return changelist

    def save_model(self, request: HttpRequest, obj: Piece, form: Any, change: Any) -> None:
        """What the job wrote meanwhile stays; a new one may be several."""
        if change:
            obj.save(update_fields=form.changed_data)
            services.recover([obj.variant_id])
            return
        fields = dict(form.cleaned_data)
        pieces = services.stock_up(fields.pop("variant"), fields.pop("count"), **fields)
        obj.pk = pieces[0].pk

    @display(description=_("place"), ordering="location__name")
    def place(self, piece: Any) -> str:
        return str(piece.place)

    @display(description=_("state"), label=STATE_LABELS)
    def state_label(self, piece: Any) -> tuple[str, Any]:
        return piece.state, STATES[piece.state]

    @display(description=_("state"))
    def state_in_words(self, piece: Piece) -> Any:
        return STATES[state_of(piece, today())]

    @admin.action(description=_("Open"), permissions=["change"])
    def open_selected(self, request: HttpRequest, queryset: QuerySet[Piece]) -> None:
        self._do(request, queryset, services.open_piece, _("Opened"))

    @admin.action(description=_("Used up"), permissions=["change"])
    def use_selected(self, request: HttpRequest, queryset: QuerySet[Piece]) -> None:
        self._do(request, queryset, services.consume, _("Used up"))

    @admin.action(description=_("Thrown away"), permissions=["change"])
    def waste_selected(self, request: HttpRequest, queryset: QuerySet[Piece]) -> None:
        self._do(request, queryset, services.throw_away, _("Thrown away"))

    @admin.action(description=_("Freeze"), permissions=["change"])
    def freeze_selected(self, request: HttpRequest, queryset: QuerySet[Piece]) -> None:
        self._do(request, queryset, services.freeze, _("Frozen"))

    @admin.action(description=_("Thaw"), permissions=["change"])
    def thaw_selected(self, request: HttpRequest, queryset: QuerySet[Piece]) -> None:
        self._do(request, queryset, services.thaw, _("Thawed"))

    @admin.action(description=_("Put back"), permissions=["change"])
    def put_back_selected(self, request: HttpRequest, queryset: QuerySet[Piece]) -> None:
        self._do(request, queryset, services.put_back, _("Put back"))

    @admin.action(description=_("Move to another place"), permissions=["change"])
    def move_selected(self, request: HttpRequest, queryset: Any) -> HttpResponse:
        form = PlaceForm(request.POST if confirmed(request) else None)
        back = reverse("admin:pantry_piece_changelist")
        if not confirmed(request) or not form.is_valid():
            question = Question(
                title=_("Where to?"),
                text=_("What is used up stays as it is."),
                facts=[(_("Pieces"), queryset.count()), (_("Which"), some_of(queryset))],
                submit=_("Move"),
                back=back,
                form=form,
            )
            return ask(self, request, question)
        moved = services.move(
            Piece.objects.filter(pk__in=queryset.values("pk")), form.cleaned_data["location"]
        )
        text = ngettext("%(count)s piece moved.", "%(count)s pieces moved.", moved)
        messages.success(request, text % {"count": digits(moved)})
        return redirect(back)

    def _do(
        self,
        request: HttpRequest,
        queryset: QuerySet[Piece],
        verb: Callable[[Piece], object],
        noted: Any,
    ) -> None:
        done = 0
        refused: list[str] = []
        for piece in queryset:
            try:
                verb(piece)
            except InvalidTransition as error:
                refused.append(str(error))
            else:
                self.log_change(request, piece, str(noted))
                done += 1
        tell_refused(request, refused)
        if done:
            text = ngettext("%(count)s piece: %(what)s.", "%(count)s pieces: %(what)s.", done)
            messages.success(request, text % {"count": digits(done), "what": noted})


def pieces_url(**query: Any) -> str:
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    return f"{reverse('admin:pantry_piece_changelist')}?{asked}"
