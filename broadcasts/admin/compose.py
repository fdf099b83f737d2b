"""The form in which an operator writes a draft, and what it shows while they write."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.widgets import UnfoldAdminSelect2MultipleWidget, UnfoldAdminTextareaWidget

from broadcasts.admin.languages import TranslatedForm
from broadcasts.admin.together import VersionedForm
from broadcasts.directory import (
    Target,
    UserServiceUnavailable,
    get_directory,
    ids_in,
    named,
)
from broadcasts.models import Audience, Broadcast
from broadcasts.people import ids_of
from broadcasts.services import validate
from jobs import clock

PAGE = 20
SHOWN_PEOPLE = 50  # more than these are edited as text
SEPARATORS = re.compile(r"[\s,;]+")
HALF_A_MOMENT = {
    "invalid_date": gettext_lazy("Enter a date as well, like 2030-01-31."),
    "invalid_time": gettext_lazy("Enter a time as well, like 14:30."),
}
NO_ANSWER = gettext_lazy(
    "The directory does not answer (%(error)s). Keep this page open and try again in a moment."
)


def no_answer(error: Exception) -> str:
    return NO_ANSWER % {"error": error}


class MarkdownWidget(UnfoldAdminTextareaWidget):
    """A text area beside what its Markdown will look like."""

    def render(self, *args: Any, **kwargs: Any) -> SafeString:
        editor = super().render(*args, **kwargs)
        path = "admin/broadcasts/broadcast/markdown.html"
        return render_to_string(path, {"editor": editor})

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        """As it was stored: browsers send lines with CRLF, which alone is no change of a text."""
        value = super().value_from_datadict(data, files, name)
        return value.replace("\r\n", "\n") if value else value


class TargetsWidget(forms.Widget):
    """One picker an audience; only the chosen audience's is shown and read."""

    audience: str = Audience.ALL

    @property
    def media(self) -> forms.Media:
        picker: forms.Media = UnfoldAdminSelect2MultipleWidget().media
        return picker + forms.Media(js=["console/compose.js"])

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> dict[str, Any]:
        audience = data.get("audience", Audience.ALL)
        getlist = getattr(data, "getlist", lambda key: data.get(key, []))
        return {
            "audience": audience,
            "chosen": getlist(f"{name}_{audience.lower()}"),
            "pasted": data.get(f"{name}_pasted", ""),
        }

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return False

    def render(
        self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None
    ) -> SafeString:
        if not isinstance(value, dict):
            value = self._stored(value or [])
        context = {"name": name, "value": value, "error": ""}
        try:
            context |= self._options(value)
        except UserServiceUnavailable as error:
            context["error"] = no_answer(error)
        return render_to_string("admin/broadcasts/broadcast/targets.html", context)

    def _stored(self, targets: list[str]) -> dict[str, Any]:
        as_text = self.audience == Audience.SELECTED and len(targets) > SHOWN_PEOPLE
        return {
            "audience": self.audience,
            "chosen": [] if as_text else targets,
            "pasted": "\n".join(targets) if as_text else "",
        }

    def _options(self, value: dict[str, Any]) -> dict[str, Any]:
        directory, chosen = get_directory(), set(value["chosen"])
        is_role = value["audience"] == Audience.ROLE
        is_product = value["audience"] == Audience.PRODUCT
        products = directory.targets(Audience.PRODUCT) if is_product else []
        return {
            "roles": [
                (role, is_role and role.key in chosen) for role in directory.targets(Audience.ROLE)
            ],
            "products": [product for product in products if product.key in chosen],
            "people": _people(chosen) if value["audience"] == Audience.SELECTED else [],
        }


class TargetsField(forms.Field):
    """What a broadcast stores as `targets`: role names, product slugs or user ids."""

    widget = TargetsWidget

    def clean(self, value: dict[str, Any]) -> list[str]:
        if value["audience"] == Audience.ALL:
            return []
        targets = list(dict.fromkeys(value["chosen"]))
        if value["audience"] == Audience.SELECTED:
            targets = list(dict.fromkeys([*targets, *user_ids(value["pasted"])]))
        if not targets:
            raise ValidationError(NOTHING_CHOSEN.get(value["audience"], _("Choose an audience.")))
        return targets

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return set(self.clean(data)) != set(initial or [])
        except ValidationError:
            return True


NOTHING_CHOSEN = {
    Audience.ROLE: gettext_lazy("Choose at least one role, or send it to everyone."),
    Audience.PRODUCT: gettext_lazy("Choose at least one product, or send it to everyone."),
    Audience.SELECTED: gettext_lazy("Choose or paste at least one person."),
}


def user_ids(pasted: str) -> list[str]:
    """The ids of who is named, in their order; somebody unknown is a `ValidationError`."""
    words = list(dict.fromkeys(filter(None, SEPARATORS.split(pasted))))
    found = ids_of(words)
    unknown = [word for word in words if word not in found]
    if unknown:
        names = ", ".join(unknown[:10]) + (", …" if len(unknown) > 10 else "")
        message = ngettext(
            "%(count)s of these is nobody's username, e-mail address or id: %(names)s. Correct or"
            " remove it.",
            "%(count)s of these are nobody's username, e-mail address or id: %(names)s. Correct or"
            " remove them.",
            len(unknown),
        )
        raise ValidationError(message % {"count": len(unknown), "names": names})
    return [found[word] for word in words]


def _people(ids: Iterable[str]) -> list[Target]:
    users = User.objects.filter(pk__in=ids_in(ids))
    return [Target(str(user.pk), label_of(user.username, user.get_full_name())) for user in users]


def label_of(username: str, name: str) -> str:
    return f"{username} – {name}" if name else username


class CompositionForm(TranslatedForm):
    """What the forms of a broadcast and of a series have in common."""

    targets = TargetsField(label=gettext_lazy("Who gets it"), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "targets" in self.fields:
            widget = self.fields["targets"].widget
            assert isinstance(widget, TargetsWidget)
            widget.audience = self.instance.audience
        zone = {"zone": timezone.get_current_timezone_name()}
        moments = {
            "scheduled_at": _("Time zone: %(zone)s. Empty: it goes out when you send it."),
            "expires_at": _("Time zone: %(zone)s. Empty: it stays until it is cancelled."),
        }
        for name, text in moments.items():
            if name in self.fields:
                self.fields[name].help_text = text % zone
                self.fields[name].error_messages |= HALF_A_MOMENT

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        now = clock.now()
        if "_schedule" in self.data and "scheduled_at" not in self.errors:
            self._check_moment(cleaned.get("scheduled_at"), now)
        self._check_expiry(cleaned.get("expires_at"), cleaned.get("scheduled_at"), now)
        if cleaned.get("force_logoff") and not cleaned.get("fire_and_forget"):
            self.add_error("force_logoff", _("Choose fire and forget as well, or neither."))
        if cleaned.get("requires_acknowledgement") and cleaned.get("fire_and_forget"):
            text = _("What is kept in no inbox cannot be acknowledged: choose one of the two.")
            self.add_error("requires_acknowledgement", text)
        return cleaned

    def _check_expiry(
        self, expires_at: datetime | None, scheduled_at: datetime | None, now: datetime
    ) -> None:
        if not expires_at:
            return
        if expires_at <= now:
            self.add_error("expires_at", _("This has passed. Choose a later moment, or none."))
        elif scheduled_at and expires_at <= scheduled_at:
            self.add_error(
                "expires_at", _("This lies before it goes out. Choose a later moment, or none.")
            )

    def _check_moment(self, moment: datetime | None, now: datetime) -> None:
        if not moment:
            self.add_error("scheduled_at", _("Choose when it goes out, or send it now."))
        elif moment <= now:
            self.add_error(
                "scheduled_at", _("This has passed. Choose a later moment, or send it now.")
            )

    def _update_errors(self, errors: ValidationError) -> None:
        if "targets" in self.errors:  # the picker has said what is wrong, in its own words
            errors.error_dict.pop("targets", None)
        super()._update_errors(errors)  # type: ignore[misc]

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        try:
            validate(self.instance)
        except ValidationError as error:
            self.add_error(None, error)
        except UserServiceUnavailable as error:
            self.add_error("targets", no_answer(error))


class BroadcastForm(VersionedForm, CompositionForm):
    class Meta:
        model = Broadcast
        fields = (
            "title",
            "content",
            "language",
            "translations",
            "priority",
            "category",
            "reference",
            "audience",
            "targets",
            "scheduled_at",
            "expires_at",
            "fire_and_forget",
            "force_logoff",
            "requires_acknowledgement",
            "shorten_links",
        )
        widgets = {"content": MarkdownWidget({"rows": 14})}


def preview_of(content: str) -> dict[str, Any]:
    """The rendered Markdown, or why there is none."""
    size = len(content.encode())
    if size > settings.BROADCAST_CONTENT_MAX_BYTES:
        text = _("%(size)s bytes; at most %(most)s are allowed.")
        return {"error": text % {"size": size, "most": settings.BROADCAST_CONTENT_MAX_BYTES}}
    return {"html": Broadcast(content=content).html}


def reach_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """How many people the pickers of the form name, and some of them."""
    value = TargetsWidget().value_from_datadict(data, {}, "targets")
    try:
        targets = TargetsField(required=False).clean(value)
        directory, audience = get_directory(), value["audience"]
        people = directory.sample(audience, targets, data.get("search", ""))
        return {
            "count": directory.count(audience, targets),
            "people": [label_of(person.username, person.name) for person in people],
        }
    except ValidationError as error:
        return {"hint": " ".join(error.messages)}
    except UserServiceUnavailable as error:
        return {"error": no_answer(error)}


def choices_for(audience: str, term: str, page: int) -> dict[str, Any]:
    """What an autocomplete shows: products of the directory, or people by username or name."""
    try:
        found = _people_like(term, page) if audience == Audience.SELECTED else _like(audience, term)
    except UserServiceUnavailable as error:
        return {"results": [], "error": no_answer(error)}
    start = 0 if audience == Audience.SELECTED else (page - 1) * PAGE
    results = [{"id": t.key, "text": t.name} for t in found[start : start + PAGE]]
    return {"results": results, "pagination": {"more": len(found) > start + PAGE}}


def _like(audience: str, term: str) -> list[Target]:
    term = term.casefold()
    targets = get_directory().targets(audience)
    return [t for t in targets if term in t.name.casefold() or term in t.key.casefold()]


def _people_like(term: str, page: int) -> list[Target]:
    users = named(User.objects.filter(is_active=True), term)
    start = (page - 1) * PAGE
    rows = users.order_by("username")[start : start + PAGE + 1]
    return [Target(str(user.pk), label_of(user.username, user.get_full_name())) for user in rows]
