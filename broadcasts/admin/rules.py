"""Rules: the latest event while one is written, a test against past ones, and what it did."""

import csv
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import flatten
from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy, ngettext
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import ChoicesCheckboxFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminTextInputWidget

from broadcasts import approval_rules, conditions
from broadcasts import rules as services
from broadcasts.admin.compose import CompositionForm, MarkdownWidget
from broadcasts.admin.languages import TranslatedForm, name_of
from broadcasts.admin.page import audience_of
from broadcasts.admin.questions import SeenForm
from broadcasts.admin.templates import choices
from broadcasts.admin.together import VersionedForm
from broadcasts.approvals import OwnWork
from broadcasts.conditions import Operator
from broadcasts.directory import ids_in
from broadcasts.fillings import data_of
from broadcasts.models import Outcome, Rule, RuleMatch
from broadcasts.rule_models import check_pattern, is_answerable
from broadcasts.services import ChangedMeanwhile, InvalidTransition
from jobs.pages import Question, ReadOnlyAdmin, ask, confirmed, digits, to_the_second
from outbox import event_types
from outbox.models import Event

REFUSALS = (InvalidTransition, ValidationError, ChangedMeanwhile, OwnWork)
REHEARSED = 50  # events
LATEST = 5  # matches on the page of a rule
LONGEST_SHOWN = 120  # characters of a field
OUTCOME_LABELS = {
    Outcome.BROADCAST: "success",
    Outcome.CONDITION: "default",
    Outcome.COOL_DOWN: "warning",
    Outcome.ERROR: "danger",
    Outcome.LOOP: "danger",
}
STATE_LABELS = {"live": "success", "waits": "warning", "off": "default"}


def state_of(rule: Rule) -> tuple[str, str]:
    if rule.awaits_approval:
        return "waits", str(rule.get_approval_display())
    return ("live", gettext("Active")) if rule.active else ("off", gettext("Off"))


class EventWidget(UnfoldAdminTextInputWidget):
    """A type of those that are known, or its beginning, above its latest event."""

    def render(self, *args: Any, **kwargs: Any) -> SafeString:
        context = {"editor": super().render(*args, **kwargs), "types": offered().items()}
        return render_to_string("admin/broadcasts/rule/event.html", context)


def offered() -> dict[str, Any]:
    """What a rule may answer to: every type with its sentence, and the domains."""
    types = {
        name: sentence for name, sentence in event_types.known().items() if is_answerable(name)
    }
    text = gettext("All of %(domain)s")
    domains = dict.fromkeys(name.partition(".")[0] for name in types)
    return types | {f"{name}.*": text % {"domain": name} for name in domains}


class ConditionsWidget(forms.Widget):
    """One row a condition."""

    def value_from_datadict(
        self, data: Mapping[str, Any], files: Any, name: str
    ) -> list[dict[str, str]]:
        getlist = getattr(data, "getlist", lambda key: data.get(key, []))
        columns = (getlist(f"{name}_{part}") for part in ("field", "operator", "value"))
        rows = zip(*columns, strict=False)
        return [{"field": f.strip(), "operator": o, "value": v.strip()} for f, o, v in rows]

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return False

    def render(
        self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None
    ) -> SafeString:
        rows = [one | {"value": as_text(one.get("value"))} for one in value or []]
        context = {"name": name, "rows": rows, "operators": Operator.choices}
        return render_to_string("admin/broadcasts/rule/conditions.html", context)


def as_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f'"{v}"' if "," in (v := as_text(one)) else v for one in value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


class ConditionsField(forms.Field):
    """What is stored as `conditions`; rows without a field and a value are left out."""

    widget = ConditionsWidget

    def clean(self, value: list[dict[str, str]]) -> list[dict[str, Any]]:
        return list(self._stored(value))

    def has_changed(self, initial: Any, data: Any) -> bool:
        before = [one | {"value": as_text(one.get("value"))} for one in initial or []]
        return before != [row for row in data if row["field"] or row["value"]]

    def _stored(self, rows: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
        for row in rows:
            if row["operator"] == Operator.EXISTS:
                if row["field"]:
                    yield row | {"value": None}
            elif row["operator"] == Operator.IN:
                try:
                    (several,) = csv.reader([row["value"]], skipinitialspace=True)
                except csv.Error as error:
                    text = gettext("Write the values of “is one of” in one line, between commas.")
                    raise ValidationError(text) from error
                yield row | {"value": several}
            elif row["field"] or row["value"]:
                yield dict(row)


class RuleForm(VersionedForm, CompositionForm):
    conditions = ConditionsField(
        label=gettext_lazy("Only if"),
        required=False,
        help_text=gettext_lazy(
            "All of them must hold; without any, every such event is broadcast."
        ),
    )

    class Meta:
        model = Rule
        fields = (
            "name",
            "active",
            "pattern",
            "conditions",
            "title",
            "content",
            "language",
            "translations",
            "priority",
            "category",
            "reference",
            "audience",
            "targets",
            "life",
            "cool_down",
            "per_key",
            "fire_and_forget",
            "force_logoff",
            "requires_acknowledgement",
        )
        widgets = {
            "content": MarkdownWidget({"rows": 10}),
            "pattern": EventWidget({"placeholder": "link.expired", "autocomplete": "off"}),
        }

    def _in_words(self, name: str, values: Mapping[str, Any]) -> str:
        if name == "conditions":
            return "\n".join(map(conditions.in_words, values.get(name) or [])) or "–"
        return super()._in_words(name, values)


class RehearsalForm(TranslatedForm):
    """What decides about an event: asked while the rest of the form may be half written."""

    conditions = ConditionsField(required=False)

    class Meta:
        model = Rule
        fields = (
            "pattern",
            "conditions",
            "title",
            "content",
            "language",
            "translations",
            "life",
            "cool_down",
            "per_key",
        )

    def _post_clean(self) -> None:
        for name, value in self.cleaned_data.items():
            if value or name != "language":
                setattr(self.instance, name, value)
        problems = self.instance.problems()
        try:
            check_pattern(self.instance.pattern)
        except ValidationError as error:
            problems["pattern"] = error.message % (error.params or {})
        for name in self._meta.fields or ():
            if name in problems and name not in self.errors:
                self.add_error(name, problems[name])


class StateFilter(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("live", gettext_lazy("Active")),
            ("waits", gettext_lazy("Waits for approval")),
            ("off", gettext_lazy("Off")),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        match self.value():
            case "live":
                return queryset.live()
            case "waits":
                return queryset.awaiting_approval()
            case "off":
                return queryset.filter(active=False)
        return queryset


@admin.register(Rule)
class RuleAdmin(ModelAdmin):
    form = RuleForm
    list_display = ("state_label", "headline", "pattern", "who", "broadcasts", "last")
    list_display_links = ("headline",)
    list_filter = (StateFilter,)
    list_per_page = 25
    search_fields = ("name", "title", "pattern")
    search_help_text = gettext_lazy("Name, title or event")
    compressed_fields = False
    warn_unsaved_form = True
    readonly_fields = ("who", "other_languages", "conditions_in_words")
    radio_fields = {"audience": admin.HORIZONTAL}
    change_form_template = "admin/broadcasts/rule/compose.html"
    actions_detail = ("approve_one", "start_one", "stop_one")
    fieldsets = (
        (gettext_lazy("When"), {"fields": (("name", "active"), "pattern", "conditions")}),
        (
            gettext_lazy("Message"),
            {"fields": ("title", "content", ("priority", "category", "reference"))},
        ),
        (gettext_lazy("Languages"), {"fields": ("language", "translations")}),
        (gettext_lazy("Audience"), {"fields": ("audience", "targets")}),
        (
            gettext_lazy("How"),
            {
                "fields": (
                    "life",
                    ("cool_down", "per_key"),
                    ("fire_and_forget", "force_logoff"),
                    "requires_acknowledgement",
                )
            },
        ),
    )

    # Rows and permissions: a rule sends, so who changes one may send

    def get_queryset(self, request: HttpRequest) -> QuerySet[Rule]:
        queryset: QuerySet[Rule] = super().get_queryset(request)
        # Not by a join: the index has what was broadcast, the table all that was not as well.
        sent = RuleMatch.objects.filter(rule=OuterRef("pk"), outcome=Outcome.BROADCAST).order_by()
        counted = sent.values("rule").annotate(count=Count("rule")).values("count")
        last = sent.order_by("-created_at").values("created_at")[:1]
        return queryset.annotate(sent=Coalesce(Subquery(counted), 0), last_at=Subquery(last))

    def has_send_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def has_approve_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("broadcasts.approve_broadcast")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_send(request) and bool(super().has_add_permission(request))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_send(request) and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_send(request) and bool(super().has_delete_permission(request, obj))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What they did goes with them, though nobody may delete it alone; it may be long."""
        matches = RuleMatch.objects.filter(rule__in=[rule.pk for rule in objs]).count()
        counts = {
            gettext_lazy("rules"): digits(len(objs)),
            gettext_lazy("matches of rules"): digits(matches),
        }
        return [str(rule) for rule in objs], counts, set(), []

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None or self.has_change_permission(request, obj):
            return super().get_fieldsets(request, obj)
        shown = {
            "targets": "who",
            "translations": "other_languages",
            "conditions": "conditions_in_words",
            "audience": None,
        }
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

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        rule = Rule.objects.filter(pk__in=ids_in([str(object_id)])).first()
        if not rule:
            return []
        offered = {"stop_one"} if rule.active else {"start_one"}
        offered |= {"approve_one"} if rule.awaits_approval else set()
        return [
            button
            for button in super().get_actions_detail(request, object_id)
            if button.method.original_function_name in offered
        ]

    @display(description=gettext_lazy("who gets it"))
    def who(self, rule: Rule) -> str:
        return audience_of(rule, 3)

    @display(description=gettext_lazy("in other languages"))
    def other_languages(self, rule: Rule) -> str:
        """All of it: who approves a rule reads here what goes out."""
        texts = list(rule.texts.values())[1:]
        words = (f"{name_of(text.language)}: {text.title}\n{text.content}" for text in texts)
        return "\n\n".join(words) or "–"

    @display(description=gettext_lazy("only if"))
    def conditions_in_words(self, rule: Rule) -> str:
        return "\n".join(map(conditions.in_words, rule.conditions)) or "–"

    # List

    @display(description=gettext_lazy("state"), label=STATE_LABELS)
    def state_label(self, rule: Rule) -> tuple[str, str]:
        return state_of(rule)

    @display(description=gettext_lazy("rule"), ordering="name", header=True)
    def headline(self, rule: Rule) -> list[str]:
        return [rule.name, rule.title]

    @display(description=gettext_lazy("broadcasts"), ordering="sent")
    def broadcasts(self, rule: Any) -> SafeString:
        url = f"{matches_url(rule)}&outcome__exact={Outcome.BROADCAST}"
        return format_html('<a href="{}">{}</a>', url, digits(rule.sent))

    @display(description=gettext_lazy("last"), ordering="last_at")
    def last(self, rule: Any) -> str:
        return to_the_second(rule.last_at)

    # Form

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            response: HttpResponse = super().changeform_view(request, *args, **kwargs)
        except REFUSALS as error:
            self._refused(request, error)
            return redirect(request.path)
        return response

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context["templates"] = choices()
        form = context["adminform"].form
        if rule := context.get("original"):
            context |= facts_of(rule)
            context["theirs"] = getattr(form, "theirs", [])
            context["version"] = form.data.get("version", "") if form.is_bound else rule.version
        response: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return response

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        person = request.user
        assert isinstance(person, AbstractUser)
        if change:
            services.change(obj, editor=person)
        else:
            services.create(obj, person)

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._saved(request, obj)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        return self._saved(request, obj)

    def _saved(self, request: HttpRequest, rule: Rule) -> HttpResponse:
        if rule.awaits_approval:
            text = gettext("Saved. It answers when a second person approves it.")
            messages.warning(request, text)
        elif rule.active:
            messages.success(request, gettext("Saved. It answers from now on."))
        else:
            messages.success(request, gettext("Saved. It is switched off."))
        return redirect(page_url(rule))

    def get_urls(self) -> list[URLPattern]:
        views = {"example": self.example, "rehearse": self.rehearse}
        own = [
            path(
                f"{name}/",
                self.admin_site.admin_view(require_POST(view)),
                name=f"broadcasts_rule_{name}",
            )
            for name, view in views.items()
        ]
        return [*own, *super().get_urls()]

    def example(self, request: HttpRequest) -> HttpResponse:
        """Of any event: who makes a rule of it may as well have it sent to themselves."""
        self._refuse_who_writes_none(request)
        return JsonResponse(example_of(request.POST.get("pattern", "").strip(), request))

    def rehearse(self, request: HttpRequest) -> HttpResponse:
        self._refuse_who_writes_none(request)
        return JsonResponse(rehearsal_of(request))

    def _refuse_who_writes_none(self, request: HttpRequest) -> None:
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied

    # One rule

    @action(
        description=gettext_lazy("Approve"),
        url_path="approve",
        icon="approval",
        permissions=["approve"],
        variant=ActionVariant.PRIMARY,
    )
    def approve_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        rule = get_object_or_404(Rule, pk=object_id)
        seen = SeenForm(request.POST or None, initial={"version": rule.version})
        if confirmed(request) and seen.is_valid():
            person, version = request.user, seen.cleaned_data["version"] or 0
            assert isinstance(person, AbstractUser)
            noted = gettext("Approved")
            return self._done(
                request, rule, lambda one: services.approve(one, person, version), noted
            )
        question = Question(
            title=gettext("Approve this rule?"),
            text=gettext("It sends by itself from then on. A change of it needs a new approval."),
            submit=gettext("Approve"),
            back=page_url(rule),
            facts=facts_of_question(rule),
            form=seen,
        )
        return ask(self, request, question)

    @action(
        description=gettext_lazy("Switch on"),
        url_path="start",
        icon="play_arrow",
        permissions=["send"],
        variant=ActionVariant.PRIMARY,
    )
    def start_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = Question(
            title=gettext("Switch this rule on?"),
            text=gettext("It answers to what happens from now on, and to nothing before."),
            submit=gettext("Switch on"),
            back="",
        )
        return self._steer(request, object_id, question, services.start, gettext("Switched on"))

    @action(
        description=gettext_lazy("Switch off"),
        url_path="stop",
        icon="pause",
        permissions=["send"],
    )
    def stop_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = Question(
            title=gettext("Switch this rule off?"),
            text=gettext("Events pass by until it is switched on again; what went out stays."),
            submit=gettext("Switch off"),
            back="",
        )
        return self._steer(request, object_id, question, services.stop, gettext("Switched off"))

    def _steer(
        self,
        request: HttpRequest,
        pk: str,
        question: Question,
        verb: Callable[[Rule], Rule],
        noted: str,
    ) -> HttpResponse:
        rule = get_object_or_404(Rule, pk=pk)
        if confirmed(request):
            return self._done(request, rule, verb, noted)
        question.back, question.facts = page_url(rule), facts_of_question(rule)
        return ask(self, request, question)

    def _done(
        self, request: HttpRequest, rule: Rule, verb: Callable[[Rule], Rule], noted: str
    ) -> HttpResponse:
        try:
            verb(rule)
        except REFUSALS as error:
            self._refused(request, error)
        else:
            self.log_change(request, rule, noted)
            waits = f" {gettext('It waits for an approval.')}" if rule.awaits_approval else ""
            messages.success(request, f"{rule.name}: {noted}.{waits}")
        return redirect(page_url(rule))

    def _refused(self, request: HttpRequest, error: Exception) -> None:
        words = error.messages if isinstance(error, ValidationError) else [str(error)]
        messages.error(request, " ".join([gettext("Not done."), *words]))


@admin.register(RuleMatch)
class RuleMatchAdmin(ReadOnlyAdmin):
    list_display = ("moment", "rule", "type", "key", "outcome_label", "note", "sent")
    list_filter = (("outcome", ChoicesCheckboxFilter),)
    list_select_related = ("rule",)
    search_fields = ("key__startswith", "event_id")
    search_help_text = gettext_lazy("Key, from its beginning, or event id")
    sortable_by = ()
    list_per_page = 50
    paginator = InfinitePaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    fields = ("moment", "rule", "type", "key", "event", "outcome", "note", "sent")
    readonly_fields = ("moment", "event", "sent")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        leads = request.user.has_perm("outbox.view_event")
        return [name if leads or name != "event" else "event_id" for name in self.fields]

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup == "rule__id__exact" or super().lookup_allowed(lookup, value, request)

    @display(description=gettext_lazy("when"))
    def moment(self, match: RuleMatch) -> str:
        return to_the_second(match.created_at)

    @display(description=gettext_lazy("outcome"), label=OUTCOME_LABELS)
    def outcome_label(self, match: RuleMatch) -> tuple[str, str]:
        return match.outcome, match.get_outcome_display()

    @display(description=gettext_lazy("broadcast"))
    def sent(self, match: RuleMatch) -> str:
        if not match.broadcast_id:
            return "–"
        return format_html('<a href="{}">{}</a>', broadcast_url(match), match.broadcast_id)

    @display(description=gettext_lazy("event"))
    def event(self, match: RuleMatch) -> str:
        """While it is kept."""
        found = Event.objects.filter(event_id=match.event_id).values_list("pk", flat=True).first()
        if not found:
            return str(match.event_id)
        return format_html('<a href="{}">{}</a>', event_url(found), match.event_id)


def may_send(request: HttpRequest) -> bool:
    return request.user.has_perm("broadcasts.send_broadcast")


def page_url(rule: Rule) -> str:
    return reverse("admin:broadcasts_rule_change", args=[rule.pk])


def matches_url(rule: Rule) -> str:
    return f"{reverse('admin:broadcasts_rulematch_changelist')}?rule__id__exact={rule.pk}"


def broadcast_url(match: RuleMatch) -> str:
    return reverse("admin:broadcasts_broadcast_change", args=[match.broadcast_id])


def event_url(pk: int) -> str:
    return reverse("admin:outbox_event_change", args=[pk])


def facts_of_question(rule: Rule) -> list[tuple[str, object]]:
    asked = "; ".join(map(conditions.in_words, rule.conditions))
    return [
        (gettext("Rule"), rule.name),
        (gettext("Event"), rule.pattern),
        (gettext("Only if"), asked or "–"),
        (gettext("Title"), rule.title),
        (gettext("Who gets it"), audience_of(rule, 10)),
        (gettext("Cool-down"), rule.cool_down or "–"),
    ]


def facts_of(rule: Rule) -> dict[str, Any]:
    """What stands above the form of a rule."""
    numbers = dict(rule.matches.values_list("outcome").annotate(Count("pk")).order_by())
    latest = list(rule.matches.order_by("-pk")[:LATEST])
    sent = rule.matches.filter(outcome=Outcome.BROADCAST).order_by("-created_at").first()
    variant, label = state_of(rule)
    return {
        "state_label": label,
        "state_variant": STATE_LABELS[variant],
        "last_moment": to_the_second(sent.created_at) if sent else "",
        "counts": [
            (gettext("Events that it saw"), digits(sum(numbers.values())), matches_url(rule)),
            *(
                (
                    outcome.label,
                    digits(numbers[outcome]),
                    f"{matches_url(rule)}&outcome__exact={outcome}",
                )
                for outcome in Outcome
                if numbers.get(outcome)
            ),
        ],
        "latest": [
            {
                "when": to_the_second(match.created_at),
                "key": match.key,
                "outcome": match.get_outcome_display(),
                "note": match.note,
                "url": broadcast_url(match) if match.broadcast_id else "",
            }
            for match in latest
        ],
    }


def example_of(pattern: str, request: HttpRequest) -> dict[str, Any]:
    """The latest event that a pattern asks for, with its fields; or what is wrong with it."""
    if not pattern:
        return {"sentence": gettext("Choose an event, and its latest example stands here.")}
    try:
        check_pattern(pattern)
    except ValidationError as error:
        return {"error": " ".join(error.messages)}
    known = event_types.known()
    sentence = str(known.get(pattern, "")) or pattern
    if not (found := services.examples(pattern, 1)):
        seen = gettext("No such event has happened yet, as far as the log goes back.")
        return {"sentence": sentence, "about": seen}
    event = found[0]
    about = gettext("The latest: %(type)s of %(key)s, %(when)s")
    shown = {"type": event.type, "key": event.key, "when": to_the_second(event.created_at)}
    return {
        "sentence": sentence,
        "about": about % shown,
        "url": event_url(event.pk) if request.user.has_perm("outbox.view_event") else "",
        "fields": [
            {"path": path, "text": shortened(value), "value": as_text(value)}
            for path, value in conditions.leaves(data_of(event.envelope()))
        ],
    }


def shortened(value: Any) -> str:
    text = "–" if value is None else as_text(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def rehearsal_of(request: HttpRequest) -> dict[str, Any]:
    """What the rule of a form would have done about the last events, or what is wrong with it."""
    rule = Rule.objects.filter(pk__in=ids_in([request.POST.get("rule", "")])).first()
    form = RehearsalForm(request.POST, instance=rule or Rule())
    if not form.is_valid():
        problems = (
            f"{form.fields[name].label or name}: {text}"
            for name, texts in form.errors.items()
            for text in texts
        )
        return {"error": " ".join(problems)}
    found = services.rehearse(form.instance, REHEARSED)
    sent = sum(verdict.outcome == Outcome.BROADCAST for _, verdict in found)
    if not found:
        return {"summary": gettext("No such event is in the log.")}
    text = ngettext(
        "%(sent)s of the last %(count)s event would have been broadcast.",
        "%(sent)s of the last %(count)s events would have been broadcast.",
        len(found),
    )
    may_view = request.user.has_perm("outbox.view_event")
    return {
        "summary": text % {"sent": sent, "count": len(found)},
        "rows": [
            {
                "outcome": verdict.outcome,
                "label": verdict.outcome.label,
                "when": to_the_second(event.created_at),
                "type": event.type,
                "key": event.key,
                "note": verdict.note,
                "title": verdict.broadcast.title if verdict.broadcast else "",
                "html": verdict.broadcast.html if verdict.broadcast else "",
                "url": event_url(event.pk) if may_view else "",
            }
            for event, verdict in found
        ],
    }


def awaiting_approval() -> int:
    """Not asked of the database where nobody has to approve."""
    return Rule.objects.awaiting_approval().count() if approval_rules.enabled() else 0
