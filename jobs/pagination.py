"""How the API goes through rows of which there may be millions."""

import re

from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request

ID = re.compile(r"[0-9]{1,19}")  # of more digits `int` may raise


class ById(CursorPagination):
    """The newest first. Nothing is counted, and what is written meanwhile moves nothing to another
    page."""

    ordering = "-id"
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500

    def decode_cursor(self, request: Request) -> Cursor | None:
        cursor: Cursor | None = super().decode_cursor(request)
        if cursor and not ID.fullmatch(str(cursor.position or 0)):
            raise NotFound(self.invalid_cursor_message)
        return cursor
