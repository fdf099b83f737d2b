"""How often posts are read, without a write a reader: each process counts, and writes now and then.

What a process had not written when it ended is lost: the figure says how popular, not how many.
"""

import logging
import threading
import time
from collections import Counter

from django.db import OperationalError
from django.db.models import Case, F, Value, When

from domains.blog.models import Post

logger = logging.getLogger(__name__)

WRITTEN_EVERY = 10.0  # seconds


class Views:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counted: Counter[int] = Counter()
        self.written = time.monotonic()

    def count(self, pk: int) -> None:
        with self.lock:
            self.counted[pk] += 1
            if time.monotonic() - self.written < WRITTEN_EVERY:
                return
            counted, self.counted = self.counted, Counter()
            self.written = time.monotonic()
        try:
            write(counted)
        except OperationalError:  # locked by another; who reads the page has nothing to do with it
            logger.warning("Views are written later", exc_info=True)
            with self.lock:
                self.counted += counted


def write(counted: Counter[int]) -> None:
    """One statement for all of them."""
    more = Case(*(When(pk=pk, then=Value(count)) for pk, count in counted.items()))
    Post.objects.filter(pk__in=counted).update(view_count=F("view_count") + more)


views = Views()
