"""Series: when they go out next while they are written, and what operators do with them."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import flatten
from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.formats import date_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelect2Widget,
    UnfoldAdminTextInputWidget,
)

from broadcasts import approval_rules
from broadcasts import series as services
from broadcasts.admin import approvals as approving
from broadcasts.admin.compose import CompositionForm, MarkdownWidget
from broadcasts.admin.languages import name_of, texts_of
from broadcasts.admin.page import audience_of
from broadcasts.admin.templates import choices, may_compose
from broadcasts.admin.together import VersionedForm, composing_context
from broadcasts.approvals import OwnWork, comment, takes_part
from broadcasts.directory import ids_in
from broadcasts.models import Approval, Series, Status
from broadcasts.quiet import ZONES
from broadcasts.series_models import SeriesQuerySet, State
from broadcasts.services import ChangedMeanwhile, InvalidTransition
from jobs.pages import Question, ask, confirmed, digits

REFUSALS = (InvalidTransition, ValidationError, ChangedMeanwhile, OwnWork)
STATE_LABELS = {State.RUNNING: "success", State.PAUSED: "warning", State.ENDED: "default"}
ON_PAGE = {  # which buttons the page of one series offers
    "pause_one": {State.RUNNING},
    "resume_one": {State.PAUSED},
    "approve_one": {State.PAUSED},
    "reject_one": {State.PAUSED},
    "comment_one": {State.PAUSED},
    "put_back_one": {State.RUNNING, State.PAUSED},
    "skip_one": {State.RUNNING, State.PAUSED},
    "end_one": {State.RUNNING, State.PAUSED},
}
COUNTED = {
    gettext_lazy("Waits"): ("status__exact", Status.SCHEDULED),
    gettext_lazy("In inboxes now"): ("status__exact", Status.ACTIVE),
    gettext_lazy("Cancelled or missed"): ("status__exact", Status.CANCELLED),
}


def spoken(series: Series, moment: datetime) -> str:
    """By the clocks of the series, with its zone and the distance to UTC."""
    local = series.local(moment)
    name = f"{local:%Z} " if f"{local:%Z}".isalpha() else ""  # some have none but the distance
    offset = f"{local:%z}"
    return f"{date_format(local, 'D j M Y, H:i')} {name}(UTC{offset[:3]}:{offset[3:]})"


class CronWidget(UnfoldAdminTextInputWidget):
    """An expression above what it means: in words, and the next moments."""

    def render(self, *args: Any, **kwargs: Any) -> SafeString:
        editor = super().render(*args, **kwargs)
        return render_to_string("admin/broadcasts/series/cron.html", {"editor": editor})


class SeriesForm(VersionedForm, CompositionForm):
    zone = forms.ChoiceField(
        label=gettext_lazy("Time zone"),
        choices=[(name, name) for name in sorted(ZONES)],
        initial=Series._meta.get_field("zone").get_default,
        widget=UnfoldAdminSelect2Widget,
        help_text=Series._meta.get_field("zone").help_text,
    )

    class Meta:
        model = Series
        fields = (
            "title",
            "content",
            "language",
            "translations",
            "priority",
            "category",
            "reference",
            "audience",
            "targets",
            "cron",
            "zone",
            "starts_on",
            "ends_on",
            "count",
            "life",
            "fire_and_forget",
            "force_logoff",
            "requires_acknowledgement",
        )
        widgets = {
            "content": MarkdownWidget({"rows": 14}),
            "cron": CronWidget({"placeholder": "0 9 * * mon-fri", "autocomplete": "off"}),
        }

    def _post_clean(self) -> None:
        super()._post_clean()
        if self.errors or services.upcoming(self.instance, 1):
            return
        self.add_error("cron", services.NEVER)


class OccurrenceForm(forms.Form):
    occurrence = forms.TypedChoiceField(
        label=gettext_lazy("Which one"),
        coerce=datetime.fromisoformat,
        widget=UnfoldAdminRadioSelectWidget,
    )

    def __init__(self, data: Any, series: Series, moments: list[datetime]) -> None:
        super().__init__(data)
        field = self.fields["occurrence"]
        assert isinstance(field, forms.TypedChoiceField)
        field.choices = [(moment.isoformat(), spoken(series, moment)) for moment in moments]


class UpcomingForm(forms.ModelForm):  # type: ignore[type-arg]
    """What decides when: asked while the rest of the form may be half written."""

    class Meta:
        model = Series
        fields = ("cron", "zone", "starts_on", "ends_on", "count")

    def _post_clean(self) -> None:
        for name, value in self.cleaned_data.items():
            setattr(self.instance, name, value)
        problems = self.instance.problems()
        for name in self._meta.fields or ():
            if name in problems and name not in self.errors:
                self.add_error(name, problems[name])


class StateFilter(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(state.value, state.label) for state in State]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        found: SeriesQuerySet = queryset
        state = self.value()
        return found.in_state(state) if state and state in State.values else found


@admin.register(Series)
class SeriesAdmin(ModelAdmin):
    form = SeriesForm
    list_display = ("state_label", "headline", "repeats", "zone", "next_moment", "sent")
    list_display_links = ("headline",)
    list_filter = (StateFilter,)
    list_per_page = 25
    search_fields = ("title", "reference")
    search_help_text = gettext_lazy("Title or reference")
    compressed_fields = False
    warn_unsaved_form = True
    readonly_fields = ("who", "other_languages")
    radio_fields = {"audience": admin.HORIZONTAL}
    change_form_template = "admin/broadcasts/series/compose.html"
    actions_detail = (
        "approve_one",
        "reject_one",
        "comment_one",
        "pause_one",
        "resume_one",
        "skip_one",
        "put_back_one",
        "end_one",
    )
    fieldsets = (
        (
            gettext_lazy("Message"),
            {"fields": ("title", "content", ("priority", "category", "reference"))},
        ),
        (gettext_lazy("Languages"), {"fields": ("language", "translations")}),
        (gettext_lazy("Audience"), {"fields": ("audience", "targets")}),
        (
            gettext_lazy("When"),
            {"fields": ("cron", "zone", ("starts_on", "ends_on"), ("count", "life"))},
        ),
        (
            gettext_lazy("How"),
            {"fields": (("fire_and_forget", "force_logoff"), "requires_acknowledgement")},
        ),
    )

    # Rows and permissions: a series sends, so who changes one may send

    def get_queryset(self, request: HttpRequest) -> QuerySet[Series]:
        queryset: QuerySet[Series] = super().get_queryset(request)
        went_out = Q(broadcasts__activated_at__isnull=False)
        return queryset.annotate(went_out=Count("broadcasts", filter=went_out))

    def has_send_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        sends = request.user.has_perm("broadcasts.send_broadcast")
        return sends and bool(super().has_change_permission(request, obj))

    def has_approve_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("broadcasts.approve_broadcast")

    def has_comment_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return takes_part(cast(AbstractUser, request.user))

    def has_add_permission(self, request: HttpRequest) -> bool:
        sends = request.user.has_perm("broadcasts.send_broadcast")
        return sends and bool(super().has_add_permission(request))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        over = isinstance(obj, Series) and obj.state == State.ENDED
        return self.has_send_permission(request, obj) and not over

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None or self.has_change_permission(request, obj):
            return super().get_fieldsets(request, obj)
        shown = {"targets": "who", "translations": "other_languages", "audience": None}
        return [
            (
                title,
                {
                    "fields": [
                        field for f in flatten(options["fields"]) if (field := shown.get(f, f))
                    ]
                },
            )
            for title, options in self.fieldsets
        ]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # it is ended, and kept with what it sent

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        found = Series.objects.filter(pk__in=ids_in([str(object_id)])).first()
        if not found:
            return []
        waits = found.awaits_approval and approval_rules.enabled()
        hidden = {"resume_one"} if waits else {"approve_one", "reject_one"}
        if not is_discussed(found):
            hidden.add("comment_one")
        if not services.left_out(found):
            hidden.add("put_back_one")
        return [
            button
            for button in super().get_actions_detail(request, object_id)
            if found.state in ON_PAGE[name := button.method.original_function_name]
            and name not in hidden
        ]

    @display(description=gettext_lazy("who gets it"))
    def who(self, series: Series) -> str:
        return audience_of(series, 20)

    @display(description=gettext_lazy("in other languages"))
    def other_languages(self, series: Series) -> str:
        """All of it: who approves a series reads here what goes out."""
        texts = list(series.texts.values())[1:]
        words = (f"{name_of(text.language)}: {text.title}\n{text.content}" for text in texts)
        return "\n\n".join(words) or "–"

    # List

    @display(description=gettext_lazy("state"), label=STATE_LABELS)
    def state_label(self, series: Series) -> tuple[str, str]:
        return series.state, state_in_words(series)

    @display(description=gettext_lazy("series"), ordering="title", header=True)
    def headline(self, series: Series) -> list[str]:
        return [series.title, audience_of(series, 2)]

    @display(description=gettext_lazy("repeats"), ordering="cron")
    def repeats(self, series: Series) -> str:
        return series.words

    @display(description=gettext_lazy("next"), ordering="next_at")
    def next_moment(self, series: Series) -> str:
        return spoken(series, series.next_at) if series.next_at else "–"

    @display(description=gettext_lazy("went out"), ordering="went_out")
    def sent(self, series: Any) -> str:
        return digits(series.went_out)

    # Form

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            response: HttpResponse = super().changeform_view(request, *args, **kwargs)
        except ChangedMeanwhile:  # between the check of the form and the save
            response = super().changeform_view(request, *args, **kwargs)
        except REFUSALS as error:
            self._refused(request, error)
            return redirect(request.path)
        return response

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context["templates"] = choices()
        if series := context.get("original"):
            form = context["adminform"].form
            context |= composing_context(request, form)
            context |= facts_of(Series.objects.get(pk=series.pk) if form.is_bound else series)
        response: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return response

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            services.change(obj, editor=request.user, version=form.version)  # type: ignore[arg-type]
        else:
            services.begin(obj, request.user)  # type: ignore[arg-type]

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        self._tell(request, obj, gettext("The series has started."))
        return self._to_page(obj)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        self._tell(request, obj, gettext("Changed from here on."))
        return self._to_page(obj)

    def _tell(self, request: HttpRequest, series: Series, done: str) -> None:
        if series.awaits_approval:
            messages.warning(request, gettext("Saved. It starts when a second person approves it."))
        else:
            messages.success(request, done)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.upcoming))
        return [path("upcoming/", view, name="broadcasts_series_upcoming"), *super().get_urls()]

    def upcoming(self, request: HttpRequest) -> HttpResponse:
        if not may_compose(request):
            raise PermissionDenied
        return JsonResponse(upcoming_of(request.POST))

    # One series

    @action(description=gettext_lazy("Pause"), url_path="pause", icon="pause", permissions=["send"])
    def pause_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = Question(
            title=gettext("Pause this series?"),
            text=gettext(
                "Nothing goes out until it is resumed; what falls into the pause is lost."
            ),
            submit=gettext("Pause"),
            back="",
        )
        return self._steer(request, object_id, question, services.pause, gettext("Paused"))

    @action(
        description=gettext_lazy("Resume"),
        url_path="resume",
        icon="play_arrow",
        permissions=["send"],
        variant=ActionVariant.PRIMARY,
    )
    def resume_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = Question(
            title=gettext("Resume this series?"),
            text=gettext("It goes on with the next moment from now."),
            submit=gettext("Resume"),
            back="",
        )
        person = cast(AbstractUser, request.user)
        return self._steer(
            request, object_id, question, lambda s: services.resume(s, person), gettext("Resumed")
        )

    @action(
        description=gettext_lazy("Approve"),
        url_path="approve",
        icon="approval",
        permissions=["approve"],
        variant=ActionVariant.PRIMARY,
    )
    def approve_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = Question(
            title=gettext("Approve this series?"),
            text=gettext("It starts, and sends by itself. A change of it needs a new approval."),
            submit=gettext("Approve"),
            back="",
        )
        return self._say(request, object_id, question, services.approve, gettext("Approved"))

    @action(
        description=gettext_lazy("Reject"),
        url_path="reject",
        icon="block",
        permissions=["approve"],
    )
    def reject_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = Question(
            title=gettext("Reject this series?"),
            text=gettext(
                "Say what has to change. It stays paused; who changes or resumes it asks again."
            ),
            submit=gettext("Reject"),
            back="",
            danger=True,
        )
        return self._say(request, object_id, question, services.reject, gettext("Rejected"))

    @action(
        description=gettext_lazy("Comment"),
        url_path="comment",
        icon="comment",
        permissions=["comment"],
    )
    def comment_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = Question(
            title=gettext("Comment on this series"),
            text=gettext("It stands in the history and decides nothing."),
            submit=gettext("Comment"),
            back="",
        )

        def verb(series: Series, person: AbstractUser, said: str, _version: int) -> object:
            return comment(series, person, said)

        return self._say(request, object_id, question, verb, gettext("Commented"))

    @action(
        description=gettext_lazy("Leave one out"),
        url_path="skip",
        icon="event_busy",
        permissions=["send"],
    )
    def skip_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = Question(
            title=gettext("Leave one out?"),
            text=gettext("It does not go out, and the others do. It can be put back until then."),
            submit=gettext("Leave it out"),
            back="",
        )
        series = get_object_or_404(Series, pk__in=ids_in([object_id]))
        moments = services.upcoming(series)
        return self._pick(request, series, moments, question, services.skip, gettext("Left out"))

    @action(
        description=gettext_lazy("Put one back"),
        url_path="put-back",
        icon="event_available",
        permissions=["send"],
    )
    def put_back_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = Question(
            title=gettext("Put one back?"),
            text=gettext("It was left out, and goes out after all."),
            submit=gettext("Put it back"),
            back="",
        )
        series = get_object_or_404(Series, pk__in=ids_in([object_id]))
        moments = services.left_out(series)
        return self._pick(
            request, series, moments, question, services.put_back, gettext("Put back")
        )

    @action(
        description=gettext_lazy("End"),
        url_path="end",
        icon="stop",
        permissions=["send"],
        variant=ActionVariant.DANGER,
    )
    def end_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = Question(
            title=gettext("End this series?"),
            text=gettext("Nothing of it goes out any more; what did stays. There is no way back."),
            submit=gettext("End for good"),
            back="",
            danger=True,
        )
        return self._steer(request, object_id, question, services.end, gettext("Ended"))

    def _steer(
        self,
        request: HttpRequest,
        pk: str,
        question: Question,
        verb: Callable[[Series], Series],
        noted: str,
    ) -> HttpResponse:
        series = get_object_or_404(Series, pk__in=ids_in([pk]))
        if not confirmed(request):
            question.back = page_url(series)
            question.facts = facts_of_question(series)
            return ask(self, request, question)
        if self._done(request, series, verb, noted):
            messages.success(request, f"{series.title}: {noted}")
        return self._to_page(series)

    def _say(
        self,
        request: HttpRequest,
        pk: str,
        question: Question,
        verb: Callable[[Series, AbstractUser, str, int], object],
        noted: str,
    ) -> HttpResponse:
        """A step of its approval, about the version that was shown."""
        series = get_object_or_404(Series, pk__in=ids_in([pk]))
        form = approving.CommentForm(
            request.POST if confirmed(request) else None, initial={"version": series.version}
        )
        form.fields["comment"].required = verb is not services.approve
        if not form.is_valid():
            question.back, question.form = page_url(series), form
            question.facts = [*texts_of(series), *facts_of_question(series)]
            return ask(self, request, question)
        person, said = cast(AbstractUser, request.user), form.cleaned_data["comment"]
        version = form.cleaned_data["version"] or 0
        if self._done(request, series, lambda s: verb(s, person, said, version), noted):
            messages.success(request, f"{series.title}: {noted}")
        return self._to_page(series)

    def _pick(
        self,
        request: HttpRequest,
        series: Series,
        moments: list[datetime],
        question: Question,
        verb: Callable[[Series, datetime], Series],
        noted: str,
    ) -> HttpResponse:
        """One of its moments."""
        form = OccurrenceForm(request.POST if confirmed(request) else None, series, moments)
        if not form.is_valid():
            question.back, question.form = page_url(series), form
            return ask(self, request, question)
        occurrence = form.cleaned_data["occurrence"]
        noted = f"{noted}: {spoken(series, occurrence)}"
        if self._done(request, series, lambda s: verb(s, occurrence), noted):
            messages.success(request, noted)
        return self._to_page(series)

    def _done(
        self,
        request: HttpRequest,
        series: Series,
        verb: Callable[[Series], object],
        noted: str,
    ) -> bool:
        try:
            verb(series)
        except REFUSALS as error:
            self._refused(request, error)
            return False
        self.log_change(request, series, noted)
        return True

    def _refused(self, request: HttpRequest, error: Exception) -> None:
        words = error.messages if isinstance(error, ValidationError) else [str(error)]
        messages.error(request, " ".join([gettext("Not done."), *words]))

    def _to_page(self, series: Series) -> HttpResponse:
        return redirect(page_url(series))


def page_url(series: Series) -> str:
    return reverse("admin:broadcasts_series_change", args=[series.pk])


def state_in_words(series: Series) -> str:
    state = str(series.state.label)
    return f"{state} · {series.get_approval_display()}" if is_discussed(series) else state


def is_discussed(series: Series) -> bool:
    """Whether it stands still for what a second person said, or has yet to say."""
    open_ones = (Approval.REQUESTED, Approval.REJECTED)
    return series.state == State.PAUSED and series.approval in open_ones


def facts_of_question(series: Series) -> list[tuple[str, object]]:
    ahead = [spoken(series, moment) for moment in services.upcoming(series, 1)]
    return [
        (gettext("Series"), series.title),
        (gettext("Who gets it"), audience_of(series, 10)),
        (gettext("Repeats"), f"{series.words}, {series.zone}"),
        (gettext("Next"), ahead[0] if ahead else "–"),
    ]


def facts_of(series: Series) -> dict[str, Any]:
    """What stands above the form of a series."""
    numbers = dict(series.broadcasts.values_list("status").annotate(Count("pk")).order_by())
    url = f"{reverse('admin:broadcasts_broadcast_changelist')}?series__id__exact={series.pk}"
    return {
        "state_label": state_in_words(series),
        "state_variant": STATE_LABELS[series.state],
        "repeats": f"{series.words}, {series.zone}",
        "next_moment": spoken(series, series.next_at) if series.next_at else "",
        "counts": [
            (gettext("Its broadcasts"), digits(sum(numbers.values())), url),
            *(
                (label, digits(numbers.get(status, 0)), f"{url}&{lookup}={status}")
                for label, (lookup, status) in COUNTED.items()
                if numbers.get(status)
            ),
        ],
        "skipped": [spoken(series, moment) for moment in services.left_out(series)],
        "approval": approving.history(series, f"series__id__exact={series.pk}")
        | {"is_open": is_discussed(series), "voids": series.awaits_approval},
    }


def upcoming_of(data: Mapping[str, str]) -> dict[str, Any]:
    """What the fields of a form mean: words and the next moments, or what is wrong."""
    if not data.get("cron", "").strip():
        return {"words": gettext("Write when it repeats, and the next five stand here.")}
    series = Series.objects.filter(pk__in=ids_in([data.get("series", "")])).first()
    form = UpcomingForm(data, instance=series or Series())
    if not form.is_valid():
        return {"error": " ".join(str(text) for texts in form.errors.values() for text in texts)}
    written: Series = form.instance
    moments = services.upcoming(written)
    if not moments:
        return {"error": str(services.NEVER)}
    note = gettext("It is paused: resume it for these to go out.")
    if written.awaits_approval:
        note = gettext("These go out when a second person has approved it.")
    return {
        "words": f"{written.words}, {written.zone}",
        "moments": [spoken(written, moment) for moment in moments],
        "note": note if written.state == State.PAUSED else "",
    }
