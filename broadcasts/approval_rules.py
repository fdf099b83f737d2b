"""When a second person must approve: `BROADCAST_APPROVAL_ABOVE` and `BROADCAST_APPROVAL_FOR`."""

from django.conf import settings
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from broadcasts.directory import UserServiceUnavailable, get_directory
from broadcasts.models import Audience, Broadcast, Rule, Series
from outbox.models import Priority


def enabled() -> bool:
    return settings.BROADCAST_APPROVAL_ABOVE >= 0 or bool(settings.BROADCAST_APPROVAL_FOR)


def reasons(broadcast: Broadcast | Rule | Series) -> list[str]:
    """Why it needs an approval; none when it needs none. Asks the directory, so in no transaction.

    What somebody sends to themselves alone, a test, needs none.
    """
    if not enabled() or _is_to_its_sender(broadcast):
        return []
    found = []
    if broadcast.audience == Audience.ALL and "ALL" in settings.BROADCAST_APPROVAL_FOR:
        found.append(_("It is for everyone."))
    if broadcast.priority == Priority.URGENT and "URGENT" in settings.BROADCAST_APPROVAL_FOR:
        found.append(_("It is urgent."))
    if settings.BROADCAST_APPROVAL_ABOVE >= 0:
        found += _too_many(broadcast, settings.BROADCAST_APPROVAL_ABOVE)
    return found


def _is_to_its_sender(broadcast: Broadcast | Rule | Series) -> bool:
    alone = broadcast.targets == [str(broadcast.sender_id)]
    return broadcast.audience == Audience.SELECTED and alone


def _too_many(broadcast: Broadcast | Rule | Series, most: int) -> list[str]:
    if most == 0:
        return [_("Every broadcast needs it.")]
    try:
        people = get_directory().count(broadcast.audience, broadcast.targets)
    except UserServiceUnavailable:  # a directory that is down must open no way around
        return [_("Its people cannot be counted now.")]
    if people <= most:
        return []
    message = _("It reaches %(people)s people, more than %(most)s.")
    grouped = {"people": number_format(people, force_grouping=True)}
    return [message % (grouped | {"most": number_format(most, force_grouping=True)})]
