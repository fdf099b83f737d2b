"""People from a CSV file, for the list of an audience."""

from dataclasses import asdict

from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, JsonResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin

from broadcasts.people import Found, from_csv
from jobs.pages import digits


class PeopleFromFile(ModelAdmin):
    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.people))
        return [path("people/", view, name="broadcasts_broadcast_people"), *super().get_urls()]

    def people(self, request: HttpRequest) -> JsonResponse:
        """Who is in the file, and who was not found; nothing is stored."""
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
        file = request.FILES.get("file")
        if file is None or file.size is None:
            return JsonResponse({"error": _("Choose a CSV file.")})
        try:
            found = from_csv(file, file.size)
        except ValidationError as error:
            return JsonResponse({"error": " ".join(error.messages)})
        return JsonResponse(
            {
                "ids": list(found.ids),
                "said": " ".join(_sentences(found)),
                "missing": [asdict(missing) for missing in found.missing],
            }
        )


def _sentences(found: Found) -> list[str]:
    count = len(found.ids)
    said = [
        ngettext("%(count)s person was added.", "%(count)s people were added.", count)
        % {"count": digits(count)}
    ]
    if found.repeated:
        text = ngettext(
            "%(count)s line named somebody again.",
            "%(count)s lines named somebody again.",
            found.repeated,
        )
        said.append(text % {"count": digits(found.repeated)})
    if found.missing:
        count = len(found.missing)
        text = ngettext("%(count)s was not found.", "%(count)s were not found.", count)
        said.append(text % {"count": digits(count)})
    if found.encoding == "cp1252":
        said.append(_("The file is not UTF-8; it was read as Windows-1252."))
    return said
