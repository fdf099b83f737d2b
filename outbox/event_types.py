"""The event types that are known: those that apps declare, and those that the log has seen."""

from collections.abc import Mapping

from django.db import connection
from django.utils.functional import Promise

Sentence = str | Promise
declared: dict[str, Sentence] = {}
"""When each happens, in a sentence."""

# From type to type by the index on it: the table may be long, and has but a few of them.
SEEN = """
WITH RECURSIVE seen(type) AS (
    SELECT min(type) FROM outbox_event
    UNION ALL
    SELECT (SELECT min(type) FROM outbox_event WHERE type > seen.type)
    FROM seen WHERE seen.type IS NOT NULL
)
SELECT type FROM seen WHERE type IS NOT NULL
"""


def register(types: Mapping[str, Sentence]) -> None:
    """The `EVENTS` of an app's module `events`."""
    declared.update(types)


def known() -> dict[str, Sentence]:
    """By type, with an empty sentence for what nobody declares. One query."""
    with connection.cursor() as cursor:
        cursor.execute(SEEN)
        seen = [row[0] for row in cursor.fetchall()]
    return dict(sorted((dict.fromkeys(seen, "") | declared).items()))
