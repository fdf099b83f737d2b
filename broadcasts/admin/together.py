"""What the form of a draft knows of the others who write it, and of its unsaved copies."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from django import forms
from django.contrib.auth.models import AbstractUser, User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin

from broadcasts import editing
from broadcasts.directory import ids_in, name_of
from broadcasts.models import Audience, Broadcast, Series, Status, listed
from jobs.pages import some_of

VERSION = re.compile(r"[0-9]{1,9}")
COPY = re.compile(r"[\w-]{1,40}")
SAVED = "saved_copies"  # in the session: which of the browser's copies are stored here by now
KEPT_SAVED = 50


class ComposingTogether(ModelAdmin):
    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.editing))
        address = path("<int:pk>/editing/", view, name="broadcasts_broadcast_editing")
        return [address, *super().get_urls()]

    def editing(self, request: HttpRequest, pk: int) -> JsonResponse:
        """Asked by the open form every ten seconds: who else has it open, and what changed."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        rows = Broadcast.objects.select_related("edited_by").defer("content", "targets")
        broadcast = get_object_or_404(rows, pk=pk)
        others = editing.join(broadcast, cast(AbstractUser, request.user))
        return JsonResponse(
            {
                "others": _others(others),
                "changed": _changed(broadcast, request.POST.get("version", "")),
            }
        )

    def note_saved(self, request: HttpRequest, broadcast: Broadcast) -> None:
        """The browser's copy of what was typed is needed no more."""
        editing.leave(broadcast, cast(AbstractUser, request.user))
        copy = request.POST.get("copy", "")
        if COPY.fullmatch(copy):
            saved = [*request.session.get(SAVED, []), copy]
            request.session[SAVED] = saved[-KEPT_SAVED:]


class VersionedForm(forms.ModelForm):  # type: ignore[type-arg]
    """Saves only what it was opened on: another version is shown beside what was typed."""

    version: int | None = None
    theirs: list[dict[str, Any]]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        seen = self.data.get("version", "")
        if not self.instance.pk or not VERSION.fullmatch(seen):
            return cleaned
        self.version = self.instance.version
        if int(seen) != self.version:
            self._show_both(cleaned)
        return cleaned

    def _show_both(self, cleaned: Mapping[str, Any]) -> None:
        """Refuse it once; whoever saves again has seen what is replaced."""
        self.theirs = [
            {
                "label": self.fields[name].label,
                "theirs": self._in_words(name, self.initial),
                "mine": self._in_words(name, cleaned),
            }
            for name in self.changed_data
        ]
        if not self.theirs:
            return
        data = cast(QueryDict, self.data).copy()
        data["version"] = str(self.version)
        self.data = data
        text = _(
            "Not saved: %(person)s changed it at %(time)s, while you were writing. Below is"
            " what you typed. Take over what you need, then save again: that replaces their text."
        )
        person, time = editor_of(self.instance), at(self.instance)
        self.add_error(None, text % {"person": person, "time": time})

    def _in_words(self, name: str, values: Mapping[str, Any]) -> str:
        value = values.get(name)
        if isinstance(value, bool):
            return _("Yes") if value else _("No")
        if isinstance(value, dict):  # translations
            return (
                "\n\n".join("\n".join([tag, *text.values()]) for tag, text in value.items()) or "–"
            )
        if isinstance(value, datetime):
            return date_format(timezone.localtime(value), "DATETIME_FORMAT")
        if isinstance(value, list):
            return some_of(_names(value) if values.get("audience") == Audience.SELECTED else value)
        choices = dict(getattr(self.fields[name], "choices", ()))
        return str(choices.get(value, value) or "–")


def _names(ids: list[str]) -> QuerySet[User, str]:
    people = User.objects.filter(listed(ids_in(ids))).order_by("username")
    return people.values_list("username", flat=True)


def composing_context(request: HttpRequest, form: Any) -> dict[str, Any]:
    return {
        "version": form.data.get("version", "") if form.is_bound else form.instance.version,
        "copy": form.data.get("copy", "") if form.is_bound else "",
        "saved_copies": request.session.get(SAVED, []),
        "theirs": getattr(form, "theirs", []),
    }


def _others(names: list[str]) -> str:
    if not names:
        return ""
    if len(names) == 1:
        return _("%(name)s has this draft open, too.") % {"name": names[0]}
    return _("%(names)s have this draft open, too.") % {"names": ", ".join(names)}


def _changed(broadcast: Broadcast, seen: str) -> str:
    if broadcast.status != Status.DRAFT:
        text = _("It is no draft any more: it is %(status)s. What you type here is not saved.")
        return text % {"status": broadcast.get_status_display()}
    if seen == str(broadcast.version):
        return ""
    text = _(
        "%(person)s changed it at %(time)s. When you save, you see both texts; nothing is"
        " overwritten before that."
    )
    return text % {"person": editor_of(broadcast), "time": at(broadcast)}


def editor_of(subject: Broadcast | Series) -> str:
    editor = subject.edited_by
    return name_of(editor) if editor else _("Somebody else")


def at(subject: Broadcast | Series) -> str:
    return f"{timezone.localtime(subject.updated_at):%H:%M}"
