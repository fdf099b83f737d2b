"""What the operator is asked before a broadcast changes."""

from django import forms
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.widgets import UnfoldAdminTextInputWidget

from broadcasts.admin.page import audience_of, list_url, page_url, reach
from broadcasts.models import Broadcast, Status
from jobs.pages import Question, some_of

LISTED = 10  # broadcasts whose reach is asked of the directory for one page


class SeenForm(forms.Form):
    """Which version the question was about: an answer to another one is none."""

    version = forms.IntegerField(required=False, widget=forms.HiddenInput)


class CancelForm(forms.Form):
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=500,
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy(
            "Kept with the broadcast and in the history; its readers do not see it."
        ),
    )


def send_question(broadcast: Broadcast, *, later: bool) -> Question:
    people, sample = reach(broadcast)
    assert broadcast.scheduled_at or not later
    return Question(
        title=_("Schedule this broadcast?") if later else _("Send this broadcast now?"),
        text=broadcast.title,
        facts=[
            (_("People"), people),
            (_("Audience"), audience_of(broadcast, 10)),
            (_("For example"), sample or "–"),
            (_("Goes out"), moment(broadcast) if later else _("now")),
            (_("Priority"), broadcast.get_priority_display()),
            (_("Kind"), kind_of(broadcast)),
        ],
        warning=_warning(broadcast, people, later=later),
        form=SeenForm(initial={"version": broadcast.version}),
        submit=_("Schedule") if later else _("Send now"),
        back=page_url(broadcast),
    )


def _warning(broadcast: Broadcast, people: str, *, later: bool) -> str:
    sentences = []
    if people == "0":
        sentences.append(_("Nobody belongs to this audience now."))
    if not later and broadcast.scheduled_at and broadcast.scheduled_at > timezone.now():
        text = _("It does not wait for %(moment)s: to keep that, go back and press Schedule.")
        sentences.append(text % {"moment": moment(broadcast)})
    return " ".join(sentences)


def moment(broadcast: Broadcast) -> str:
    local = timezone.localtime(broadcast.scheduled_at)
    return f"{date_format(local, 'DATETIME_FORMAT')} ({timezone.get_current_timezone_name()})"


def kind_of(broadcast: Broadcast) -> str:
    if broadcast.force_logoff:
        return _("Signs out who is connected, kept in no inbox")
    if broadcast.fire_and_forget:
        return _("Shown to who is connected, kept in no inbox")
    if broadcast.requires_acknowledgement:
        return _("On screen at once, or in the inbox later; asks for acknowledgement")
    return _("On screen at once, or in the inbox later")


def send_all_question(chosen: list[Broadcast]) -> Question:
    drafts = [broadcast for broadcast in chosen if broadcast.status == Status.DRAFT]
    facts: list[tuple[str, object]] = [
        (b.title, f"{audience_of(b, 3)} · {_('people')}: {reach(b)[0]}") for b in drafts[:LISTED]
    ]
    if more := len(drafts) - LISTED:
        facts += [(_("And more"), more)] if more > 0 else []
    return Question(
        title=_("Send these drafts?"),
        text=_("Each goes out now, or at its scheduled moment where that lies ahead."),
        facts=facts,
        warning=_("What is no draft stays as it is.") if len(drafts) < len(chosen) else "",
        submit=_("Send"),
        back=list_url(),
    )


def test_question(broadcast: Broadcast) -> Question:
    return Question(
        title=_("Send a test to yourself?"),
        text=broadcast.title,
        facts=[(_("People"), _("only you, for an hour"))],
        submit=_("Send the test"),
        back=page_url(broadcast),
    )


def retry_question(broadcast: Broadcast) -> Question:
    return Question(
        title=_("Try again?"),
        text=_("Its preparation goes on from where it stood."),
        facts=[(_("Last error"), broadcast.last_error or "–")],
        submit=_("Retry"),
        back=page_url(broadcast),
    )


def duplicate_question(broadcast: Broadcast) -> Question:
    return Question(
        title=_("Duplicate this broadcast?"),
        text=_("A new draft with the same words and audience, without its moments."),
        facts=[(_("Broadcast"), broadcast.title), (_("Audience"), audience_of(broadcast, 10))],
        submit=_("Duplicate"),
        back=page_url(broadcast),
    )


def cancel_question(chosen: list[Broadcast], form: CancelForm, back: str) -> Question:
    return Question(
        title=ngettext("Cancel this broadcast?", "Cancel these broadcasts?", len(chosen)),
        text=_("Nobody gets it any more, and it leaves inboxes and screens. There is no way back."),
        facts=[(_("Broadcasts"), len(chosen)), (_("Which"), some_of(chosen))],
        form=form,
        submit=_("Cancel for good"),
        back=back,
        danger=True,
    )
