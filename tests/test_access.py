"""Who may do what: every address that there is, as everybody and with a key of each scope.

`docs/access.md` says it. An address that it does not name fails, so that none is open by oversight.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from http.cookies import SimpleCookie
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import Model
from django.http import HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from django_q.models import Failure, OrmQ, Schedule
from django_q.signing import SignedPackage

from broadcast_project import health
from broadcast_project import roles as elsewhere
from broadcasts import roles
from broadcasts.admin.approvals import VERBS
from broadcasts.models import ApprovalStep, Broadcast, Template
from connections import feed, routing
from connections.admissions import CONNECT, Asking, identify
from connections.refusals import Refusal
from domains.blog.models import Media
from domains.pantry.models import Entry, Kitchen, Piece
from domains.warcraft.models import Faction, PlayableClass, Race
from jobs.models import Job
from operations.audit.models import AuditEntry
from operations.keys import services
from operations.keys.scopes import Scope
from outbox.models import ConsumerOffset
from tests.factories import ProductFactory, UserFactory
from tests.test_admin_pages import one_of_each
from tests.test_architecture import CHECKOUT

pytestmark = pytest.mark.django_db

ROLES = ("Viewers", "Composers", "Approvers")
PEOPLE = ("anonymous", "reader", "staff", *ROLES, "administrator")
NO_METHOD = "–"
WORDS = {
    "everybody": {*PEOPLE},
    "signed in": {*PEOPLE} - {"anonymous"},
    "staff": {*PEOPLE[2:]},
    "roles": {*ROLES, "administrator"},
    **{role: {role, "administrator"} for role in ROLES},
    "administrators": {"administrator"},
    "nobody": set(),
    NO_METHOD: set(),
}
RENDERED = ("administrator",)  # with all the parts that the others see; it takes a while
LINK = re.compile(r'(?:href|action)="(/admin/[^"?#]*)')
TOKEN = "x" * 32  # of CSRF
WITHOUT_TOKEN = {
    "/unsubscribe/{token}"
}  # mail programs post there, which no other site could guess


# The table


@dataclass(frozen=True)
class Row:
    address: str
    people: tuple[str, str]
    scopes: tuple[str, str] = (NO_METHOD, NO_METHOD)

    def may(self, door: "Door") -> set[str]:
        return set().union(*(WORDS[word] for word in self.people[door.writes].split(", ")))

    def opening(self, door: "Door") -> set[str]:
        return set(self.scopes[door.writes].split(", ")) - {NO_METHOD}


@cache
def table() -> list[Row]:
    lines = (CHECKOUT / "docs" / "access.md").read_text().splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("| `/")]
    cells = [[cell.strip().replace("\\|", "|") for cell in row] for row in rows]
    return [Row(address[1:-1], (get, do), *by_key(keys)) for address, get, do, *keys in cells]


def by_key(scopes: list[str]) -> list[tuple[str, str]]:
    return [(scopes[0], scopes[1])] if scopes else []


def row_of(address: str) -> Row:
    found = next((row for row in table() if re.fullmatch(row.address, address)), None)
    assert found, f"docs/access.md does not say who may open {address}: add it to a row there."
    return found


# The addresses


@dataclass(frozen=True)
class Door:
    """A method of an address, as the table names it, and where such a thing is."""

    name: str
    method: str
    address: str

    @property
    def writes(self) -> bool:
        return self.method != "get"

    @property
    def is_api(self) -> bool:
        return self.address.startswith("/api/")


# What no placeholder of a route could be put into, by the route itself
REGEXES = {
    "^api/": ["api/nowhere"],
    "(?P<url>.*)$": ["nowhere"],
    "^(?P<app_label>": [f"{app}/" for app in {m._meta.app_label for m in admin.site._registry}],
}
GIVEN = {
    "code": "4000000000006",
    "content_type_id": 1,
    "kind": "svg",
    "month": 1,
    "section": "posts",
    "slug": "nowhere",
    "token": "nonsense",
    "user": "somebody",
    "year": 2026,
}


def patterns(resolver: URLResolver | None = None, at: str = "/") -> Iterator[tuple[str, Any]]:
    """Every route that the resolver knows, with its view."""
    for found in (resolver or get_resolver()).url_patterns:
        own = str(found.pattern)
        if isinstance(found, URLResolver):
            yield from patterns(found, at + own)
            continue
        assert isinstance(found, URLPattern)
        regex = next((start for start in REGEXES if own.startswith(start)), None)
        yield from ((at + part, found.callback) for part in (REGEXES[regex] if regex else [own]))


def model_of(route: str, view: Any) -> type[Model] | None:
    parts = route.split("/")
    if parts[1] == "admin":
        return apps.all_models.get(parts[2], {}).get(parts[3]) if len(parts) > 3 else None
    if not hasattr(getattr(view, "cls", None), "get_queryset"):
        return None
    made = view.cls()
    made.action, made.request, made.kwargs = "retrieve", None, {}
    model: type[Model] = made.get_queryset().model
    return model


def methods_of(view: Any) -> list[str]:
    if not hasattr(view, "cls"):
        return ["get", "post"]
    known = getattr(view, "actions", None) or view.cls.http_method_names
    return [
        method
        for method in ("get", "post", "put", "patch", "delete")
        if method in known
        and method in view.cls.http_method_names
        and (hasattr(view, "actions") or hasattr(view.cls, method))
    ]


def doors(things: dict[type[Model], Any], nothing: str = "") -> list[Door]:
    """Each once, with those of probes, which no resolver knows; if given, about `nothing`."""
    found = {Door(address, "get", address): None for address in health.PROBES}
    for route, view in patterns():
        model = model_of(route, view)
        pk: Any = things[model].pk if model in things else 1
        pk = nothing or pk
        given = GIVEN | {"id": pk, "pk": pk, "object_id": pk, "name": "RUN_RETENTION"}
        given |= {"name": "orders"} if "/connectors/" in route else {}
        given |= {"kind": "csv"} if "/export/" in route else {}
        for verb in VERBS if ":verb>" in route else [""]:
            written = route.replace("<slug:verb>", verb)
            name = re.sub(r"\{(object_id|pk)\}", "{id}", filled(written, "{{{}}}".format))
            address = filled(written, given.__getitem__)
            found |= dict.fromkeys(Door(name, method, address) for method in methods_of(view))
    return list(found)


def filled(route: str, put: Callable[[str], object]) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(put(found[1])), route)


# Who asks, and how it is answered


@pytest.fixture
def people() -> dict[str, User]:
    """One of each; what a migration made may have been flushed by another test."""
    roles.create(apps)
    elsewhere.grant(apps)
    found = {name: UserFactory.create(username=name, is_staff=True) for name in PEOPLE[2:]}
    for role in ROLES:
        found[role].groups.add(Group.objects.get(name=role))
    User.objects.filter(username="administrator").update(is_superuser=True)
    return found | {"reader": UserFactory.create(username="reader")}


@pytest.fixture
def things(people: dict[str, User]) -> dict[type[Model], Any]:
    """What the addresses are about: the last one of each model."""
    now = timezone.now()
    job, _ = Job.objects.get_or_create(name="RUN_RETENTION")
    waiting = SignedPackage.dumps({"id": "q", "name": "q", "func": "f", "args": (), "kwargs": {}})
    made = [
        *one_of_each(UserFactory.create(username="somebody")),
        ProductFactory.create(),
        Broadcast.objects.create(title="A draft"),
        job,
        ConsumerOffset.objects.create(group="web", topic="link"),
        Entry.objects.get(),
        Faction.objects.create(name="Alliance", key="ALLIANCE"),
        Race.objects.create(id=1, name="Human"),
        PlayableClass.objects.create(id=8, name="Mage"),
        Schedule.objects.create(func="jobs.tasks.tick"),
        Failure.objects.create(id="f", name="f", func="f", started=now, stopped=now, success=False),
        OrmQ.objects.create(key="broadcast", payload=waiting, lock=now),
        AuditEntry.objects.create(action="job.paused", door="admin"),
        Group.objects.get(name="Viewers"),
        people["reader"],
    ]
    Media.objects.update(uploaded_by=people["reader"])
    ApprovalStep.objects.update(person=people["reader"])
    found = {type(thing): thing for thing in made}
    return found | {Kitchen: found[Piece]}


def bodies(things: dict[type[Model], Any]) -> dict[str, dict[str, Any]]:
    """Where a view looks for what it is about before it says who may."""
    return {
        "/admin/autocomplete/": {
            "app_label": "pantry",
            "model_name": "piece",
            "field_name": "variant",
        },
        "/admin/broadcasts/template/fill/": {"template": things[Template].pk},
        "/admin/pantry/kitchen/do/": {"verb": "open", "id": things[Piece].pk},
        "/admin/pantry/shoppinglist/{id}/buy/": {"entry": things[Entry].pk},
    }


class Walker:
    """Asks as one person, by session or by key, and undoes what it did."""

    def __init__(
        self, things: dict[type[Model], Any], user: User | None = None, *, key: str = ""
    ) -> None:
        self.bodies = bodies(things)
        self.client = Client(
            enforce_csrf_checks=True, raise_request_exception=False, REMOTE_ADDR="192.0.2.1"
        )
        if user:
            self.client.force_login(user)
        self.client.cookies["csrftoken"] = TOKEN
        self.cookies = self.client.cookies.output(header="", sep=";")
        self.headers = {"X-API-Key": key} if key else {"X-CSRFToken": TOKEN}

    def ask(self, door: Door, *, token: bool = True) -> HttpResponseBase:
        self.client.cookies = SimpleCookie(self.cookies)
        data: Any = self.bodies.get(door.name, {})
        kwargs: dict[str, Any] = {"headers": self.headers if token else {}}
        if door.writes and door.is_api and door.name != "/api/blog/media":
            data, kwargs["content_type"] = "{}", "application/json"
        elif door.method in ("put", "patch"):
            data, kwargs["content_type"] = "", "multipart/form-data; boundary=x"
        with transaction.atomic():
            response = getattr(self.client, door.method)(door.address, data, **kwargs)
            transaction.set_rollback(True)
        answer: HttpResponseBase = response
        assert answer.status_code != 500, f"{door} breaks."
        return answer


def is_refusal(door: Door, answer: HttpResponseBase) -> bool:
    """401, 403, the way to the sign-in; and 404, but where everybody may look."""
    if answer.status_code == 404:
        return "everybody" not in row_of(door.name).people
    return answer.status_code in (401, 403) or "?next=" in answer.headers.get("Location", "")


def refuses_in_order(door: Door, answer: HttpResponseBase, person: str) -> bool:
    """As docs/access.md says at its top."""
    status, location = answer.status_code, answer.headers.get("Location", "")
    if door.is_api or door.name == "/metrics":
        unknown = person == "anonymous" and door.is_api
        return status == (401 if unknown else 403) or "nowhere" in door.name
    if door.name.startswith("/admin/"):
        outside = location.startswith("/admin/login/?next=")
        return outside if person in ("anonymous", "reader") else status in (403, 404)
    return location.startswith("/login?next=")


# What must be true


@pytest.mark.parametrize("person", PEOPLE)
def test_everybody_opens_what_the_table_says_and_nothing_else(
    person: str,
    people: dict[str, User],
    things: dict[type[Model], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if person not in RENDERED:
        monkeypatch.setattr(SimpleTemplateResponse, "rendered_content", "")
    walker = Walker(things, people.get(person))
    wrong = []
    for door in doors(things):
        answer = walker.ask(door)
        if answer.status_code == 405:
            continue
        refused = is_refusal(door, answer)
        if refused == (person in row_of(door.name).may(door)):
            wrong.append(f"{door.method} {door.name}: {answer.status_code}")
        elif refused and not refuses_in_order(door, answer, person):
            wrong.append(f"{door.method} {door.name}: refused by {answer.status_code}")
    assert not wrong


@pytest.mark.parametrize("nothing", ["999999999", "9" * 30, "nonsense"])
def test_what_is_not_there_is_no_failure_of_the_server(
    nothing: str, people: dict[str, User], things: dict[type[Model], Any]
) -> None:
    walker = Walker(things, User.objects.get(username="administrator"))
    asked = [walker.ask(door) for door in doors(things, nothing) if nothing in door.address]
    assert len(asked) > 100


@pytest.mark.parametrize("scope", [*Scope.values, "all of a Composer"])
def test_a_key_opens_what_its_scope_and_its_owner_may(
    scope: str, people: dict[str, User], things: dict[type[Model], Any]
) -> None:
    owner = "administrator" if scope in Scope.values else "Composers"
    scopes = [scope] if scope in Scope.values else Scope.values
    people[owner].refresh_from_db()
    no_limits = {"limit_minute": 0, "limit_hour": 0, "limit_day": 0}
    _, written = services.make(people[owner], "Walker", scopes, **no_limits)
    walker = Walker(things, key=written)
    wrong = []
    for door in doors(things):
        row = row_of(door.name)
        if not door.is_api or "nowhere" in door.name:
            continue
        answer = walker.ask(door)
        if answer.status_code == 405:
            continue
        # What everybody may open asks for no scope before a key is shown.
        may = bool(row.opening(door) & set(scopes)) and owner in row.may(door)
        if answer.status_code != 403 if not may else is_refusal(door, answer):
            wrong.append(f"{door.method} {door.name}: {answer.status_code}")
    assert not wrong


def test_a_key_opens_no_page(people: dict[str, User], things: dict[type[Model], Any]) -> None:
    people["administrator"].refresh_from_db()
    _, written = services.make(people["administrator"], "Walker", Scope.values)
    walker = Walker(things, key=written)
    for address in ("/", "/preferences", "/admin/", "/admin/broadcasts/broadcast/", "/metrics"):
        door = Door(address, "get", address)
        assert refuses_in_order(door, walker.ask(door), "anonymous")


def test_what_a_session_writes_needs_the_csrf_token(
    people: dict[str, User], things: dict[type[Model], Any]
) -> None:
    walker = Walker(things, User.objects.get(username="administrator"))
    for door in doors(things):
        if door.writes and door.name not in WITHOUT_TOKEN:
            assert walker.ask(door, token=False).status_code in (403, 404, 405), door


def test_no_page_of_the_console_leads_to_where_its_reader_may_not_go(
    people: dict[str, User], things: dict[type[Model], Any]
) -> None:
    walker = Walker(things, people["Viewers"])
    opened: set[str] = set()
    leads: dict[str, str] = {}
    for door in doors(things):
        if not door.writes and "Viewers" in row_of(door.name).may(door):
            answer: Any = walker.ask(door)
            opened.add(door.address)
            if answer.headers.get("Content-Type", "").startswith("text/html"):
                leads |= dict.fromkeys(LINK.findall(answer.content.decode()), door.name)
    lost = {address: page for address, page in leads.items() if address not in opened}
    refused = {
        page: address
        for address, page in lost.items()
        if walker.ask(Door(address, "get", address)).status_code in (403, 404)
    }
    assert not refused
    assert len(leads) > 100


def test_every_row_is_about_an_address(things: dict[type[Model], Any]) -> None:
    names = {door.name for door in doors(things)} | {*streams()}
    used = {row_of(name) for name in names}
    assert [row.address for row in table() if row not in used] == []


def test_an_address_that_the_table_does_not_name_fails_and_says_what_to_do() -> None:
    with pytest.raises(AssertionError, match=r"docs/access.md does not say who may open /new"):
        row_of("/new")


def test_every_action_of_a_list_asks_for_a_permission() -> None:
    for model_admin in admin.site._registry.values():
        for action in model_admin.actions or ():
            function = action if callable(action) else getattr(model_admin, action, None)
            if function:  # else one of the site, which is Django's own: deletion
                assert getattr(function, "allowed_permissions", None), (model_admin, action)


# The streams, which no resolver of Django's knows


def streams() -> list[str]:
    return ["/" + filled(str(url.pattern), "{{{}}}".format) for url in routing.urlpatterns]


def opens(path: str, user: User | None = None, key: str | None = None) -> int:
    """The status with which this stream would begin."""
    client = Client()
    if user:
        client.force_login(user)
    cookies = client.cookies.output(header="", sep=";")
    session = client.cookies[settings.SESSION_COOKIE_NAME].value if user else None
    asking = Asking(None, session, None, "192.0.2.1", "", key)
    if path == feed.STREAM:
        headers = [(b"cookie", cookies.encode())]
        scope = {"type": "http", "method": "GET", "path": path, "query_string": b""}
        try:
            feed.operator_of(scope | {"headers": headers}, asking)
        except Refusal as refusal:
            return refusal.status
        return 200
    (found,) = identify([asking])
    return found.status if isinstance(found, Refusal) else 200


def test_everybody_opens_the_streams_that_are_theirs(people: dict[str, User]) -> None:
    for path in (feed.STREAM, CONNECT):
        row, door = row_of(path), Door(path, "get", path)
        for person in PEOPLE:
            refused = 401 if person == "anonymous" else 403
            expected = 200 if person in row.may(door) else refused
            assert opens(path, people.get(person)) == expected, (path, person)
        for scope in Scope.values:
            for owner in ("administrator", "Composers"):
                people[owner].refresh_from_db()
                _, written = services.make(people[owner], "Walker", [scope])
                may = scope in row.opening(door) and owner in row.may(door)
                assert opens(path, key=written) == (200 if may else 403), (path, scope, owner)
    assert {*streams()} - {feed.STREAM, CONNECT} == {f"{CONNECT}/{{held}}"}
