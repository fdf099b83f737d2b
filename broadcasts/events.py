"""What broadcasts tell, by type: a sentence that says when. No rule answers to any of them."""

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

EVENTS: dict[str, str | Promise] = {
    "broadcast.approval.requested": _("An operator asked for an approval of a draft."),
    "broadcast.approval.approved": _("A second person approved a draft."),
    "broadcast.approval.rejected": _("A second person rejected a draft."),
    "broadcast.approval.withdrawn": _("The request for an approval, or it itself, was taken back."),
    "broadcast.scheduled": _("A draft was sent, now or for later."),
    "broadcast.preparing": _("The receipts of a selected audience are being written."),
    "broadcast.activated": _("A broadcast is published, and in inboxes."),
    "broadcast.sent": _("A broadcast is published to who is connected now, and kept in no inbox."),
    "broadcast.reminded": _("An operator reminds those who have not seen a broadcast."),
    "broadcast.cancelled": _("An operator ended a broadcast."),
    "broadcast.expired": _("The expiry of a broadcast passed."),
    "broadcast.failed": _("The audience of a broadcast could not be prepared, or it was parked."),
    "broadcast.retried": _("An operator tries a broadcast that failed again."),
    "broadcast.series.started": _("An operator started a series."),
    "broadcast.series.changed": _("A series was changed from here on."),
    "broadcast.series.paused": _("Nothing of a series goes out until it is resumed."),
    "broadcast.series.resumed": _("A series goes on."),
    "broadcast.series.skipped": _("One of the moments of a series is left out."),
    "broadcast.series.restored": _("A moment of a series that was left out goes out after all."),
    "broadcast.series.approval.requested": _("A series waits until a second person approves it."),
    "broadcast.series.approval.approved": _("A second person approved a series, and it started."),
    "broadcast.series.approval.rejected": _("A second person rejected a series."),
    "broadcast.series.ended": _("An operator ended a series, or nothing of it lies ahead."),
    "broadcast.rule.changed": _("A rule was made, or changed."),
    "broadcast.rule.started": _("A rule was switched on."),
    "broadcast.rule.stopped": _("A rule was switched off."),
    "broadcast.rule.approval.requested": _("A rule waits until a second person approves it."),
    "broadcast.rule.approval.approved": _("A second person approved a rule."),
    "broadcast.read": _("A person read messages."),
    "broadcast.acknowledged": _("A person acknowledged what asks for it."),
    "broadcast.dismissed": _("A person took messages out of the inbox."),
    "quiet.ended": _("The quiet hours of people are over: what was held is released."),
}
