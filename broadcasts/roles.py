"""The groups that a migration makes; an administrator may change them afterwards.

What they may do with other apps stands in `broadcast_project/roles.py`.
"""

from collections.abc import Iterable
from typing import Any

VIEWS = [
    "view_broadcast",
    "view_receipt",
    "view_product",
    "view_approvalstep",
    "view_series",
    "view_template",
    "view_rule",
    "view_rulematch",
]
ROLES = {
    "Viewers": VIEWS,
    "Composers": [
        *VIEWS,
        "add_broadcast",
        "change_broadcast",
        "delete_broadcast",
        "send_broadcast",
        "add_series",
        "change_series",
        "add_template",
        "change_template",
        "delete_template",
        "add_rule",
        "change_rule",
        "delete_rule",
    ],
    "Approvers": [*VIEWS, "approve_broadcast"],
}


def create(apps: Any, database: str = "default") -> None:
    """Groups that are missing, with their permissions; those that are there stay as they are.

    The permissions may be missing, too: Django makes them after the migrations. Models that are
    not there yet get theirs by `grant`, in the migration that makes them.
    """
    group = apps.get_model("auth", "Group").objects.using(database)
    known = {model._meta.model_name for model in apps.get_app_config("broadcasts").get_models()}
    for name in ROLES:
        role, is_new = group.get_or_create(name=name)
        if is_new:
            allow(apps, database, role, _permissions(name, known))


def grant(apps: Any, database: str, *models: str) -> None:
    """What the roles that are still there may do with models that are new."""
    group = apps.get_model("auth", "Group").objects.using(database)
    for role in group.filter(name__in=ROLES):
        allow(apps, database, role, _permissions(role.name, set(models)))


def allow(apps: Any, database: str, role: Any, permissions: Iterable[str]) -> None:
    """Give a group permissions such as `blog.add_post`, made by Django already or not."""
    content_type = apps.get_model("contenttypes", "ContentType").objects.using(database)
    permission = apps.get_model("auth", "Permission").objects.using(database)
    for name in permissions:
        app, _, codename = name.partition(".")
        verb, _, noun = codename.partition("_")
        options = apps.get_model(app, noun)._meta
        of, _ = content_type.get_or_create(app_label=app, model=noun)
        named = dict(options.permissions).get(codename, f"Can {verb} {options.verbose_name_raw}")
        allowed, _ = permission.get_or_create(
            codename=codename, content_type=of, defaults={"name": named}
        )
        role.permissions.add(allowed)


def _permissions(role: str, models: set[str]) -> list[str]:
    return [f"broadcasts.{name}" for name in ROLES[role] if name.partition("_")[2] in models]
