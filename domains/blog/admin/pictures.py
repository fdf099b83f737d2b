from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import AllValuesCheckboxFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminImageFieldWidget

from domains.blog import pictures
from domains.blog.models import Media
from jobs.pages import named, preformatted


class UploadForm(forms.ModelForm):  # type: ignore[type-arg]
    upload = forms.FileField(
        label=_("Picture"),
        widget=UnfoldAdminImageFieldWidget({"accept": "image/jpeg,image/png,image/gif,image/webp"}),
        help_text=_("JPEG, PNG, GIF or WebP. Larger than 3840 × 2160 pixels it is made smaller."),
    )

    class Meta:
        model = Media
        fields = ["upload", "alt"]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if upload := cleaned.get("upload"):
            try:
                cleaned["picture"] = pictures.read(upload)
            except ValidationError as error:
                self.add_error("upload", error)
        return cleaned


@admin.register(Media)
class MediaAdmin(ModelAdmin):
    list_display = ("thumbnail", "headline", "mime", "dimensions", "weight", "created_at")
    list_display_links = ("headline",)
    list_filter = (("mime", AllValuesCheckboxFilter), "created_at")
    search_fields = ("alt", "original_name")
    search_help_text = _("Description or name")
    compressed_fields = False
    list_per_page = 25
    uploader = named("uploaded_by", _("uploaded by"))
    readonly_fields = (
        "shown",
        "in_markdown",
        "original_name",
        "mime",
        "dimensions",
        "weight",
        "uploader",
        "created_at",
    )

    def get_form(self, request: HttpRequest, obj: Any = None, *args: Any, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = UploadForm
        return super().get_form(request, obj, *args, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("alt", *self.readonly_fields) if obj else ("upload", "alt")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readonly_fields if obj else ()

    def save_model(self, request: HttpRequest, obj: Media, form: Any, change: bool) -> None:
        if change:
            obj.save(update_fields=["alt"])
        else:
            user: Any = request.user
            given = form.cleaned_data
            pictures.store(obj, user, given["picture"], given["upload"].name)

    def delete_model(self, request: HttpRequest, obj: Media) -> None:
        pictures.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Media]) -> None:
        for media in queryset:
            pictures.delete(media)

    @display(description=_("thumbnail"))
    def thumbnail(self, media: Media) -> SafeString:
        html = '<img class="console-thumbnail" src="{}" alt="" loading="lazy">'
        return format_html(html, media.thumbnail(150))

    @display(description=_("picture"), ordering="original_name")
    def headline(self, media: Media) -> str:
        return str(media)

    @display(description=_("pixels"), ordering="width")
    def dimensions(self, media: Media) -> str:
        return f"{media.width} × {media.height}"

    @display(description=_("size"), ordering="size")
    def weight(self, media: Media) -> str:
        return filesizeformat(media.size)

    @display(description=_("picture"))
    def shown(self, media: Media) -> SafeString:
        html = '<a href="{}"><img class="console-picture" src="{}" alt="{}"></a>'
        return format_html(html, media.url, media.thumbnail(600), media.alt)

    @display(description=_("in a post"))
    def in_markdown(self, media: Media) -> SafeString:
        return preformatted(media.markdown)
