from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.cache import cache
from django.db import IntegrityError, connection, models, transaction
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from domains.pantry.models import Size
from jobs.acting import API, JOB, Actor, acting_as, did
from jobs.correlation import correlated
from operations.audit.models import AppendOnly, AuditEntry, Forgetting
from operations.audit.services import forget_old
from tests.databases import prefer_indexes

pytestmark = pytest.mark.django_db

EVE = Actor(API, 7, "eve", "ak_1 CI", "192.0.2.1")


def entry(**fields: Any) -> AuditEntry:
    return AuditEntry.objects.create(**{"action": "group.created", "door": API} | fields)


def aged(days: int) -> AuditEntry:
    return entry(at=timezone.now() - timedelta(days=days))


def test_an_entry_says_who_did_what_when_from_where() -> None:
    group = Group.objects.create(name="readers")
    with acting_as(EVE), correlated("abc"):
        did("group.renamed", group, why="because")
    [found] = AuditEntry.objects.all()
    assert (found.user_id, found.person, found.via) == (7, "eve", "ak_1 CI")
    assert (found.door, found.address, found.correlation_id) == (API, "192.0.2.1", "abc")
    assert (found.subject_type, found.subject_id) == ("auth.group", str(group.pk))
    assert (found.action, found.subject) == ("group.renamed", "readers")
    assert found.detail == {"why": "because"}
    assert abs(timezone.now() - found.at) < timedelta(minutes=5)


def test_what_a_process_or_a_job_does_is_no_entry() -> None:
    did("group.renamed", Group(pk=1))
    with acting_as(Actor(JOB, name="TEST")):
        did("group.renamed", Group(pk=1))
    assert not AuditEntry.objects.exists()


def test_a_change_that_is_rolled_back_leaves_no_entry() -> None:
    with acting_as(EVE), transaction.atomic():
        Group.objects.create(name="readers")
        assert AuditEntry.objects.exists()
        transaction.set_rollback(True)
    assert not AuditEntry.objects.exists()


def test_what_anybody_may_type_is_kept_as_far_as_it_fits() -> None:
    with acting_as(Actor(API, name="\0" + "x" * 300, address="y" * 300)):
        did("group.renamed", Group(pk=1, name="z" * 300))
    [found] = AuditEntry.objects.all()
    assert (found.person, len(found.address), len(found.subject)) == ("x" * 150, 100, 200)


# Append-only


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.save(),
        lambda one: one.delete(),
        lambda one: AuditEntry.objects.update(person="nobody"),
        lambda one: AuditEntry.objects.all().delete(),
        lambda one: AuditEntry.objects.bulk_update([one], ["person"]),
        lambda one: AuditEntry.objects.update_or_create(pk=one.pk, defaults={"person": "nobody"}),
    ],
)
def test_the_code_changes_no_entry(change: Callable[[AuditEntry], object]) -> None:
    one = entry()
    with pytest.raises(AppendOnly):
        change(one)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE operations_auditentry SET person = 'nobody'", "DELETE FROM operations_auditentry"],
)
def test_the_database_changes_no_entry(statement: str) -> None:
    entry(person="eve")
    refused = pytest.raises(IntegrityError, match="append-only")
    with refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert AuditEntry.objects.get().person == "eve"


def test_the_querysets_of_django_do_not_pass_either() -> None:
    entry(person="eve")
    rows: Any = models.QuerySet(AuditEntry)
    for change in (lambda: rows.update(person="nobody"), rows.delete):
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            change()


def test_nobody_has_a_permission_but_to_look() -> None:
    found = Permission.objects.filter(content_type__app_label="operations")
    names = found.filter(content_type__model__in=["auditentry", "forgetting"])
    assert list(names.values_list("codename", flat=True)) == ["view_auditentry"]
    assert not Group.objects.filter(permissions__codename="view_auditentry").exists()


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        ({"user_id": 7}, "operations_audit_account"),
        ({"person": "eve"}, "operations_audit_person"),
        ({"action": "key.made"}, "operations_audit_action"),
        ({"subject_type": "auth.user", "subject_id": "7"}, "operations_audit_subject"),
        ({"correlation_id": "id-7"}, "operations_audit_correlation"),
    ],
)
def test_what_is_asked_for_rarely_happened_and_is_found_by_an_index(
    asked: dict[str, Any], index: str
) -> None:
    many = [AuditEntry(action="group.created", door=API, user_id=n + 100) for n in range(1_000)]
    AuditEntry.objects.bulk_create(many)
    entry(**asked)
    prefer_indexes(AuditEntry)
    assert index in AuditEntry.objects.filter(**asked)[:50].explain()


# Retention


def test_retention_deletes_what_is_old_and_nothing_else(settings: Settings) -> None:
    settings.AUDIT_RETENTION_DAYS = 30
    kept = [aged(29), entry()]
    for days in (31, 400):
        aged(days)
    with acting_as(Actor(JOB, name="AUDIT_RETENTION", via="run 5")):
        assert forget_old() == 2
    told, *left = AuditEntry.objects.all()
    assert {one.pk for one in left} == {one.pk for one in kept}
    assert (told.action, told.person, told.via) == ("audit.forgotten", "AUDIT_RETENTION", "run 5")
    assert told.detail["entries"] == 2
    assert not Forgetting.objects.exists()


def test_retention_goes_by_batches(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.audit.services.BATCH", 2)
    for _ in range(5):
        aged(400)
    assert forget_old() == 5
    assert forget_old() == 0


@pytest.mark.django_db(transaction=True)
def test_retention_that_is_killed_has_told_what_it_deleted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(done: int) -> None:
        raise SystemExit

    monkeypatch.setattr("operations.audit.services.BATCH", 2)
    monkeypatch.setattr("operations.audit.services.advance", killed)
    for _ in range(3):
        aged(400)
    with acting_as(Actor(JOB, name="AUDIT_RETENTION")), pytest.raises(SystemExit):
        forget_old()
    told, left = AuditEntry.objects.all()
    assert (told.action, told.detail["entries"]) == ("audit.forgotten", 2)
    assert left.action == "group.created"


def test_for_ever_is_for_ever(settings: Settings) -> None:
    settings.AUDIT_RETENTION_DAYS = 0
    aged(10_000)
    assert forget_old() == 0
    assert AuditEntry.objects.count() == 1


def test_the_database_lets_go_only_what_lies_before_the_moment() -> None:
    aged(1)
    long_ago = timezone.now() - timedelta(days=2)
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        AuditEntry.objects.all().forget(long_ago)
    assert AuditEntry.objects.count() == 1
    assert not Forgetting.objects.exists()


# People


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("pk").values_list("action", flat=True))


def test_who_signs_in_and_out_is_noted(client: Client) -> None:
    cache.clear()  # others have failed lately
    user = User.objects.create_user("eve", password="secret")
    wrong = {"username": "eve", "password": "guess-42"}
    client.post("/login", wrong)
    client.post("/login", wrong | {"password": "secret"})
    client.post("/logout")
    assert actions() == ["user.sign_in_failed", "user.signed_in", "user.signed_out"]
    failed, *others = AuditEntry.objects.order_by("pk")
    assert (failed.user_id, failed.person, failed.door) == (None, "eve", "page")
    assert {(one.user_id, one.person, one.address) for one in others} == {
        (user.pk, "eve", "127.0.0.1")
    }
    assert "guess-42" not in str(list(AuditEntry.objects.values()))


def test_who_guesses_fills_no_more_than_a_page_of_it_a_minute(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operations.audit.receivers.MOST_FAILED", 3)
    cache.clear()
    for n in range(5):
        client.post("/login", {"username": f"guess-{n}", "password": "x"})
    client.post("/login", {"username": "ann", "password": "x"}, REMOTE_ADDR="192.0.2.7")
    written = AuditEntry.objects.order_by("pk").values_list("person", "detail")
    more = {"more": "is not written for a minute"}
    assert list(written) == [("guess-0", {}), ("guess-1", {}), ("guess-2", more), ("ann", {})]


def test_what_people_may_do_is_noted_from_either_side() -> None:
    eve, group = User.objects.create_user("eve"), Group.objects.create(name="readers")
    permission = Permission.objects.get(codename="view_auditentry")
    with acting_as(EVE):
        eve.groups.add(group)
        group.user_set.remove(eve)
        eve.user_permissions.set([permission])
        eve.user_permissions.clear()
        group.permissions.add(permission)
    assert actions() == [
        "user.groups_changed",
        "user.groups_changed",
        "user.permissions_changed",
        "user.permissions_changed",
        "group.permissions_changed",
    ]
    details = list(AuditEntry.objects.order_by("pk").values_list("detail", flat=True))
    assert details[:2] == [{"added": ["readers"]}, {"removed": ["readers"]}]
    assert [list(detail) for detail in details[2:]] == [["added"], ["cleared"], ["added"]]
    assert set(AuditEntry.objects.values_list("subject", flat=True)) == {"eve", "readers"}


def test_an_account_is_noted_without_its_password() -> None:
    with acting_as(EVE):
        user = User.objects.create_user("bob", password="secret")
        user.set_password("changed")
        user.is_superuser = True
        user.save()
        user.last_login = timezone.now()
        user.save(update_fields=["last_login"])
        user.delete()
    assert actions() == ["user.created", "user.changed", "user.deleted"]
    changed = AuditEntry.objects.get(action="user.changed")
    assert changed.detail["changes"] == {"password": ["…", "…"], "is_superuser": [False, True]}


def test_a_row_that_is_made_of_texts_has_its_name_all_the_same() -> None:
    with acting_as(EVE):
        size = Size.objects.create(value="1.5", unit="l")
        size.value = "1.50"
        size.save()
    [found] = AuditEntry.objects.all()
    assert (found.action, found.subject) == ("foodfolio.size.created", "1.5 l")
