"""Who may do what: each page of the console and each call of the API, with each role.

What a table does not name is refused, so that a new page is open to nobody by oversight.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import URLPattern, reverse
from drf_spectacular.generators import SchemaGenerator

from broadcasts import roles
from broadcasts.admin.approvals import VERBS
from broadcasts.models import Broadcast, Template
from tests.factories import ProductFactory, UserFactory
from tests.test_admin_pages import one_of_each

pytestmark = pytest.mark.django_db

SHOWN = ("changelist", "change", "history")
SEEN = {
    *(f"broadcasts_broadcast_{name}" for name in (*SHOWN, "numbers", "proof", "unseen", "export")),
    *(f"broadcasts_receipt_{name}" for name in SHOWN),
    *(f"broadcasts_product_{name}" for name in SHOWN),
    *(f"broadcasts_approvalstep_{name}" for name in SHOWN),
    *(f"broadcasts_series_{name}" for name in SHOWN),
    *(f"broadcasts_template_{name}" for name in SHOWN),
}
OF_BROADCASTS = (
    *("add", "delete", "preview", "reach", "choices", "people", "editing"),
    *("send_one", "test_one", "retry_one", "remind_one", "cancel_one", "duplicate_one"),
    *("approval:request", "approval:comment", "approval:withdraw"),
)
OF_SERIES = (
    *("add", "upcoming", "pause_one", "resume_one", "skip_one", "put_back_one", "end_one"),
    "comment_one",
)
WRITTEN = {
    *(f"broadcasts_broadcast_{name}" for name in OF_BROADCASTS),
    *(f"broadcasts_series_{name}" for name in OF_SERIES),
    *(f"broadcasts_template_{name}" for name in ("add", "delete", "fill")),
}
VERDICTS = ("approve", "reject", "comment", "withdraw")
DECIDED = {
    *(f"broadcasts_broadcast_approval:{verdict}" for verdict in VERDICTS),
    *(f"broadcasts_series_{verdict}_one" for verdict in ("approve", "reject", "comment")),
}
PAGES = {
    "Viewers": SEEN,
    "Composers": SEEN | WRITTEN,
    "Approvers": SEEN | DECIDED,
    "": set(),
}


def calls(noun: str, method: str, *paths: str) -> set[str]:
    return {f"{method} /api/admin/{noun}{path}" for path in paths}


ONE = ("stats", "deliveries", "approvals", "unseen", "export")
READ = {
    *calls("broadcasts", "get", "", "/{id}", *(f"/{{id}}/{name}" for name in ONE)),
    *(call for noun in ("series", "templates") for call in calls(noun, "get", "", "/{id}")),
    *calls("series", "get", "/{id}/approvals"),
}
SENT = ("send", "retry", "remind", "duplicate", "request-approval")
STEERED = ("pause", "resume", "skip", "put-back", "end")
WRITE = {
    *calls("broadcasts", "get", "/preview"),
    *calls("broadcasts", "post", "", "/preview", *(f"/{{id}}/{verb}" for verb in SENT)),
    *calls("series", "post", "", *(f"/{{id}}/{verb}" for verb in STEERED)),
    *calls("templates", "post", ""),
    *(
        call
        for noun in ("broadcasts", "series", "templates")
        for method in ("patch", "delete")
        for call in calls(noun, method, "/{id}")
    ),
}
TALK = calls("broadcasts", "post", "/{id}/comment", "/{id}/withdraw-approval")
TALK |= calls("series", "post", "/{id}/comment")
DECIDE = {
    *calls("broadcasts", "post", "/{id}/approve", "/{id}/reject"),
    *calls("series", "post", "/{id}/approve", "/{id}/reject"),
}
CALLS = {
    "Viewers": READ,
    "Composers": READ | WRITE | TALK,
    "Approvers": READ | TALK | DECIDE,
    "": set(),
}


def member(role: str, *, is_staff: bool = True) -> Client:
    """Signed in; what a migration made may have been flushed by another test."""
    roles.create(apps)
    user = UserFactory.create(is_staff=is_staff)
    if role:
        user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


def urls() -> Iterator[tuple[type[Any], URLPattern]]:
    """Those of the registered models that have a name of their own."""
    for model, model_admin in admin.site._registry.items():
        own = f"{model._meta.app_label}_{model._meta.model_name}_"
        for url in model_admin.get_urls():
            if isinstance(url, URLPattern) and (url.name or "").startswith(own):
                yield model, url


def pages() -> Iterator[tuple[str, str]]:
    """The name and the address of each, about a thing that is there."""
    things = {type(thing): thing.pk for thing in [*one_of_each(UserFactory.create()), draft()]}
    things |= {type(thing): thing.pk for thing in (ProductFactory.create(), UserFactory.create())}
    for model, url in urls():
        converters = set(url.pattern.converters)
        pk = things.get(model, 1)
        for verb in VERBS if "verb" in converters else [""]:
            given: dict[str, Any] = dict.fromkeys(("object_id", "pk", "id"), pk)
            given |= {"verb": verb, "name": "RUN_RETENTION"}
            assert converters <= set(given), url
            arguments = {name: given[name] for name in converters}
            name = f"{url.name}:{verb}" if verb else str(url.name)
            yield name, reverse(f"admin:{url.name}", kwargs=arguments)


def draft() -> Broadcast:
    return Broadcast.objects.create(title="A draft")


def answer(client: Client, address: str) -> Any:
    response = client.get(address)
    if response.status_code != 405:
        return response
    return client.post(address, {"template": Template.objects.get().pk})


@pytest.mark.parametrize("role", PAGES)
def test_a_role_opens_its_pages_of_the_console_and_no_others(role: str) -> None:
    client = member(role)
    opened: set[str] = set()
    refused: set[str] = set()
    for name, address in pages():
        status = answer(client, address).status_code
        assert status in (200, 302, 403), (name, status)
        (opened if status == 200 else refused).add(name)
    assert opened == PAGES[role]
    assert len(refused) > 40


@pytest.mark.parametrize("staff", [True, False])
def test_who_is_anonymous_or_no_staff_is_sent_to_the_login(staff: bool) -> None:
    client = Client() if staff else member("Composers", is_staff=False)
    for name, address in pages():
        response = answer(client, address)
        assert response.status_code == 302, name
        assert response["Location"].startswith("/admin/login/")


def operations() -> list[tuple[str, str]]:
    """Every call of the operators' API, as the schema has it."""
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    return [
        (method, path)
        for path, methods in paths.items()
        if path.startswith("/api/admin/")
        for method in methods
    ]


def call(client: Client, method: str, path: str, pk: int) -> Any:
    address = path.replace("{id}", str(pk)).replace("{", "").replace("}", "")
    body = {} if method == "get" else {"data": "{}"}
    return getattr(client, method)(address, content_type="application/json", **body)


@pytest.mark.parametrize("role", CALLS)
def test_a_role_makes_its_calls_and_no_others(role: str) -> None:
    client = member(role)
    made = set()
    for method, path in operations():
        response = call(client, method, path, draft().pk)
        if response.status_code != 403:
            assert response.status_code < 500, (method, path)
            made.add(f"{method} {path}")
    assert made == CALLS[role]


def test_who_is_anonymous_or_no_staff_makes_no_call() -> None:
    plain = member("Composers", is_staff=False)
    assert len(operations()) > 30
    for method, path in operations():
        assert call(Client(), method, path, 1).status_code == 401, path
        assert call(plain, method, path, 1).status_code == 403, path


def test_a_migration_makes_the_roles_and_leaves_what_was_changed() -> None:
    Group.objects.all().delete()
    roles.create(apps)
    viewers = Group.objects.get(name="Viewers")
    viewers.permissions.clear()
    roles.create(apps)
    assert not viewers.permissions.exists()
    composers = Group.objects.get(name="Composers")
    codenames = set(composers.permissions.values_list("codename", flat=True))
    assert codenames == set(roles.ROLES["Composers"])
    person = UserFactory.create()
    person.groups.add(Group.objects.get(name="Approvers"))
    assert User.objects.get(pk=person.pk).has_perm("broadcasts.approve_broadcast")
