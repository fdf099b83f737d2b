"""Verbs on links; admin, API, jobs and broadcasts call them."""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from domains.links import targets
from domains.links.models import TAKEN, Click, Link, Name, facts, new_code
from jobs import clock
from jobs.acting import did, differences
from jobs.leases import fenced
from jobs.progress import advance, expect
from outbox.services import build_event, emit_all

BATCH = 1_000
DELETED = 5_000
ATTEMPTS = 20  # at a code that nobody has; with a hundred million links one in nine is taken


@transaction.atomic
def create(original_url: str, *, by: User | None = None, **fields: Any) -> Link:
    """A link with a code of its own. Raises `ValidationError` with one message a field."""
    link = Link(original_url=original_url, created_by=by, **fields)
    return save_new(link)


@transaction.atomic
def save_new(link: Link) -> Link:
    """A code that is taken is drawn again; so is one that an alias has."""
    link.full_clean(exclude=["short_code"])
    refuse_past(link)
    for _attempt in range(ATTEMPTS):
        try:
            with transaction.atomic():
                link.save(force_insert=True)
                _name(link, link.names)
        except IntegrityError:
            link.pk = None
            if link.custom_alias and Name.objects.filter(name=link.custom_alias).exists():
                raise _taken() from None
            link.short_code = new_code()
        else:
            targets.replace(link)
            return link
    raise RuntimeError(f"{ATTEMPTS} codes in a row were taken")


@transaction.atomic
def edit(link: Link, **fields: Any) -> Link:
    """Write these fields alone: clicks that are counted meanwhile stay.

    Raises `ValidationError` with one message a field.
    """
    link.refresh_from_db(from_queryset=Link.objects.select_for_update(no_key=True))
    before = {name: getattr(link, name) for name in fields}
    alias = link.custom_alias
    for name, value in fields.items():
        setattr(link, name, value)
    # What stays is not checked anew: SITE_URL may have moved onto the address of a link.
    link.full_clean(exclude={field.name for field in Link._meta.fields} - fields.keys())
    if {"expires_at", "is_active"} & fields.keys():
        refuse_past(link)
    if link.custom_alias != alias:  # first: of two at once it lets one pass
        _rename(link, alias)
    after = {name: getattr(link, name) for name in fields}
    Link.objects.filter(pk=link.pk).update(**after)
    if changes := differences(before, after):
        did("link.changed", link, changes=changes)
    targets.replace(link)
    return link


def _rename(link: Link, old: str | None) -> None:
    Name.objects.filter(name=old, link=link).delete()
    if old:
        targets.forget([old])
    try:
        with transaction.atomic():
            _name(link, filter(None, [link.custom_alias]))
    except IntegrityError:
        raise _taken() from None


def _name(link: Link, names: Any) -> None:
    Name.objects.bulk_create(Name(name=name, link=link) for name in names)


def _taken() -> ValidationError:
    return ValidationError({"custom_alias": TAKEN})


def refuse_past(link: Link) -> None:
    if link.is_active and link.expires_at and link.expires_at <= clock.now():
        message = _("This has passed. Choose a later moment, or none.")
        raise ValidationError({"expires_at": message})


def activate(link: Link) -> None:
    """Raises `ValidationError` for one whose expiry has passed."""
    edit(link, is_active=True)


def deactivate(link: Link) -> None:
    """From now on it answers 410; its statistics stay."""
    edit(link, is_active=False)


def delete(link: Link) -> None:
    """With its clicks, in batches; it leads nowhere from here on."""
    with transaction.atomic():
        Link.objects.filter(pk=link.pk).update(is_active=False)
        targets.forget(link.names)
    delete_clicks(Click.objects.filter(link=link), by="id")
    with transaction.atomic():  # held: of clicks that are being written none comes after the look
        for held in Link.objects.select_for_update().filter(pk=link.pk):
            held.delete()
        targets.forget(link.names)


def delete_clicks(clicks: Any, by: str) -> int:
    """In batches, under the lease of the job that asks; `by` is the column that leads to them.

    Each begins where the last one ended, not among what is deleted and not yet swept.
    """
    deleted, rest = 0, clicks
    while rows := list(rest.order_by(by).values_list("pk", by)[:DELETED]):
        with fenced():
            Click.objects.filter(pk__in=[pk for pk, _at in rows]).delete()
        rest = clicks.filter(**{f"{by}__gte": rows[-1][1]})
        advance(len(rows))
        deleted += len(rows)
    return deleted


def expire(at: datetime | None = None) -> int:
    """Deactivate what is active past its expiry, with one `link.expired` each; how many.

    The rows are held from the look to the commit, so that two runs at once share them.
    """
    now = at or clock.now()
    expect(Link.objects.overdue(now).count())
    done = 0
    while expired := _expire_batch(now):
        advance(expired)
        done += expired
    return done


def _expire_batch(now: datetime) -> int:
    with fenced():
        overdue = Link.objects.overdue(now).order_by("expires_at", "pk")
        columns = ("pk", "short_code", "custom_alias", "original_url", "expires_at")
        links = list(overdue.select_for_update(no_key=True).only(*columns)[:BATCH])
        Link.objects.filter(pk__in=[link.pk for link in links]).update(is_active=False)
        emit_all([build_event("link.expired", f"link-{link.pk}", facts(link)) for link in links])
        return len(links)
