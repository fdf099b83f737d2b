"""Pages of the operators' lists."""

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request


class Pages(PageNumberPagination):
    page_size = 25
    page_size_query_param = "page_size"
    max_page_size = 100

    def paginate_queryset(
        self, queryset: QuerySet[Any] | Sequence[Any], request: Request, view: Any = None
    ) -> list[Any] | None:
        if isinstance(queryset, QuerySet) and queryset.query.order_by:
            # Equal keys would else come in any order: on two pages, or on none.
            queryset = queryset.order_by(*queryset.query.order_by, "-pk")
        return super().paginate_queryset(queryset, request, view)
