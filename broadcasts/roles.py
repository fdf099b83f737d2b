"""The groups that a migration makes; an administrator may change them afterwards."""

from typing import Any

VIEWS = [
    "view_broadcast",
    "view_receipt",
    "view_product",
    "view_approvalstep",
    "view_series",
    "view_template",
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
    ],
    "Approvers": [*VIEWS, "approve_broadcast"],
}


def create(apps: Any, database: str = "default") -> None:
    """Groups that are missing, with their permissions; those that are there stay as they are.

    The permissions may be missing, too: Django makes them after the migrations.
    """
    content_type = apps.get_model("contenttypes", "ContentType").objects.using(database)
    permission = apps.get_model("auth", "Permission").objects.using(database)
    group = apps.get_model("auth", "Group").objects.using(database)
    for name, codenames in ROLES.items():
        role, is_new = group.get_or_create(name=name)
        for codename in codenames if is_new else ():
            model = codename.partition("_")[2]
            of, _ = content_type.get_or_create(app_label="broadcasts", model=model)
            own = dict(apps.get_model("broadcasts", model)._meta.permissions)
            defaults = {"name": own.get(codename, f"Can {codename.replace('_', ' ')}")}
            allowed, _ = permission.get_or_create(
                codename=codename, content_type=of, defaults=defaults
            )
            role.permissions.add(allowed)
