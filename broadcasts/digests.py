"""E-mail about what stayed unread: each broadcast in at most one e-mail of a person.

What an e-mail is about is written first, and what was looked at for it is not looked at again, in
one transaction. Then it is sent, then marked as sent. Who is killed in between leaves it PENDING:
it is sent again after a pause, under the same Message-ID, by which many mail servers know it.
So an e-mail may come twice, and none is forgotten; a broadcast is never in two different ones.
"""

import logging
import smtplib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from typing import TypeVar
from urllib.parse import urlsplit

from django.conf import settings
from django.core import signing
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db.models import (
    Case,
    DateTimeField,
    Exists,
    F,
    Model,
    OuterRef,
    Q,
    QuerySet,
    Value,
    When,
)
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from broadcasts.directory import (
    UserServiceUnavailable,
    channels_of,
    channels_of_each,
    name_of,
)
from broadcasts.models import (
    Address,
    Audience,
    Broadcast,
    Delay,
    Digest,
    DigestEntry,
    DigestStatus,
    Email,
    Preference,
    Receipt,
)
from broadcasts.quiet import Window, zone_of
from jobs import clock
from jobs.leases import Fenced, fenced
from jobs.progress import track
from jobs.registry import Outcome
from outbox.models import Priority

logger = logging.getLogger(__name__)

SHOWN = 20  # messages in one e-mail; the rest is counted
MOST_ATTEMPTS = 5
PAUSE = timedelta(minutes=5)  # doubled with each attempt
SETTLED = timedelta(minutes=1)  # by then what was activated is committed
KEPT = timedelta(days=30)
CHUNK = 1_000  # people looked at together
SENT_TOGETHER = 100  # e-mails; their channels are asked for before the first of them

_signer = signing.Signer(salt="broadcasts.unsubscribe")
M = TypeVar("M", bound=Model)


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
    """Send what was not sent before; then write and send what e-mails there are to be."""
    now = clock.now()
    sent, failed = _send_due(now)
    for people in _chunks(waiting(now), CHUNK):
        failed += _collect_all(people, now)
        more, unsent = _send_due(now)
        sent, failed = sent + more, failed + unsent
    forget_old(now)
    return Outcome(sent, failed)


def _chunks(rows: QuerySet[M], size: int) -> Iterator[list[M]]:
    """All of them by their keys, with no more than one chunk in memory."""
    last = 0
    while chunk := list(rows.filter(pk__gt=last).order_by("pk")[:size]):
        yield chunk
        last = chunk[-1].pk


# What there is to be sent


def waiting(now: datetime) -> QuerySet[Preference]:
    """Whose unread messages are to be looked at: their hour has come, or a message has waited for
    as long as they said."""
    cases = [When(email_after=m, then=Value(now - timedelta(minutes=m))) for m in Delay]
    ready = Case(*cases, output_field=DateTimeField())
    fresh = Broadcast.objects.visible(now).filter(
        activated_at__gt=OuterRef("mailed_to"), activated_at__lte=OuterRef("ready")
    )
    people = Preference.objects.mailed().alias(ready=ready)
    free = Q(email_due_at=None) | Q(email_due_at__lte=now)
    delayed = free & Q(Exists(fresh), email=Email.DELAYED)
    daily = Q(email=Email.DAILY, email_due_at__lte=now)
    return people.filter(delayed | daily).select_related("user").order_by("pk")


def count_waiting() -> int:
    return Digest.objects.filter(status=DigestStatus.PENDING).count()


def _collect_all(people: Sequence[Preference], now: datetime) -> int:
    """One that fails does not stop the others: it is found by halves; how many failed."""
    try:
        collect(people, now)
    except (Fenced, UserServiceUnavailable):
        raise
    except Exception:
        if len(people) == 1:
            logger.exception("No e-mail can be written to user %s", people[0].pk)
            return 1
    else:
        return 0
    half = len(people) // 2
    return _collect_all(people[:half], now) + _collect_all(people[half:], now)


def collect(people: Sequence[Preference], now: datetime) -> list[Digest]:
    """Write what the next e-mail of each is about, if there is anything; for all or for nobody."""
    spans = {preference.pk: _span(preference, now) for preference in people}
    unread = _unread_of_each(people, spans, now)
    with fenced():
        unchanged = _unchanged(people)
        for preference in unchanged:
            preference.email_due_at = _next_look(preference, now)
            preference.mailed_to = spans[preference.pk].end
        Preference.objects.bulk_update(unchanged, ["mailed_to", "email_due_at"])
        return _write({preference.pk: unread[preference.pk] for preference in unchanged}, now)


def _span(preference: Preference, now: datetime) -> Window:
    """Behind when and up to when something may have been unread for long enough; what was held, has
    been so since its end."""
    assert preference.mailed_to
    held = preference.held(now)
    if preference.email == Email.DAILY:
        ready = min(now - SETTLED, held.start) if held else now - SETTLED
    elif held:
        ready = preference.mailed_to
    else:
        ready = now - timedelta(minutes=preference.email_after)
        if hours := preference.quiet_hours:
            ready = min(ready, hours.next(ready).start)
    return Window(preference.mailed_to, max(ready, preference.mailed_to))


def _next_look(preference: Preference, now: datetime) -> datetime | None:
    """When the next daily one is due; else when quiet hours end, or what they held is ready."""
    if preference.email == Email.DAILY:
        return preference.next_email(now)
    if held := preference.held(now):
        return held.end
    delay = timedelta(minutes=preference.email_after)
    hours = preference.quiet_hours
    window = hours.next(now - delay) if hours else None
    return window.end + delay if window and window.start <= now - delay else None


def _unchanged(people: Sequence[Preference]) -> list[Preference]:
    """Anew and locked, those who prefer what they did when they were read, and were not looked at
    meanwhile. `stop_email` leaves `updated_at` as it is."""
    read = {preference.pk: (preference.mailed_to, preference.updated_at) for preference in people}
    rows = Preference.objects.select_for_update(of=["self"]).exclude(email=Email.NEVER)
    locked = rows.filter(pk__in=read).order_by("pk")
    return [row for row in locked if (row.mailed_to, row.updated_at) == read[row.pk]]


def _unread_of_each(
    people: Sequence[Preference], spans: dict[int, Window], now: datetime
) -> dict[int, list[int]]:
    """What was activated in their spans and is unread in their inboxes: as many queries for all of
    them as for one."""
    fresh = Broadcast.objects.visible(now).filter(
        activated_at__gt=min(span.start for span in spans.values()),
        activated_at__lte=max(span.end for span in spans.values()),
    )
    columns = fresh.only("activated_at", "category", "priority", "is_test", "force_logoff")
    broadcasts = {broadcast.pk: broadcast for broadcast in columns}
    addressed, named, done = _addressed(fresh), *_receipts(fresh, people)
    found = {}
    channels_of_all = channels_of_each([preference.user for preference in people])
    for preference, channels in zip(people, channels_of_all, strict=True):
        pks = named[preference.pk].union(*(addressed[channel] for channel in channels))
        held, span = preference.held(now), spans[preference.pk]
        found[preference.pk] = [
            pk
            for pk in sorted(pks - done[preference.pk])
            if (broadcast := broadcasts.get(pk))
            and _is_in(span, broadcast)
            and preference.shows(broadcast, held)
        ]
    return found


def _is_in(span: Window, broadcast: Broadcast) -> bool:
    at = broadcast.activated_at
    return at is not None and span.start < at <= span.end


def _addressed(broadcasts: QuerySet[Broadcast]) -> defaultdict[str, set[int]]:
    """By channel."""
    addressed: defaultdict[str, set[int]] = defaultdict(set)
    found = Address.objects.filter(broadcast__in=broadcasts)
    for channel, pk in found.values_list("channel", "broadcast_id"):
        addressed[channel].add(pk)
    return addressed


def _receipts(
    broadcasts: QuerySet[Broadcast], people: Sequence[Preference]
) -> tuple[defaultdict[int, set[int]], defaultdict[int, set[int]]]:
    """By person: what names them, and what they have read or thrown away."""
    named: defaultdict[int, set[int]] = defaultdict(set)
    done: defaultdict[int, set[int]] = defaultdict(set)
    is_done = ~Q(read_at=None) | ~Q(dismissed_at=None)
    receipts = Receipt.objects.filter(
        is_done | Q(broadcast__audience=Audience.SELECTED),
        broadcast__in=broadcasts,
        user__in=[preference.pk for preference in people],
    )
    rows = receipts.annotate(is_done=is_done)
    for user_id, pk, is_over in rows.values_list("user_id", "broadcast_id", "is_done"):
        (done if is_over else named)[user_id].add(pk)
    return named, done


def _write(unread: dict[int, list[int]], now: datetime) -> list[Digest]:
    """An e-mail to each person about what was in none before."""
    pks = {pk for found in unread.values() for pk in found}
    known = DigestEntry.objects.filter(user__in=unread, broadcast__in=pks)
    old = set(known.values_list("user_id", "broadcast_id"))
    new = {
        user_id: fresh
        for user_id, found in unread.items()
        if (fresh := [pk for pk in found if (user_id, pk) not in old])
    }
    digests = Digest.objects.bulk_create(
        Digest(user_id=user_id, created_at=now, next_attempt_at=now) for user_id in new
    )
    DigestEntry.objects.bulk_create(
        DigestEntry(digest=digest, user_id=digest.user_id, broadcast_id=pk)
        for digest in digests
        for pk in new[digest.user_id]
    )
    return digests


# Sending


def _send_due(now: datetime) -> tuple[int, int]:
    """How many were sent, and how many were not."""
    due = Digest.objects.filter(status=DigestStatus.PENDING, next_attempt_at__lte=now)
    sent = failed = 0
    with closing(get_connection()) as connection:
        for digests in _chunks(due.select_related("user"), SENT_TOGETHER):
            channels = _channels_of_each(digests)
            for digest, theirs in track(list(zip(digests, channels, strict=True))):
                connection.open()  # while there is no server, none of them has failed
                status = send(digest, connection, theirs)
                sent += status == DigestStatus.SENT
                failed += status in (DigestStatus.PENDING, DigestStatus.FAILED)
    return sent, failed


def _channels_of_each(digests: list[Digest]) -> Sequence[list[str] | None]:
    """None of all, when one cannot be told: then each is asked for by itself."""
    try:
        return channels_of_each([digest.user for digest in digests])
    except UserServiceUnavailable:
        raise
    except Exception:
        return [None] * len(digests)


def send(
    digest: Digest, connection: BaseEmailBackend, channels: list[str] | None = None
) -> DigestStatus | None:
    """What became of it; None when somebody else has it, or it waits for the end of quiet hours."""
    now = clock.now()
    people = Preference.objects.mailed().select_related("user")
    preference = people.filter(pk=digest.user_id).first()
    mine = Digest.objects.filter(pk=digest.pk, status=DigestStatus.PENDING)
    free = mine.filter(attempts=digest.attempts)
    # What was written in them is a daily one, whose hour they contain.
    if preference and (held := preference.held(now)) and digest.created_at < held.start:
        with fenced():
            free.update(next_attempt_at=held.end)
        return None
    with fenced():
        later = now + PAUSE * 2**digest.attempts
        if not free.update(attempts=F("attempts") + 1, next_attempt_at=later):
            return None
    status, error = _attempt(digest, preference, channels, connection)
    if status == DigestStatus.PENDING and digest.attempts + 1 >= MOST_ATTEMPTS:
        status = DigestStatus.FAILED
    sent_at = now if status == DigestStatus.SENT else None
    mine.update(status=status, sent_at=sent_at, last_error=error)
    return status


def _attempt(
    digest: Digest,
    preference: Preference | None,
    channels: list[str] | None,
    connection: BaseEmailBackend,
) -> tuple[DigestStatus, str]:
    """To the mail server; and what was wrong, whoever said so. One must not stop the others."""
    try:
        message = email_of(digest, preference, channels) if preference else None
        if message is None:
            return DigestStatus.OBSOLETE, ""
        connection.send_messages([message])
    except (Fenced, UserServiceUnavailable):
        raise
    except Exception as error:
        if not isinstance(error, (OSError, smtplib.SMTPException)):
            logger.exception("E-mail %s cannot be sent", digest.pk)
        connection.close()  # the next one begins anew
        status = DigestStatus.FAILED if _is_final(error) else DigestStatus.PENDING
        return status, str(error) or type(error).__name__
    return DigestStatus.SENT, ""


def _is_final(error: Exception) -> bool:
    """Whether it is refused for good, by the server or, as no address, by Django; else it may be
    taken another time."""
    codes = [getattr(error, "smtp_code", 0)]
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
    return isinstance(error, ValueError) or all(code >= 500 for code in codes)


def email_of(
    digest: Digest, preference: Preference, channels: list[str] | None = None
) -> EmailMultiAlternatives | None:
    """About what is still unread of it; None when that is nothing."""
    now = clock.now()
    theirs = channels_of(preference.user) if channels is None else channels
    inbox = Broadcast.objects.inbox(preference.pk, theirs, now).filter(
        read_at=None, pk__in=digest.entries.values("broadcast_id")
    )
    shown = preference.shown(inbox, preference.held(now)).defer("targets", "last_error")
    found = shown.order_by("-priority", "-activated_at", "-pk")
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
    # Without a language of theirs that of the server: None would mean none at all.
    language = preference.language or settings.LANGUAGE_CODE
    with translation.override(language), timezone.override(zone_of(preference.time_zone)):
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


def old(now: datetime) -> QuerySet[Digest]:
    """What was looked at once is not looked at again: these rows prove nothing any more."""
    done = Digest.objects.exclude(status=DigestStatus.PENDING)
    return done.filter(created_at__lt=now - KEPT).order_by("created_at")


def forget_old(now: datetime) -> None:
    while pks := list(old(now).values_list("pk", flat=True)[:CHUNK]):
        with fenced():
            Digest.objects.filter(pk__in=pks).delete()
