"""Stack traces and complaints in words, and whether a restart could mend what they tell."""

import re
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True)
class Reason:
    pattern: re.Pattern[str]
    words: Promise


def _reason(pattern: str, words: Promise) -> Reason:
    return Reason(re.compile(pattern, re.IGNORECASE), words)


UNMENDABLE = [
    # Also after it was made again: what was written in between was written without it.
    _reason(
        r'publication "[^"]*" does not exist',
        _(
            "Its publication was dropped. One that is made again does not help with what was "
            "written meanwhile: drop the replication slot, then restart."
        ),
    ),
    _reason(
        r"can no longer get changes from replication slot|slot .{1,80} has been invalidated"
        r"|requested WAL segment \S+ has already been removed",
        _("Its replication slot is lost: drop it, restart, and take a new snapshot."),
    ),
    _reason(
        r"authentication failed|no password was provided|AuthenticationException"
        r"|password is (?:an empty|incorrect)|Access denied for user|ORA-01017|Login failed",
        _("It is refused its user or password: correct them."),
    ),
    _reason(
        r"pg_hba\.conf|access denied|permission denied|AuthorizationException"
        r"|must be superuser|REPLICATION or LOGIN|not authorized",
        _("It is denied what it needs: give its user the rights."),
    ),
    _reason(
        r'database "[^"]*" does not exist', _("Its database does not exist: correct the name.")
    ),
    _reason(
        r"wal_level",
        _("The database writes no logical log: set wal_level=logical and restart the database."),
    ),
    _reason(
        r"ClassNotFoundException|NoClassDefFoundError|Failed to find any class"
        r"|Class \S+ could not be found",
        _("A class is missing on the workers of Connect: install the plugin, or correct the name."),
    ),
    _reason(
        r"ConfigException|InvalidConfiguration|configuration is invalid|Invalid value",
        _("Its configuration is wrong: correct it."),
    ),
]
AWAY = re.compile(
    r"Connection to \S+ refused|connection attempt failed|UnknownHost|No route to host"
    r"|the database system is (?:starting up|shutting down)|timed out",
    re.IGNORECASE,
)


def unmendable(text: str) -> str:
    """Why no restart will help, in words; empty: one may."""
    return next((str(reason.words) for reason in UNMENDABLE if reason.pattern.search(text)), "")


def is_away(text: str) -> bool:
    """The database cannot be reached: Debezium itself goes on trying."""
    return bool(AWAY.search(text))


def cause(trace: str) -> str:
    """The last cause of a Java stack trace, in one line, without its package."""
    lines = [line for line in trace.splitlines() if line.startswith("Caused by: ")]
    last = (lines or trace.splitlines() or [""])[-1 if lines else 0]
    last = last.removeprefix("Caused by: ").strip()
    return re.sub(r"^(?:[\w$]+\.)+(?=[A-Z])", "", last)[:300]
