"""Where a second person approves: the card on the page of a draft, its questions, its history."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import AbstractUser
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesCheckboxFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from broadcasts import approval_rules, approvals
from broadcasts.admin.languages import texts_of
from broadcasts.admin.page import audience_of, page_url, reach
from broadcasts.admin.questions import SeenForm, kind_of
from broadcasts.models import Approval, ApprovalStep, Broadcast, Decision, Series, Status
from broadcasts.services import ChangedMeanwhile, InvalidTransition
from jobs.pages import Question, ReadOnlyAdmin, ask, confirmed, to_the_second

SHOWN_STEPS = 20
LABELS = {
    Approval.NONE: "default",
    Approval.REQUESTED: "warning",
    Approval.APPROVED: "success",
    Approval.REJECTED: "danger",
}
DECISIONS = {
    Decision.REQUESTED: "warning",
    Decision.APPROVED: "success",
    Decision.REJECTED: "danger",
}


class CommentForm(SeenForm):
    comment = forms.CharField(
        label=gettext_lazy("Comment"),
        max_length=2_000,
        required=False,
        widget=UnfoldAdminTextareaWidget({"rows": 4}),
        help_text=gettext_lazy("For the other operators; readers never see it."),
    )


@dataclass(frozen=True)
class Verb:
    """What somebody may say about a draft: where it leads from, who may, and in which words."""

    do: Callable[..., object]
    offered: tuple[str, ...]
    may: Callable[[AbstractUser], bool]
    button: Promise
    title: Promise
    text: Promise
    done: Promise
    danger: bool = False
    needs_comment: bool = False
    not_own: bool = False


def may_write(person: AbstractUser) -> bool:
    return person.has_perm("broadcasts.change_broadcast")


def may_approve(person: AbstractUser) -> bool:
    return person.has_perm("broadcasts.approve_broadcast")


def _comment(broadcast: Broadcast, person: AbstractUser, said: str, _version: int | None) -> object:
    return approvals.comment(broadcast, person, said)


VERBS = {
    "approve": Verb(
        approvals.approve,
        (Approval.REQUESTED,),
        may_approve,
        gettext_lazy("Approve"),
        gettext_lazy("Approve this broadcast?"),
        gettext_lazy("It may then be sent as it is. A change of it needs a new approval."),
        gettext_lazy("Approved."),
        not_own=True,
    ),
    "reject": Verb(
        approvals.reject,
        (Approval.REQUESTED,),
        may_approve,
        gettext_lazy("Reject"),
        gettext_lazy("Reject this broadcast?"),
        gettext_lazy("Say what has to change. It stays a draft, and can be submitted again."),
        gettext_lazy("Rejected."),
        danger=True,
        needs_comment=True,
        not_own=True,
    ),
    "request": Verb(
        approvals.request,
        (Approval.NONE, Approval.REJECTED),
        may_write,
        gettext_lazy("Ask for approval"),
        gettext_lazy("Ask for an approval?"),
        gettext_lazy("A second person reads it and approves or rejects it. Then it can be sent."),
        gettext_lazy("Asked for. Whoever may approve sees it on the overview."),
    ),
    "comment": Verb(
        _comment,
        tuple(Approval.values),
        approvals.takes_part,
        gettext_lazy("Comment"),
        gettext_lazy("Comment on this broadcast"),
        gettext_lazy("It stands in the history and decides nothing."),
        gettext_lazy("Your comment is in the history."),
        needs_comment=True,
    ),
    "withdraw": Verb(
        approvals.withdraw,
        (Approval.REQUESTED, Approval.APPROVED),
        approvals.takes_part,
        gettext_lazy("Withdraw"),
        gettext_lazy("Take it back?"),
        gettext_lazy("The request or the approval is void. It can be asked for again."),
        gettext_lazy("Withdrawn."),
        danger=True,
    ),
}


def url_of(broadcast: Broadcast, verb: str) -> str:
    return reverse("admin:broadcasts_broadcast_approval", args=[broadcast.pk, verb])


def card(broadcast: Broadcast, person: AbstractUser) -> dict[str, Any] | None:
    """What a page shows of it; nothing where no rule asks for approvals and none was asked for."""
    is_open = broadcast.status == Status.DRAFT
    shown = history(broadcast, f"broadcast__id__exact={broadcast.pk}")
    if not shown["steps"] and not (approval_rules.enabled() and is_open):
        return None
    return shown | {
        "is_open": is_open,
        "voids": broadcast.approval in (Approval.REQUESTED, Approval.APPROVED),
        "buttons": list(_buttons(broadcast, person)) if is_open else [],
    }


def history(subject: Broadcast | Series, those: str) -> dict[str, Any]:
    """How its approval stands, and the latest that was said; `those` filters the list of all."""
    steps = list(subject.approval_steps.all()[: SHOWN_STEPS + 1])
    url = reverse("admin:broadcasts_approvalstep_changelist")
    return {
        "standing": subject.get_approval_display(),
        "variant": LABELS[Approval(subject.approval)],
        "steps": [
            {"step": step, "at": to_the_second(step.created_at)} for step in steps[:SHOWN_STEPS]
        ],
        "more": f"{url}?{those}" if len(steps) > SHOWN_STEPS else "",
    }


def _buttons(broadcast: Broadcast, person: AbstractUser) -> Any:
    own = broadcast.approval == Approval.REQUESTED and approvals.is_own(broadcast, person)
    for name, verb in VERBS.items():
        if name == "request" and not approval_rules.enabled():
            continue
        if broadcast.approval in verb.offered and verb.may(person) and not (own and verb.not_own):
            yield {"text": verb.button, "url": url_of(broadcast, name), "first": name == "approve"}


class ApprovalViews(ModelAdmin):
    """The questions behind the buttons of the card."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.approval)
        address = "<int:pk>/approval/<slug:verb>/"
        return [path(address, view, name="broadcasts_broadcast_approval"), *super().get_urls()]

    def approval(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        if verb not in VERBS:
            raise Http404
        what, person = VERBS[verb], cast(AbstractUser, request.user)
        if not (self.has_view_permission(request) and what.may(person)):
            raise PermissionDenied
        broadcast = get_object_or_404(Broadcast, pk=pk)
        form = CommentForm(
            request.POST if confirmed(request) else None, initial={"version": broadcast.version}
        )
        form.fields["comment"].required = what.needs_comment
        if not form.is_valid():
            return ask(self, request, _question(broadcast, what, form))
        self._decide(request, broadcast, what, form)
        return redirect(page_url(broadcast))

    def approval_first(self, request: HttpRequest, broadcast: Broadcast) -> HttpResponse | None:
        """Where to go instead of sending it, when a second person has to agree first."""
        reasons = approval_rules.reasons(broadcast)
        if not reasons or broadcast.approval == Approval.APPROVED:
            return None
        why = " ".join(reasons)
        if broadcast.approval == Approval.REQUESTED:
            messages.warning(request, _("It waits for somebody's approval. %(why)s") % {"why": why})
            return redirect(page_url(broadcast))
        messages.warning(request, _("It needs an approval first. %(why)s") % {"why": why})
        may_ask = may_write(cast(AbstractUser, request.user))
        return redirect(url_of(broadcast, "request") if may_ask else page_url(broadcast))

    def _decide(
        self, request: HttpRequest, broadcast: Broadcast, what: Verb, form: CommentForm
    ) -> None:
        said, version = form.cleaned_data["comment"], form.cleaned_data["version"] or 0
        try:
            what.do(broadcast, request.user, said, version)
        except (InvalidTransition, ChangedMeanwhile, approvals.OwnWork) as error:
            messages.error(request, f"{broadcast.title}: {error}")
        except ValidationError as error:
            messages.error(request, f"{broadcast.title}: {' '.join(error.messages)}")
        else:
            text = f"{what.done} {said}".strip()
            self.log_change(request, broadcast, text)
            messages.success(request, str(what.done))


def _question(broadcast: Broadcast, what: Verb, form: CommentForm) -> Question:
    people, sample = reach(broadcast)
    reasons = approval_rules.reasons(broadcast)
    return Question(
        title=what.title,
        text=what.text,
        facts=[
            *texts_of(broadcast),
            (_("People"), people),
            (_("Audience"), audience_of(broadcast, 10)),
            (_("For example"), sample or "–"),
            (_("Priority"), broadcast.get_priority_display()),
            (_("Kind"), kind_of(broadcast)),
            (_("Why"), " ".join(reasons) or _("No rule asks for an approval.")),
        ],
        form=form,
        submit=what.button,
        back=page_url(broadcast),
        danger=what.danger,
    )


@admin.register(ApprovalStep)
class ApprovalStepAdmin(ReadOnlyAdmin):
    list_display = ("moment", "label", "subject", "version", "person_name", "comment")
    list_display_links = ("moment",)
    list_filter = (
        ("decision", ChoicesCheckboxFilter),
        ("broadcast", AutocompleteSelectFilter),
        ("series", AutocompleteSelectFilter),
    )
    search_fields = ("person_name", "comment")
    search_help_text = gettext_lazy("Name of the person, or words of the comment")
    sortable_by = ()
    list_per_page = 50
    fields = (
        *("broadcast", "series", "version", "decision"),
        *("person_name", "comment", "created_at"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApprovalStep]:
        queryset: QuerySet[ApprovalStep] = super().get_queryset(request)
        heavy = ("targets", "content", "translations")
        return queryset.select_related("broadcast", "series").defer(
            *(f"{subject}__{name}" for subject in ("broadcast", "series") for name in heavy)
        )

    @display(description=gettext_lazy("about"))
    def subject(self, step: ApprovalStep) -> str:
        return str(step.broadcast or step.series)

    @display(description=gettext_lazy("when"))
    def moment(self, step: ApprovalStep) -> str:
        return to_the_second(step.created_at)

    @display(description=gettext_lazy("step"), label=DECISIONS)
    def label(self, step: ApprovalStep) -> tuple[str, str]:
        return step.decision, step.get_decision_display()
