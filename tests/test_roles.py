"""The roles: what migrations give them, and leave to whoever changes it."""

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User

from broadcast_project import roles as elsewhere
from broadcasts import roles
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


def may(role: str) -> set[str]:
    permissions = Group.objects.get(name=role).permissions.select_related("content_type")
    return {f"{one.content_type.app_label}.{one.codename}" for one in permissions}


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


def test_another_migration_gives_them_the_domains_and_makes_no_role_again() -> None:
    Group.objects.all().delete()
    roles.create(apps)
    Group.objects.get(name="Approvers").delete()
    elsewhere.grant(apps)
    assert set(Group.objects.values_list("name", flat=True)) == {"Viewers", "Composers"}
    for role in ("Viewers", "Composers"):
        others = {name for name in may(role) if not name.startswith("broadcasts.")}
        assert others == set(elsewhere.ROLES[role])


def test_a_model_that_is_new_is_granted_alone() -> None:
    Group.objects.all().delete()
    roles.create(apps)
    before = may("Composers")
    elsewhere.grant(apps, "default", "links.link")
    assert may("Composers") - before == {
        f"links.{v}_link" for v in ("view", "add", "change", "delete")
    }


def test_roles_are_given_what_django_knows_by_that_name() -> None:
    known = {
        f"{p.content_type.app_label}.{p.codename}"
        for p in Permission.objects.select_related("content_type")
    }
    for permissions in elsewhere.ROLES.values():
        assert set(permissions) <= known
        assert len(permissions) == len(set(permissions))


def test_no_role_reads_what_is_secret_or_meant_for_few() -> None:
    everything = {name for permissions in elsewhere.ROLES.values() for name in permissions}
    for app in ("auth", "connections", "deliveries", "django_q", "outbox"):
        assert not [name for name in everything if name.startswith(f"{app}.")]
    assert {name for name in everything if name.startswith("operations.")} == {
        "operations.view_alert"
    }
    assert {name for name in everything if name.startswith("jobs.")} == {
        "jobs.view_job",
        "jobs.view_run",
    }
