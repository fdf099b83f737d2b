"""What the roles may do with the apps that `broadcasts` does not know of.

Keys, endpoints, deliveries, events, connections, connectors, and people are administrators' alone,
until they give them: they hold secrets, or what is meant for few. So are comments of a blog, with
the e-mail addresses of strangers, but for who moderates them; and what a bot of Twitch sends.
"""

from itertools import product
from typing import Any

from broadcasts.roles import allow

PANTRY = (
    *("category", "company", "entry", "item", "itemtype", "location"),
    *("piece", "shoppinglist", "size", "variant", "warehouse"),
)
SEEN = {
    "jobs": ("job", "run"),
    "operations": ("alert",),
    "blog": ("category", "media", "post", "tag"),
    "links": ("link",),
    "pantry": ("kitchen", *PANTRY),
    "twitch": ("channelviewer", "clip", "command", "message", "stream", "viewer"),
    "warcraft": ("character", "guild", "guildmember", "rosterchange"),
}
WRITTEN = {
    "blog": ("category", "media", "post", "tag"),
    "links": ("link",),
    "pantry": PANTRY,
    "twitch": ("command",),
    "warcraft": ("character", "guild"),
}
MODERATED = ("blog.view_comment", "blog.change_comment", "blog.delete_comment")
ENDED = ("twitch.change_stream",)


def _all(verbs: str, models: dict[str, tuple[str, ...]]) -> list[str]:
    return [
        f"{app}.{verb}_{noun}"
        for app, nouns in models.items()
        for verb, noun in product(verbs.split(), nouns)
    ]


VIEWS = _all("view", SEEN)
ROLES = {
    "Viewers": VIEWS,
    "Composers": [*VIEWS, *_all("add change delete", WRITTEN), *MODERATED, *ENDED],
    "Approvers": VIEWS,
}


def grant(apps: Any, database: str = "default", *only: str) -> None:
    """To the roles that are still there: on all models, or on new ones such as `jobs.run`.

    Models that are not there yet get theirs by the migration that makes them.
    """
    known = set(only) or {model._meta.label_lower for model in apps.get_models()}
    for role in apps.get_model("auth", "Group").objects.using(database).filter(name__in=ROLES):
        allow(apps, database, role, [name for name in ROLES[role.name] if _model(name) in known])


def _model(permission: str) -> str:
    app, _, codename = permission.partition(".")
    return f"{app}.{codename.partition('_')[2]}"
