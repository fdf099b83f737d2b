"""Lines of the log: text for people, or JSON for programs (`LOG_FORMAT`), each with its ids."""

import logging
import sys
import threading
from types import TracebackType
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from jobs.correlation import correlation_id, event_id

FIELDS = {"levelname": "level", "name": "logger", "exc_info": "exception"}
# What Django hands to its own handlers, and what stands in the line by another name.
LEFT_OUT = [*RESERVED_ATTRS, "about", "request", "response", "server_time", "taskName"]

logger = logging.getLogger(__name__)


class Correlated(logging.Filter):
    """Adds what the line is about; a line that names an event itself (`extra`) keeps it."""

    def filter(self, record: logging.LogRecord) -> bool:
        asked = getattr(record, "correlation_id", "") or correlation_id()
        event = str(getattr(record, "event_id", "") or event_id())
        about = " ".join(filter(None, [asked, event and f"event {event}"]))
        record.correlation_id, record.event_id = asked, event
        record.about = f" [{about}]" if about else ""
        return True


class Json(JsonFormatter):
    """One object a line: an exception and all newlines are within it."""

    def __init__(self) -> None:
        super().__init__(
            ["levelname", "name", "message", "correlation_id", "event_id"],
            rename_fields=FIELDS,
            reserved_attrs=LEFT_OUT,
            timestamp="time",
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        if not log_data.get("event_id"):
            log_data.pop("event_id", None)
        processed: dict[str, Any] = super().process_log_record(log_data)
        return processed


def log_what_is_printed() -> None:
    """Warnings, and what ends a process or a thread, as lines of the log like all others."""
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _log(args.exc_type, args.exc_value, args.exc_traceback)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        _log(kind, error, trace)


def _log(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    if error and not issubclass(kind, SystemExit):
        logger.critical("Nobody caught this", exc_info=(kind, error, trace))
