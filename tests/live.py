"""The test's own hand in the database of the processes that it started."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dj_database_url
from django.db import connections

from tests.processes import Environment


@contextmanager
def database_of(env: Environment) -> Iterator[None]:
    """Within the block, this thread's default connection is that of the processes."""
    before = connections["default"]
    after = before.copy()
    url = dj_database_url.parse(env["DATABASE_URL"])
    where: dict[str, Any] = dict(url)
    names = ("NAME", "USER", "PASSWORD", "HOST", "PORT")
    after.settings_dict |= {name: where[name] for name in names}
    connections["default"] = after
    try:
        yield
    finally:
        after.close()
        connections["default"] = before
