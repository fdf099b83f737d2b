"""What posts are filed under."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display

from domains.blog import services
from domains.blog.models import Category, Tag, Tree


@admin.register(Category)
class CategoryAdmin(ModelAdmin):
    list_display = ("in_tree", "slug", "description", "post_count")
    search_fields = ("name", "slug")
    search_help_text = _("Name or slug")
    prepopulated_fields = {"slug": ("name",)}
    autocomplete_fields = ("parent",)
    compressed_fields = False
    list_per_page = 200

    def get_queryset(self, request: HttpRequest) -> QuerySet[Category]:
        queryset: QuerySet[Category] = super().get_queryset(request)
        return queryset.annotate(post_count=Count("posts"))

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """As a tree, unless somebody searches or sorts."""
        changelist: ChangeList = super().get_changelist_instance(request)
        rows = list(changelist.result_list)
        tree = Tree(Category.objects.all())
        walk = {row.pk: (place, depth) for place, (depth, row) in enumerate(tree.walk())}
        for row in rows:
            row.depth = walk.get(row.pk, (0, 0))[1]
        if not {"q", "o"} & request.GET.keys():
            rows.sort(key=lambda row: walk.get(row.pk, (0, 0)))
        changelist.result_list = rows
        return changelist

    def save_model(self, request: HttpRequest, obj: Category, form: Any, change: bool) -> None:
        services.save_category(obj, **{name: getattr(obj, name) for name in form.changed_data})

    @display(description=_("category"), ordering="name")
    def in_tree(self, category: Any) -> SafeString:
        return format_html("{}{}", "\u2003\u2003" * category.depth, category.name)

    @display(description=_("posts"), ordering="post_count")
    def post_count(self, category: Any) -> int:
        count: int = category.post_count
        return count


@admin.register(Tag)
class TagAdmin(ModelAdmin):
    list_display = ("name", "slug", "post_count")
    search_fields = ("name", "slug")
    search_help_text = _("Name or slug")
    prepopulated_fields = {"slug": ("name",)}
    compressed_fields = False
    list_per_page = 100

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tag]:
        queryset: QuerySet[Tag] = super().get_queryset(request)
        return queryset.annotate(post_count=Count("posts"))

    @display(description=_("posts"), ordering="post_count")
    def post_count(self, tag: Any) -> int:
        count: int = tag.post_count
        return count
