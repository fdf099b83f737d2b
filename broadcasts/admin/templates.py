"""Templates: written here, used in the forms of broadcasts and series."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin
from unfold.decorators import display

from broadcasts.admin.compose import MarkdownWidget
from broadcasts.admin.languages import TranslatedForm
from broadcasts.directory import ids_in
from broadcasts.markdown import render
from broadcasts.models import Template

VALUE = "value_"
NOUNS = ("broadcast", "series", "rule")
MOST = 200  # templates that the forms offer


class TemplateForm(TranslatedForm):
    class Meta:
        model = Template
        fields = ("name", "title", "content", "language", "translations")
        widgets = {"content": MarkdownWidget({"rows": 10})}


@admin.register(Template)
class TemplateAdmin(ModelAdmin):
    form = TemplateForm
    list_display = ("name", "title", "field_names", "language_tags", "updated_at")
    search_fields = ("name", "title")
    search_help_text = _("Name or title")
    list_per_page = 50
    compressed_fields = False
    warn_unsaved_form = True
    change_form_template = "admin/broadcasts/template/compose.html"

    @display(description=_("fields"))
    def field_names(self, template: Template) -> str:
        return ", ".join(template.fields) or "–"

    @display(description=_("languages"))
    def language_tags(self, template: Template) -> str:
        return ", ".join(template.texts)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.fill))
        return [path("fill/", view, name="broadcasts_template_fill"), *super().get_urls()]

    def fill(self, request: HttpRequest) -> HttpResponse:
        """What a template says with these values; to `use` it, all of them are needed."""
        if not may_compose(request):
            raise PermissionDenied
        template = get_object_or_404(Template, pk__in=ids_in([request.POST.get("template", "")]))
        return JsonResponse(filled(template, request.POST.dict(), use="use" in request.POST))


def may_compose(request: HttpRequest) -> bool:
    verbs = (f"{verb}_{noun}" for noun in NOUNS for verb in ("add", "change"))
    return any(request.user.has_perm(f"broadcasts.{verb}") for verb in verbs)


def filled(template: Template, data: dict[str, str], *, use: bool) -> dict[str, Any]:
    values = {
        name.removeprefix(VALUE): value for name, value in data.items() if name.startswith(VALUE)
    }
    if not use:
        values = {name: value for name, value in values.items() if value.strip()}
    try:
        texts = template.use(values) if use else template.fill(values)
    except ValidationError as error:
        return {"error": " ".join(error.messages)}
    return texts | {"html": render(texts["content"])}


def choices() -> list[dict[str, Any]]:
    """What the picker of a form offers."""
    templates: QuerySet[Template] = Template.objects.all()[:MOST]
    return [{"id": t.pk, "name": t.name, "fields": t.fields} for t in templates]
