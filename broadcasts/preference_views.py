"""The page of what a person does not want to be told, and the one that ends their e-mails."""

from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.dates import WEEKDAYS
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from broadcasts.digests import InvalidUnsubscription, person_of
from broadcasts.models import Delay, Email, Preference
from broadcasts.preferences import categories_of, prefer, preference_of, stop_email
from broadcasts.quiet import ZONES, zone_of
from broadcasts.views import content_security_policy
from jobs import clock

OLD = ("Etc/", "SystemV/", "US/", "Brazil/", "Canada/", "Chile/", "Mexico/")
OFFERED = sorted(name for name in ZONES if "/" in name and not name.startswith(OLD))


class Clock(forms.TimeInput):
    input_type = "time"

    def __init__(self) -> None:
        super().__init__(format="%H:%M")


class PreferencesForm(forms.Form):
    muted_categories = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label=gettext_lazy("Do not show me messages of these categories"),
    )
    quiet_start = forms.TimeField(required=False, widget=Clock, label=gettext_lazy("From"))
    quiet_end = forms.TimeField(required=False, widget=Clock, label=gettext_lazy("Until"))
    quiet_days = forms.TypedMultipleChoiceField(
        required=False,
        coerce=int,
        choices=list(WEEKDAYS.items()),
        widget=forms.CheckboxSelectMultiple,
        label=gettext_lazy("Beginning on"),
    )
    time_zone = forms.ChoiceField(label=gettext_lazy("Time zone"))
    language = forms.ChoiceField(required=False, label=gettext_lazy("Show me messages in"))
    email = forms.ChoiceField(
        choices=Email.choices, widget=forms.RadioSelect, label=gettext_lazy("E-mail me")
    )
    email_after = forms.TypedChoiceField(
        coerce=int, choices=Delay.choices, label=gettext_lazy("Unread for")
    )
    email_at = forms.TimeField(widget=Clock, label=gettext_lazy("Every day at"))

    def __init__(self, user: User, preference: Preference, data: Any = None) -> None:
        initial = {name: getattr(preference, name) for name in self.base_fields}
        initial["quiet_days"] = preference.quiet_days or list(WEEKDAYS)
        super().__init__(data, initial=initial)
        self.user = user
        names = sorted({*categories_of(user), *preference.muted_categories})
        self._offer("muted_categories", names)
        self._offer("time_zone", sorted({*OFFERED, "UTC", preference.time_zone}))
        languages = sorted((_(name), tag) for tag, name in settings.LANGUAGES)
        names_of_tags = [("", _("the language of my browser")), *((t, n) for n, t in languages)]
        cast(forms.ChoiceField, self.fields["language"]).choices = names_of_tags
        self.no_address = not user.email

    def _offer(self, field: str, names: list[str]) -> None:
        cast(forms.ChoiceField, self.fields[field]).choices = [(name, name) for name in names]

    def clean_quiet_days(self) -> list[int]:
        days = sorted(self.cleaned_data["quiet_days"])
        return [] if len(days) == len(WEEKDAYS) else days

    def save(self) -> bool:
        """False when the row refuses it; what is wrong stands beside its field."""
        try:
            prefer(self.user, **self.cleaned_data)
        except ValidationError as error:
            self.add_error(None, error)
        return not self.errors


@require_http_methods(["GET", "HEAD", "POST"])
@content_security_policy
@never_cache
@login_required
def preferences(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    preference = preference_of(user)
    form = PreferencesForm(user, preference, request.POST or None)
    if request.method == "POST" and form.is_valid() and form.save():
        messages.success(request, _("Your preferences are saved."))
        return redirect("preferences")
    with timezone.override(zone_of(preference.time_zone)):
        held = preference.held(clock.now())
        context = {"form": form, "preference": preference, "held": held}
        return render(request, "preferences.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@content_security_policy
@never_cache
@csrf_exempt  # mail programs post without a session (RFC 8058); the address alone says who it is
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """A GET only asks: programs that check links must not unsubscribe anybody."""
    try:
        user_id = person_of(token)
    except InvalidUnsubscription as error:
        raise Http404(str(error)) from error
    if request.method == "POST":
        stop_email(user_id)
    return render(request, "unsubscribe.html", {"done": request.method == "POST"})
