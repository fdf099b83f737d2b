"""What all operators' pages share: facts that nobody edits, and a question before a change."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin as DjangoModelAdmin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.formats import date_format, get_format, number_format
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from unfold.admin import ModelAdmin
from unfold.decorators import display

Text = str | Promise
REFUSALS = 10  # that are told of an action
REPOSTED = ("action", "select_across", "index", "_selected_action")


class ReadOnlyAdmin(ModelAdmin):
    """Rows that only services write."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class OwnerAdmin(ModelAdmin):
    """Rows with which go those that only services write, though nobody may delete these alone."""

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        found = super().get_deleted_objects(objs, request)
        kept = {
            model._meta.verbose_name
            for model, known in self.admin_site._registry.items()
            if isinstance(known, ReadOnlyAdmin)
        }
        to_delete, counts, perms_needed, protected = found
        return to_delete, counts, perms_needed - kept, protected


@dataclass(kw_only=True)
class Question:
    """A page that asks before a POST does what it says."""

    title: Text
    text: Text
    submit: Text
    back: str
    facts: Sequence[tuple[Text, object]] = ()
    warning: Text = ""
    form: forms.Form | None = None
    danger: bool = False


def ask(
    admin: "DjangoModelAdmin[Any]", request: HttpRequest, question: Question
) -> TemplateResponse:
    """The page; what it posts comes back with `confirmed`, and with the selection of a list."""
    context = admin.admin_site.each_context(request) | {
        "title": question.title,
        "opts": admin.model._meta,
        "question": question,
        "reposted": [(k, v) for k in REPOSTED for v in request.POST.getlist(k)],
        "media": question.form.media if question.form else "",
    }
    return TemplateResponse(request, "admin/question.html", context)


def confirmed(request: HttpRequest) -> bool:
    return request.method == "POST" and "confirmed" in request.POST


def tell_refused(request: HttpRequest, refused: Sequence[str]) -> None:
    """The first of them, and how many more: of an action on all rows there may be thousands."""
    for sentence in refused[:REFUSALS]:
        messages.warning(request, sentence)
    if (more := len(refused) - REFUSALS) > 0:
        text = ngettext("%(count)s more was refused.", "%(count)s more were refused.", more)
        messages.warning(request, text % {"count": digits(more)})


def named(field: str, label: Text) -> Any:
    """A person by name alone: Django leads to their page, whoever may open it or not."""

    @display(description=label)
    def name(self: Any, row: Model) -> str:
        return str(getattr(row, field) or "–")

    return name


def some_of(rows: "QuerySet[Any] | Sequence[Any]", limit: int = 10) -> str:
    """The first of them by name, and how many more there are."""
    names = [str(row) for row in rows[:limit]]
    more = (rows.count() if isinstance(rows, QuerySet) else len(rows)) - len(names)
    return ", ".join(names) + (_(" and %(count)s more") % {"count": more} if more else "")


def span(length: timedelta | None) -> str:
    """A duration as short as people say it."""
    if length is None:
        return ""
    seconds = max(length.total_seconds(), 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def digits(number: int) -> str:
    return number_format(number, force_grouping=True)


def to_the_second(moment: datetime | None) -> str:
    """Operators compare moments: minutes are too coarse."""
    if not moment:
        return "–"
    local = timezone.localtime(moment)
    of_language = get_format("SHORT_DATETIME_FORMAT")
    if "i" not in of_language:  # but "P", which has no seconds
        return f"{date_format(local, 'SHORT_DATE_FORMAT')} {local:%H:%M:%S}"
    return date_format(local, of_language.replace("i", "i:s"))


def preformatted(text: str) -> SafeString:
    return format_html('<pre class="console-pre" tabindex="0">{}</pre>', text)


def pretty(data: object) -> SafeString:
    return preformatted(json.dumps(data, indent=2, ensure_ascii=False, default=str))
