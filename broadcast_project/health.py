"""`/healthz` and `/readyz`: does this process live, and can it serve? For probes and for people.

Answered before anything else looks at the request: a probe names a host that nobody allowed, and
a session would ask the database that may be away.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from http import HTTPStatus

from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers
from django.utils.deprecation import MiddlewareMixin
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from redis.exceptions import RedisError

from jobs import clock
from jobs.console import overdue_jobs
from jobs.redis import connect
from outbox.leases import RELAY, leading
from outbox.logs import LogUnavailable, get_log
from outbox.models import Event

logger = logging.getLogger(__name__)

FRESH = 1.0  # seconds for which an answer stands, however many probes ask
PATIENCE = 2.0  # seconds for all parts together: probes wait no longer
APART = 5.0  # seconds that two clocks may differ before somebody should know
ALONE = 10.0  # seconds without the log after which what others publish to it tells
Group = tuple[str, ...]
OK, DEGRADED, UNAVAILABLE = "ok", "degraded", "unavailable"
TITLES = {
    OK: gettext_lazy("All is well"),
    DEGRADED: gettext_lazy("It serves, but not everything works"),
    UNAVAILABLE: gettext_lazy("It cannot serve now"),
}


@dataclass(frozen=True)
class Part:
    name: str
    state: str
    detail: str


@dataclass(frozen=True)
class Health:
    parts: list[Part]

    @property
    def state(self) -> str:
        """The worst of its parts'."""
        states = {part.state for part in self.parts}
        return next((state for state in (UNAVAILABLE, DEGRADED) if state in states), OK)

    @property
    def detail(self) -> str:
        return " ".join(part.detail for part in self.parts if part.state != OK)


class Wrong(Exception):
    """What is wrong with a part, in words for whoever reads the answer."""

    def __init__(self, message: str, state: str = "") -> None:
        super().__init__(message)
        self.state = state  # that of the part, unless it says


# The parts


def check_database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        raise Wrong(_("The database does not answer.")) from error
    return _("The database answers.")


def check_clock() -> str:
    began = time.time()
    there = clock.now().timestamp()
    apart = max(began - there, there - time.time(), 0)
    if apart > APART:
        raise Wrong(
            _("The clock here and that of the database differ by %(seconds)d s: set both by NTP.")
            % {"seconds": apart}
        )
    return _("The clock here is that of the database.")


class LogCheck:
    def __init__(self) -> None:
        self.reached = time.monotonic()

    def __call__(self) -> str:
        try:
            get_log().ping(PATIENCE * 0.75)  # its answer is in time
        except LogUnavailable as error:
            if self.is_away_for_this_process_alone():
                message = _("Others publish to the event log, but it cannot be reached from here.")
                raise Wrong(message, UNAVAILABLE) from error
            message = _("The event log cannot be reached: inboxes are up to date, streams silent.")
            raise Wrong(message) from error
        self.reached = time.monotonic()
        return _("The event log can be read.")

    def is_away_for_this_process_alone(self) -> bool:
        """The relay has published since: told by ages, as clocks may differ."""
        away = time.monotonic() - self.reached
        latest = Event.objects.published().order_by("-position").values_list("published_at")
        row = latest.first()
        return bool(row and row[0] and clock.now() - row[0] < timedelta(seconds=away - ALONE))


def check_redis() -> str:
    try:
        _redis(settings.REDIS_URL).ping()
    except RedisError as error:
        raise Wrong(_("Redis is away: everything goes on without, more slowly.")) from error
    return _("Redis answers.")


def check_relay() -> str:
    if lease := leading(RELAY):
        return _("%(holder)s leads.") % {"holder": lease.holder}
    raise Wrong(_("No relay leads, nothing goes out: start manage.py relay."))


def check_jobs() -> str:
    if late := overdue_jobs():
        raise Wrong(
            _("Overdue: %(jobs)s. Does manage.py qcluster run?") % {"jobs": ", ".join(late)}
        )
    return _("No job is overdue.")


_redis = cache(connect)
CHECKS: dict[str, tuple[Callable[[], str], str]] = {
    # Unavailable is what has nothing to serve, or would be better served by another process. What
    # is away for all of them is not: to take out all would take the pages that still work as well.
    "database": (check_database, UNAVAILABLE),
    "clock": (check_clock, DEGRADED),
    "event log": (LogCheck(), DEGRADED),
    "cache": (check_redis, DEGRADED),
    "relay": (check_relay, DEGRADED),
    "jobs": (check_jobs, DEGRADED),
}
# Each group by one thread: the first has one connection to the database.
GROUPS: tuple[Group, ...] = (("database", "clock", "relay", "jobs"), ("event log",), ("cache",))


# All together


class Look:
    """At one group, in a thread that may hang without whoever asks, and without who ends."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.parts: list[Part] = []
        self.thread = threading.Thread(target=self._run, name=f"health-{group[0]}", daemon=True)
        self.thread.start()

    def ends(self, until: float) -> bool:
        self.thread.join(max(until - time.monotonic(), 0))
        return not self.thread.is_alive()

    def _run(self) -> None:
        try:
            self.parts = [_look_at(name) for name in self.group]
        finally:
            connection.close()  # that of this thread: back into the pool


class Checker:
    """One look a second at most, however many probes ask."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.looks: dict[Group, Look] = {}
        self.known: Health | None = None
        self.until = 0.0

    def health(self) -> Health:
        with self.lock:
            if self.known is None or time.monotonic() >= self.until:
                self.known = self._look()
                self.until = time.monotonic() + FRESH
            return self.known

    def _look(self) -> Health:
        groups = [group for group in GROUPS if settings.REDIS_URL or group != ("cache",)]
        # One that hangs since the last look is neither begun again nor waited for.
        new = {group: Look(group) for group in groups if group not in self.looks}
        until = time.monotonic() + PATIENCE
        self.looks |= new
        found = {
            part.name: part
            for group in groups
            for part in self._found(group, until if group in new else 0.0)
        }
        return Health([found[name] for name in CHECKS if name in found])

    def _found(self, group: Group, until: float) -> list[Part]:
        if self.looks[group].ends(until):
            return self.looks.pop(group).parts
        late = _("No answer within %(seconds)d s.") % {"seconds": PATIENCE}
        return [Part(name, CHECKS[name][1], late) for name in group]


def _look_at(name: str) -> Part:
    check, bad = CHECKS[name]
    try:
        return Part(name, OK, check())
    except Wrong as wrong:
        return Part(name, wrong.state or bad, str(wrong))
    except DatabaseError:
        return Part(name, bad, _("Unknown: the database does not answer."))
    except Exception:
        logger.exception("The health of %s cannot be told", name)
        return Part(name, bad, _("Cannot be told; the log says why."))


_checker = Checker()


# The answers


class Probes(MiddlewareMixin):
    """First of all middleware: see the top of this module."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        answer = PROBES.get(request.path_info)
        if answer is None:
            return None
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        response = answer(request)
        response["Cache-Control"] = "no-store"
        patch_vary_headers(response, ["Accept"])
        return response


def live(request: HttpRequest) -> HttpResponse:
    """This process takes requests: nothing else is asked."""
    return _answer(request, Health([Part("process", OK, _("This process answers."))]))


def ready(request: HttpRequest) -> HttpResponse:
    return _answer(request, _checker.health())


PROBES = {"/healthz": live, "/readyz": ready}


def _answer(request: HttpRequest, health: Health) -> HttpResponse:
    strict = "strict" in request.GET
    bad = health.state == UNAVAILABLE or (strict and health.state == DEGRADED)
    status = HTTPStatus.SERVICE_UNAVAILABLE if bad else HTTPStatus.OK
    if request.get_preferred_type(["application/json", "text/html"]) == "text/html":
        context = {"health": health, "title": TITLES[health.state], "node": settings.NODE_NAME}
        page = render_to_string("health.html", context)
        return HttpResponse(page, status=status)
    parts = {part.name: {"status": part.state, "message": part.detail} for part in health.parts}
    body = {"status": health.state, "message": health.detail, "parts": parts}
    return JsonResponse(body, status=status)
