"""Connectors as files: `<name>.json` in `DEBEZIUM_CONNECTORS_DIR`, with secrets by placeholders.

What stands in them comes to Connect and nowhere else: no row, no log, no page.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from operations.debezium.client import Config

# Small letters are Connect's own: ${file:...} of a config provider, ${routedByValue} of Debezium.
PLACEHOLDER = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")
SECRET = re.compile("PASS|SECRET|TOKEN|KEY|CREDENTIAL")
SHORTEST_SECRET = 4  # characters; shorter ones are words of any message


class Wrong(Exception):
    """A file that cannot be used; the message says what to do."""


@dataclass
class Declared:
    configs: dict[str, Config] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    note: str = ""


def declared() -> Declared:
    """What the directory has; one file that is wrong does not keep the others away."""
    found = Declared()
    if not settings.DEBEZIUM_CONNECTORS_DIR:
        return found
    directory = Path(settings.DEBEZIUM_CONNECTORS_DIR)
    try:
        files = sorted(path for path in directory.iterdir() if path.suffix == ".json")
    except OSError as error:
        found.note = _("DEBEZIUM_CONNECTORS_DIR cannot be read: %s") % error
        return found
    for path in files:
        try:
            found.configs[path.stem] = read(path)
        except Wrong as wrong:
            found.errors[path.stem] = str(wrong)
    return found


def read(path: Path) -> Config:
    """The bare configuration, or as `POST /connectors` takes it. Raises `Wrong`."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Wrong(_("Its file cannot be read: %s") % error) from error
    if isinstance(content, dict) and isinstance(content.get("config"), dict):
        content = content["config"]
    if not isinstance(content, dict) or not content.get("connector.class"):
        raise Wrong(_("Its file must be an object of JSON with a connector.class."))
    values = _values(path.stem)
    return {str(key): _filled(key, value, values) for key, value in content.items()}


def _filled(key: str, value: Any, values: dict[str, str]) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list) or value is None:
        raise Wrong(_("The value of %s must be a text or a number.") % key)

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            text = _("%(key)s needs ${%(name)s}: set it in the environment, as CONNECTOR_….")
            raise Wrong(text % {"key": key, "name": name})
        return values[name]

    return PLACEHOLDER.sub(fill, str(value))


def _values(name: str) -> dict[str, str]:
    """What placeholders stand for: the file's name, this project's database, the environment.

    Of the environment only `CONNECTOR_...`: the other secrets of the project are not Connect's.
    """
    database = connection.settings_dict
    return {
        "NAME": name,
        "EVENT_SOURCE": settings.EVENT_SOURCE,
        "DATABASE_HOST": str(database["HOST"]),
        "DATABASE_PORT": str(database["PORT"] or 5432),
        "DATABASE_USER": str(database["USER"]),
        "DATABASE_PASSWORD": str(database["PASSWORD"]),
        "DATABASE_NAME": str(database["NAME"]),
    } | settings.CONNECTOR_VARIABLES


def without_secrets(text: str) -> str:
    """For rows, pages and logs: Connect may quote a value that it refuses."""
    variables = settings.CONNECTOR_VARIABLES.items()
    secrets = {value for name, value in variables if SECRET.search(name)}
    secrets.add(str(connection.settings_dict["PASSWORD"]))
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text


def digest(config: Config) -> str:
    """Tells a change without telling the configuration: it is keyed by SECRET_KEY."""
    text = json.dumps({k: v for k, v in config.items() if k != "name"}, sort_keys=True)
    return salted_hmac("operations.debezium", text, algorithm="sha256").hexdigest()[:40]
