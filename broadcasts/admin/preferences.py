from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesCheckboxFilter
from unfold.decorators import display

from broadcasts.models import Digest, DigestStatus, Preference
from jobs.pages import ReadOnlyAdmin, to_the_second

LABELS = {
    DigestStatus.SENT: "success",
    DigestStatus.OBSOLETE: "info",
    DigestStatus.FAILED: "danger",
}


@admin.register(Preference)
class PreferenceAdmin(ReadOnlyAdmin):
    """People choose for themselves; operators see why somebody did not get something."""

    list_display = ("user", "quiet", "time_zone", "language", "muted", "email", "updated_at")
    list_filter = (("email", ChoicesCheckboxFilter),)
    search_fields = ("user__username",)
    list_select_related = ("user",)
    ordering = ("user__username",)
    list_per_page = 50

    @display(description=_("quiet hours"))
    def quiet(self, preference: Preference) -> str:
        if preference.quiet_start is None or preference.quiet_end is None:
            return "–"
        return f"{preference.quiet_start:%H:%M} – {preference.quiet_end:%H:%M}"

    @display(description=_("muted categories"))
    def muted(self, preference: Preference) -> str:
        return ", ".join(preference.muted_categories) or "–"


@admin.register(Digest)
class DigestAdmin(ReadOnlyAdmin):
    list_display = ("user", "status_label", "attempts", "created", "sent", "last_error")
    list_filter = (("status", ChoicesCheckboxFilter),)
    search_fields = ("user__username",)
    list_select_related = ("user",)
    ordering = ("-id",)
    show_full_result_count = False
    list_per_page = 50

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [field.name for field in Digest._meta.fields]

    @display(description=_("status"), ordering="status", label=LABELS)
    def status_label(self, digest: Digest) -> tuple[str, str]:
        return digest.status, digest.get_status_display()

    @display(description=_("created"), ordering="created_at")
    def created(self, digest: Digest) -> str:
        return to_the_second(digest.created_at)

    @display(description=_("sent"), ordering="sent_at")
    def sent(self, digest: Digest) -> str:
        return to_the_second(digest.sent_at)
