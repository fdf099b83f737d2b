from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display

from broadcasts.models import Product


@admin.register(Product)
class ProductAdmin(ModelAdmin):
    list_display = ("name", "slug", "subscriber_count")
    search_fields = ("name", "slug")
    prepopulated_fields = {"slug": ("name",)}
    autocomplete_fields = ("subscribers",)
    compressed_fields = False
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[Product]:
        queryset: QuerySet[Product] = super().get_queryset(request)
        return queryset.annotate(subscriber_count=Count("subscribers"))

    @display(description=_("subscribers"), ordering="subscriber_count")
    def subscriber_count(self, product: Any) -> int:
        count: int = product.subscriber_count
        return count
