"""E-mail about what stayed unread: each broadcast in at most one e-mail of a person.

What an e-mail is about is written first, and what was looked at for it is not looked at again, in
one transaction. Then it is sent, then marked as sent. Who is killed in between leaves it PENDING:
it is sent again after a pause, under the same Message-ID, by which many mail servers know it.
So an e-mail may come twice, and none is forgotten; a broadcast is never in two different ones.
"""

import logging
import smtplib
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import signing
from django.core.mail import BadHeaderError, EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db.models import (
    Case,
    DateTimeField,
    Exists,
    F,
    OuterRef,
    Q,
    QuerySet,
    Value,
    When,
)
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from broadcasts.directory import UserServiceUnavailable, channels_of, name_of
from broadcasts.models import (
    Broadcast,
    Delay,
    Digest,
    DigestEntry,
    DigestStatus,
    Email,
    Preference,
)
from broadcasts.quiet import zone_of
from jobs import clock
from jobs.leases import Fenced, fenced
from jobs.progress import track
from jobs.registry import Outcome
from outbox.models import Priority

logger = logging.getLogger(__name__)

SHOWN = 20  # messages in one e-mail; the rest is counted
MOST_ATTEMPTS = 5
PAUSE = timedelta(minutes=5)  # doubled with each attempt
SETTLED = 1  # minutes; by then what was activated is committed
KEPT = timedelta(days=30)

_signer = signing.Signer(salt="broadcasts.unsubscribe")


class InvalidUnsubscription(Exception):
    """The address is not one of ours."""


def unsubscribe_url(user_id: int) -> str:
    """It does not expire: an e-mail may be opened years later."""
    return settings.SITE_URL + reverse("unsubscribe", args=[_signer.sign(str(user_id))])


def person_of(token: str) -> int:
    """Raises `InvalidUnsubscription`."""
    try:
        return int(_signer.unsign(token))
    except (signing.BadSignature, ValueError) as error:
        raise InvalidUnsubscription("This link is not one of ours.") from error


def mail_unread() -> Outcome:
    """Write what e-mails there are to be, then send them and those that were not sent before."""
    now = clock.now()
    failed = _collect_all(now)
    sent, unsent = _send_all(now)
    forget_old(now)
    return Outcome(sent, failed + unsent)


# What there is to be sent


def waiting(now: datetime) -> QuerySet[Any]:
    """Whose unread messages are to be looked at: their hour has come, or a message has waited for
    as long as they said."""
    cases = [When(email_after=m, then=Value(now - timedelta(minutes=m))) for m in Delay]
    ready = Case(*cases, output_field=DateTimeField())
    fresh = Broadcast.objects.visible(now).filter(
        activated_at__gt=OuterRef("mailed_to"), activated_at__lte=OuterRef("ready")
    )
    people = Preference.objects.mailed().alias(ready=ready)
    delayed = Q(Exists(fresh), email=Email.DELAYED)
    daily = Q(email=Email.DAILY, email_due_at__lte=now)
    return people.filter(delayed | daily).select_related("user").order_by("pk")


def count_waiting() -> int:
    return Digest.objects.filter(status=DigestStatus.PENDING).count()


def _collect_all(now: datetime) -> int:
    """One that fails does not stop the others; how many failed."""
    failed = 0
    for preference in waiting(now):
        try:
            collect(preference, now)
        except (Fenced, UserServiceUnavailable):
            raise
        except Exception:
            logger.exception("No e-mail can be written to user %s", preference.pk)
            failed += 1
    return failed


def collect(preference: Preference, now: datetime) -> Digest | None:
    """Write what the next e-mail of this person is about, if there is anything."""
    assert preference.mailed_to
    to = max(_ready_to(preference, now), preference.mailed_to)
    if to == preference.mailed_to and preference.email == Email.DELAYED:
        return None  # what is new was held
    unread = _unread(preference, now).filter(
        activated_at__gt=preference.mailed_to, activated_at__lte=to
    )
    with fenced():
        unmoved = Preference.objects.filter(pk=preference.pk, mailed_to=preference.mailed_to)
        due = preference.next_email(now)
        if not unmoved.exclude(email=Email.NEVER).update(mailed_to=to, email_due_at=due):
            return None  # changed meanwhile
        known = DigestEntry.objects.filter(user_id=preference.pk).values("broadcast_id")
        pks = list(unread.exclude(pk__in=known).values_list("pk", flat=True))
        if not pks:
            return None
        digest = Digest.objects.create(user_id=preference.pk, created_at=now, next_attempt_at=now)
        DigestEntry.objects.bulk_create(
            DigestEntry(digest=digest, user_id=preference.pk, broadcast_id=pk) for pk in pks
        )
        return digest


def _ready_to(preference: Preference, now: datetime) -> datetime:
    """Up to when what is unread has been so for long enough; what was held, since its end."""
    minutes = preference.email_after if preference.email == Email.DELAYED else SETTLED
    ready = now - timedelta(minutes=minutes)
    if hours := preference.quiet_hours:
        ready = min(ready, hours.next(ready).start)
    return ready


def _unread(preference: Preference, now: datetime) -> QuerySet[Any]:
    inbox = Broadcast.objects.inbox(preference.pk, channels_of(preference.user), now)
    return preference.shown(inbox, preference.held(now)).filter(read_at=None)


# Sending


def _send_all(now: datetime) -> tuple[int, int]:
    """How many were sent, and how many were not."""
    due = Digest.objects.filter(status=DigestStatus.PENDING, next_attempt_at__lte=now)
    sent = failed = 0
    with closing(get_connection()) as connection:
        for digest in track(list(due.select_related("user").order_by("pk"))):
            connection.open()  # while there is no server, none of them has failed
            status = send(digest, connection)
            sent += status == DigestStatus.SENT
            failed += status in (DigestStatus.PENDING, DigestStatus.FAILED)
    return sent, failed


def send(digest: Digest, connection: BaseEmailBackend) -> DigestStatus | None:
    """What became of it; None when somebody else has it."""
    now = clock.now()
    with fenced():
        mine = Digest.objects.filter(pk=digest.pk, status=DigestStatus.PENDING)
        later = now + PAUSE * 2**digest.attempts
        if not mine.filter(attempts=digest.attempts).update(
            attempts=F("attempts") + 1, next_attempt_at=later
        ):
            return None
    status, error = DigestStatus.OBSOLETE, ""
    if message := email_of(digest, now):
        status, error = _hand_over(message, connection)
        if status == DigestStatus.PENDING and digest.attempts + 1 >= MOST_ATTEMPTS:
            status = DigestStatus.FAILED
    sent_at = now if status == DigestStatus.SENT else None
    mine.update(status=status, sent_at=sent_at, last_error=error)
    return status


def _hand_over(
    message: EmailMultiAlternatives, connection: BaseEmailBackend
) -> tuple[DigestStatus, str]:
    """To the mail server; and what it said, if that is not yes."""
    try:
        connection.send_messages([message])
    except (OSError, smtplib.SMTPException, BadHeaderError) as error:
        connection.close()  # the next one begins anew
        return DigestStatus.FAILED if _is_final(error) else DigestStatus.PENDING, str(error)
    return DigestStatus.SENT, ""


def _is_final(error: Exception) -> bool:
    """Whether the server refuses it for good; else it may take it another time."""
    codes = [getattr(error, "smtp_code", 0)]
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
    return isinstance(error, BadHeaderError) or all(code >= 500 for code in codes)


def email_of(digest: Digest, now: datetime) -> EmailMultiAlternatives | None:
    """About what is still unread of it; None when that is nothing, or nobody wants it any more."""
    people = Preference.objects.mailed().exclude(email=Email.NEVER).select_related("user")
    if not (preference := people.filter(pk=digest.user_id).first()):
        return None
    entries = digest.entries.values("broadcast_id")
    unread = _unread(preference, now).filter(pk__in=entries).defer("targets", "last_error")
    found = unread.order_by("-priority", "-activated_at", "-pk")
    broadcasts = [in_language(broadcast, preference.language) for broadcast in found]
    if not broadcasts:
        return None
    url = unsubscribe_url(digest.user_id)
    context = {
        "name": name_of(preference.user),
        "messages": broadcasts[:SHOWN],
        "more": len(broadcasts) - SHOWN,
        "site": settings.SITE_URL,
        "unsubscribe": url,
    }
    with timezone.override(zone_of(preference.time_zone)):
        message = EmailMultiAlternatives(
            subject_of(broadcasts),
            render_to_string("email/digest.txt", context),
            to=[preference.user.email],
            headers={
                "Message-ID": f"<digest-{digest.pk}-{digest.created_at:%Y%m%d%H%M%S}@{_host()}>",
                "List-Unsubscribe": f"<{url}>",
                "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
                "Auto-Submitted": "auto-generated",
            },
        )
        message.attach_alternative(render_to_string("email/digest.html", context), "text/html")
    return message


def in_language(broadcast: Broadcast, language: str) -> Broadcast:
    """The same, not to be saved, with the words that its reader is to get."""
    text = broadcast.text_for([language])
    broadcast.title, broadcast.content = text.title, text.content
    return broadcast


def subject_of(broadcasts: list[Broadcast]) -> str:
    title = " ".join(broadcasts[0].title.split())  # a header is one line
    if broadcasts[0].priority == Priority.URGENT:
        title = _("Urgent: %(title)s") % {"title": title}
    if more := len(broadcasts) - 1:
        also = ngettext("%(title)s (and %(more)s more)", "%(title)s (and %(more)s more)", more)
        return also % {"title": title, "more": more}
    return title


def _host() -> str:
    return urlsplit(settings.SITE_URL).hostname or "localhost"


def forget_old(now: datetime) -> None:
    """What was looked at once is not looked at again: old rows prove nothing any more."""
    old = Digest.objects.exclude(status=DigestStatus.PENDING)
    old = old.filter(created_at__lt=now - KEPT)
    while pks := list(old.order_by("pk").values_list("pk", flat=True)[:1_000]):
        with fenced():
            Digest.objects.filter(pk__in=pks).delete()
