"""Rows that people edit by their fields alone, in the admin, the API or a shell: watched as they
are saved, so that no door has to tell."""

from collections.abc import Collection
from typing import Any

from django.db import transaction
from django.db.models import Model
from django.db.models.signals import post_delete, post_save, pre_save

from jobs.acting import acting, did, differences, value_of

VERBS = ("created", "changed", "deleted")
SECRET = {"password"}
PASSING = {"last_login", "updated_at"}
"""Fields that change with everything, or by themselves."""


nouns: dict[type[Model], str] = {}


def watch(model: type[Model], noun: str, *, verbs: Collection[str] = VERBS) -> None:
    """Its rows as `<noun>.created`, `.changed`, `.deleted`: what a person saves, not a process.

    What services tell themselves is not among its `verbs`.
    """
    nouns[model] = noun
    # Django commits a row that is saved alone before it tells of it: its entry would come too late.
    saved = transaction.atomic(savepoint=False)(model.save_base)
    model.save_base = saved  # type: ignore[method-assign]
    if "created" in verbs:
        post_save.connect(_made, sender=model)
    if "changed" in verbs:
        pre_save.connect(_look, sender=model)
        post_save.connect(_changed, sender=model)
    if "deleted" in verbs:
        post_delete.connect(_deleted, sender=model)


def _made(sender: type[Model], instance: Model, created: bool, raw: bool, **_: Any) -> None:
    if created and not raw:  # a fixture
        did(f"{nouns[sender]}.created", instance)


def _look(sender: type[Model], instance: Any, **_: Any) -> None:
    """At what is stored, for what is new of it."""
    instance._stored = {}
    if acting() and not instance._state.adding:
        stored = sender._default_manager.filter(pk=instance.pk).first()
        instance._stored = _values(stored) if stored else {}


def _changed(sender: type[Model], instance: Any, update_fields: Any, **_: Any) -> None:
    before = instance.__dict__.pop("_stored", {})
    after = _values(instance)
    names = [name for name in before if update_fields is None or name in update_fields]
    changes = differences(before, after, names)
    for name in SECRET & set(changes):
        changes[name] = ["…", "…"]
    if changes:
        did(f"{nouns[sender]}.changed", instance, changes=changes)


def _deleted(sender: type[Model], instance: Model, **_: Any) -> None:
    did(f"{nouns[sender]}.deleted", instance)


def _values(row: Model) -> dict[str, Any]:
    fields = (field for field in row._meta.concrete_fields if field.name not in PASSING)
    return {field.name: value_of(row, field) for field in fields}
